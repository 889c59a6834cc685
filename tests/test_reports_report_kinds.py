"""Reports of sweeps, races, ensembles and of several runs side by side, in English and in Thai, and what they never let through"""

import ast
import asyncio
import json
import os
import random
import re
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from typer.testing import CliRunner

from vote_experiments.analysis.comparison import SENTENCES, compare
from vote_experiments.analysis.plots import (
    figure_bytes,
    plot_comparison,
    plot_cost_accuracy,
    plot_latency,
    plot_scores_by,
    plot_vote_error_histogram,
)
from vote_experiments.analysis.run_plots import plot_race
from vote_experiments.analysis.sweep_plots import plot_sweep_metric
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.store.runs import create_group, get_experiment, list_experiments
from vote_experiments.store.database import Store
from vote_experiments.engine.archive import runs_index
from vote_experiments.experiments.ensemble import ensemble
from vote_experiments.experiments.experiment import run_experiment
from vote_experiments.experiments.comparison import run_model_experiments
from vote_experiments.experiments.race import race
from vote_experiments.experiments.sweeps import Step, Workflow, run_sweep
from vote_experiments.compat.variants import ab_test
from vote_experiments.synthesis.reports import draft_report
from vote_experiments.reports import comparison_findings
from vote_experiments.reports import findings
from vote_experiments.reports import provenance
from vote_experiments.reports import report
from vote_experiments.reports import sweep_findings
from vote_experiments.server.guard import REPORT_POLICY
from vote_experiments.cli.main import app
from vote_experiments.reports.stored_run import open_run
from vote_experiments.html.translations import texts
from vote_experiments.scoring.evaluators import STANDARD_EVALUATORS

SCRIPT = "<script>window.pwned=1</script>"
IMAGE = '"><img src=x onerror="window.pwned=2">'
SECRET = "sekret-" + "77aa10c4"


def read_report(item, config):
    "The truth with mistakes, more of them the hotter; `slip` readers err on rows of their own"
    chance = random.Random(f"{config['model']} {config.get('temperature')} {item.id}")
    answer = json.loads(json.dumps(item.expected_output))
    for row in answer["vote_results"]:
        if row["vote_count"] is not None and chance.random() < 0.05 + 0.3 * (config.get("temperature") or 0):
            row["vote_count"] += 10
    answer["form_info"]["district"] = (
        f"บางพลัด {SCRIPT} {SECRET}" if config["model"] == "slip-b" else answer["form_info"]["district"]
    )
    return answer


def add(item, config):
    "Sums; a reader called adder-<k> is wrong on every item whose number ends below k"
    return item.input["a"] + 1 + (item.input["a"] % 10 < int(config["model"][-1]))


def exact(output, expected_output):
    return output == expected_output


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "One store with a run of every kind"
    home, patch = tmp_path_factory.mktemp("kinds"), pytest.MonkeyPatch()
    patch.setenv("VOTE_EXPERIMENTS_RUNS", str(home / "runs"))
    patch.setenv("VOTE_EXPERIMENTS_STORE", str(home / "store.db"))
    patch.setenv("MY_API_KEY", SECRET)
    store = Store(home / "store.db")
    forms = [draft_report(seed, "Constituency", "hard") for seed in range(6)]
    save_dataset(
        f"แบบ {SCRIPT}",
        [{"id": f"f{i} {IMAGE}", "input": {"n": i}, "expected_output": d.report} for i, d in enumerate(forms)],
        store=store,
    )
    save_dataset(
        "sums", [{"id": f"s{i:02}", "input": {"a": i}, "expected_output": i + 1} for i in range(40)], store=store
    )
    common = {"store": store, "backend": "local", "raise_errors": False, "show_comparison": False, "progress": False}
    ids = SimpleNamespace()
    ids.models = run_model_experiments(
        dataset_name=f"แบบ {SCRIPT}",
        task_function=read_report,
        evaluators=STANDARD_EVALUATORS,
        model_configs=[{"model": m, "name_suffix": m, "metadata": {"tag": IMAGE}} for m in ("slip-a", "slip-b")],
        **common,
    )["group_id"]
    ids.sweep = run_model_experiments(
        dataset_name=f"แบบ {SCRIPT}",
        task_function=read_report,
        evaluators=STANDARD_EVALUATORS,
        kind="sweep",
        model_configs=[
            {"model": "slip-a", "temperature": t, "prompt": p, "name_suffix": f"t={t}-p={i}"}
            for t in (0.0, 1.0)
            for i, p in enumerate(("Read.", f"Read every digit {IMAGE} " + "slowly " * 20))
        ],
        **common,
    )["group_id"]
    ids.race = race(
        [{"model": f"adder-{k}"} for k in (0, 3, 6)],
        "sums",
        task_function=add,
        evaluators=[exact],
        store=store,
        progress=False,
    ).group_id
    ids.ensemble = get_experiment(store, ensemble([ids.models], store=store, name=f"together {SCRIPT}").experiment_id)[
        "group_id"
    ]
    ids.alone = run_experiment(
        name=f"alone {SCRIPT}",
        run_name=IMAGE,
        data=[{"id": "s01", "input": {"a": 1}, "expected_output": 2}],
        task=lambda item: 2,
        evaluators=[exact],
        store=store,
        metadata={"note": SECRET},
    ).experiment_id
    ids.ab = ab_test(
        "sums", {"a": {"model": "adder-0"}, "b": {"model": "adder-5"}}, task=add, evaluators=[exact], store=store
    )["group_id"]
    yield SimpleNamespace(home=home, store=store, ids=ids)
    store.close()
    patch.undo()


def told(*parts) -> str:
    "The visible text of sections"
    page = re.sub(r"base64,[A-Za-z0-9+/=]+", "", "\n".join(map(str, parts)))
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def sections(run) -> list:
    "Every section of a run's template, executed here without a kernel"
    cells = json.loads(report.template_of(run).read_text(encoding="utf-8"))["cells"]
    names = {
        "opened": run,
        "folder": None,
        "findings": findings,
        "report": report,
        "sweep_findings": sweep_findings,
        "comparison_findings": comparison_findings,
        "answers": None,
    }
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"][2:]
    shown = []
    for line in code:
        if line.startswith("answers ="):
            names["answers"] = findings.read_answers(run)
        else:
            if line.startswith("from "):
                exec(line, names)  # noqa: S102 an import of our own template
                continue
            shown.append(eval(line, names))  # noqa: S307 a cell of our own template is one call
    return shown


def is_harmless(html: str) -> bool:
    return not any(planted in html for planted in ("<script", "<img src=x", SECRET))


@pytest.mark.parametrize("kind", ["sweep", "race", "ensemble", "alone"])
def test_every_kind_of_run_is_told_in_thai(lab, kind):
    page = sections(open_run(getattr(lab.ids, kind), lab.store, "th"))
    assert is_harmless("\n".join(map(str, page)))
    thai = told(*page)
    assert len(re.findall(r"[\u0e00-\u0e7f]{3,}", thai)) > 40
    left = [
        its["en"]
        for its in texts("report").values()
        if its["en"] != its["th"] and len(its["en"]) > 24 and "{" not in its["en"] and its["en"] in thai
    ]
    assert not left, "English in a Thai report"


@pytest.mark.parametrize("kind", ["race", "alone", "ab"])
def test_every_kind_of_run_is_told_in_english(lab, kind):
    page = sections(open_run(getattr(lab.ids, kind), lab.store))
    assert is_harmless("\n".join(map(str, page))) and told(*page).strip().startswith(("Which", "How"))


def test_titles_ask_what_a_reader_wants_to_know(lab):
    question = lambda runs, language="en": findings.question(open_run(runs, lab.store, language))
    assert question(lab.ids.models) == f"Which of 2 experiments is best on แบบ {SCRIPT}?"
    assert question(lab.ids.sweep) == f"Which settings are best on แบบ {SCRIPT}?"
    assert question(lab.ids.race) == "Which of 3 experiments wins on sums, and how soon?"
    assert question(lab.ids.alone) == f"How good is alone {SCRIPT}?"
    assert question([lab.ids.race, lab.ids.alone]) == "How do 4 experiments compare?"
    assert question(lab.ids.race, "th").startswith("จาก 3 การทดลอง")


def test_a_sweep_tells_its_grid_what_matters_and_what_cannot_be_told_apart(lab):
    run = open_run(lab.ids.sweep, lab.store)
    assert list(sweep_findings.settings_of(run)) == ["temperature", "prompt"] and len(run.labels) == 4
    assert all(label.startswith(("temperature 0", "temperature 1")) for label in run.labels.values())
    effects = sweep_findings.setting_comparisons(run)
    assert effects["temperature"].best == "0" and effects["temperature"].items == 6
    page = told(sweep_findings.grid(run), sweep_findings.setting_effects(run), sweep_findings.cannot_be_told_apart(run))
    for said in (
        "4 of 4 combinations",
        "highest mean, not decided",
        "cannot be told apart",
        "Against the best value",
        "take the cheapest",
    ):
        assert said in page, said
    pictures = str(sweep_findings.settings_pictures(run))
    assert pictures == str(sweep_findings.settings_pictures(run)) and pictures.count("<figure>") == 3
    kept = report.all_findings(run)["analysis"]["sweep"]
    assert json.dumps(kept, allow_nan=False) and kept["effects"].keys() == {"temperature", "prompt"}


def test_a_sweep_of_a_workflow_is_told_by_what_its_steps_measured(lab):
    def train(config, inputs):
        if config["lr"] > 0.4:
            raise ValueError(f"diverged {SCRIPT}")
        return {"eval": {"sums": {"accuracy": 0.5 + config["lr"], "loss": 1.0}}}

    asyncio.run(
        run_sweep(
            Workflow("trainer", [Step("train", train)]),
            {"train": {"lr": 0.1, "depth": 1}},
            {"train.lr": [0.1, 0.2, 0.5], "train.depth": [1, 2]},
            store=lab.store,
        )
    )
    run = open_run("latest", lab.store)
    assert sweep_findings.outcome_frame(run)["accuracy"].tolist() == [0.6, 0.6, 0.7, 0.7]
    page = "\n".join(map(str, sections(run)))
    assert "4 of 6 runs succeeded" in page and "diverged &lt;script&gt;" in page and page.count("<figure>") == 3
    assert "await run_sweep(" in page and "# your own workflow" in page


def test_a_race_and_an_ensemble_say_how_they_were_decided(lab):
    raced = open_run(lab.ids.race, lab.store)
    assert raced.sentences[0].startswith("adder-0") and "calls were made" in raced.sentences[1]
    assert "Evidence" not in told(comparison_findings.races_and_ensembles(raced)) and "dropped after" in told(
        comparison_findings.races_and_ensembles(raced)
    )
    joint = open_run(lab.ids.ensemble, lab.store)
    assert len(joint.experiments) == 3 and "arithmetic" in told(comparison_findings.races_and_ensembles(joint))
    assert joint.comparison is not None and len(joint.comparison.table) == 3


def test_runs_side_by_side_say_when_their_data_differ(lab):
    run = open_run([lab.ids.race, lab.ids.alone], lab.store)
    assert run.kind == "compare" and open_run([lab.ids.alone, lab.ids.race], lab.store).id == run.id
    assert "different data (local data, sums version 1)" in told(comparison_findings.side_by_side_table(run))


def test_the_call_is_written_out_for_every_kind(lab):
    expected = {
        "models": "run_model_experiments(",
        "sweep": "kind='sweep'",
        "race": "race(",
        "ensemble": "ensemble(",
        "alone": "run_experiment(",
        "ab": "ab_test(",
    }
    for kind, call in expected.items():
        code = provenance.call_text(open_run(getattr(lab.ids, kind), lab.store))
        compile(code, kind, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        assert call in code and SECRET not in code, kind
    assert f"archive(['{lab.ids.race}', '{lab.ids.alone}'])" in provenance.call_text(
        open_run([lab.ids.race, lab.ids.alone], lab.store)
    )


# -- two languages, one meaning


def test_the_english_table_says_what_a_comparison_says():
    assert {key: its["en"] for key, its in texts("comparison").items()} == SENTENCES


def test_all_prose_of_the_templates_has_a_translation():
    for name in ("experiment", "sweep", "compare"):
        made = report.in_language(json.loads(report.template(name).read_text(encoding="utf-8")), "th")
        for cell in made["cells"]:
            source = "".join(cell["source"])
            assert (
                cell["cell_type"] != "markdown" or source.startswith("# ") or re.match(r"## [\u0e00-\u0e7f]", source)
            ), source


class Asked(dict):
    "Remembers which phrases a picture looked up"

    def get(self, key, default=None):
        self[key] = default
        return default


def test_every_phrase_of_a_picture_has_a_translation():
    asked = Asked({"": ""})  # an empty dict would be no words at all
    found = compare({"good": [1.0] * 20, "half": [0.5] * 20, "same": [1.0] * 20, "none": [None] * 20})
    costs = [
        {"experiment": e, "cost_usd": c, "mean": 0.5, "lower": 0.4, "upper": 0.6} for e, c in (("a", 1.0), ("b", None))
    ]
    plot_comparison(found, words=asked)
    plot_cost_accuracy(costs, per="item", words=asked)
    plot_cost_accuracy(costs[1:], words=asked)
    plot_latency([{"experiment": "a", "latency_s": 1.0}, {"experiment": "b", "latency_s": None}], words=asked)
    plot_scores_by([{"difficulty": "fold", "mean": 0.5, "lower": 0.4, "upper": 0.6}], words=asked)
    plot_vote_error_histogram(pd.DataFrame({"difference": [0, 1, 5, 5000, float("nan")], "n": 1}), words=asked)
    plot_race([{"items": 10, "experiment": e, "evidence": 9.0, "still_in": e == "a"} for e in "ab"], words=asked)
    missing = {k for k in asked if k} - texts("plots").keys()
    assert not missing and len(asked) > 30
    assert figure_bytes(plot_sweep_metric([{"x": 1, "y": 2.0}], "x", "y")) == figure_bytes(
        plot_sweep_metric([{"x": 1, "y": 2.0}], "x", "y")
    )


# -- one report made through the command line, and looked at in a browser


@pytest.fixture(scope="module")
def compared(lab):
    "Three runs side by side, in Thai, through the command line"
    done = CliRunner().invoke(
        app, ["report", lab.ids.models, lab.ids.race, lab.ids.alone, "--language", "th", "--json"]
    )
    assert done.exit_code == 0, done.output
    folder = Path(json.loads(done.stdout)["folder"])
    return SimpleNamespace(folder=folder, page=(folder / "report.html").read_text(encoding="utf-8"))


def test_a_thai_comparison_is_archived_whole(lab, compared):
    assert {
        "report.html",
        "report.ipynb",
        "result.json",
        "items.csv",
        "parameters.json",
        "environment.json",
        "index.html",
    } <= set(os.listdir(compared.folder))
    assert json.loads((compared.folder / "parameters.json").read_text())["runs"] == [
        lab.ids.models,
        lab.ids.race,
        lab.ids.alone,
    ]
    assert json.loads((compared.folder / "environment.json").read_text())["language"] == "th"
    assert '<html lang="th">' in compared.page and "คำตอบถูกต้องแค่ไหน" in compared.page and "ตัดสินอย่างไร" in compared.page
    assert "รายงานฉบับเต็ม" in (compared.folder / "index.html").read_text(encoding="utf-8")
    for path in compared.folder.rglob("*"):
        if path.is_file() and path.suffix in (".html", ".json", ".ipynb", ".csv", ".svg"):
            assert SECRET not in path.read_text(encoding="utf-8"), path.name


def test_a_report_stays_in_its_language_until_another_is_asked_for(lab, compared):
    before = (compared.folder / "report.html").stat().st_mtime_ns
    assert report.archive([lab.ids.models, lab.ids.race, lab.ids.alone], store=lab.store) == compared.folder
    assert (compared.folder / "report.html").stat().st_mtime_ns == before


def test_the_index_lists_every_kind_newest_first_with_its_figure(lab, compared):
    page = runs_index(lab.store).read_text(encoding="utf-8")
    listed = re.findall(r'href="([^"]*)/index\.html"', page)
    stamps = [name[:16] for name in listed]
    assert compared.folder.name in listed and stamps == sorted(stamps, reverse=True) and len(listed) >= 4
    assert "compare" in page and "race" in page and re.search(r"\d %? ?\[\d", page) and "<script" not in page
    assert "default-src 'none'" in page


@pytest.mark.browser
@pytest.mark.parametrize("name", ["report.html", "index.html", "../index.html"])
def test_no_page_runs_or_fetches_anything(compared, chromium, name):
    page = (compared.folder / name).resolve()
    context = chromium.new_context(offline=True, viewport={"width": 1000, "height": 800})
    tab, asked, complaints = context.new_page(), [], []
    tab.on("request", lambda r: asked.append(r.url))
    tab.on("console", lambda m: complaints.append(m.text))
    tab.on("dialog", lambda d: complaints.append(d.message))
    tab.goto(page.as_uri(), wait_until="load")
    assert tab.evaluate("window.pwned") is None
    assert [u for u in asked if not u.startswith("data:")] == [page.as_uri()] and complaints == []
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "wider than the window"
    context.close()


@pytest.mark.browser
def test_a_script_that_slipped_through_does_not_run(compared, chromium, tmp_path):
    "What the policies are for: the page's own, and the one a server sends"
    planted = compared.page.replace(
        "<main>", f'<main>{SCRIPT}<img src="https://example.invalid/x.png" onerror="window.pwned=3">', 1
    )
    (tmp_path / "report.html").write_text(planted, encoding="utf-8")
    tab, asked, refused = chromium.new_page(), [], []
    tab.on("request", lambda r: asked.append(r.url))
    tab.on("requestfailed", lambda r: refused.append((r.url, r.failure)))
    tab.goto((tmp_path / "report.html").as_uri(), wait_until="load")
    assert tab.evaluate("window.pwned") is None
    assert {u for u in asked if u.startswith("http")} == {
        u for u, why in refused if why == "csp"
    }  # forbidden before it left
    tab.close()
    assert "script" not in REPORT_POLICY and "sandbox" in REPORT_POLICY and "default-src 'none'" in REPORT_POLICY


@pytest.mark.browser
def test_thai_is_printed(compared, chromium, tmp_path):
    pdfium = pytest.importorskip("pypdfium2")
    report.print_pdf(compared.folder / "report.html", tmp_path / "report.pdf")
    pdf = pdfium.PdfDocument(tmp_path / "report.pdf")
    text = "".join(page.get_textpage().get_text_range() for page in pdf)
    assert len(pdf) > 3 and "การทดลอง" in text
    pdf.close()


def test_a_run_that_began_nothing_is_told(lab):
    group = create_group(lab.store, "sweep", "nothing", request={"model_configs": []})
    for language in ("en", "th"):
        sections(open_run(group, lab.store, language))
    with pytest.raises(ValueError, match="names no run"):
        open_run([], lab.store)
    assert all(e["id"] for e in list_experiments(lab.store))
