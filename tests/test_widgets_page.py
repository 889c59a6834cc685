"""The page in a real Chromium, on Voila and in JupyterLab, as someone uses it"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import nbformat
import pytest
from servers.loopback import kept_port

from vote_experiments.datasets.saving import save_dataset
from vote_experiments.store.database import Store
from vote_experiments.server.jobs import get_job, list_jobs, wait_for_job
from vote_experiments.synthesis.drawn import form_set
from vote_experiments.cli import ui as cli_ui
from vote_experiments.widgets.page import PAGE_VARIABLE, experiments_page, page_settings
from vote_experiments.settings import OFFLINE_MODEL_CONFIGS, VARIABLES

ARTIFACTS = Path(__file__).resolve().parent.parent / "test-artifacts"
HOSTILE = '<img src=x onerror="window.pwned=1">'
ARTIFACTS.mkdir(exist_ok=True)
SECONDS = 1000  # of playwright's milliseconds
BIN = Path(sys.executable).parent


def clean_environment(folder, **more):
    known = {v.name for v in VARIABLES} | {PAGE_VARIABLE, "JUPYTER_PATH"}
    return {
        **{k: v for k, v in os.environ.items() if k not in known},
        "VOTE_EXPERIMENTS_RUNS": str(folder / "runs"),
        **more,
    }


@contextlib.contextmanager
def process(folder, *command, **environment):
    "A server in its own group; its output is in server.log"
    log = folder / "server.log"
    with open(log, "a") as told:
        started = subprocess.Popen(
            list(map(str, command)),
            cwd=folder,
            env=clean_environment(folder, **environment),
            stdout=told,
            stderr=told,
            start_new_session=True,
        )
    try:
        yield SimpleNamespace(log=log, process=started)
    finally:
        started.send_signal(signal.SIGINT)
        try:
            started.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait(15)


def wait_for(true, what, seconds=90):
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "A folder with a store: two drawn form sets, and a dataset whose name is a trap"
    folder = tmp_path_factory.mktemp("ui")
    store, records = Store(folder / "store.db"), []
    (folder / "pages").mkdir()
    for seed in (3, 4):
        drawn = form_set(seed, options="plain", kind="Constituency")
        for path, page in zip(drawn.record["input"]["image_paths"], drawn.pages):
            (folder / path).parent.mkdir(exist_ok=True, parents=True)
            (folder / path).write_bytes(page)
        records.append(drawn.record)
    save_dataset("stations", records, root=folder, store=store)
    save_dataset(f"zz {HOSTILE}", [{"id": HOSTILE, "input": {"image_paths": ["gone.jpg"]}}], root=folder, store=store)
    yield SimpleNamespace(folder=folder, store=store, path=folder / "store.db")
    store.close()


@pytest.fixture(scope="module")
def voila(home):
    pytest.importorskip("voila", reason="Voila is not installed")
    with (
        kept_port() as port,
        process(
            home.folder, BIN / "vote-experiments", "ui", "--no-browser", "--port", port, "--store", home.path
        ) as server,
    ):
        address = wait_for(
            lambda: re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", server.log.read_text()), server.log.read_text
        )[0]
        wait_for(lambda: _answers(address), server.log.read_text)
        yield SimpleNamespace(url=address, log=server.log)


def _answers(url):
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url.split("?")[0] + "voila/static/none").status_code


def opened(chromium, url, width, height=1400):
    "A page with its requests and its console messages"
    page = chromium.new_page(viewport={"width": width, "height": height}, accept_downloads=True)
    page.asked, page.complaints = [], []
    page.on("request", lambda r: page.asked.append(r.url))
    page.on("pageerror", lambda e: page.complaints.append(str(e)))
    page.goto(url)
    return page


def ready(page):
    page.wait_for_selector("button.ve-primary", timeout=300 * SECONDS)
    page.wait_for_function("document.querySelector('button.ve-primary').innerText.length > 0")
    return page


def run_through(page, shots):
    "Preset, edit, run on the offline readers, watch, read, download"
    page.get_by_role("button", name="Offline readers").click()
    page.wait_for_selector("text=Preset chosen")
    for n in range(len(OFFLINE_MODEL_CONFIGS) - 1, 1, -1):
        page.locator(".ve-row").nth(2).get_by_role("button", name="Remove").click()
        page.wait_for_function(f"document.querySelectorAll('.ve-row').length == {n}")
    row = page.locator(".ve-row").nth(1)
    row.get_by_label("Name", exact=True).fill("my digits")
    row.get_by_label("Tags (JSON)").fill('{"purpose": ')
    row.get_by_label("Tags (JSON)").press("Tab")
    page.wait_for_selector("text=this is not JSON", timeout=20 * SECONDS)
    row.get_by_label("Tags (JSON)").fill('{"purpose": "a test"}')
    row.get_by_label("Tags (JSON)").press("Tab")
    page.wait_for_selector("text=this is not JSON", state="detached", timeout=20 * SECONDS)
    page.get_by_role("button", name="Run and wait").click()
    shares = set()
    page.wait_for_selector(".ve-bar", timeout=60 * SECONDS)
    end = time.monotonic() + 120
    while not page.locator(".ve-message.ve-good", has_text="Finished").count():
        shares |= _shares(page)
        assert time.monotonic() < end
        page.wait_for_timeout(100)
    assert len(shares) >= 2 and 100 in shares | _shares(page), f"progress moves: {shares}"
    page.wait_for_function("!document.body.innerText.includes('This run has not finished')")
    page.wait_for_selector("figure img")
    assert page.locator(".ve-card", has_text="Results").locator("table.wide tbody tr").count() == 2
    for shot in shots:
        page.screenshot(path=ARTIFACTS / shot)
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download JSON").click()
    result = json.loads(Path(waiting.value.path()).read_text(encoding="utf-8"))
    assert [e["experiment_name"] for e in result["experiments"]] == [
        f"vote-extraction-{OFFLINE_MODEL_CONFIGS[0]['name_suffix']}",
        "vote-extraction-my digits",
    ]
    assert [e["total_records"] for e in result["experiments"]] == [
        2,
        2,
    ] and waiting.value.suggested_filename.startswith("grp_")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download CSV").click()
    assert Path(waiting.value.path()).read_text(encoding="utf-8-sig").count("\n") == 3


def _shares(page):
    return set(page.eval_on_selector_all(".ve-bar", "bars => bars.map(b => +b.getAttribute('aria-valuenow'))"))


NAMELESS = """() => [...document.querySelectorAll('.ve input, .ve select, .ve button, .ve textarea')].filter(e => e.offsetParent &&
  !(e.labels && [...e.labels].some(l => l.innerText.trim())) && !(e.getAttribute('aria-label') || '').trim() && !e.innerText.trim()).map(e => e.outerHTML)"""
FAINT = """() => {
  const rgb = c => { const m = c.match(/[\\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1] };
  const lum = c => { const f = c.slice(0, 3).map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 }); return .2126 * f[0] + .7152 * f[1] + .0722 * f[2] };
  const ground = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] > .95) return c } return [255, 255, 255, 1] };
  const own = e => [...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim());
  return [...document.querySelectorAll('.ve *')].filter(e => e.offsetParent && (own(e) || e.matches('input, select')) && !e.disabled).map(e => {
    const a = lum(rgb(getComputedStyle(e).color)), b = lum(ground(e));
    return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.tagName, (e.innerText || e.value || '').slice(0, 40)] }).filter(r => r[0] < 4.5) }"""
TOO_WIDE = """() => [...document.querySelectorAll('.ve-card, .ve-row, .ve-tiles, .ve button, .ve input, .ve select')].filter(e => e.offsetParent &&
  (e.getBoundingClientRect().right > innerWidth + 1 || e.getBoundingClientRect().left < 0)).map(e => e.outerHTML.slice(0, 200))"""


@pytest.mark.browser
def test_the_page_on_voila(voila, home, chromium):
    page = ready(opened(chromium, voila.url, 1600))
    assert page.title() == "Experiments page"
    run_through(page, ["experiments-voila-1600.png"])
    assert page.evaluate(TOO_WIDE) == [] and page.evaluate(NAMELESS) == [] and page.evaluate(FAINT) == []
    page.set_viewport_size({"width": 1000, "height": 3600})
    page.wait_for_timeout(300)
    page.screenshot(path=ARTIFACTS / "experiments-voila-1000.png")
    assert page.evaluate(TOO_WIDE) == [] and page.evaluate("document.documentElement.scrollWidth") <= 1000
    page.get_by_label("Dataset", exact=True).select_option(f"zz {HOSTILE} (1 items)")
    page.get_by_role("button", name="▸ Preview").click()
    page.wait_for_selector("text=cannot be shown")
    page.get_by_role("button", name="▸ The request, to copy").click()
    page.wait_for_selector("pre >> text=onerror")
    assert page.evaluate("window.pwned") is None
    elsewhere = [u for u in page.asked if not u.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"))]
    assert elsewhere == [] and page.complaints == []
    page.get_by_role("button", name="Run and wait").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Run in the background"
    page.keyboard.press("Tab"), page.keyboard.press("Enter")
    page.wait_for_selector("text=calls on 1 items", timeout=60 * SECONDS)
    page.close()


@pytest.mark.browser
def test_a_background_run_survives_the_page_and_is_found_again(voila, home, chromium):
    page = ready(opened(chromium, voila.url, 1200))
    page.get_by_label("Name", exact=True).first.fill("survivor")
    page.get_by_label("Name", exact=True).first.press("Tab")
    before = {j.id for j in list_jobs(home.store)}
    page.get_by_role("button", name="Run in the background").click()
    wait_for(lambda: {j.id for j in list_jobs(home.store)} - before, "no job")
    page.close()  # the kernel of the page ends with it
    (job,) = {j.id for j in list_jobs(home.store)} - before
    again = ready(opened(chromium, voila.url.replace("?", "?language=th&"), 1600))
    again.wait_for_selector(f"text={job}", timeout=60 * SECONDS)
    again.wait_for_selector(".ve-tiles", timeout=120 * SECONDS)
    again.wait_for_selector("text=ความถูกต้องโดยรวม")
    again.screenshot(path=ARTIFACTS / "experiments-voila-thai-1600.png")
    again.close()
    assert wait_for_job(job, home.store, 90).status == "success" and get_job(job, home.store).progress[
        "experiments_done"
    ] == len(get_job(job, home.store).arguments["model_configs"])


@pytest.mark.browser
def test_nobody_gets_in_without_the_token(voila):
    bare = voila.url.split("?")[0]
    answer = httpx.get(bare, follow_redirects=False)
    assert answer.status_code in (302, 401, 403) and "Run and wait" not in answer.text
    wrong = httpx.get(bare + "?token=wrong", follow_redirects=True)
    assert "cell-index" not in wrong.text and httpx.get(bare + "api/kernels").status_code in (302, 401, 403, 404)
    assert voila.url.split("token=")[1] not in Path(f"/proc/{_pid_of(voila.log)}/cmdline").read_text()


def _pid_of(log):
    "The server's process: the one that listens on the page's port"
    port = int(re.search(r"127\.0\.0\.1:(\d+)", log.read_text())[1])
    found = subprocess.run(
        ["pgrep", "-f", f"ui --no-browser --port {port}"], capture_output=True, text=True
    ).stdout.split()
    return int(found[0])


@pytest.fixture(scope="module")
def lab(home):
    cell = nbformat.v4.new_code_cell(
        f"from vote_experiments.widgets.experiment_form import ExperimentForm\nExperimentForm(store={str(home.path)!r}, dataset_name='stations')"
    )
    notebook = nbformat.v4.new_notebook(
        cells=[cell], metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    nbformat.write(notebook, home.folder / "form.ipynb")
    with (
        kept_port() as port,
        process(
            home.folder,
            sys.executable,
            "-m",
            "jupyter",
            "lab",
            "--no-browser",
            "--allow-root",
            f"--port={port}",
            "--ip=127.0.0.1",
            "--ServerApp.port_retries=0",
            "--IdentityProvider.token=",
            "--LabApp.news_url=",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            f"--ServerApp.root_dir={home.folder}",
            JUPYTER_CONFIG_DIR=str(home.folder / "config"),
            JUPYTERLAB_SETTINGS_DIR=str(home.folder / "settings"),
            JUPYTERLAB_WORKSPACES_DIR=str(home.folder / "workspaces"),
        ) as server,
    ):
        wait_for(lambda: _answers(f"http://127.0.0.1:{port}/lab?"), server.log.read_text)
        yield f"http://127.0.0.1:{port}"


TALL = 4200  # JupyterLab hides what is scrolled out of sight, and a hidden button cannot be clicked


def run_cell(page):
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=90 * SECONDS)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=90 * SECONDS)
    page.wait_for_timeout(500)
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Shift+Enter")
    return ready(page)


@pytest.mark.browser
@pytest.mark.timeout(600)  # a kernel, JupyterLab and a browser, on a machine under load
def test_the_form_in_jupyterlab(lab, home, chromium):
    page = run_cell(opened(chromium, f"{lab}/lab/workspaces/form/tree/form.ipynb", 1600, TALL))
    page.keyboard.press("Control+b")  # the side bar
    run_through(page, ["experiments-jupyterlab-1600.png"])
    assert page.evaluate(NAMELESS) == [] and page.evaluate("window.pwned") is None
    page.close()


# -- the command


def test_without_voila_the_command_says_what_to_install(monkeypatch, capsys):
    from typer.testing import CliRunner

    from vote_experiments.cli.shell import app

    monkeypatch.setattr(cli_ui, "find_spec", lambda name: None)
    answer = CliRunner().invoke(app, ["ui", "--no-browser"])
    assert answer.exit_code == 2 and "pip install 'vote-experiments[ui]'" in answer.output + answer.stderr
    answer = CliRunner().invoke(app, ["ui", "--language", "de"])
    assert answer.exit_code == 2 and "language='de' must be one of 'en', 'th'" in answer.output + answer.stderr


def test_a_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli_ui.free_port(port) > port
        with pytest.raises(
            OSError, match=f"the ports {port} to {port} of 127.0.0.1 are all taken; name another with --port"
        ):
            cli_ui.free_port(port, 1)


def test_the_page_goes_where_the_command_was_called(tmp_path):
    told = page_settings(
        {PAGE_VARIABLE: json.dumps({"folder": str(tmp_path), "language": "en"}), "QUERY_STRING": "token=x&language=th"}
    )
    assert told == {"folder": str(tmp_path), "language": "th"}
    assert page_settings({"QUERY_STRING": "language=xx"}) == {}


def test_one_tab_that_breaks_leaves_the_others(tmp_path):
    page = experiments_page("en", str(tmp_path / "store.db"))
    assert page.titles[0] == "Run" and len(page.children) == len(page.titles)
    broken = experiments_page("en", api_base_url="nowhere")
    assert "must begin with http" in broken.children[0].children[0].value


# -- how quickly it answers

ANSWERED = """([name, look]) => new Promise(done => { const began = performance.now(), before = eval(look);
  const watch = new MutationObserver(() => { if (eval(look) != before) { watch.disconnect(); done(performance.now() - began) } });
  watch.observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
  [...document.querySelectorAll('.ve button')].find(b => b.innerText.includes(name)).click() })"""


@pytest.mark.slow
@pytest.mark.browser
def test_a_click_is_answered_while_results_arrive(lab, home, chromium, record_property):
    "50 items in flight, 5,000 results: a click that needs the kernel is answered within 200 ms"
    cell = nbformat.v4.new_code_cell(f"""
import asyncio
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.store.database import Store
from vote_experiments.widgets.experiment_form import ExperimentForm
from vote_experiments.models.registry import register_model
truth = {{"form_info": {{"form_type": "Constituency"}}, "vote_results": [{{"number": 1, "vote_count": 200}}]}}
async def burst(images, config):
    await asyncio.sleep(0.25)
    return {{"reports": [truth]}}
register_model("burst", burst)
store = Store({str(home.folder / "burst.db")!r})
save_dataset("many", [{{"id": f"f{{i}}", "input": {{"image_paths": [f"{{i}}.jpg"]}}, "expected_output": truth}} for i in range(5000)], store=store)
form = ExperimentForm(store=store, dataset_name="many", model_configs=[{{"model": "burst", "temperature": 0.0}}])
form.settings.jobs.value = "50"
form""")
    notebook = nbformat.v4.new_notebook(
        cells=[cell], metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    nbformat.write(notebook, home.folder / "burst.ipynb")
    page = run_cell(opened(chromium, f"{lab}/lab/workspaces/burst/tree/burst.ipynb", 1600, TALL))
    page.evaluate("""() => { window.updates = []; new MutationObserver(() => { const b = document.querySelector('.ve-bar');
      const now = b && b.parentElement.innerText; if (now && now != window.seen) { window.seen = now; window.updates.push(performance.now()) } })
      .observe(document.body, {subtree: true, childList: true, attributes: true}) }""")
    page.get_by_role("button", name="Run and wait").click()
    page.wait_for_function(
        "+(document.querySelector('.ve-bar') || document.body).getAttribute('aria-valuenow') > 0", timeout=60 * SECONDS
    )
    took, rows = [], []
    while page.locator(".ve-message.ve-good").count() == 0 and len(took) < 60:
        took.append(
            page.evaluate(
                ANSWERED,
                ["The request, to copy", "[...document.querySelectorAll('.ve-fold')].map(b => b.innerText).join()"],
            )
        )
        if len(took) % 4 == 0:  # the heaviest click: a new row of a dozen controls
            rows.append(page.evaluate(ANSWERED, ["Duplicate", "document.querySelectorAll('.ve-row').length"]))
            page.locator(".ve-row").last.get_by_role("button", name="Remove").click()
        page.wait_for_timeout(250)
    page.wait_for_selector(".ve-tiles", timeout=240 * SECONDS)
    updates = page.evaluate("window.updates")
    each_second = (len(updates) - 1) / max(0.001, (updates[-1] - updates[0]) / 1000)
    took.sort(), rows.sort()
    (
        record_property("clicks", len(took)),
        record_property("median_ms", took[len(took) // 2]),
        record_property("worst_ms", took[-1]),
    )
    print(
        f"{len(took)} clicks: median {took[len(took) // 2]:.0f} ms, 95 % {took[int(0.95 * len(took))]:.0f} ms, worst {took[-1]:.0f} ms; "
        f"{len(rows)} new rows: median {rows[len(rows) // 2]:.0f} ms, worst {rows[-1]:.0f} ms; "
        f"{each_second:.1f} updates/s over {(updates[-1] - updates[0]) / 1000:.0f} s"
    )
    assert len(took) > 10 and took[len(took) // 2] < 200 and each_second <= 4.2
    page.close()
