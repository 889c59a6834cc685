"""Experiments on Datadog as its users know them: the guide's examples, datasets there and here, outages, the shell

The real SDKs of Datadog and Google talk to servers on the loopback.
"""

import asyncio
import json
import logging
import os
import re
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from servers.datadog_server import ENVIRONMENT, DatadogServer
from servers.gemini_server import GeminiServer, answered
from servers.loopback import Reply
from test_platforms_datadog_traps import bare_sdk, calling_echo, echo, items, one, right, values
from typer.testing import CliRunner

import vote_experiments.platforms.publishing as publishing
from vote_experiments.platforms import datadog, datadog_sdk
from vote_experiments.datasets.dataset import get_dataset, list_versions
from vote_experiments.datasets.saving import save_dataset, upsert_item
from vote_experiments.store.runs import list_experiments, list_groups
from vote_experiments.store.database import Store
from vote_experiments.experiments.experiment import run_experiment
from vote_experiments.experiments.rescoring import rescore
from vote_experiments.experiments.comparison import run_model_experiments
from vote_experiments.platforms.platform import PlatformDown, RemoteNotFoundError
from vote_experiments.platforms.publishing import publish, pull_dataset, push_dataset
from vote_experiments.experiments.sweeps import run_sweep
from vote_experiments.cli.main import app
from vote_experiments.models.extraction import vote_extraction_task
from vote_experiments.records import DatasetItem, Evaluation
from vote_experiments.scoring.evaluators import (
    ballot_accuracy_score,
    exact_form_match,
    has_no_errors,
    vote_results_quality,
)
from vote_experiments.scoring.summary import avg_ballot_accuracy, overall_accuracy, success_rate

GUIDE_DATASET = "vote-extraction-bangbamru-1-10"
REPORT = {
    "form_info": {"form_type": "Constituency", "province": "แพร่", "polling_station_number": "2"},
    "voter_statistics": {"eligible_voters": 600, "voters_present": 451},
    "ballot_statistics": {
        "ballots_allocated": 620,
        "ballots_used": 451,
        "good_ballots": 430,
        "bad_ballots": 11,
        "no_vote_ballots": 10,
        "ballots_remaining": 169,
    },
    "vote_results": [
        {"number": 1, "candidate_name": "นายหนึ่ง", "party_name": "ก", "vote_count": 400, "vote_count_text": "สี่ร้อย"},
        {"number": 2, "candidate_name": "นางสอง", "party_name": "ข", "vote_count": 30, "vote_count_text": "สามสิบ"},
    ],
}


@pytest.fixture(scope="module")
def running():
    with DatadogServer() as server:
        yield server


@pytest.fixture
def server(running, monkeypatch, tmp_path):
    "An empty Datadog, and an environment that leads to it"
    monkeypatch.chdir(tmp_path)
    running.wipe()
    with running.environment():
        yield running


@pytest.fixture(scope="module")
def gemini():
    with GeminiServer() as server:
        yield server


@pytest.fixture
def guide(server, gemini, sqlite_store, tmp_path, monkeypatch):
    "What the guide takes for granted: ten forms on Datadog, keys in the environment, models that answer"
    draw = np.random.default_rng(0)
    for k in range(10):
        Image.fromarray(draw.integers(0, 255, (60, 40), dtype=np.uint8)).save(tmp_path / f"form{k}.jpg")
    data = [
        {
            "id": f"form-{k}",
            "input": {"form_set_name": f"form-{k}", "image_paths": [f"form{k}.jpg"]},
            "expected_output": {"reports": [REPORT]},
            "metadata": {"level": "scan"},
        }
        for k in range(10)
    ]
    with datadog.open_backend(project_name="vote-extraction-project").connected() as there:
        there.push_dataset(
            GUIDE_DATASET, [DatasetItem(d["id"], d["input"], d["expected_output"], d["metadata"]) for d in data]
        )
    gemini.forget()
    gemini.default = lambda request: (
        Reply(404, {"error": {"code": 404, "message": "no such model", "status": "NOT_FOUND"}})
        if "invalid-model" in request.path
        else answered(json.dumps({"reports": [REPORT]}), model=re.search(r"models/([^:]+)", request.path)[1])
    )
    monkeypatch.setenv("GEMINI_API_KEY", "planted-gemini-key-1234567890")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", gemini.url)
    monkeypatch.setenv("VOTE_EXPERIMENTS_STORE", sqlite_store.url)
    monkeypatch.setenv("VOTE_EXPERIMENTS_PLAIN", "1")
    for name in ("GOOGLE_API_KEY", "GOOGLE_CLOUD_PROJECT", "GOOGLE_GENAI_USE_VERTEXAI"):
        monkeypatch.delenv(name, raising=False)
    return server


# ── the guide's examples ────────────────────────────────────────────────────────────────────────────────────────────

BLOCKS = [
    "BACKEND: datadog",
    "INITIALIZING DATADOG LLMOBS",
    "LLMObs enabled",
    f"Loading dataset: {GUIDE_DATASET}",
    "✅ Dataset loaded: 10 records",
    "RUNNING 3 EXPERIMENTS",
    "Experiment 1/3: gemini-2.5-flash (T=0.0)",
    "Completed! Processed 10 records",
    "Summary Metrics:",
    "- overall_accuracy: 1.0",
    "- success_rate: 1.0",
    "- avg_ballot_accuracy: 1.0",
    "Experiment 2/3: gemini-2.5-flash-lite",
    "Experiment 3/3: gemini-3-pro-preview",
    "EXPERIMENT COMPARISON",
    "View in Datadog:",
    "✅ vote-extraction-flash-t0: https://app.datadoghq.com/llm/experiments/",
    "Compare all experiments side-by-side:",
    "https://app.datadoghq.com/llm/experiments?dataset=",
    "BEST PERFORMER",
    "published 10/10 rows",
]


def test_example_1_prints_the_blocks_in_their_order(guide, gemini, capsys):
    results = run_model_experiments(sample_size=10, jobs=2, raise_errors=True)
    out, at = capsys.readouterr().out, 0
    for block in BLOCKS:
        assert block in out[at:], block
        at = out.index(block, at)
    assert set(results) >= {
        "experiments",
        "total_experiments",
        "successful_experiments",
        "failed_experiments",
        "dataset_name",
        "dataset_size",
        "project_name",
        "comparison_url",
        "dataset_id",
    }
    (dataset,) = guide.datasets.values()
    assert (
        results["comparison_url"]
        == f"https://app.datadoghq.com/llm/experiments?dataset={dataset.id}&project=vote-extraction-project"
    )
    assert results["dataset_id"] == dataset.id and json.loads(json.dumps(results)) == results
    assert {e["url"].rpartition("/")[2] for e in results["experiments"]} == set(guide.experiments)
    assert len(guide.rows()) == len(guide.calls()) == len(gemini.calls) == 30
    for experiment in guide.experiments.values():
        metrics = guide.metrics[experiment["id"]]
        assert (
            sum(m["metric_source"] == "custom" for m in metrics) == 40
            and experiment["attributes"]["status"] == "completed"
        )
        assert {m["label"] for m in metrics if m["metric_source"] == "summary"} == {
            "overall_accuracy",
            "success_rate",
            "avg_ballot_accuracy",
        }
    call = guide.calls()[0]
    assert (
        call["meta"]["span"]["kind"] == "llm"
        and call["meta"]["model_name"].startswith("gemini")
        and call["metrics"]["input_tokens"] > 0
    )
    assert call["name"] and call["duration"] > 0


def test_example_2_custom_models_and_tags(guide):
    configs = [
        {"model": "gemini-2.5-flash", "temperature": t, "name_suffix": s, "metadata": {"purpose": p, "cost_tier": c}}
        for t, s, p, c in (
            (0.0, "flash-deterministic", "Production baseline", "medium"),
            (0.1, "flash-tolerant", "Tolerance test", "medium"),
            (0.2, "flash-varied", "Variation test", "medium"),
        )
    ]
    configs.append(
        {
            "model": "gemini-2.5-flash-lite",
            "temperature": 0.0,
            "name_suffix": "lite-speed",
            "metadata": {"purpose": "High-volume test", "cost_tier": "low"},
        }
    )
    results = run_model_experiments(model_configs=configs, sample_size=10, jobs=2, raise_errors=False)
    assert results["successful_experiments"] == 4
    tags = {e["attributes"]["experiment"]: set(e["attributes"]["metadata"]["tags"]) for e in guide.experiments.values()}
    assert tags["vote-extraction-flash-tolerant"] >= {
        "purpose:Tolerance test",
        "cost_tier:medium",
        "model:gemini-2.5-flash",
        "temperature:0.1",
    }
    assert all(isinstance(t, str) for its in tags.values() for t in its)


def test_example_3_everything_given(guide):
    results = run_model_experiments(
        ml_app="vote-extractor-advanced",
        api_key=os.getenv("DD_API_KEY"),
        site="datadoghq.com",
        agentless_enabled=True,
        project_name="vote-extraction-project",
        dataset_name=GUIDE_DATASET,
        dataset_version=None,
        model_configs=[
            {"model": "gemini-2.5-flash", "temperature": 0.0},
            {"model": "gemini-3-pro-preview", "temperature": 0.0},
        ],
        task_function=vote_extraction_task,
        evaluators=[exact_form_match, ballot_accuracy_score, vote_results_quality, has_no_errors],
        summary_evaluators=[overall_accuracy, success_rate, avg_ballot_accuracy],
        sample_size=10,
        jobs=2,
        raise_errors=True,
        show_comparison=True,
        return_results=True,
    )
    assert [e["summary_metrics"]["overall_accuracy"] for e in results["experiments"]] == [1.0, 1.0]
    assert {t for s in guide.rows() for t in s["tags"] if t.startswith("ml_app")} == {"ml_app:vote-extractor-advanced"}


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(
            {
                "model_configs": [{"model": "gemini-2.5-flash", "temperature": t} for t in (0.0, 0.1, 0.2)],
                "sample_size": 10,
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {
                "model_configs": [
                    {"model": m, "temperature": 0.0}
                    for m in ("gemini-2.5-flash-lite", "gemini-2.5-flash", "gemini-3-pro-preview")
                ]
            },
            marks=pytest.mark.slow,
        ),
        {"model_configs": [{"model": "gemini-2.5-flash", "temperature": 0.0}], "sample_size": 3, "jobs": 1},
        {
            "model_configs": [{"model": "gemini-2.5-flash", "temperature": 0.0}],
            "sample_size": None,
            "jobs": 2,
            "raise_errors": True,
        },
    ],
    ids=["temperature", "cost and quality", "fast iteration", "production"],
)
def test_the_four_use_cases(guide, how):
    results = run_model_experiments(**how)
    n = how.get("sample_size") or 10
    assert results["failed_experiments"] == 0 and len(guide.rows()) == n * len(how["model_configs"])
    assert all(p["complete"] for p in results["publication"])


def test_an_invalid_model_fails_alone(guide):
    results = run_model_experiments(
        model_configs=[
            {"model": "gemini-2.5-flash", "temperature": 0.0},
            {"model": "gemini-invalid-model", "temperature": 0.0},
            {"model": "gemini-2.5-flash-lite", "temperature": 0.0},
        ],
        raise_errors=False,
        sample_size=2,
    )
    assert (
        results["failed_experiments"] == 1
        and [e.get("error") for e in results["experiments"] if e["status"] == "failed"][0]
    )
    assert len(guide.rows()) == 6 and len([r for r in guide.rows() if r["status"] == "error"]) == 2


def test_the_complete_example(guide, tmp_path, capsys):
    from dotenv import load_dotenv

    load_dotenv()
    results = run_model_experiments(
        ml_app="vote-extractor-comparison",
        project_name="vote-extraction-project",
        model_configs=[
            {
                "model": "gemini-2.5-flash",
                "temperature": 0.0,
                "name_suffix": "baseline",
                "metadata": {"version": "v1", "purpose": "Production baseline"},
            },
            {
                "model": "gemini-2.5-flash-lite",
                "temperature": 0.0,
                "name_suffix": "speed",
                "metadata": {"version": "v1", "purpose": "High-volume test"},
            },
            {
                "model": "gemini-3-pro-preview",
                "temperature": 0.0,
                "name_suffix": "quality",
                "metadata": {"version": "v1", "purpose": "Maximum accuracy"},
            },
        ],
        sample_size=10,
        jobs=2,
        raise_errors=True,
    )
    best = max(results["experiments"], key=lambda x: x["summary_metrics"].get("overall_accuracy", 0))
    assert best["summary_metrics"]["overall_accuracy"] == 1.0
    with open("experiment_results.json", "w") as f:
        json.dump(results, f, indent=2)
    assert "planted" not in (tmp_path / "experiment_results.json").read_text() + capsys.readouterr().out


# ── what cannot work is reported before a model is called ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "how, said",
    [
        ({"dataset_name": "vote-extraction-bangbamru"}, rf"has no dataset .* it has '{GUIDE_DATASET}'"),
        ({"project_name": "somewhere-else"}, "'somewhere-else' has no dataset .*is project_name right"),
        ({"dataset_version": 7}, "has no version 7; the newest is 1"),
    ],
)
def test_what_is_not_on_datadog_is_named(guide, gemini, how, said):
    with pytest.raises(RemoteNotFoundError, match=said):
        run_model_experiments(show_comparison=False, **how)
    assert not gemini.calls and not guide.experiments


@pytest.mark.parametrize("version", ["2026-01-01", 0, -1, True])
def test_versions_on_datadog_are_whole_numbers(guide, version):
    with pytest.raises(ValueError, match="whole number"):
        run_model_experiments(dataset_version=version, show_comparison=False)


# ── the same path from elsewhere ────────────────────────────────────────────────────────────────────────────────────


def test_run_experiment_and_rescore_go_there_too(server, store):
    data = save_dataset("golden", items(4), store=store)
    done = run_experiment(
        name="e",
        data=data,
        task=calling_echo,
        evaluators=[right],
        store=store,
        backend="datadog",
        run_evaluators=[lambda item_results: Evaluation("n", len(item_results))],
        repeats=2,
        project="ours",
    )
    assert done.publication.complete and done.url == done.publication.url and done.url in done.format()
    again = rescore(done.experiment_id, [right], store=store, backend="datadog")
    assert again.publication.complete and len(server.experiments) == 2 and set(server.projects) == {"ours"}
    first, second = server.experiments.values()
    assert (
        first["attributes"]["run_count"] == 2 and len(server.rows(first["id"])) == len(server.rows(second["id"])) == 8
    )
    runs = {t for s in server.rows(first["id"]) for t in s["tags"] if t.startswith(("run_id", "run_iteration"))}
    assert {"run_iteration:1", "run_iteration:2"} < runs and len(runs) == 4


def test_a_sweep_goes_there_too(server, sqlite_store):
    push_dataset(save_dataset("golden", items(2), store=sqlite_store), store=sqlite_store)
    states = asyncio.run(
        run_sweep(
            base_config={"model": "echo"},
            param_grid={"temperature": [0.0, 0.5]},
            dataset="golden",
            store=sqlite_store,
            backend="datadog",
            task_function=echo,
            evaluators=[right],
            summary_evaluators=[],
        )
    )
    assert len(states) == 2 and len(server.experiments) == 2 and len(server.rows()) == 4
    assert {e["attributes"]["config"]["temperature"] for e in server.experiments.values()} == {0.0, 0.5}


def test_evaluators_of_the_sdk_are_evaluators_here(server, sqlite_store):
    LLMObs = datadog_sdk._sdk()
    from ddtrace.llmobs import BaseAsyncEvaluator, BaseEvaluator, BaseSummaryEvaluator, EvaluatorResult

    class Exact(BaseEvaluator):
        def evaluate(self, context):
            assert context.metadata == {"level": "scan"}
            return EvaluatorResult(
                value=context.output_data == context.expected_output, reasoning="compared", assessment="pass"
            )

    class Length(BaseAsyncEvaluator):
        async def evaluate(self, context):
            return len(context.input_data)

    class Share(BaseSummaryEvaluator):
        def evaluate(self, context):
            return sum(context.evaluation_results["exact"]) / len(context.inputs)

    data = [{"id": "a", "input": {"i": 1}, "expected_output": {"i": 1}, "metadata": {"level": "scan"}}]
    done = run_experiment(
        name="e",
        data=data,
        task=echo,
        evaluators=[Exact(name="exact"), Length(name="length")],
        summary_evaluators=[Share(name="share")],
        store=sqlite_store,
        backend="datadog",
    )
    assert done.item_results[0].scores == {"exact": True, "length": 1} and not LLMObs.enabled
    assert [(e.name, e.value) for e in done.run_evaluations] == [("share", 1.0)]
    assert values(server, "exact") == {"a": True}
    assert [m["reasoning"] for its in server.metrics.values() for m in its if m["label"] == "exact"] == ["compared"]
    assert [m["score_value"] for its in server.metrics.values() for m in its if m["metric_source"] == "summary"] == [
        1.0
    ]


class Similar:
    "As pydantic-evals has evaluators"

    def evaluate(self, ctx):
        return {"same": ctx.output == ctx.expected_output, "near": SimpleNamespace(value=0.5, reason=f"for {ctx.name}")}


class Faithful:
    "As deepeval has metrics: the score stays on the object"

    name, score, reason = "faithful", None, None

    def measure(self, test_case):
        self.score = json.loads(test_case.actual_output)["i"] / 100
        time.sleep(0.001)
        self.reason = f"read {test_case.input}"


def test_evaluators_of_other_houses_are_evaluators_here(server, sqlite_store):
    done = run_experiment(
        name="e", data=items(50), task=echo, evaluators=[Similar(), Faithful()], store=sqlite_store, backend="datadog"
    )
    assert done.publication.complete and values(server, "same") == {f"r{i}": True for i in range(50)}
    assert values(server, "faithful") == {f"r{i}": i / 100 for i in range(50)}  # side by side, each its own
    assert {(e.name, e.comment) for e in done.item_results[7].evaluations} == {
        ("same", None),
        ("near", "for r7"),
        ("faithful", 'read {"i": 7}'),
    }


# ── datasets ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_dataset_goes_there_and_comes_back(server, sqlite_store, tmp_path):
    (tmp_path / "forms").mkdir()
    data = [
        {
            "id": f"แบบ-{k}",
            "input": {"image_paths": [f"{k}/p1.jpg"], "n": k},
            "expected_output": None if k == 2 else {"v": k},
            "metadata": {"level": "scan", "tags": ["split:test"] if k % 2 else ["split:train"]},
        }
        for k in range(5)
    ]
    local = save_dataset("golden", data, root=tmp_path / "forms", store=sqlite_store, description="five forms")
    remote = push_dataset(local, store=sqlite_store, project_name="ours")
    assert (remote.version, remote.project, remote.name) == (1, "ours", "golden")
    assert server.records("golden")["แบบ-0"]["input"]["image_paths"] == ["0/p1.jpg"]
    other = Store(tmp_path / "other.db")
    pulled = pull_dataset("datadog", "golden", store=other, project_name="ours")
    assert list(pulled) == [DatasetItem(d["id"], d["input"], d["expected_output"], d["metadata"]) for d in data]
    assert pulled.provenance["pulled_from"] == "datadog" and pulled.description == "five forms"
    some = pull_dataset("datadog", "golden", store=other, project_name="ours", tags=["split:test"])
    assert [i.id for i in some] == ["แบบ-1", "แบบ-3"] and some.name != "golden"


def test_pushing_again_sends_only_what_changed(server, sqlite_store):
    save_dataset("golden", items(1200), store=sqlite_store)
    assert push_dataset("golden", store=sqlite_store).version == 1  # in several batches, one version
    changes = sum("batch_update" in p for p in server.paths())
    assert changes > 1 and push_dataset("golden", store=sqlite_store).version == 1
    assert sum("batch_update" in p for p in server.paths()) == changes
    upsert_item("golden", {"id": "r7", "input": {"i": 70}, "expected_output": {"i": 7}}, store=sqlite_store)
    assert push_dataset("golden", store=sqlite_store).version == 2
    assert server.records("golden")["r7"]["input"] == {"i": 70} and len(server.records("golden")) == 1200
    fewer = save_dataset("golden", items(3), store=sqlite_store, remove_missing=True)
    assert push_dataset(fewer, store=sqlite_store).version == 2 and len(server.records("golden")) == 1200
    assert push_dataset(fewer, store=sqlite_store, remove_missing=True).version == 3
    assert set(server.records("golden")) == {"r0", "r1", "r2"}


def test_items_that_look_alike_all_arrive(server, sqlite_store):
    alike = [{"id": f"r{i}", "input": "the same", "expected_output": 1} for i in range(5)]
    push_dataset(save_dataset("alike", alike, store=sqlite_store), store=sqlite_store)
    assert set(server.records("alike")) == {f"r{i}" for i in range(5)}
    with bare_sdk() as sdk:
        sdk.create_dataset(
            "bare", records=[{"id": r["id"], "input_data": r["input"], "expected_output": 1} for r in alike]
        )
    assert len(server.records("bare")) == 1  # the SDK's own default


def test_a_push_that_did_not_all_arrive_is_told(server, sqlite_store):
    save_dataset("golden", items(3), store=sqlite_store)
    server.fail("POST", "batch_update", Reply(200, {"data": []}))
    with pytest.raises(PlatformDown, match="3 items .* finds 0"):
        push_dataset("golden", store=sqlite_store)


def test_versions_there_are_snapshots_here(server, sqlite_store):
    save_dataset("golden", items(2), store=sqlite_store)
    push_dataset("golden", store=sqlite_store)
    other = Store(sqlite_store.path.with_name("other.db"))
    first = pull_dataset("datadog", "golden", store=other)
    assert pull_dataset("datadog", "golden", store=other).version == first.version == 1
    upsert_item("golden", {"id": "r1", "input": {"i": 10}, "expected_output": {"i": 1}}, store=sqlite_store)
    push_dataset("golden", store=sqlite_store)
    newest = pull_dataset("datadog", "golden", store=other)
    assert newest.version == 2 and newest.item("r1").input == {"i": 10}
    assert pull_dataset("datadog", "golden", 1, store=other).version == 1 and len(list_versions("golden", other)) == 2


def test_the_remote_version_wins_and_the_run_is_over_it(server, store):
    save_dataset("golden", items(3), store=store)
    push_dataset("golden", store=store)
    save_dataset("golden", [{"id": "mine", "input": 1}], store=store)
    found = run_model_experiments(
        dataset_name="golden",
        task_function=echo,
        evaluators=[right],
        summary_evaluators=[],
        show_comparison=False,
        model_configs=[{"model": "echo"}],
        store=store,
    )
    assert found["dataset_size"] == 3 and set(values(server)) == {"r0", "r1", "r2"}
    assert next(iter(server.experiments.values()))["attributes"]["dataset_version"] == 1
    assert list_groups(store)[0]["request"]["dataset_version"] == 1
    assert [i.id for i in get_dataset("golden", 2, store)] == ["r0", "r1", "r2", "mine"]  # is kept


def test_files_for_import_by_hand_are_read_by_the_sdk(server, sqlite_store, tmp_path, monkeypatch):
    monkeypatch.setenv("VOTE_EXPERIMENTS_STORE", sqlite_store.url)
    save_dataset("golden", [{**i, "metadata": {"tags": ["split:test"]}} for i in items(3)], store=sqlite_store)
    with server.environment(DD_API_KEY=None, DD_APP_KEY=None):  # nothing is sent, no key is needed
        written = CliRunner().invoke(app, ["datasets", "push", "golden", "--files", str(tmp_path / "by-hand")])
    assert written.exit_code == 0 and not server.requests
    with bare_sdk() as sdk:
        there = sdk.create_dataset_from_csv(
            str(tmp_path / "by-hand" / "golden.csv"),
            "from-csv",
            input_data_columns=["input"],
            expected_output_columns=["expected_output"],
            id_column="id",
        )
        assert [(r["record_id"], json.loads(r["input_data"]["input"])) for r in there] == [
            (f"r{k}", {"i": k}) for k in range(3)
        ]
        sdk.create_dataset("from-json", records=json.loads((tmp_path / "by-hand" / "golden.json").read_text()))
    assert [(r["input"], r["tags"]) for r in server.records("from-json").values()] == [
        ({"i": k}, ["split:test"]) for k in range(3)
    ]


# ── outages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_outage_leaves_the_run_complete_and_publish_does_the_rest(server, sqlite_store, capsys, caplog, monkeypatch):
    monkeypatch.setenv("VOTE_EXPERIMENTS_STORE", sqlite_store.url)
    push_dataset(save_dataset("golden", items(5), store=sqlite_store), store=sqlite_store)
    down = Reply(reset=True)
    task_began = []

    def task(input_data):
        if not task_began:
            task_began.append(server.fail("POST", ".", down) or server.fail("GET", ".", down))
        return input_data

    found = run_model_experiments(
        dataset_name="golden",
        task_function=task,
        evaluators=[right],
        summary_evaluators=[],
        model_configs=[{"model": "a"}, {"model": "b"}],
        store=sqlite_store,
        jobs=1,
    )
    out = capsys.readouterr().out
    assert found["successful_experiments"] == 2 and [e["total_records"] for e in found["experiments"]] == [5, 5]
    assert out.count("published 0/5 rows, 0/5 scores") == 2 and "vote-experiments publish exp_" in out
    assert all(e["url"].startswith("file:") for e in found["experiments"]) and not server.rows()
    assert {e["status"] for e in list_experiments(sqlite_store)} == {"finished"}
    shell = CliRunner()
    failed = shell.invoke(app, ["publish", found["group_id"]])
    assert failed.exit_code == 1 and "0/5 rows" in failed.output
    server.faults.clear()
    for _ in range(2):  # twice makes no duplicates
        done = shell.invoke(app, ["publish", found["group_id"], "--json"])
        assert (
            done.exit_code == 0
            and [(p["rows"], p["scores"], p["complete"]) for p in json.loads(done.stdout)] == [(5, 5, True)] * 2
        )
        assert (
            len(server.experiments) == 2 and len(server.rows()) == 10 and sum(map(len, server.metrics.values())) == 10
        )


def test_a_run_begins_without_datadog_over_the_snapshot_it_has(server, sqlite_store, capsys):
    push_dataset(save_dataset("golden", items(2), store=sqlite_store), store=sqlite_store)
    server.fail("GET", ".", Reply(503)), server.fail("POST", ".", Reply(503))
    how = {
        "task_function": echo,
        "evaluators": [right],
        "summary_evaluators": [],
        "model_configs": [{"model": "echo"}],
        "store": sqlite_store,
    }
    found = run_model_experiments(dataset_name="golden", **how)
    assert found["successful_experiments"] == 1 and "going on with the snapshot" in capsys.readouterr().out
    with pytest.raises(PlatformDown, match="never pulled.*backend='local'"):
        run_model_experiments(dataset_name="other", **how)


def test_what_was_seen_before_an_outage_is_still_told(server, sqlite_store):
    done = run_experiment(
        name="e", data=items(3), task=calling_echo, evaluators=[right], store=sqlite_store, backend="datadog"
    )
    server.fail("POST", ".", Reply(503))
    report = one(publish(done.experiment_id, store=sqlite_store))
    assert (report.rows, report.scores, report.spans, report.complete) == (3, 3, 3, False) and "503" in report.error


def test_spans_that_the_intake_refuses_are_told(server, sqlite_store):
    done = run_experiment(name="e", data=items(3), task=echo, evaluators=[right], store=sqlite_store)
    server.fail("POST", "^/api/v2/llmobs$", Reply(400))
    report = one(publish(done.experiment_id, "datadog", store=sqlite_store))
    assert (report.rows, report.complete) == (0, False) and "0 of 3 spans: the intake answered 400" in report.error
    server.faults.clear()
    assert one(publish(done.experiment_id, "datadog", store=sqlite_store)).complete and len(server.rows()) == 3


def test_spans_that_were_accepted_and_lost_are_told_and_sent_again_when_asked(server, sqlite_store):
    done = run_experiment(name="e", data=items(3), task=echo, evaluators=[right], store=sqlite_store)
    server.fail("POST", "^/api/v2/llmobs$", Reply(202, {}))
    report = one(publish(done.experiment_id, "datadog", store=sqlite_store, patience_s=0))
    assert (report.rows, report.accepted) == (0, 3) and "3 rows were accepted" in str(report)
    server.faults.clear()
    assert one(publish(done.experiment_id, "datadog", store=sqlite_store, patience_s=0)).rows == 0  # may only be late
    assert (
        one(publish(done.experiment_id, "datadog", store=sqlite_store, resend_after_s=0)).complete
        and len(server.rows()) == 3
    )


def test_rows_that_are_shown_late_are_waited_for_and_never_doubled(server, sqlite_store, monkeypatch):
    done = run_experiment(name="e", data=items(3), task=echo, evaluators=[right], store=sqlite_store)
    real, shown_at = server.give_events, float("inf")
    monkeypatch.setattr(
        server,
        "give_events",
        lambda request, experiment: (
            real(request, experiment)
            if time.monotonic() > shown_at
            else Reply(
                200,
                {
                    "data": {
                        "id": experiment,
                        "type": "experiment_events",
                        "attributes": {"spans": [], "summary_metrics": []},
                    }
                },
            )
        ),
    )
    assert not one(publish(done.experiment_id, "datadog", store=sqlite_store, patience_s=0)).complete
    shown_at = time.monotonic() + 1.0
    assert one(publish(done.experiment_id, "datadog", store=sqlite_store)).complete and len(server.rows()) == 3


def test_an_experiment_deleted_there_is_published_anew(server, sqlite_store):
    done = run_experiment(name="e", data=items(2), task=echo, evaluators=[right], store=sqlite_store, backend="datadog")
    server.experiments.clear()
    server.metrics.clear()
    server.spans.clear()
    assert (
        one(publish(done.experiment_id, store=sqlite_store)).complete
        and len(server.experiments) == 1
        and len(server.rows()) == 2
    )


def test_a_slow_datadog_does_not_slow_the_run(server, sqlite_store):
    push_dataset(save_dataset("golden", items(60), store=sqlite_store), store=sqlite_store)
    server.delay_s = 0.05
    times = []

    def task(input_data):
        times.append(time.monotonic())
        time.sleep(0.01)
        return input_data

    found = run_model_experiments(
        dataset_name="golden",
        task_function=task,
        evaluators=[right],
        summary_evaluators=[],
        jobs=6,
        model_configs=[{"model": "echo"}],
        store=sqlite_store,
        show_comparison=False,
    )
    requests = [r.time for r in server.requests]
    assert found["publication"][0]["complete"]
    assert not [t for t in requests if times[0] < t < times[-1]]  # not one request while items were worked on


def test_only_new_items_of_a_resumed_run_are_sent(server, store):
    fails = [True]

    def task(input_data):
        if input_data["i"] == 1 and fails[0]:
            raise OSError("no answer")
        return input_data

    data = save_dataset("golden", items(3), store=store)
    done = run_experiment(name="e", data=data, task=task, evaluators=[right], store=store, backend="datadog")
    assert done.publication.complete and len(server.rows()) == 3
    fails[0] = False
    again = run_experiment(
        name="e",
        data=data,
        task=task,
        evaluators=[right],
        store=store,
        backend="datadog",
        resume=done.experiment_id,
        failed_only=True,
        allow_changes=True,
    )
    assert again.publication.complete and len(server.experiments) == 1 and len(server.rows()) == 4
    assert values(server) == {"r0": True, "r1": True, "r2": True}


# ── the shell ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_shell_pushes_and_pulls(server, sqlite_store, monkeypatch, tmp_path):
    monkeypatch.setenv("VOTE_EXPERIMENTS_STORE", sqlite_store.url)
    save_dataset("golden", items(3), store=sqlite_store)
    shell = CliRunner()
    pushed = shell.invoke(app, ["datasets", "push", "golden", "--project", "ours"])
    assert pushed.exit_code == 0 and "version 1 of datadog project ours" in pushed.output
    other = str(tmp_path / "other.db")
    pulled = shell.invoke(app, ["datasets", "pull", "golden", "--project", "ours", "--store", other, "--json"])
    assert json.loads(pulled.stdout) == {"name": "golden", "version": 1, "items": 3}
    missing = shell.invoke(app, ["datasets", "pull", "goldne", "--project", "ours"])
    assert missing.exit_code == 2 and "'golden'" in missing.output
    assert shell.invoke(app, ["publish", "latest", "--backend", "datadgo"]).exit_code == 2


def test_nothing_of_the_keys_is_kept(server, sqlite_store, caplog):
    caplog.set_level(logging.DEBUG)
    done = run_experiment(name="e", data=items(2), task=echo, evaluators=[right], store=sqlite_store, backend="datadog")
    server.fail("POST", ".", Reply(500, {"errors": [f"bad key {ENVIRONMENT['DD_API_KEY']}"]}))
    report = one(publish(done.experiment_id, store=sqlite_store))
    assert publishing.RESEND_AFTER_S and report.error
    kept = sqlite_store.path.read_bytes() + str(report).encode() + caplog.text.encode()
    assert ENVIRONMENT["DD_API_KEY"].encode() not in kept and ENVIRONMENT["DD_APP_KEY"].encode() not in kept
