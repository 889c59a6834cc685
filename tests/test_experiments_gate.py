"""A run before the gate: exit codes, Markdown, JUnit XML, baselines."""

import json
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from promises import promise
from vote_experiments.analysis.gates import GateOutcome
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.store.runs import RunNotFoundError, list_experiments, update_experiment
from vote_experiments.store.database import Store
from vote_experiments.experiments.gate import GateCase, GateReport, gate_junit, gate_markdown, judge_run
from vote_experiments.experiments.comparison import run_model_experiments
from vote_experiments.experiments.trend import trend
from vote_experiments.cli import main as cli
from vote_experiments.models.registry import forget_model, register_model
from vote_experiments.settings import VARIABLES


def truth(i, slip=0):
    return {"form_info": {"form_type": "Constituency"}, "vote_results": [{"number": 1, "vote_count": 200 + i + slip}]}


def page(images):
    return int(images[0].rsplit("/", 1)[-1].split(".")[0])


@pytest.fixture
def home(tmp_path, monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOTE_EXPERIMENTS_STORE", str(tmp_path / "store.db"))
    store = Store()
    save_dataset(
        "stations",
        [{"id": f"f{i:02d}", "input": {"image_paths": [f"{i}.jpg"]}, "expected_output": truth(i)} for i in range(30)],
        store=store,
    )
    be("steady"), be("sliding")
    yield store
    forget_model("steady"), forget_model("sliding")
    store.close()


def be(name, slip=False):
    register_model(name, lambda images, config: {"reports": [truth(page(images), slip=slip and page(images) % 2)]})


def run(*models, **more):
    return run_model_experiments(
        dataset_name="stations",
        show_comparison=False,
        model_configs=[{"model": m} for m in models or ("steady", "sliding")],
        **more,
    )["group_id"]


def shell(*words):
    done = CliRunner().invoke(cli.app, ["gate", *words])
    return done.exit_code, done.output


@promise("ci-and-packaging-7")
def test_exit_codes_and_files(home, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    first = run()
    assert shell("latest", "--fail-under", "0.9", "--baseline", "previous")[0] == 0, "there is nothing before it"
    be("sliding", slip=True)
    run()
    code, said = shell(
        "--fail-under",
        "0.9",
        "--baseline",
        "previous",
        "--max-regression",
        "0.02",
        "--junit",
        "out/gate.xml",
        "--summary",
        "out/gate.md",
    )
    assert code == 1 and "### Gate: failed (1 of 2 experiments)" in said
    root = ElementTree.parse("out/gate.xml").getroot()
    suite = root.find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "2", "0")
    assert {t.get("classname") for t in suite.iter("testcase") if t.find("failure") is not None} == {
        "vote-extraction-sliding-tdefault"
    }
    text = (tmp_path / "out/gate.md").read_text()
    assert (
        "| vote-extraction-sliding-tdefault |" in text
        and "xychart-beta" in text
        and text in (tmp_path / "step.md").read_text()
    )
    found = json.loads(shell("--baseline", first, "--max-regression", "0.02", "--json")[1])
    assert found["passed"] is False and [c["passed"] for c in found["cases"]] == [True, False]
    assert shell("--baseline", first, "--max-regression", "0.7")[0] == 0
    assert shell("--fail-under", "0.4", "--metric", "success_rate")[0] == 0


@pytest.mark.parametrize(
    "words, said",
    [
        ((), "needs fail_under"),
        (("--fail-under", "95"), "0.9 for 90 %"),
        (("--fail-under", "nan"), "fail_under=nan"),
        (("--baseline", "grp_none"), "no group"),
        (("exp_none", "--fail-under", "0.5"), "no experiment"),
        (("--fail-under", "0.5", "--max-regression", "-1"), "max_regression"),
    ],
)
def test_a_question_that_cannot_be_asked_is_2(home, words, said):
    run("steady")
    code, output = shell(*words)
    assert code == 2 and said in output


def test_what_cannot_be_judged_does_not_pass(home):
    run()
    one, two = list_experiments(home)
    update_experiment(home, one["id"], status="interrupted", error="stopped by hand")
    update_experiment(home, two["id"], summary={**two["summary"], "n_cached": two["summary"]["n_items"]})
    found = judge_run(fail_under=0.1)
    assert [c.passed for c in found.cases] == [False, False]
    assert "interrupted: stopped by hand" in found.cases[0].error and "--refresh" in found.cases[1].error
    assert 'errors="2"' in gate_junit(found)
    with pytest.raises(ValueError, match="no_such_score.*overall_accuracy"):
        judge_run(fail_under=0.1, metric="no_such_score")


def test_a_cached_run_is_no_baseline_and_no_point_of_a_trend(home):
    run("steady"), run("steady"), run("steady")
    first, second, third = list_experiments(home)
    update_experiment(home, second["id"], summary={**second["summary"], "n_cached": 30})
    assert len(trend("vote-extraction-steady-tdefault", store=home).table) == 2
    assert judge_run(third["id"], "previous", store=home).passed
    update_experiment(home, first["id"], summary={**first["summary"], "n_cached": 30})
    assert judge_run(third["id"], "previous", fail_under=0.5, store=home).cases[0].note
    with pytest.raises(RunNotFoundError):
        judge_run("grp_none", fail_under=0.5, store=home)


def test_a_baseline_without_the_experiment_is_told(home):
    before = run()
    run("steady", "sliding")
    register_model("other", lambda images, config: {"reports": [truth(page(images))]})
    try:
        run("other")
        found = judge_run("latest", before)
        assert not found.passed and "no experiment of that name" in found.cases[0].error
        assert judge_run("latest", list_experiments(home)[0]["id"]).passed, (
            "one experiment is a baseline for every condition"
        )
    finally:
        forget_model("other")


def test_strange_names_break_neither_markdown_nor_xml():
    name = 'a|b <script> "q" ]\x01\ud800`'
    outcome = GateOutcome(False, name, 0.5, 0.9, 0.4, 0.6, 10, sentence=name)
    report = GateReport(
        "grp_1",
        [GateCase(name, "exp_1", [outcome]), GateCase(name, "exp_2", error=name), GateCase(name, "exp_3", note=name)],
    )
    root = ElementTree.fromstring(gate_junit(report).encode("utf-8").split(b"\n", 1)[1])
    assert [root.find("testsuite").get(k) for k in ("tests", "failures", "errors", "skipped")] == ["3", "1", "1", "1"]
    table = [line for line in gate_markdown(report).splitlines() if line.startswith("| a")]
    assert (
        len(table) == 3
        and all(len(__import__("re").findall(r"(?<!\\)\|", line)) == 6 for line in table)
        and "<script>" not in table[0].replace("\\<", "")
    )


def correct_truth(store, first_n):
    "A new version of the dataset, in which the truth of the first items is another"
    save_dataset(
        "stations",
        [
            {
                "id": f"f{i:02d}",
                "input": {"image_paths": [f"{i}.jpg"]},
                "expected_output": truth(i, slip=1 if i < first_n else 0),
            }
            for i in range(30)
        ],
        store=store,
    )


def test_items_whose_truth_changed_are_left_out_and_counted(home):
    before = run("steady")
    correct_truth(home, 3)  # the reader is now wrong on three forms, by the new truth
    after = run("steady", cache=False)
    found = judge_run(after, before, store=home)
    assert found.passed
    sentence = found.cases[0].outcomes[-1].sentence
    assert "ground truth of 3 items changed" in sentence and "vote-experiments rescore" in sentence


def test_a_truth_that_changed_everywhere_is_refused_until_the_baseline_is_scored_again(home):
    before = run("steady")
    correct_truth(home, 30)
    after = run("steady", cache=False)
    code, output = shell(after, "--baseline", before)
    assert code == 1, output
    assert "vote-experiments rescore" in output
    again = CliRunner().invoke(cli.app, ["rescore", before, "--json"])
    assert again.exit_code == 0, again.output
    rescored = json.loads(again.stdout)["group_id"]
    assert shell(after, "--baseline", rescored)[0] == 0


def test_a_metric_that_no_experiment_has_is_named_with_those_there_are(home):
    latest = run("steady")
    code, output = shell(latest, "--metric", "acuracy", "--fail-under", "0.5")
    assert code == 2
    assert "acuracy" in output and "overall_accuracy" in output


def test_functions_of_a_loaded_file_score_again(home, tmp_path):
    (tmp_path / "my_rules.py").write_text("def has_votes(output):\n    return bool(output)\n")
    latest = run("steady")
    answer = CliRunner().invoke(
        cli.app, ["rescore", latest, "--load", "my_rules.py", "--evaluator", "has_votes", "--json"]
    )
    assert answer.exit_code == 0, answer.output
    assert list(json.loads(answer.stdout)["experiments"][0]["own_scores"]) == ["has_votes"]


def test_a_history_of_another_truth_does_not_let_a_run_pass(home):
    run("steady", cache=False), run("steady", cache=False)
    correct_truth(home, 30)
    after = run("steady", cache=False)
    code, output = shell(after, "--baseline", "history")
    assert code == 1 and "no earlier run can be compared" in output and "vote-experiments rescore" in output
    begun = trend("vote-extraction-steady-tdefault", store=home)
    assert len(begun.table) == 1 and "left out" in begun.sentence


def test_a_run_that_was_scored_again_is_not_continued_but_scored_anew(home):
    before = run("steady")
    rescored = json.loads(CliRunner().invoke(cli.app, ["rescore", before, "--json"]).stdout)["group_id"]
    answer = CliRunner().invoke(cli.app, ["resume", rescored])
    assert answer.exit_code == 2 and f"vote-experiments rescore {before}" in " ".join(answer.output.split())
    assert CliRunner().invoke(cli.app, ["rescore", rescored]).exit_code == 0
