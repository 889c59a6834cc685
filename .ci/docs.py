"""Make the documentation, a folder of plain pages in _docs/, from the notebooks and the outputs saved in them.

    python .ci/docs.py                  write _docs/ and say what is wrong with it
    python .ci/docs.py --check          the same, and exit with 1 when something is
    python .ci/docs.py --out FOLDER     write elsewhere

Nothing is executed and nothing is fetched, neither now nor by a reader: pages, style, search and pictures are files
next to each other, which open from a disk as well as from a server.
"""

import builtins
import html
import io
import json
import keyword
import re
import shutil
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from posixpath import normpath, relpath
from urllib.parse import unquote

import docs_api
import readme
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from nbconvert.filters import markdown2html
from nbdev.process import NBProcessor
from nbdev.processors import (
    add_show_docs,
    filter_stream_,
    hide_,
    hide_line,
    populate_language,
    rm_header_dash,
    strip_ansi,
)

import vote_experiments

ROOT = Path(__file__).resolve().parents[1]
NBS, LOOK = ROOT / "nbs", ROOT / ".ci/docs"
FONTS = ROOT / "vote_experiments/forms/assets/fonts"
PROCESSORS = [populate_language, add_show_docs, strip_ansi, hide_line, filter_stream_, rm_header_dash, hide_]
ROOMS = {  # folder of nbs/: its title, in reading order
    "": "Start here",
    "tutorials": "Tutorials",
    "foundations": "Foundations",
    "forms": "Forms",
    "synthesis": "Drawing forms",
    "ocr": "Reading forms offline",
    "store": "Store",
    "datasets": "Datasets",
    "traces": "Traces",
    "html": "HTML",
    "models": "Models",
    "scoring": "Scoring",
    "analysis": "Analysis",
    "engine": "Engine",
    "outcome": "Outcome",
    "platforms": "Platforms",
    "reports": "Reports",
    "report_templates": "Report templates",
    "experiments": "Experiments",
    "compat": "Platform-style client",
    "server": "Server",
    "widgets": "Widgets",
    "apps": "Apps",
    "cli": "Command line",
    "project": "Project",
}
GUIDES = ("", "tutorials")  # folders whose pages and sections the search lists before names
FOUNDATIONS = ("00_settings", "01_records", "02_workflow", "03_workers", "04_files")
PROJECT_FILES = ("CONTRIBUTING.md", "CHANGELOG.md")
IMAGES = {"image/svg+xml": "", "image/png": "png", "image/jpeg": "jpeg"}


def public_names() -> dict[str, str]:
    "The module of each name at the top of the package, as its stub says"
    import ast

    stub = ast.parse((ROOT / "vote_experiments/__init__.pyi").read_text(encoding="utf-8"))
    return {
        alias.name: node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


PUBLIC = public_names()


@dataclass
class Page:
    url: str  # from the root of the site
    title: str
    subtitle: str
    room: str
    body: str = ""
    source: str = ""  # the file it is made from
    is_notebook: bool = False
    headings: list[tuple[int, str, str, str]] = field(
        default_factory=list
    )  # level, anchor, words as HTML, text below it

    @property
    def depth(self) -> str:
        "What leads from this page to the root"
        return "../" * self.url.count("/")

    def to(self, url: str) -> str:
        return relpath(url, Path(self.url).parent.as_posix())


# ── what names mean ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(eq=False)
class Names:
    "Where each public name is explained"

    modules: dict[str, dict[str, docs_api.Entry]]
    page_of: dict[str, str]  # module -> url

    @property
    def entries(self) -> Iterator[tuple[str, docs_api.Entry]]:
        "(module, entry), methods too"
        for module, found in self.modules.items():
            for entry in found.values():
                yield module, entry
                yield from ((module, m) for m in entry.methods)

    @cached_property
    def owners(self) -> dict[str, list[str]]:
        "Name -> the modules that have it"
        found: dict[str, list[str]] = {}
        for module, entry in self.entries:
            found.setdefault(entry.name, []).append(module)
        return found

    def url(self, written: str, here: str = "") -> str | None:
        "Where a name as someone wrote it is explained: `run_sweep`, `Dataset.items`, `analysis.plots`, `gate_run(…)`"
        name = re.sub(r"\(.*\)$", "", written, flags=re.S).removeprefix("vote_experiments.")
        if not re.fullmatch(r"[A-Za-z_][\w.]*", name):
            return None
        if name in self.page_of:
            return self.page_of[name]
        module, _, last = name.rpartition(".")
        if module in self.modules and last in self.modules[module]:
            return self.anchored(module, last)
        owners = self.owners.get(name, [])
        if here in owners:
            return self.anchored(here, name)
        exported = PUBLIC.get(name)
        if exported in owners and (len(name) > 9 or "_" in name or name[0].isupper() or "(" in written):
            return self.anchored(exported, name)  # `overall` and `depth` are words as well
        if len(owners) == 1 and ("_" in name or name[1:].lower() != name[1:]):
            return self.anchored(owners[0], name)
        return None

    def anchored(self, module: str, name: str) -> str | None:
        return f"{self.page_of[module]}#{name}" if module in self.page_of else None


# ── from cells to HTML ──────────────────────────────────────────────────────────────────────────────────────────────

BUILT_IN = frozenset(dir(builtins))


def token_class(kind: int, text: str, before: str) -> str:
    "The class of a token, by Pygments' short names"
    if kind == tokenize.NAME:
        if before in ("def", "class"):
            return "nf"
        return "k" if keyword.iskeyword(text) else "nb" if text in BUILT_IN and before != "." else ""
    return {tokenize.STRING: "s", tokenize.NUMBER: "m", tokenize.COMMENT: "c"}.get(kind, "")


def coloured(code: str) -> str:
    "Python in colours, ten times as fast as Pygments has it: there are a thousand sources"
    code = code.strip("\n")
    lines = code.splitlines(keepends=True)
    parts: list[str] = []
    row, column, before = 1, 0, ""
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if not token.string.strip():
                continue
            while row < token.start[0]:
                parts.append(html.escape(lines[row - 1][column:], quote=False))
                row, column = row + 1, 0
            parts.append(html.escape(lines[row - 1][column : token.start[1]], quote=False))
            text, named = html.escape(token.string, quote=False), token_class(token.type, token.string, before)
            parts.append(f'<span class="{named}">{text}</span>' if named else text)
            (row, column), before = token.end, token.string
    except (tokenize.TokenError, IndentationError):  # a magic, or a piece of a program
        return f'<div class="highlight"><pre>{html.escape(code, quote=False)}</pre></div>'
    return f'<div class="highlight"><pre>{"".join(parts)}</pre></div>'


def linked(page: Page, names: Names, module: str, text: str) -> str:
    "HTML whose `names` lead to their definitions"

    def replace(found: re.Match) -> str:
        url = names.url(html.unescape(found[2]), module) if found[2] else None
        return f'<a class="name" href="{page.to(url) if url != page.url else "#"}">{found[0]}</a>' if url else found[0]

    parts = re.split(r"(<pre.*?</pre>|<a\b.*?</a>|<h1.*?</h1>)", text, flags=re.S)
    return "".join(p if i % 2 else re.sub(r"<code(>)([^<]*)</code>", replace, p) for i, p in enumerate(parts))


def slug(words: str) -> str:
    "A heading's anchor, as GitHub has it"
    words = html.unescape(re.sub(r"<[^>]+>", "", words)).replace("¶", "").strip().lower()
    return re.sub(r"[^\w\- \u0E00-\u0E7F]", "", words).replace(" ", "-")


def anchored(text: str) -> str:
    "HTML whose headings have such anchors"

    def replace(found: re.Match) -> str:
        words = re.sub(r'<a class="anchor-link".*?</a>', "", found[2])
        here = slug(words)
        return (
            f'<h{found[1]} id="{here}" class="told">{words}<a class="anchor-link" href="#{here}" '
            f'aria-label="Link to this heading">¶</a></h{found[1]}>'
        )

    return re.sub(r"<h([1-6])\b[^>]*>(.*?)</h\1>", replace, text, flags=re.S)


def each_once(body: str, taken: set[str]) -> str:
    "The body of a page whose headings differ from each other and from the names that are explained on it"

    def replace(found: re.Match) -> str:
        here = new = found[2]
        n = 1
        while new in taken:
            n += 1
            new = f"{here}-{n}"
        taken.add(new)
        return found[0].replace(f'id="{here}"', f'id="{new}"').replace(f'href="#{here}"', f'href="#{new}"')

    return re.sub(r'<h([1-6]) id="([^"]+)" class="told">.*?</h\1>', replace, body, flags=re.S)


def with_pages(page: Page, text: str) -> str:
    "HTML whose links to notebooks, rooms and files lead to their pages"

    def replace(found: re.Match) -> str:
        target = html.unescape(found[2])
        if re.match(r"[a-z]+:|//", target):
            return found[0]
        path, _, anchor = target.partition("#")
        at = "#" + slug(unquote(anchor).replace("-", " ")) if anchor else ""
        if not path:
            return f'{found[1]}"{at}"'
        url = page_of_file(normpath(str(Path(page.source).parent / unquote(path))))
        return f'{found[1]}"{page.to(url)}{at}"' if url else found[0]

    return re.sub(r'(\bhref=)"([^"]+)"', replace, text)


def page_of_file(path: str) -> str | None:
    "The page that is made from a file or a folder of the repository"
    if path.endswith(".ipynb") and path.startswith("nbs/"):
        inside = path.removeprefix("nbs/").removesuffix(".ipynb")
        return f"{inside}.html"
    if path.startswith("nbs/") and path.removeprefix("nbs/") in ROOMS:
        return f"{path.removeprefix('nbs/')}/index.html"
    if path in PROJECT_FILES:
        return f"{Path(path).stem.lower()}.html"
    return None


def prose(page: Page, names: Names, module: str, text: str) -> str:
    return linked(page, names, module, with_pages(page, anchored(str(markdown2html(text)))))


def picture(data: str, mime: str, alt: str) -> str:
    if mime == "image/svg+xml":
        return f'<figure class="paper" role="img" aria-label="{html.escape(alt)}">{data}</figure>'
    source = "".join(data.split())
    return f'<figure class="paper"><img loading="lazy" alt="{html.escape(alt)}" src="data:{mime};base64,{source}"></figure>'


def output(page: Page, names: Names, module: str, out: dict, alt: str) -> str:
    if out["output_type"] == "stream":
        return f'<pre class="out">{html.escape("".join(out["text"]).rstrip())}</pre>'
    data = {k: "".join(v) if isinstance(v, (list, str)) else v for k, v in out.get("data", {}).items()}
    for mime in IMAGES:
        if mime in data:
            return picture(data[mime], mime, alt)
    if "text/html" in data:
        text = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.S)
        text = re.sub(r' (border="1"|style="text-align: right;"|id="[^"]*")', "", text)
        text = re.sub(
            r'<a\b[^>]*\bhref="(?!https?:)[^"]*"[^>]*>(.*?)</a>', r"<u>\1</u>", text, flags=re.S
        )  # files of the example
        styled = " paper" if "style=" in text or "<svg" in text or "<img" in text else ""
        return f'<div class="out html{styled}">{demoted(text)}</div>'
    if "text/markdown" in data:
        return f'<div class="out html">{prose(page, names, module, data["text/markdown"])}</div>'
    return f'<pre class="out">{html.escape(str(data.get("text/plain", "")))}</pre>' if data else ""


def demoted(text: str) -> str:
    "The headings of an example's output are none of the page's"
    return re.sub(r"<(/?)h[1-6]\b([^>]*)>", lambda m: f"<{m[1]}p{'' if m[1] else ' class=heading'}>", text)


CHECK = re.compile(r"^(?:(?:test_\w+|expect_fail|assert)\b.*|[ )\]}].*|#.*|with expect_fail\b.*|)$")


def is_check(code: str) -> bool:
    "Whether a cell only asserts"
    return bool(code.strip()) and all(CHECK.match(line) for line in code.splitlines())


def code_cell(page: Page, names: Names, module: str, cell) -> str:
    directives, code = cell.directives_, cell.source.strip("\n")
    alt = (
        directives.get("fig-alt:")
        or directives.get("fig-alt")
        or f"What the cell shows: {code.splitlines()[-1] if code else ''}"
    )
    shown = "".join(output(page, names, module, o, alt) for o in cell.get("outputs", []))
    hidden = "false" in (directives.get("echo:", ""), directives.get("echo", ""))
    if hidden or not code.strip():
        return shown
    kind = " check" if is_check(code) and not shown else ""
    return f'<div class="cell{kind}">{coloured(code)}{shown}</div>'


def source_cell(module: str, code: str) -> str:
    "Exported code: there for anyone who wants to see it"
    defined = re.findall(r"^(?:async )?(?:def|class) (\w+)|^(\w+)\s*(?::[^=]+)?=[^=]", code, re.M)
    words = list(dict.fromkeys(a or b for a, b in defined))
    if not words:  # imports
        return ""
    more = f" and {len(words) - 4} more" if len(words) > 5 else ""
    said = ", ".join(f"<code>{w}</code>" for w in (words[:4] if more else words))
    return f'<details class="source"><summary>Source of {said}{more}</summary>{coloured(code)}</details>'


def module_of(notebook: Path) -> str:
    "What a notebook exports, such as datasets.dataset"
    text = notebook.read_text(encoding="utf-8")
    found = re.search(r"#\| default_exp (\S+?)(?:\\n|\")", text)
    return found[1] if found else ""


# ── pages ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def notebooks() -> list[Path]:
    "Every notebook in reading order"
    order = list(ROOMS)
    found = [
        p for p in NBS.rglob("*.ipynb") if not any(part.startswith((".", "_")) for part in p.relative_to(NBS).parts)
    ]
    return sorted(found, key=lambda p: (order.index(room_of(p)), p.stem != "index", p.name))


def room_of(notebook: Path) -> str:
    folder = notebook.parent.relative_to(NBS).as_posix().removeprefix(".")
    room = "foundations" if not folder and notebook.stem in FOUNDATIONS else folder
    if room not in ROOMS:
        sys.exit(f"{notebook.relative_to(ROOT)} is in a folder that has no place in ROOMS of .ci/docs.py")
    return room


def titled(notebook: Path) -> tuple[str, str]:
    "H1 and subtitle"
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    first = next("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    found = re.match(r"# (.+)\n\n> (.+(?:\n> .+)*)", first)
    if not found:
        sys.exit(f"{notebook.relative_to(ROOT)} does not begin with a title and a subtitle")
    return found[1].strip(), re.sub(r"\n> ?", " ", found[2]).strip()


def skeletons() -> list[Page]:
    "All pages in reading order, without their bodies"
    pages = []
    for notebook in notebooks():
        title, subtitle = titled(notebook)
        inside = notebook.relative_to(NBS).with_suffix(".html").as_posix()
        pages.append(
            Page(
                inside, title, subtitle, room_of(notebook), source=f"nbs/{notebook.relative_to(NBS)}", is_notebook=True
            )
        )
    present = {p.room for p in pages}
    for room in [r for r in ROOMS if r in present and r not in ("", "foundations")]:
        at = next(i for i, p in enumerate(pages) if p.room == room)
        pages.insert(at, Page(f"{room}/index.html", ROOMS[room], room_sentence(room), room, source=f"nbs/{room}/index"))
    for name in PROJECT_FILES:
        if (ROOT / name).exists():
            title = re.match(r"# (.+)", (ROOT / name).read_text(encoding="utf-8"))
            pages.append(
                Page(f"{Path(name).stem.lower()}.html", title[1] if title else name, "", "project", source=name)
            )
    pages.append(
        Page(
            "names.html", "All public names", "Every function, class and constant, by module", "project", source="names"
        )
    )
    return pages


@cache
def room_sentence(room: str) -> str:
    "What the table of index.ipynb says about a room"
    found = re.search(rf"\[`nbs/{room}`\]\([^)]*\) \| ([^|\n]+?) \|", (NBS / "index.ipynb").read_text(encoding="utf-8"))
    sentence = (
        found[1]
        if found
        else {
            "tutorials": "what you need, what you see, what it means, what to do next",
            "reports": "the notebooks that a run's report is made from",
            "apps": "pages for people who write no code",
        }.get(room, "")
    )
    return sentence[:1].upper() + sentence[1:]


def fill(page: Page, names: Names, look: Environment) -> None:
    "The body of a page that is made from a notebook"
    notebook = ROOT / page.source
    module = module_of(notebook)
    entries = names.modules.get(module, {})
    processor = NBProcessor(notebook, procs=PROCESSORS)  # nbdev's: what to hide, and where to explain a name
    processor.process()
    parts: list[str] = []
    waiting: list[str] = []  # sources whose cards come first

    def settle() -> None:
        parts.extend(waiting)
        waiting.clear()

    for cell in processor.nb.cells:
        if cell.cell_type == "markdown":
            settle()
            text = (
                re.sub(r"^# .+\n\n> .+(?:\n> .+)*\n?", "", cell.source, count=1)
                if cell is processor.nb.cells[0]
                else cell.source
            )
            parts.append(f'<div class="prose">{prose(page, names, module, text)}</div>')
        elif cell.cell_type != "code" or "default_exp" in cell.directives_:
            continue
        elif getattr(cell, "has_sd", False):
            name = re.fullmatch(r"show_doc\(([\w.]+)\)", cell.source.strip())[1]
            parts.append(card(page, names, look, module, entries[name]) if name in entries else "")
        elif "export" in cell.directives_ or "exports" in cell.directives_:
            settle()
            constants = [
                e
                for e in entries.values()
                if e.kind == "constant" and re.search(rf"^{e.name}\b[^=\n(]*=", cell.source, re.M)
            ]
            parts.extend(card(page, names, look, module, e) for e in constants)
            waiting.append(source_cell(module, cell.source))
        else:
            settle()
            parts.append(code_cell(page, names, module, cell))
    settle()
    page.body = "\n".join(p for p in parts if p)


def card(page: Page, names: Names, look: Environment, module: str, entry: docs_api.Entry) -> str:
    "The reference of one name"

    def said(text: str) -> Markup:
        return Markup(prose(page, names, module, re.sub(r"(?m)^(\s*)([-*] )", r"\1\2", text)))

    def phrase(text: str) -> Markup:
        inner = str(markdown2html(text)).strip()
        inner = re.sub(r"^<p>(.*)</p>$", r"\1", inner, flags=re.S)
        return Markup(linked(page, names, module, with_pages(page, inner)))

    def typed(text: str) -> Markup:
        def replace(found: re.Match) -> str:
            url = names.url(found[0], module) if found[0][0].isupper() else None
            return f'<a class="name" href="{page.to(url)}">{found[0]}</a>' if url else found[0]

        linked_names = re.sub(r"[A-Za-z_]\w*", replace, html.escape(text, quote=False))
        return Markup(
            re.sub(r"(\[|, |\| )(?![^<]*>)", r"\1<wbr>", linked_names)
        )  # a long type breaks where a reader would

    return look.get_template("card.html").render(
        e=entry, said=said, phrase=phrase, typed=typed, public=PUBLIC.get(entry.name) == module
    )


def room_body(page: Page, pages: list[Page]) -> str:
    rows = [
        f'<li><a href="{page.to(p.url)}"><b>{html.escape(p.title)}</b><span>{html.escape(p.subtitle)}</span></a></li>'
        for p in pages
        if p.room == page.room and p.url != page.url
    ]
    return f'<ol class="cards">{"".join(rows)}</ol>'


def names_body(page: Page, names: Names) -> str:
    "Every public name, by module"
    parts = []
    for module in names.page_of:  # in reading order
        if not (found := names.modules.get(module)):
            continue
        rows = []
        for e in sorted(found.values(), key=lambda e: e.name.lower()):
            mark = ' <span class="tag">from vote_experiments</span>' if PUBLIC.get(e.name) == module else ""
            text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(e.summary, quote=False))
            rows.append(
                f'<tr><th scope="row"><a href="{page.to(names.anchored(module, e.name) or "")}"><code>{e.name}</code></a></th>'
                f'<td class="kind">{e.kind}</td><td>{text}{mark}</td></tr>'
            )
        parts.append(
            f'<h2 id="{module}"><a href="{page.to(names.page_of[module])}">{module}</a></h2>'
            f'<div class="scroll"><table class="names"><tbody>{"".join(rows)}</tbody></table></div>'
        )
    return "\n".join(parts)


# ── headings, search ────────────────────────────────────────────────────────────────────────────────────────────────

HEADING = re.compile(r'<h([234]) id="([^"]+)"([^>]*)>(.*?)</h\1>', re.S)


def plain(text: str) -> str:
    text = re.sub(r"<svg.*?</svg>|<details.*?</details>|<div class=\"cell check\">.*?</div>", " ", text, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).replace("¶", " ").split())


def outline(page: Page) -> None:
    "The headings of a page with the words below each"
    pieces = HEADING.split(page.body)
    page.headings = [(1, "", html.escape(page.title), plain(pieces[0]))]
    for level, anchor, _, words, below in zip(*[iter(pieces[1:])] * 5):
        words = re.sub(r'<a class="anchor-link".*?</a>', "", words)
        page.headings.append((int(level), anchor, words.strip(), plain(below)))


def search_index(pages: list[Page], names: Names) -> list[list[str]]:
    "Rows of [words, place, url, text, kind]"
    rows = []
    module_at = {url: module for module, url in names.page_of.items()}
    for page in pages:
        place = ROOMS[page.room]
        explained = {e.name for e in names.modules.get(module_at.get(page.url, ""), {}).values()}
        for level, anchor, words, text in page.headings:
            if anchor in explained or level > 3 or page.url == "names.html" and anchor:
                continue
            title = plain(words)
            text = f"{page.subtitle} {text}" if level == 1 else text
            kind = "guide" if page.room in GUIDES else "page" if level == 1 else "section"
            where = place if level == 1 else f"{place} › {page.title}"
            rows.append(
                [
                    title,
                    where,
                    page.url + (f"#{anchor}" if anchor else ""),
                    text[:700],
                    kind if level < 3 else "section",
                ]
            )
    for module, entry in names.entries:
        if url := names.anchored(module, entry.name):
            rows.append(
                [
                    entry.name,
                    f"{entry.kind} in {module}",
                    url,
                    entry.summary,
                    "public" if PUBLIC.get(entry.name) == module else "name",
                ]
            )
    return rows


# ── the whole ───────────────────────────────────────────────────────────────────────────────────────────────────────


def site() -> tuple[list[Page], Names, Environment]:
    pages = skeletons()
    page_of = {m: p.url for p in pages if p.is_notebook and (m := module_of(ROOT / p.source))}
    names = Names(docs_api.modules(), page_of)
    look = Environment(loader=FileSystemLoader(LOOK), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    for page in pages:
        if page.is_notebook:
            fill(page, names, look)
        elif page.url == "names.html":
            page.body = names_body(page, names)
        elif page.source in PROJECT_FILES:
            text = (ROOT / page.source).read_text(encoding="utf-8")
            page.body = f'<div class="prose">{prose(page, names, "", text.split(chr(10), 1)[1])}</div>'
        else:
            page.body = room_body(page, pages)
        page.body = each_once(page.body, set(re.findall(r'<h[34] id="([^"]+)">', page.body)))
        outline(page)
    return pages, names, look


def write(out: Path, pages: list[Page], names: Names, look: Environment) -> None:
    if out.exists():
        shutil.rmtree(out)
    (out / "assets").mkdir(parents=True)
    for name in ("style.css", "page.js"):
        shutil.copy(LOOK / name, out / "assets" / name)
    for name in ("sarabun-400.ttf", "sarabun-700.ttf", "LICENSE-sarabun.txt"):
        shutil.copy(FONTS / name, out / "assets" / name)
    shutil.copytree(NBS / "images", out / "images")
    rows = json.dumps(search_index(pages, names), ensure_ascii=False, separators=(",", ":"))
    (out / "assets/search.js").write_text(f"window.SEARCH_ROWS = {rows};\n", encoding="utf-8")
    template = look.get_template("page.html")
    rooms = [(room, title, [p for p in pages if p.room == room]) for room, title in ROOMS.items()]
    rooms = [r for r in rooms if r[2]]
    for i, page in enumerate(pages):
        target = out / page.url
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(
            template.render(
                page=page,
                rooms=rooms,
                body=Markup(page.body),
                before=pages[i - 1] if i else None,
                after=pages[i + 1] if i + 1 < len(pages) else None,
                version=vote_experiments.__version__,
                module=next((m for m, u in names.page_of.items() if u == page.url), ""),
                toc=[
                    (level, anchor, Markup(words)) for level, anchor, words, _ in page.headings if anchor and level < 4
                ],
            )
            + "\n",
            encoding="utf-8",
        )


def problems(out: Path, names: Names) -> list[str]:
    "What is wrong with the pages in a folder"
    found = [
        f"{p.relative_to(ROOT)} is not what nbs/index.ipynb says: run python .ci/readme.py"
        for p, data in readme.made().items()
        if not p.exists() or p.read_bytes() != data
    ]
    texts = {p.relative_to(out).as_posix(): p.read_text(encoding="utf-8") for p in sorted(out.rglob("*.html"))}
    texts = {
        url: re.sub(r"<pre.*?</pre>", "", text, flags=re.S) for url, text in texts.items()
    }  # what is only quoted does not count
    anchors = {url: set(re.findall(r' id="([^"]+)"', text)) for url, text in texts.items()}
    for url, text in texts.items():
        found += [
            f"{url}: fetches {t}"
            for t in re.findall(r'<(?:script|img|link|iframe)\b[^>]*(?:src|href)="((?:https?:)?//[^"]+)"', text)
        ]
        found += broken_links(out, url, text, anchors)
        twice = [a for a in anchors[url] if len(re.findall(rf' id="{re.escape(a)}"', text)) > 1]
        found += [f"{url}: two places are called #{a}" for a in twice]
    navigation = re.search(r'<nav class="rooms".*?</nav>', texts["index.html"], re.S)[0]
    for notebook in notebooks():
        url = notebook.relative_to(NBS).with_suffix(".html").as_posix()
        if f'href="{url}"' not in navigation:
            found.append(f"nbs/{notebook.relative_to(NBS)} is not in the navigation")
    return found + undocumented(names, anchors)


def broken_links(out: Path, url: str, text: str, anchors: dict[str, set[str]]) -> list[str]:
    found = []
    for target in sorted(set(re.findall(r'\b(?:href|src)="([^"]*)"', text))):
        target = html.unescape(target)
        if re.match(r"(https?|mailto|data|javascript):", target) or target == "#":
            continue
        path, _, anchor = target.partition("#")
        to = normpath(str(Path(url).parent / unquote(path))) if path else url
        if not (out / to).is_file():
            found.append(f"{url}: {target} leads nowhere")
        elif anchor and unquote(anchor) not in anchors.get(to, set()):
            found.append(f"{url}: {target} leads to a page, but #{anchor} is not on it")
    return found


def undocumented(names: Names, anchors: dict[str, set[str]]) -> list[str]:
    "Public names that say nothing or stand nowhere"
    found = []
    for name, module in PUBLIC.items():
        entry = names.modules.get(module, {}).get(name)
        if entry is None or not (entry.doc or entry.value):
            found.append(f"{module}.{name} has no docstring")
        elif name not in anchors.get(names.page_of.get(module, ""), set()):
            found.append(f"{module}.{name} is explained on no page")
    return found


def main() -> None:
    out = Path(sys.argv[sys.argv.index("--out") + 1]) if "--out" in sys.argv else ROOT / "_docs"
    pages, names, look = site()
    write(out, pages, names, look)
    wrong = problems(out, names)
    for line in wrong:
        print(line)
    print(f"{len(pages)} pages in {out}, {len(wrong)} to mend")
    sys.exit(1 if wrong and "--check" in sys.argv else 0)


if __name__ == "__main__":
    main()
