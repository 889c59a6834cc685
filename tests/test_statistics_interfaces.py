"""The same statistics through every interface: clusters of a constituency in Python, stored runs, shell, HTTP and reports."""

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from vote_experiments.analysis.comparison import SENTENCES
from vote_experiments.cli import main as cli
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.engine.clusters import check_cluster_by, cluster_label, item_clusters, position_clusters
from vote_experiments.engine.stored_comparison import compare_experiments_by_item, run_cluster_by
from vote_experiments.experiments.comparison import run_model_experiments
from vote_experiments.experiments.ensemble import compare_with_members, ensemble
from vote_experiments.experiments.estimate import estimate, seen_before
from vote_experiments.experiments.gate import judge_run
from vote_experiments.experiments.race import race
from vote_experiments.experiments.request import ComparisonRequest, fields_of
from vote_experiments.experiments.trend import trend
from vote_experiments.models.registry import ModelConfig, forget_model, register_model
from vote_experiments.reports.stored_run import open_run
from vote_experiments.server.api import make_app
from vote_experiments.settings import VARIABLES
from vote_experiments.store.database import Store
from vote_experiments.store.runs import get_experiment, list_experiments

KEY = "key-of-ci-0123456789"


def form(i, slip=0, places=8):
    return {
        "form_info": {"form_type": "Constituency", "province": "แพร่", "constituency_number": f"เขต {1 + i % places}"},
        "vote_results": [{"number": 1, "vote_count": 200 + i + slip}],
    }


def number(images):
    return int(images[0].rsplit("/", 1)[-1].split(".")[0])


@pytest.fixture
def home(tmp_path, monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOTE_EXPERIMENTS_STORE", str(tmp_path / "store.db"))
    monkeypatch.setenv("VOTE_EXPERIMENTS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("VOTE_EXPERIMENTS_PLAIN", "1")
    store = Store()
    for name, places in (("many", 8), ("few", 3)):
        save_dataset(
            name,
            [
                {
                    "id": f"f{i:02d}",
                    "input": {"image_paths": [f"{i}.jpg"]},
                    "expected_output": form(i, places=places),
                    "metadata": {"scanner": "AB"[i % 2], "batch": {"id": i % 6}},
                }
                for i in range(40)
            ],
            store=store,
        )
    register_model("steady", lambda images, config: {"reports": [form(number(images))]})
    register_model("hasty", lambda images, config: {"reports": [form(number(images), slip=number(images) % 4 == 0)]})
    yield store
    forget_model("steady"), forget_model("hasty")
    store.close()


def run(dataset="many", **more):
    return run_model_experiments(
        dataset_name=dataset, model_configs=[{"model": "steady"}, {"model": "hasty"}], show_comparison=False, **more
    )


def test_a_run_counts_the_forms_of_a_constituency_together(home):
    found = run()["comparison"]
    assert (found["clusters"], found["cluster_by"]) == (8, "constituency")
    assert "Items of one constituency count together: 8 constituencies." in found["sentences"]
    plain = run(cluster_by=None)
    assert plain["comparison"]["clusters"] is None and not any(
        "constituenc" in s for s in plain["comparison"]["sentences"]
    )
    widths = [p["upper"] - p["lower"] for c in (found, plain["comparison"]) for p in c["pairs"]]
    assert widths[0] != widths[1], "the clusters are used, whichever way they change the interval"


def test_fewer_than_five_clusters_are_not_used_and_it_is_said(home):
    found = run("few")["comparison"]
    assert found["clusters"] is None and any(
        "only 3 constituencies" in s and "too narrow" in s for s in found["sentences"]
    )
    assert get_experiment(home, list_experiments(home)[0]["id"])["summary"]["clusters"] == {
        "by": "constituency",
        "clusters": 3,
        "used": False,
    }


def test_a_key_of_the_metadata_and_one_that_no_item_has(home):
    found = run(cluster_by="batch.id")["comparison"]
    assert found["clusters"] == 6 and any("batch.id" in s for s in found["sentences"])
    before = len(list_experiments(home))
    for call in (run, lambda **more: race([{"model": "steady"}, {"model": "hasty"}], "many", progress=False, **more)):
        with pytest.raises(ValueError, match="no item has that key"):
            call(cluster_by="printer")
    assert len(list_experiments(home)) == before, "refused before anything ran"
    with pytest.raises(ValueError, match="cluster_by"):
        check_cluster_by(7)
    assert check_cluster_by("none") is None


def test_the_summary_of_an_experiment_has_the_interval_of_its_clusters(home):
    run(), run(cluster_by=None)
    rows = [e for e in list_experiments(home) if "hasty" in e["name"]]
    clustered, plain = (e["summary"]["overall_accuracy"] for e in rows)
    assert rows[0]["summary"]["clusters"]["clusters"] == 8 and "clusters" not in rows[1]["summary"]
    assert clustered["mean"] == plain["mean"] and (clustered["lower"], clustered["upper"]) != (
        plain["lower"],
        plain["upper"],
    )
    assert len(set(position_clusters(home, rows[0]["id"]).values())) == 8


def test_stored_runs_are_compared_as_they_were_made(home):
    made = {by: run(cluster_by=by) for by in ("batch.id", None)}
    for by, found in made.items():
        ids = {e["experiment_name"]: e["experiment_id"] for e in found["experiments"]}
        assert run_cluster_by(home, ids.values()) == by
        opened = open_run(found["group_id"], home)
        assert (
            opened.comparison.clusters == (6 if by else None)
            and opened.comparison.sentences[1:] == found["comparison"]["sentences"][1:]
        )
        assert open_run(found["group_id"], home, "th", cluster_by="constituency").comparison.clusters == 8
    thai = open_run(made["batch.id"]["group_id"], home, "th").sentences
    assert thai[0] != made["batch.id"]["comparison"]["sentence"] and len(thai) == len(
        made["batch.id"]["comparison"]["sentences"]
    )


def test_the_shell_and_http_say_what_python_says(home, monkeypatch):
    found = run()
    group = found["group_id"]
    shell = lambda *words: CliRunner().invoke(cli.app, list(words))  # noqa: E731
    said = json.loads(shell("compare", group, "--json").output)
    assert (
        said["sentences"][: len(found["comparison"]["sentences"])] == found["comparison"]["sentences"]
        and said["clusters"] == 8
    )
    assert json.loads(shell("compare", group, "--cluster-by", "none", "--json").output)["clusters"] is None
    assert "Beta(1, 1)" in shell("compare", group, "--assume", "beta-binomial").output
    assert shell("compare", group, "--cluster-by", "printer").exit_code == 2
    app = make_app(home, keys=f"ci:{KEY}")
    with TestClient(app, headers={"X-API-Key": KEY}) as http:
        root = "/api/v1/experiments"
        http_said = http.get(f"{root}/runs/{group}/compare").json()
        assert http_said["sentences"] == found["comparison"]["sentences"]
        assert http.get(f"{root}/runs/{group}/compare", params={"cluster_by": "batch.id"}).json()["clusters"] == 6
        assert http.get(f"{root}/runs/{group}/compare", params={"cluster_by": "printer"}).status_code == 422
        over_time = http.get(
            f"{root}/trend", params={"experiment_name": found["experiments"][0]["experiment_name"]}
        ).json()
        assert "There is one run" in over_time["sentence"] and over_time["cluster_by"] == "constituency"
        assert http.get(f"{root}/trend", params={"experiment_name": "nothing"}).status_code == 404


def test_a_report_counts_items_together_as_the_shell_says(home):
    group = run()["group_id"]
    shell = lambda *words: CliRunner().invoke(cli.app, ["report", group, *words, "--json"])  # noqa: E731

    def clusters(*words):
        done = shell(*words)
        assert done.exit_code == 0, done.output
        folder = Path(json.loads(done.output)["folder"])
        return json.loads((folder / "result.json").read_text(encoding="utf-8"))["analysis"]["comparison"]["clusters"]

    assert (clusters(), clusters("--cluster-by", "batch.id"), clusters("--cluster-by", "none")) == (8, 6, None)
    assert clusters() == 8, "without the option, as the run was made"
    refused = shell("--cluster-by", "printer")
    assert refused.exit_code == 2 and "printer" in refused.output


def test_race_gate_trend_and_ensemble_carry_clusters(home):
    raced = race([{"model": "steady"}, {"model": "hasty"}], "many", progress=False)
    assert (raced.clusters, raced.cluster_by) == (8, "constituency") and "8 constituencies" in raced.sentence
    alone = race([{"model": "steady"}, {"model": "hasty"}], "many", progress=False, cluster_by=None)
    assert alone.clusters is None and "constituenc" not in alone.sentence
    few = race([{"model": "steady"}, {"model": "hasty"}], "few", progress=False)
    assert few.clusters is None and "only 3 constituencies" in few.sentence
    first = run()
    second = run()
    names = [e["experiment_name"] for e in first["experiments"]]
    assert "8 constituencies" in trend(names[0], store=home).sentence
    for baseline in (first["group_id"], "history"):
        report = judge_run(second["group_id"], baseline, store=home)
        assert report.passed and all("8 constituencies" in c.outcomes[0].sentence for c in report.cases)
    together = ensemble([e["experiment_id"] for e in first["experiments"]], store=home)
    assert (
        compare_with_members(together).clusters == 8
        and compare_with_members(together, cluster_by=None).clusters is None
    )


def test_every_interface_of_a_request_has_the_field():
    for interface in ("file", "cli", "http", "job", "page"):
        for call in ("run", "race", "sweep"):
            assert "cluster_by" in fields_of(interface, call)
    assert ComparisonRequest.model_fields["cluster_by"].default == "constituency"


def test_labels_come_from_metadata_first_and_equal_places_are_equal(home):
    assert cluster_label("constituency", {"constituency": "A"}, form(1)) == "A"
    assert cluster_label("constituency", None, form(1)) == cluster_label(
        "constituency", {"province": "จังหวัดแพร่", "constituency_number": "๒"}
    )
    run()
    first = list_experiments(home)[0]["id"]
    assert len(set(item_clusters(home, [first], "province").values())) == 1 and item_clusters(home, [first], None) == {}
    assert compare_experiments_by_item(home, {"a": first}, cluster_by="scanner").grouping.clusters == 2


def test_sentences_are_plain_words():
    for word in ("stochastic", "null hypothesis", "heterosced", "asymptot", "confidence level"):
        assert not any(word in text.lower() for text in SENTENCES.values())


def percent(output, expected_output):
    return 98.0 if output == expected_output else 90.0


def fraction(output, expected_output):
    return percent(output, expected_output) / 100


def test_a_failed_item_counts_the_same_in_percent_and_in_fractions(home):
    register_model("breaks", lambda images, config: 1 / (number(images) % 5) and {"reports": [form(number(images))]})
    try:
        found = run_model_experiments(
            dataset_name="many",
            model_configs=[{"model": "breaks"}],
            evaluators=[percent, fraction],
            raise_errors=False,
            show_comparison=False,
        )
    finally:
        forget_model("breaks")
    scores = get_experiment(home, found["experiments"][0]["experiment_id"])["summary"]["scores"]
    assert scores["percent"]["n"] == scores["fraction"]["n"] == 40
    assert scores["percent"]["mean"] == pytest.approx(100 * scores["fraction"]["mean"])


def test_an_estimate_rests_on_every_item_of_earlier_runs_and_says_on_how_many(home):
    register_model("slow", lambda images, config: {"reports": [form(number(images))]})
    try:
        config = [{"model": "slow", "temperature": 0.0}]
        for n in (30, 1):
            run_model_experiments(
                dataset_name="many", model_configs=config, sample_size=n, show_comparison=False, cache=False
            )
        known = seen_before(home, ModelConfig("slow", 0.0))
        found = estimate("many", config).configs[0]
    finally:
        forget_model("slow")
    assert known.n_items == found.n_seen == 31 and "from 31 items of 2 runs" in found.notes[0]
    assert found.seconds_range[0] <= found.seconds <= found.seconds_range[1]
    ids = [e["id"] for e in list_experiments(home) if "slow" in e["name"]]
    means = [get_experiment(home, i)["summary"]["latency"]["mean"] for i in ids]
    assert known.latency_s == pytest.approx((30 * means[0] + means[1]) / 31, rel=0.01)
