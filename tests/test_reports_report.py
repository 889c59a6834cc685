"""The archived report: what is in its folder, what never runs or leaks, and what it says when something is missing"""

import hashlib
import base64
import asyncio
import copy
import csv
import importlib.util
import json
import random
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from vote_experiments.datasets.dataset import get_dataset
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.store.runs import (
    RunNotFoundError,
    create_experiment_row,
    create_group,
    get_group,
    list_experiments,
    update_group,
)
from vote_experiments.experiments.result import experiment_result
from vote_experiments.store.database import Store
from vote_experiments.engine.archive import runs_index
from vote_experiments.experiments.experiment import run_experiment
from vote_experiments.experiments.comparison import run_model_experiments
from vote_experiments.synthesis.drawn import form_set
from vote_experiments.synthesis.reports import draft_report
from vote_experiments.reports.sortable_items import sorting_script
from vote_experiments.reports import findings
from vote_experiments.reports import stored_run as opened
from vote_experiments.reports import report
from vote_experiments.records import Evaluation, Observation, Usage, observe
from vote_experiments.scoring.evaluators import STANDARD_EVALUATORS
from vote_experiments.settings import keep_secret

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = "<script>window.pwned=1</script>"
IMAGE = '"><img src=x onerror="window.pwned=2"><svg onload=window.pwned=3>'
SECRET = "sekret-" + "4f9d2c81"
KEY = "AIza" + "Sy" + "A1b2C3d4" * 5


# -- a run in which everything that can be hostile is


def stations(folder: Path, n: int = 4) -> list[dict]:
    "Drawn form sets, their pages in a folder; the last one names a page that is not there and one that is not allowed"
    (folder / "pages").mkdir(parents=True)
    records = []
    for seed in range(n):
        drawn = form_set(seed, options="hard" if seed % 2 else "plain", kind="both" if seed == 0 else "Constituency")
        for path, page in zip(drawn.record["input"]["image_paths"], drawn.pages):
            (folder / path).write_bytes(page)
        records.append(drawn.record)
    records[1]["id"] = f"station {IMAGE}"
    records[2]["id"] = f"station {SECRET}"
    records[-1]["input"]["image_paths"] += ["pages/gone.jpg", "/etc/passwd"]
    records[-1]["metadata"]["level"] = SCRIPT
    return records


def wrong_label(record: dict) -> None:
    "Make the truth disagree with itself in one number"
    record["ground_truth"]["ballot_statistics"]["good_ballots"] += 7


def read_station(item, config):
    "Reads the truth and makes mistakes: more with a `hasty` model"
    right = copy.deepcopy(item.metadata["truth"])
    r, hasty = random.Random(f"{config['model']} {item.id}"), config["model"] == "ocr-words"
    observe(
        Observation(
            "read",
            "GENERATION",
            model=config["model"],
            model_version=f"{config['model']}-{IMAGE}",
            usage=Usage(1000, 200),
            cost_usd=0.002 * (1 + hasty),
        )
    )
    if hasty and item.id.endswith(SECRET):
        raise RuntimeError(f"no answer for {KEY} within {r.randint(10, 60)} s {SCRIPT}")
    for form in right if isinstance(right, list) else [right]:
        if hasty:
            form["form_info"]["district"] = f"บางพลัด {SCRIPT}{IMAGE} {SECRET}"
            for row in form["vote_results"]:
                row["vote_count"] = (row["vote_count"] or 0) + r.choice([0, 0, 1, 40])
    return right


def broken_evaluator(output, expected_output):
    raise KeyError(f"{IMAGE} {KEY}")


@pytest.fixture(scope="module")
def archived(tmp_path_factory):
    "One run, archived once: what most tests look at"
    home, patch = tmp_path_factory.mktemp("report"), pytest.MonkeyPatch()
    patch.setenv("VOTE_EXPERIMENTS_RUNS", str(home / "runs"))
    patch.setenv("MY_API_KEY", SECRET)
    store, records = Store(home / "store.db"), stations(home / "data")
    for record in records:
        record["metadata"]["truth"] = copy.deepcopy(record["ground_truth"])
    wrong_label(records[1])
    save_dataset(f"stations {SCRIPT}", records, root=home / "data", store=store)
    result = run_model_experiments(
        dataset_name=f"stations {SCRIPT}",
        store=store,
        backend="local",
        raise_errors=False,
        show_comparison=False,
        model_configs=[
            {"model": m, "temperature": 0.0, "name_suffix": m, "metadata": {"tag": IMAGE}}
            for m in ("ocr-fused", "ocr-fused-names", "ocr-words")
        ],
        task_function=read_station,
        evaluators=[*STANDARD_EVALUATORS, broken_evaluator],
        jobs=4,
    )
    folder = report.archive(result["group_id"], store=store)
    yield SimpleNamespace(
        home=home,
        store=store,
        group=result["group_id"],
        result=result,
        folder=folder,
        page=(folder / "report.html").read_text(encoding="utf-8"),
    )
    store.close()
    patch.undo()


def told(page: str) -> str:
    "The visible text of a page"
    body = page[page.index("<body>") :]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"base64,[A-Za-z0-9+/=]+", "", body)))


def test_the_folder_has_everything_and_the_light_page_leads_to_it(archived):
    names = {str(p.relative_to(archived.folder)) for p in archived.folder.rglob("*") if p.is_file()}
    pictures = {
        f"figures/{n}.{e}"
        for n in ("comparison", "difficulty", "vote-errors", "cost-accuracy", "latency")
        for e in ("svg", "png")
    }
    assert names == {
        "index.html",
        "report.html",
        "report.ipynb",
        "result.json",
        "items.csv",
        "parameters.json",
        "environment.json",
        *pictures,
    }
    assert Path(archived.result["report_path"]) == archived.folder
    assert (archived.folder / "index.html").read_text().count('href="report.html"') == 1
    assert archived.folder.name in (archived.folder.parent / "index.html").read_text()


def without_our_script(page):
    "A report without the one script that it brings along, whose hash is in the policy"
    script = sorting_script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert page.count(f'<script type="module">{script}</script>') == 1 and f"script-src 'sha256-{digest}'" in page
    return page.replace(f'<script type="module">{script}</script>', "")


def test_the_page_is_one_small_file_that_names_no_address(archived):
    assert len(archived.page.encode()) < 5_000_000
    page = without_our_script(archived.page)
    named = re.findall(r'\b(?:src|href|action|data|poster)="([^"]*)"', page)
    assert named and all(a.startswith(("data:image/", "#")) or a in report.FILES for a in named)
    assert "<script" not in page and "url(http" not in page
    assert "default-src 'none'" in archived.page


def test_every_section_is_there_and_says_something(archived):
    text = told(archived.page)
    for said in (
        "cannot be told apart",
        "Overall accuracy",
        "row − column",
        "What was requested?",
        "Content hash",
        "Constituency แบ่งเขต",
        "2.2.1 Good ballots บัตรดี",
        "What makes it hard",
        "answered minus expected",
        "Cost of the run",
        "95 % within",
        "no answer for",
        "evaluator broken_evaluator",
        "Which items went worst?",
        "did not answer the report",
        "Which labels look wrong?",
        "run_model_experiments(",
        "vote-experiments report grp_",
        "items.csv",
    ):
        assert said.lower() in text.lower(), said


def test_the_planted_wrong_label_is_suspected(archived):
    analysis = json.loads((archived.folder / "result.json").read_text())["analysis"]
    suspects = {(s["item_id"], s["path"]) for s in analysis["suspect_labels"]}
    assert (f"station {IMAGE}", "ballot_statistics.good_ballots") in suspects


def test_code_is_hidden_on_the_page_and_kept_in_the_notebook(archived):
    notebook = nbformat.read(archived.folder / "report.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    assert "findings.headline(opened)" in code and "findings.headline" not in archived.page
    assert all(c.source.count("\n") <= 5 for c in notebook.cells if c.cell_type == "code")


def test_result_json_has_the_returned_result_and_the_analysis(archived):
    kept = json.loads((archived.folder / "result.json").read_text())
    returned = json.loads(json.dumps(archived.result))
    assert kept.keys() == {*returned, "analysis"}
    assert [e["experiment_id"] for e in kept["experiments"]] == [e["experiment_id"] for e in returned["experiments"]]
    assert {"comparison", "fields", "slices", "vote_errors", "failures", "suspect_labels", "worst_items"} <= kept[
        "analysis"
    ].keys()


def test_items_csv_has_every_item_once(archived):
    rows = list(csv.DictReader((archived.folder / "items.csv").open(encoding="utf-8")))
    assert len(rows) == 12 and {r["experiment"] for r in rows} == {"ocr-fused", "ocr-fused-names", "ocr-words"}
    assert [r["status"] for r in rows].count("failed") == 1
    assert {"ballot_accuracy_score", "exact_form_match", "has_no_errors"} <= rows[0].keys()
    for r in rows:
        assert 0 <= float(r["accuracy"]) <= 1


def test_environment_says_what_it_ran_with(archived):
    kept = json.loads((archived.folder / "environment.json").read_text())
    assert kept["dataset"]["version"] == 1 and len(kept["dataset"]["hash"]) == 64
    assert kept["packages"]["numpy"] and set(kept["git"]) == {"commit", "dirty"} and kept["models"]["ocr-fused"]


def test_no_secret_is_in_any_file(archived):
    for path in archived.folder.rglob("*"):
        if path.is_file() and path.suffix != ".png":
            text = path.read_text(encoding="utf-8")
            assert SECRET not in text and KEY not in text, path.name


def test_nothing_hostile_is_left_as_markup(archived):
    for name in ("report.html", "index.html"):
        page = (archived.folder / name).read_text(encoding="utf-8")
        page = without_our_script(page) if name == "report.html" else page
        assert "<script" not in page and "<img src=x" not in page and "<svg onload" not in page, name
    notebook = nbformat.read(archived.folder / "report.ipynb", as_version=4)
    for cell in notebook.cells:
        for out in cell.get("outputs", ()):
            assert "<script" not in out.get("data", {}).get("text/html", "") and "<svg" not in out.get("data", {}).get(
                "text/html", ""
            )


def test_a_report_that_is_still_true_is_not_made_again(archived):
    before = {p: p.stat().st_mtime_ns for p in archived.folder.rglob("*") if p.is_file()}
    assert report.archive(archived.group[:14], store=archived.store) == archived.folder
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_rendering_again_gives_the_same_numbers_and_pictures(archived):
    same = [
        p
        for p in archived.folder.rglob("*")
        if p.is_file() and p.name not in ("report.ipynb", "report.html", "environment.json")
    ]
    before = {p: p.read_bytes() for p in same}
    report.archive(archived.group, store=archived.store, rerender=True)
    assert {p: p.read_bytes() for p in same} == before
    undated = lambda page: re.sub(
        r"<th scope=\"row\">(Rendered|Commit)</th><td>.*?</td>", "", page
    )  # others commit meanwhile
    assert undated((archived.folder / "report.html").read_text(encoding="utf-8")) == undated(archived.page)


# -- in a browser


@pytest.mark.browser
@pytest.mark.parametrize("policy", ["with the policy", "without it"])
def test_nothing_runs_and_nothing_is_fetched(archived, chromium, tmp_path, policy):
    page = (
        archived.page
        if policy == "with the policy"
        else re.sub(r"<meta http-equiv=\"Content-Security-Policy\".*?>", "", archived.page)
    )
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    tab, asked, complaints = chromium.new_page(viewport={"width": 1000, "height": 800}), [], []
    tab.on("request", lambda r: asked.append(r.url))
    tab.on("console", lambda m: complaints.append(m.text))
    tab.on("dialog", lambda d: complaints.append(d.message))
    tab.goto((tmp_path / "report.html").as_uri(), wait_until="networkidle")
    assert tab.evaluate("window.pwned") is None
    assert [u for u in asked if not u.startswith("data:")] == [(tmp_path / "report.html").as_uri()]
    assert complaints == []
    assert tab.locator("h2").count() == 14 and "<script>" in tab.locator("h1").inner_text()
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "wider than the window"
    assert tab.evaluate("[...document.images].every(i => i.naturalWidth > 0)"), "a picture that does not show"
    tab.close()


@pytest.mark.browser
def test_every_item_is_in_a_table_that_sorts_and_searches(archived, chromium, tmp_path):
    (tmp_path / "report.html").write_text(archived.page, encoding="utf-8")
    tab = chromium.new_page(viewport={"width": 1200, "height": 900})
    tab.goto((tmp_path / "report.html").as_uri())
    tab.wait_for_selector("#every-item.dataTable")
    cells = "#every-item tbody tr td:first-child"
    before = tab.locator(cells).all_inner_texts()
    tab.locator("#every-item thead th").first.click()
    assert tab.locator(cells).all_inner_texts() == sorted(before) and len(before) > 2
    plain = next(i for i in before if "<" not in i)
    tab.locator(".every-item input[type=search]").fill(plain)
    assert plain in tab.locator(cells).all_inner_texts()
    tab.locator(".every-item input[type=search]").fill("no such item")
    assert plain not in tab.locator(cells).all_inner_texts()
    assert tab.evaluate("window.pwned") is None
    tab.close()


@pytest.mark.browser
def test_thai_is_shown_with_the_font_inside_the_page(archived, chromium, tmp_path):
    (tmp_path / "report.html").write_text(archived.page, encoding="utf-8")
    tab = chromium.new_page()
    tab.goto((tmp_path / "report.html").as_uri())
    devtools = tab.context.new_cdp_session(tab)
    devtools.send("DOM.enable"), devtools.send("CSS.enable")
    root = devtools.send("DOM.getDocument")["root"]["nodeId"]
    nodes = devtools.send("DOM.querySelectorAll", {"nodeId": root, "selector": ".thai, h1, .wrong, .lead, .finding p"})[
        "nodeIds"
    ]
    fonts = [f for n in nodes for f in devtools.send("CSS.getPlatformFontsForNode", {"nodeId": n})["fonts"]]
    assert len(nodes) > 20 and fonts
    assert {(f["familyName"], f["isCustomFont"]) for f in fonts} == {("Sarabun", True)}
    tab.close()


@pytest.mark.browser
def test_a_pdf_with_thai_and_pages(archived, chromium, tmp_path):
    pdfium = pytest.importorskip("pypdfium2")
    report.print_pdf(archived.folder / "report.html", tmp_path / "report.pdf")
    pdf = pdfium.PdfDocument(tmp_path / "report.pdf")
    text = "".join(page.get_textpage().get_text_range() for page in pdf)
    assert len(pdf) > 3 and "จังหวัด" in text and "Which fields go wrong?" in text
    width, height = pdf[0].get_size()
    assert abs(width - 595) < 3 and abs(height - 842) < 3  # A4 in points
    pdf.close()


def test_without_chromium_a_pdf_is_refused_in_words(archived, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(report.ReportError, match="Install Chromium, or open .*report.html"):
        report.archive(archived.group, store=archived.store, pdf=True)


# -- the notebook behind it


def notebook(path: Path, *cells: str) -> Path:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(made, path)
    return path


def test_a_failing_cell_leaves_the_notebook_and_is_named(archived, tmp_path, monkeypatch):
    keep_secret("hunter2-hunter2")
    path = notebook(
        tmp_path / "broken.ipynb",
        "run = 'x'\nstore = None\nfolder = None\nlanguage = 'en'",
        "'the first is fine'",
        f"raise RuntimeError('hunter2-hunter2 {SCRIPT}')",
        "'never reached'",
    )
    monkeypatch.setattr(report, "template", lambda name="experiment": path)
    folder = archived.home / "elsewhere"
    with pytest.raises(report.ReportError, match=r"cell 4 failed with RuntimeError: \[redacted\].*report\.ipynb"):
        report.archive(archived.group, store=archived.store, runs=folder)
    made = next(folder.glob("*/report.ipynb"))
    assert "the first is fine" in made.read_text() and "hunter2" not in made.read_text()
    page = (made.parent / "report.html").read_text()
    assert "not complete: cell 4 failed" in page and "<script" not in page
    assert not list(made.parent.glob(".rendering*"))
    update_group(archived.store, archived.group, archive=str(archived.folder))


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"run": "x", "colour": "red"}, "no parameter 'colour'; it has run, store, folder, language"),
        ({"store": f"postgresql://me:{'pass' * 4}@db/x"}, "'store' holds a secret"),
    ],
)
def test_parameters_are_known_and_without_secrets(parameters, said):
    with pytest.raises(report.ReportError, match=re.escape(said)):
        report.checked_parameters(report.template(), parameters)


def test_the_packaged_template_is_the_one_in_nbs():
    spec = importlib.util.spec_from_file_location("sync_data", ROOT / ".ci/sync_data.py")
    sync_data = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sync_data)
    assert sync_data.main(check=True) == 0
    for name in ("experiment", "sweep", "compare"):
        made = json.loads(
            sync_data.packaged(
                json.loads((ROOT / f"nbs/report_templates/{name}.ipynb").read_text()), "report_templates"
            )
        )
        tagged = [c for c in made["cells"] if c["metadata"].get("tags") == ["parameters"]]
        assert len(tagged) == 1 and "".join(tagged[0]["source"]).startswith("run = ")


def test_inside_a_running_loop(tmp_path):
    path = notebook(tmp_path / "small.ipynb", "run = 1", "run + 1")

    async def render():
        return report.execute(path, {"run": 41}, tmp_path)

    with ThreadPoolExecutor(1) as pool:  # away from the browser's loop
        made, failed = pool.submit(lambda: asyncio.run(render())).result()
    assert failed is None and "42" in json.dumps(made["cells"][-1]["outputs"])


# -- other runs, listed without a kernel


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VOTE_EXPERIMENTS_RUNS", str(tmp_path / "runs"))
    store = Store(tmp_path / "store.db")
    yield SimpleNamespace(store=store, path=tmp_path)
    store.close()


def everything(run) -> str:
    "Every section of a run, one below the other"
    answers = findings.read_answers(run)
    parts = [
        findings.title(run),
        findings.headline(run),
        findings.comparison_picture(run),
        findings.pairs(run),
        findings.asked(run),
        findings.by_field(run, answers),
        findings.by_slices(run, answers),
        findings.difficulty_picture(run, answers),
        findings.vote_error_picture(run, answers),
        findings.cost_and_accuracy(run),
        findings.latency(run),
        findings.failures(run),
        findings.worst_items(run),
        findings.suspects(run, answers),
        report.how_to_repeat(run),
    ]
    json.dumps(report.all_findings(run, answers), allow_nan=False)
    return told("<body>" + str(findings.joined(parts)))


def sums(n: int = 5) -> list[dict]:
    return [{"id": f"sum-{i}", "input": {"a": i}, "expected_output": i + 1} for i in range(n)]


def test_a_task_of_ones_own_says_what_it_does_not_have(home):
    result = run_experiment(
        name="sums",
        data=sums(),
        task=lambda input_data: input_data["a"] + 1 + (input_data["a"] == 2),
        evaluators=[lambda output, expected_output: Evaluation("exact", output == expected_output)],
        store=home.store,
    )
    text = everything(findings.open_run(result.experiment_id[:-2], home.store))
    for said in (
        "How good is sums?",
        "Only sums has scores",
        "needs two experiments",
        "not polling-station reports",
        "price of no experiment is known",
        "Nothing failed",
        "sum-2",
        "this run has one",
        "the same list of dicts",
    ):
        assert said in text, said


def test_a_single_experiment_has_a_folder_of_its_own_that_the_index_lists(home, monkeypatch):
    result = run_experiment(name="on its own", data=sums(), task=lambda item: 1, store=home.store)
    row = list_experiments(home.store)[0]
    monkeypatch.setattr(
        report,
        "execute",
        lambda path, parameters, folder, environment, language: (
            (folder / "report.ipynb").write_text("{}"),
            ({"cells": []}, None),
        )[1],
    )  # what a kernel would do is tested above
    folder = report.archive("latest", store=home.store)
    assert folder.name.endswith(f"-on-its-own-{row['id'].removeprefix('exp_')}")
    assert f'href="{folder.name}/index.html">{result.experiment_id}<' in runs_index(home.store).read_text()
    assert 'href="report.html"' in (folder / "index.html").read_text()
    assert json.loads((folder / "parameters.json").read_text())["name"] == "on its own"


def test_a_run_without_scores_or_with_nothing_at_all(home):
    run_experiment(name="unjudged", data=sums(), task=lambda item: 1, store=home.store)
    assert "Nothing was scored" in everything(findings.open_run("latest", home.store))
    run_experiment(name="empty", data=[], task=lambda item: 1, evaluators=[lambda output: 1.0], store=home.store)
    assert "Nothing was scored" in everything(findings.open_run("latest", home.store))
    group = create_group(home.store, "models", "began nothing", request={"dataset_name": "x", "model_configs": []})
    update_group(
        home.store,
        group,
        status="failed",
        result={
            "experiments": [{"experiment_name": "no-such", "experiment_id": None, "error": f"unknown model {KEY}"}]
        },
    )
    text = everything(findings.open_run(group, home.store))
    assert "no-such did not run: unknown model [redacted]" in text and "No experiment of this run began" in text


def test_every_item_failed(home):
    def fails(item):
        raise ValueError(f"page {item.id} is blank")

    truth = draft_report(1, "Constituency", "plain").report
    save_dataset(
        "drawn", [{"id": f"f{i}", "input": {"n": i}, "expected_output": truth} for i in range(3)], store=home.store
    )
    run_experiment(
        name="fails",
        data=get_dataset("drawn", store=home.store),
        task=fails,
        evaluators=STANDARD_EVALUATORS,
        store=home.store,
    )
    text = everything(findings.open_run("latest", home.store))
    assert "ValueError: page f… is blank" in text or "ValueError: page f0 is blank" in text
    assert "No item has a time of its own" in text


def test_an_unfinished_run_is_told_as_far_as_it_came(home):
    def one(item):
        if item.id == "sum-3":
            raise RuntimeError("stop")
        return 1

    with pytest.raises(Exception, match="sum-3"):
        run_experiment(
            name="cut short",
            data=sums(),
            task=one,
            evaluators=[lambda output: True],
            store=home.store,
            raise_errors=True,
            max_concurrency=1,
        )
    text = everything(findings.open_run("latest", home.store))
    assert "cut short is failed:" in text and "RuntimeError: stop" in text


def test_repeats_are_one_item_and_many_experiments_are_cut_to_the_best(home):
    group = create_group(home.store, "sweep", "many", request={"parameters": {"t": [0, 1]}})
    for k in range(12):
        run_experiment(
            name="t",
            run_name=f"t={k}",
            data=sums(6),
            task=lambda item, k=k: item.input["a"] + (item.input["a"] < k),
            evaluators=[lambda output, expected_output: Evaluation("exact", output == expected_output)],
            store=home.store,
            group_id=group,
            position=k,
            repeats=2,
            config={"model": "m", "temperature": 0.0},
        )
    run = findings.open_run(group, home.store)
    assert len(run.shown) == opened.MOST_BESIDE and run.comparison.items == 6
    text = everything(run)
    assert "The 2 experiments with the lowest means are left out" in text and "request = {" in text


def test_a_score_where_less_is_better_ranks_the_other_way(home):
    for name, off in (("near", 0.1), ("far", 0.9)):
        run_experiment(
            name=name,
            data=sums(8),
            task=lambda item, off=off: off,
            evaluators=[lambda output: Evaluation("name_cer", output)],
            store=home.store,
            group_id=None,
        )
    rows = list_experiments(home.store)
    run = findings.OpenedRun(home.store, "both", None, rows, opened.experiment_labels(rows))
    assert run.score == "name_cer" and run.comparison.best == "near"
    assert findings.worst(run, 1) == [("sum-0", 0, pytest.approx(0.5))]


def test_the_worst_items_come_first_and_perfect_ones_not_at_all(home):
    run_experiment(
        name="halves",
        data=sums(4),
        task=lambda item: 1,
        evaluators=[lambda input, output: Evaluation("share", [1.0, 0.25, 0.75, 0.25][input["a"]])],
        store=home.store,
    )
    run = findings.open_run("latest", home.store)
    assert [(i, v) for i, _, v in findings.worst(run)] == [("sum-1", 0.25), ("sum-3", 0.25), ("sum-2", 0.75)]
    page = str(findings.worst_items(run))
    assert page.index("sum-1") < page.index("sum-3") < page.index("sum-2") and "sum-0" not in page


def test_the_same_place_with_another_item_is_another_item(home):
    group = create_group(home.store, "models", "different data")
    for k, prefix in enumerate("ab"):
        run_experiment(
            name=prefix,
            data=[{"id": f"{prefix}{i}", "input": i} for i in range(3)],
            task=lambda item: 1,
            store=home.store,
            evaluators=[lambda output: Evaluation("share", 0.5)],
            group_id=group,
            position=k,
        )
    run = findings.open_run(group, home.store)
    assert len(findings.worst(run)) == 6 and "share no" not in str(findings.headline(run))
    assert "no shared items" in everything(run)


def test_quantities_beyond_one_are_not_shown_in_percent(home):
    run_experiment(
        name="seconds",
        data=sums(8),
        task=lambda item: 12.5 + item.input["a"],
        evaluators=[lambda output: Evaluation("length", output)],
        store=home.store,
    )
    text = everything(findings.open_run("latest", home.store))
    assert "16 12.5" not in text and not re.search(r"\b1600\b", text) and re.search(r"\b16 ", text)


def test_unknown_runs_and_languages(home):
    with pytest.raises(RunNotFoundError, match="there is no run in"):
        report.archive("latest", store=home.store)
    create_experiment_row(home.store, "a", "a")
    with pytest.raises(RunNotFoundError, match="exp_"):
        report.archive("exp_nothing", store=home.store)
    with pytest.raises(ValueError, match="'thai' must be one of 'en', 'th'"):
        report.archive("latest", store=home.store, language="thai")


def test_spreadsheets_do_not_run_what_models_wrote(home):
    items = [
        {"id": '=HYPERLINK("http://evil","x")', "input": 1},
        {"id": "+1\n2", "input": 1},
        {"id": "plain", "input": 1},
    ]
    run_experiment(name="ids", data=items, task=lambda item: 1, store=home.store)
    path = report.write_items(findings.open_run("latest", home.store), home.path / "items.csv")
    ids = [r["item_id"] for r in csv.DictReader(path.open(encoding="utf-8"))]
    assert ids == ['\'=HYPERLINK("http://evil","x")', "'+1 2", "plain"]


def test_a_store_with_a_password_reaches_the_kernel_by_its_environment(archived):
    import sqlalchemy as sa

    fake = SimpleNamespace(
        dialect="postgresql", engine=SimpleNamespace(url=sa.engine.make_url("postgresql+psycopg://me:hunter22@db/x"))
    )
    given, variables = report._store_parameter(fake)
    assert given is None and variables == {"VOTE_EXPERIMENTS_STORE": "postgresql+psycopg://me:hunter22@db/x"}
    assert report._store_parameter(archived.store)[1] == {}


def test_the_fingerprint_sees_what_a_report_would_show(home):
    result = run_experiment(
        name="sums", data=sums(), task=lambda item: 1, evaluators=[lambda output: True], store=home.store
    )
    seen = lambda: report.fingerprint(findings.open_run(result.experiment_id, home.store), report.template())
    before = seen()
    assert seen() == before
    from vote_experiments.store.runs import update_experiment

    update_experiment(home.store, result.experiment_id, url="file:///elsewhere")
    assert seen() == before
    update_experiment(home.store, result.experiment_id, metadata={"purpose": "other"})
    assert seen() != before


def test_result_report_is_the_same_door(archived):
    result = experiment_result(archived.result["experiments"][0]["experiment_id"], archived.store)
    assert result.report() == archived.folder == Path(get_group(archived.store, archived.group)["archive"])
