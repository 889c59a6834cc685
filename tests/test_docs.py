"""The documentation: whole, readable offline, and quiet on the network"""

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest


ROOT = Path(__file__).resolve().parents[1]
BUILDER = ROOT / ".ci/docs.py"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The pages: those in _docs/ when nothing is newer than they are, as after .ci/run's own step, else new ones"
    sources = [
        p
        for folder in ("nbs", ".ci", "vote_experiments")
        for p in (ROOT / folder).rglob("*")
        if p.suffix in (".ipynb", ".py", ".css", ".js", ".html") and "__pycache__" not in p.parts
    ]
    there = ROOT / "_docs/index.html"
    if there.exists() and there.stat().st_mtime > max(p.stat().st_mtime for p in [*sources, ROOT / "README.md"]):
        return ROOT / "_docs"
    out = tmp_path_factory.mktemp("docs")
    subprocess.run(
        [sys.executable, str(BUILDER), "--out", str(out)],
        check=True,
        cwd=ROOT,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return out


@pytest.fixture(scope="module")
def builder():
    sys.path.insert(0, str(BUILDER.parent))
    try:
        spec = importlib.util.spec_from_file_location("docs", BUILDER)
        module = importlib.util.module_from_spec(spec)
        sys.modules["docs"] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(BUILDER.parent))
        sys.modules.pop("docs", None)


def test_a_parameter_is_documented_by_the_comment_on_its_line(builder, tmp_path, monkeypatch):
    api = sys.modules["docs_api"]
    monkeypatch.setattr(api, "ROOT", tmp_path)
    source = tmp_path / "m.py"
    source.write_text("""
__all__ = ["f", "g", "C", "K"]

K = 3  # how many

def f(
    a: int,  # votes
    *rest: str, b: float = 0.5,  # a share
    **more,  # what else
) -> dict[str, int]:  # votes by name
    "Count"

@functools.wraps(f)
def g(**arguments): ...

@dataclass
class C:
    "A thing"
    x: int = 1  # points

    def m(self, y): "Do"
""")
    found = api.entries_of(source)
    f = found["f"]
    assert [(p.name, p.type, p.default, p.meaning) for p in f.parameters] == [
        ("a", "int", "", "votes"),
        ("*rest", "str", "", ""),
        ("b", "float", "0.5", "a share"),
        ("**more", "", "", "what else"),
    ]
    assert (f.returns.type, f.returns.meaning) == ("dict[str, int]", "votes by name")
    assert found["g"].parameters == f.parameters and found["g"].doc == "Count"
    assert [(p.name, p.meaning) for p in found["C"].parameters] == [("x", "points")]
    assert [(m.name, [p.name for p in m.parameters]) for m in found["C"].methods] == [("C.m", ["y"])]
    assert (found["K"].value, found["K"].doc) == ("3", "how many")


def test_code_keeps_every_character_and_is_escaped(builder):
    code = 'def f(x):\n    # <b> & so on\n    return f"<{x}>" if x < 3 else None  # ป้าย'
    shown = builder.coloured(code)
    import html
    import re

    assert html.unescape(re.sub(r"<[^>]+>", "", shown)) == code
    assert "%timeit" in builder.coloured("%timeit f(1)")


def test_a_link_that_leads_nowhere_is_found(builder, tmp_path):
    (tmp_path / "there.html").write_text('<p id="here">')
    anchors = {"there.html": {"here"}, "a.html": set()}
    text = '<a href="there.html#here">1</a><a href="gone.html">2</a><a href="there.html#no">3</a><a href="https://example.org">4</a>'
    assert builder.broken_links(tmp_path, "a.html", text, anchors) == [
        "a.html: gone.html leads nowhere",
        "a.html: there.html#no leads to a page, but #no is not on it",
    ]


@pytest.mark.browser
@pytest.mark.parametrize("width", [1000, 1600])
@pytest.mark.parametrize(
    "url", ["index.html", "tutorials/04_is_a_better.html", "experiments/02_experiment.html", "names.html"]
)
def test_a_page_opens_from_the_disk_and_asks_nobody(site, chromium, url, width):
    page, asked, complaints = chromium.new_page(viewport={"width": width, "height": 900}), [], []
    page.context.set_offline(True)
    page.on("request", lambda r: asked.append(r.url))
    page.on("console", lambda m: complaints.append(m.text))
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto((site / url).as_uri())
    page.wait_for_load_state("load")
    assert not [u for u in asked if not u.startswith(("file:", "data:"))] and not complaints
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "wider than the window"
    assert page.locator("nav.rooms [aria-current]").count() == 1
    page.close()


@pytest.mark.browser
def test_search_finds_names_and_thai_without_a_server(site, chromium):
    page = chromium.new_page(viewport={"width": 1000, "height": 900})
    page.goto((site / "forms/00_thai.html").as_uri())
    page.keyboard.press("/")
    page.keyboard.type("run_sweep")
    page.locator("#found [role=option]").first.wait_for()
    assert page.locator("#found b").first.inner_text() == "run_sweep"
    page.keyboard.press("Enter")
    page.wait_for_url("**/04_sweeps.html#run_sweep")
    page.fill("#search", "แบบ ส.ส.")
    page.locator("#found [role=option]").first.wait_for()
    page.fill("#search", "qqqq zzzz")
    page.locator("#found .none").wait_for()
    page.keyboard.press("Escape")
    assert page.locator("#found").is_hidden()
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.close()


QUESTIONS = {  # what newcomers type -> the page and section that must come first
    "custom metric": "custom-metric",
    "cost": "cost",
    "docker": "docker",
    "install": "install",
    "import csv": "import-csv",
    "timeout": "timeout",
    "glossary": "glossary",
    "ภาษาไทย": "ภาษาไทย",
}


@pytest.mark.browser
def test_what_newcomers_look_for_comes_first(site, chromium):
    page, first = chromium.new_page(viewport={"width": 1000, "height": 900}), {}
    page.goto((site / "index.html").as_uri())
    for words in QUESTIONS:
        page.fill("#search", words)
        page.wait_for_function("() => document.querySelector('#found [role=option], #found .none')")
        link = page.locator("#found [role=option] a").first
        first[words] = unquote(link.get_attribute("href")).lower()
        page.fill("#search", "")
    page.close()
    assert not {
        words: first[words] for words, anchor in QUESTIONS.items() if f"questions.html#{anchor}" not in first[words]
    }


def test_words_that_readers_do_not_know_are_named_with_their_line(monkeypatch):
    monkeypatch.syspath_prepend(str(BUILDER.parent))
    words = importlib.import_module("words")
    assert list(words.hits("Models that\ncannot be told apart")) == []
    first, second, third = "told", "beside", "asked"  # apart, or this file would not pass either
    assert list(words.hits(f"fine\nThe caller is {first} of it.")) == [(2, first)]
    code = f'{first} = 1  # it lies {second} it\ndef f():\n    "{third.title()} twice"\n'
    assert list(words.in_code(code)) == [(1, second), (3, third)]
    assert list(words.in_code('get("asked")\nnames("field, told")\n')) == []
