"""The platforms' calls on the local store: the guide's own code, and what it leaves open"""

import asyncio
import math
from datetime import datetime
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from promises import promise
from vote_experiments import run_experiment
from vote_experiments.store.runs import RunNotFoundError
from vote_experiments.store.run_totals import score_names, score_numbers, score_table
from vote_experiments.traces.traces import add_observation, create_score
from vote_experiments.compat.client import Client
from vote_experiments.experiments.trend import trend
from vote_experiments.compat.variants import (
    RunnerContext,
    ab_test,
    aevaluate_experiment,
    compare_experiments,
    dataset_from_traces,
    export_experiment_results,
    prompt_variants,
)
from vote_experiments.records import Evaluation, Observation, RegressionError


@pytest.fixture
def client(store):
    return Client(store)


# The guide, as it is written -------------------------------------------------------------------------------------
# Its import becomes `from vote_experiments import Client as Langfuse`. Four slips are completed: evaluate_experiment is
# not defined there, run_experiment_with_eval returns nothing but is unpacked, test_prompt_variants uses `experiments`
# before it is made, and overall scores are called g_eval_overall when compared.

GUIDE = '''
from vote_experiments import Client as Langfuse

langfuse = Langfuse()

# Create dataset
dataset = langfuse.create_dataset(
    name="golden-analysis-dataset",
    description="Curated analysis examples with expected outputs",
)

# Add items
items = [
    {
        "input": {"url": "https://example.com/article1", "type": "article"},
        "expected_output": "Expected analysis for article 1...",
        "metadata": {"category": "tutorial", "difficulty": "beginner"},
    },
    {
        "input": {"url": "https://example.com/article2", "type": "article"},
        "expected_output": "Expected analysis for article 2...",
        "metadata": {"category": "reference", "difficulty": "advanced"},
    },
]

for item in items:
    langfuse.create_dataset_item(
        dataset_name="golden-analysis-dataset",
        input=item["input"],
        expected_output=item.get("expected_output"),
        metadata=item.get("metadata"),
    )

for n in range(120):  # production, before
    seen = langfuse.trace(name="production", input={"q": n}, output=f"answer {n}")
    langfuse.score(trace_id=seen.id, name="human_verified", value=n / 119)

# Create dataset from production traces
traces = langfuse.get_traces(
    filter={
        "score_name": "human_verified",
        "score_value_gte": 0.9,  # Only high-quality
    },
    limit=100,
)

dataset = langfuse.create_dataset(name="production-golden-v1")

for trace in traces:
    langfuse.create_dataset_item(
        dataset_name="production-golden-v1",
        input=trace.input,
        expected_output=trace.output,
        metadata={"trace_id": trace.id},
    )


async def run_experiment(
    dataset_name: str,
    experiment_name: str,
    model_config: dict,
):
    """Run an experiment on a dataset."""
    dataset = langfuse.get_dataset(dataset_name)

    # Create experiment
    experiment = langfuse.create_experiment(
        name=experiment_name,
        metadata={"model_config": model_config},
    )

    results = []

    for item in dataset.items:
        # Create trace for this run
        trace = langfuse.trace(
            name="experiment_run",
            metadata={"dataset_item_id": item.id},
        )

        # Run your pipeline
        output = await your_pipeline(item.input, model_config)

        # Create run linked to experiment
        run = langfuse.create_run(
            experiment_id=experiment.id,
            dataset_item_id=item.id,
            trace_id=trace.id,
            input=item.input,
            output=output,
            expected_output=item.expected_output,
        )

        results.append({
            "item_id": item.id,
            "run_id": run.id,
            "output": output,
        })

    return experiment.id, results


async def ab_test_models(dataset_name: str):
    """Compare two model configurations."""

    configs = {
        "sonnet": {"model": "claude-sonnet-4-20250514", "temperature": 0.7},
        "gpt4o": {"model": "gpt-4o", "temperature": 0.7},
    }

    experiments = {}

    for name, config in configs.items():
        exp_id, results = await run_experiment(
            dataset_name=dataset_name,
            experiment_name=f"model-comparison-{name}",
            model_config=config,
        )
        experiments[name] = exp_id

    # Run evaluations on both
    for name, exp_id in experiments.items():
        await evaluate_experiment(exp_id)

    # Compare results
    return compare_experiments(experiments)


async def run_experiment_with_eval(dataset_name: str, experiment_name: str):
    """Run experiment with automatic evaluation."""
    dataset = langfuse.get_dataset(dataset_name)

    experiment = langfuse.create_experiment(name=experiment_name)
    results = []  # completed

    for item in dataset.items:
        trace = langfuse.trace(name="experiment_run")

        # Run pipeline
        output = await pipeline(item.input)

        # Create run
        run = langfuse.create_run(
            experiment_id=experiment.id,
            dataset_item_id=item.id,
            trace_id=trace.id,
            output=output,
        )

        # Run evaluations immediately
        await evaluate_run(
            trace_id=trace.id,
            output=output,
            expected_output=item.expected_output,
        )
        results.append(run)  # completed

    return experiment.id, results  # completed


async def evaluate_run(trace_id: str, output: str, expected_output: str = None):
    """Run all evaluators on a single run."""

    # G-Eval judges
    scores = {
        "depth": await depth_evaluator(trace_id, output),
        "accuracy": await accuracy_evaluator(trace_id, output),
        "coherence": await coherence_evaluator(trace_id, output),
    }

    # Overall score
    overall = await overall_evaluator(trace_id, output)
    scores["overall"] = overall

    # If ground truth available, compute similarity
    if expected_output:
        similarity = compute_similarity(output, expected_output)
        langfuse.score(
            trace_id=trace_id,
            name="ground_truth_similarity",
            value=similarity,
        )
        scores["similarity"] = similarity

    return scores


async def batch_evaluate_experiment(experiment_id: str):
    """Evaluate all runs in an experiment."""

    runs = langfuse.get_experiment_runs(experiment_id)

    all_scores = []

    for run in runs:
        scores = await evaluate_run(
            trace_id=run.trace_id,
            output=run.output,
            expected_output=run.expected_output,
        )
        all_scores.append({"run_id": run.id, **scores})

    # Compute aggregate stats
    stats = {
        "count": len(all_scores),
        "avg_overall": np.mean([s["overall"] for s in all_scores]),
        "avg_depth": np.mean([s["depth"] for s in all_scores]),
        "pass_rate": np.mean([s["overall"] >= 0.7 for s in all_scores]),
    }

    return {"runs": all_scores, "stats": stats}


evaluate_experiment = batch_evaluate_experiment  # completed


def compare_experiments(experiment_ids: dict[str, str]) -> dict:
    """Compare multiple experiments."""

    results = {}

    for name, exp_id in experiment_ids.items():
        runs = langfuse.get_experiment_runs(exp_id)

        scores = []
        for run in runs:
            run_scores = langfuse.get_scores(trace_id=run.trace_id)
            scores.append({
                score.name: score.value
                for score in run_scores
            })

        results[name] = {
            "count": len(scores),
            "avg_overall": np.mean([s.get("g_eval_overall", 0) for s in scores]),
            "avg_depth": np.mean([s.get("g_eval_depth", 0) for s in scores]),
            "std_overall": np.std([s.get("g_eval_overall", 0) for s in scores]),
        }

    # Statistical comparison
    comparison = {
        "winner": max(results.items(), key=lambda x: x[1]["avg_overall"])[0],
        "results": results,
    }

    return comparison


async def run_golden_experiment():
    """Run quality experiment on golden dataset."""

    # 1. Create dataset from golden analyses
    golden_analyses = await get_golden_analyses()

    dataset = langfuse.create_dataset(name="skillforge-golden-v1")
    for analysis in golden_analyses:
        langfuse.create_dataset_item(
            dataset_name="skillforge-golden-v1",
            input={"url": analysis.url},
            expected_output=analysis.synthesis,
            metadata={"analysis_id": str(analysis.id)},
        )

    # 2. Run experiment
    experiment_id, results = await run_experiment_with_eval(
        dataset_name="skillforge-golden-v1",
        experiment_name=f"quality-test-{datetime.now().isoformat()}",
    )

    # 3. Get summary
    stats = await batch_evaluate_experiment(experiment_id)

    return {
        "experiment_id": experiment_id,
        "stats": stats["stats"],
        "url": f"https://langfuse.example.com/experiments/{experiment_id}",
    }


async def test_prompt_variants():
    """A/B test different prompt templates."""

    variants = {
        "detailed": "Provide a comprehensive, in-depth analysis...",
        "concise": "Provide a brief, focused analysis...",
        "structured": "Analyze using the following structure: 1) Overview...",
    }
    experiments = []  # completed

    for name, prompt in variants.items():
        # Create experiment
        exp_id, _ = await run_experiment(
            dataset_name="skillforge-golden-v1",
            experiment_name=f"prompt-variant-{name}",
            model_config={"prompt_template": prompt},
        )
        experiments.append((exp_id, _))  # completed

        # Evaluate
        await batch_evaluate_experiment(exp_id)

    # Compare all variants
    return compare_experiments({
        name: exp_id
        for name, (exp_id, _) in zip(variants.keys(), experiments)
    })


def export_experiment_results(experiment_id: str) -> pd.DataFrame:
    """Export experiment results to DataFrame."""

    runs = langfuse.get_experiment_runs(experiment_id)

    data = []
    for run in runs:
        scores = langfuse.get_scores(trace_id=run.trace_id)
        score_dict = {s.name: s.value for s in scores}

        data.append({
            "run_id": run.id,
            "item_id": run.dataset_item_id,
            **run.input,
            **score_dict,
        })

    return pd.DataFrame(data)
'''


def the_readers_own(guide):
    "What the guide leaves to its reader: a pipeline, judges, golden analyses"

    async def pipeline(input, model_config=None):
        await asyncio.sleep(0)
        words = (model_config or {}).get("prompt_template") or (model_config or {}).get("model") or "plain"
        return f"analysis of {input.get('url', input)} by {words}"

    def judge(name):
        async def evaluator(trace_id, output):
            value = min(1.0, len(output) / 100)
            guide["langfuse"].score(trace_id=trace_id, name=f"g_eval_{name}", value=value)
            return value

        return evaluator

    async def get_golden_analyses():
        return [
            SimpleNamespace(id=i, url=f"https://example.com/{i}", synthesis="" if i == 2 else f"synthesis {i}")
            for i in range(4)
        ]

    judges = {f"{n}_evaluator": judge(n) for n in ("depth", "accuracy", "coherence", "overall")}
    return {
        "your_pipeline": pipeline,
        "pipeline": pipeline,
        "get_golden_analyses": get_golden_analyses,
        **judges,
        "compute_similarity": lambda a, b: len(set(a) & set(b)) / len(set(a) | set(b)),
    }


@promise(
    "client-1",
    "client-2",
    "client-3",
    "client-5",
    "client-8",
    "client-9",
    "client-10",
    "client-13",
    "client-15",
    "client-16",
    "client-17",
    "client-19",
    "client-21",
    "client-26",
    "client-27",
    "client-28",
    "client-29",
    "client-30",
    "client-35",
    "client-36",
    "client-39",
    "client-41",
    "client-46",
    "client-53",
    "guide-differences-19",
    "guide-differences-20",
    "guide-differences-23",
)
def test_every_example_of_the_guide_runs_as_it_is_written(store, monkeypatch):
    monkeypatch.setenv("VOTE_EXPERIMENTS_STORE", store.url)
    guide = {"np": np, "pd": pd, "datetime": datetime}
    exec(compile(GUIDE, "guide", "exec"), guide)
    guide |= the_readers_own(guide)
    langfuse = guide["langfuse"]

    golden = langfuse.get_dataset("production-golden-v1")
    assert len(golden) == 12 and len(langfuse.get_dataset("golden-analysis-dataset")) == 2
    assert all(
        langfuse.get_trace(i.metadata["trace_id"]).output == i.expected_output and i.source_trace_id for i in golden
    )

    tested = asyncio.run(guide["ab_test_models"]("golden-analysis-dataset"))
    assert (
        tested["winner"] == "sonnet" and tested["results"]["gpt4o"]["count"] == 2
    )  # the longer name makes longer answers

    whole = asyncio.run(guide["run_golden_experiment"]())
    assert (
        whole["stats"]["count"] == 4
        and 0 < whole["stats"]["avg_overall"] <= 1
        and whole["stats"]["pass_rate"] in (0, 0.25, 0.5, 0.75, 1)
    )
    frame = guide["export_experiment_results"](whole["experiment_id"])
    assert len(frame) == 4 and {"run_id", "item_id", "url", "g_eval_overall", "ground_truth_similarity"} <= set(
        frame.columns
    )
    assert frame["ground_truth_similarity"].isna().sum() == 1  # the one without a synthesis
    ours = export_experiment_results(whole["experiment_id"], store)
    pd.testing.assert_frame_equal(ours[sorted(ours)], frame[sorted(frame)], check_dtype=False)

    variants = asyncio.run(guide["test_prompt_variants"]())
    assert set(variants["results"]) == {"detailed", "concise", "structured"} and variants["winner"] == "structured"
    names = [e.name for e in langfuse.get_experiments()]
    assert (
        names[:2] == ["model-comparison-sonnet", "model-comparison-gpt4o"] and names[-1] == "prompt-variant-structured"
    )


# Datasets --------------------------------------------------------------------------------------------------------


@promise("client-2", "client-4", "client-6", "client-7", "client-12", "client-18", "guide-differences-25")
def test_datasets_and_items(client):
    assert client.create_dataset(name="golden-v1").name == "golden-v1"
    nested = {"page": {"rows": [{"ก": [1, None, {"x": "y"}]}]}}
    item = client.create_dataset_item(dataset_name="golden-v1", input=nested)
    again = client.create_dataset(name="golden-v1", description="now described")
    assert (
        len(again) == 1
        and again.description == "now described"
        and client.create_dataset(name="golden-v1").version == again.version
    )
    found = client.get_dataset("golden-v1").items[0]
    assert (found.id, found.input, found.expected_output, found.metadata) == (item.id, nested, None, None) and found[
        "input"
    ] == nested
    client.create_dataset_item(dataset_name="golden-v1", input=nested)  # the same: nothing
    client.create_dataset_item(dataset_name="golden-v1", input=nested, expected_output="another")
    client.create_dataset_item(dataset_name="golden-v1", input=nested, expected_output="another")
    assert [i.expected_output for i in client.get_dataset("golden-v1").items] == [None, "another"]
    client.create_dataset_item(dataset_name="golden-v1", id=item.id, input=nested, expected_output="corrected")
    assert [i.expected_output for i in client.get_dataset("golden-v1").items] == ["corrected", "another"]
    client.create_dataset(name="golden-v2")
    assert len(client.get_dataset("golden-v2")) == 0 and len(client.get_dataset("golden-v1")) == 2


def test_a_score_of_one_call_is_no_score_of_its_item(store):
    result = run_experiment(
        name="calls",
        data=[{"input": 1, "expected_output": 1}],
        task=lambda input: input,
        evaluators=[lambda output, expected_output: Evaluation("right", output == expected_output)],
        store=store,
    )
    one = result.item_results[0]
    call = add_observation(one.trace_id, Observation("call", "GENERATION"), store)
    create_score(observation_id=call.id, name="right", value=False, store=store)
    create_score(observation_id=call.id, name="terse", value=True, store=store)
    assert [(e.name, e.value) for e in result.item_results[0].evaluations] == [("right", True)]
    assert score_names(store, result.experiment_id) == ["right"]
    assert [row[-1] for row in score_table(store, result.experiment_id)] == [{"right": 1.0}]
    assert [row[-1] for row in score_numbers(store, result.experiment_id)] == [{"right": 1.0}]


@promise("client-10")
def test_traces_become_a_golden_dataset_with_their_scores(client, store):
    for i in range(6):
        t = client.trace(name="live", input={"n": 1}, output=i, tags=["production"])
        client.score(trace_id=t.id, name="human", value=i / 5)
    client.trace(name="no input")
    golden = client.dataset_from_traces("golden", {"score_name": "human", "score_value_gte": 0.5}, limit=2)
    assert [(i.expected_output, i.metadata["scores"], i.metadata["tags"]) for i in golden] == [
        (5, {"human": 1.0}, ["production"]),
        (4, {"human": 0.8}, ["production"]),
    ]
    assert all(
        client.get_trace(i.source_trace_id).output
        == i.expected_output
        == client.get_trace(i.metadata["trace_id"]).output
        for i in golden
    )
    assert len(dataset_from_traces("all", store=store)) == 6


# Experiments and runs --------------------------------------------------------------------------------------------


def made(client, name="by hand", n=3, dataset="d", **config):
    if dataset not in [d.name for d in client.list_datasets()]:
        client.create_dataset(name=dataset)
        for i in range(n):
            client.create_dataset_item(dataset_name=dataset, input={"n": i}, expected_output=2 * i, metadata={"i": i})
    experiment = client.create_experiment(name=name, metadata={"model_config": config} if config else None)
    for item in client.get_dataset(dataset).items:
        trace = client.trace(name="experiment_run", metadata={"dataset_item_id": item.id})
        client.create_run(
            experiment_id=experiment.id, dataset_item_id=item.id, trace_id=trace.id, output=2 * item.input["n"]
        )
    return experiment.id


@promise(
    "client-13",
    "client-14",
    "client-17",
    "client-18",
    "client-19",
    "client-20",
    "client-22",
    "client-42",
    "client-43",
    "client-44",
    "client-50",
    "guide-differences-21",
    "run_experiment-44",
)
def test_runs_link_experiment_item_and_trace(client):
    one, other = made(client, model="m", temperature=0.5), made(client, prompt_version=2)
    assert one != other and client.get_experiment(one).model_config == {"model": "m", "temperature": 0.5}
    runs = client.get_experiment_runs(one)
    assert [(r.input, r.output, r.expected_output) for r in runs] == [({"n": i}, 2 * i, 2 * i) for i in range(3)]
    run, dataset = runs[1], client.get_dataset("d")
    assert (
        dataset.item(run.dataset_item_id).input == run.input
        and client.get_experiment(run.experiment_id).name == "by hand"
    )
    trace = client.get_trace(run.trace_id)
    assert (trace.experiment_id, trace.dataset_item_id, trace.input, trace.output) == (
        one,
        run.dataset_item_id,
        {"n": 1},
        2,
    )
    assert {r.id for r in runs}.isdisjoint({r.id for r in client.get_experiment_runs(other)})
    assert [e.id for e in client.get_experiments()] == [one, other]
    assert [e.id for e in client.get_experiments(metadata={"model_config": {"prompt_version": 2}})] == [other]
    client.score(trace_id=run.trace_id, name="depth", value=0.5)
    assert [r.scores for r in client.get_experiment_runs(one)] == [{}, {"depth": 0.5}, {}]
    assert [t.id for t in client.get_traces({"experiment_id": one})] == [r.trace_id for r in reversed(list(runs))]
    for call in (
        client.get_experiment_runs,
        client.get_experiment,
        client.evaluate_experiment,
        client.export_experiment_results,
    ):
        with pytest.raises(RunNotFoundError, match="no experiment 'exp_0'"):
            call("exp_0")
    with pytest.raises(ValueError, match="no dataset has this item"):
        client.create_run(experiment_id=one, dataset_item_id="nobody")
    bare = client.create_run(experiment_id=one, input="text", output="out")
    assert (bare.input, bare.expected_output, bare.output) == ("text", None, "out") and len(
        client.get_experiment_runs(one)
    ) == 4


def test_of_two_datasets_with_one_item_the_one_read_last_is_meant(client):
    for name, expected in (("golden-v1", "old"), ("golden-v2", "new")):
        client.create_dataset(name=name)
        client.create_dataset_item(dataset_name=name, input={"n": 1}, expected_output=expected)
    for name, expected in (("golden-v1", "old"), ("golden-v2", "new"), ("golden-v1", "old")):
        item = client.get_dataset(name).items[0]
        experiment = client.create_experiment(name="x")
        assert (
            client.create_run(experiment_id=experiment.id, dataset_item_id=item.id, output=1).expected_output
            == expected
        )
        assert client.get_experiment(experiment.id).dataset_name == name


# Judging and comparing -------------------------------------------------------------------------------------------


@promise("client-27", "client-29", "client-30", "client-40", "client-51")
def test_runs_are_judged_after_the_fact(client, store):
    async def overall(trace_id, output):
        return {"name": "overall", "value": output / 4}

    def depth(output, expected_output, metadata):
        return (output == expected_output) * metadata["i"] / 2

    first, second = made(client), made(client)
    judged = asyncio.run(aevaluate_experiment(first, [overall, depth], store=store))
    assert [(r["overall"], r["depth"]) for r in judged["runs"]] == [(0, 0), (0.5, 0.5), (1, 1)]
    s = judged["stats"]
    assert (s["count"], s["avg_overall"], s["avg_depth"], s["pass_rate"]) == (3, 0.5, 0.5, pytest.approx(1 / 3))
    assert judged["runs"][0]["run_id"] == client.get_experiment_runs(first)[0].id and first in judged["url"]
    assert {x.name: x.value for x in client.get_scores(trace_id=judged["runs"][2]["trace_id"])} == {
        "overall": 1,
        "depth": 1,
    }
    assert client.evaluate_experiment(second, [overall, depth])["stats"] == s
    assert client.evaluate_experiment(first)["stats"] == s  # nothing to judge: only summed up
    assert client.get_result(first).summary["scores"]["overall"]["mean"] == 0.5


@promise(
    "client-31", "client-32", "client-33", "client-34", "client-37", "client-38", "client-45", "guide-differences-22"
)
def test_comparison_says_what_averages_say_and_what_they_cannot(client, store):
    ids = {name: made(client, name, n=8) for name in ("good", "poor")}
    ids["empty"] = client.create_experiment(name="empty").id
    for name, values in (("good", [0.9, 0.8, 1, 0.7, 0.9, 0.8, 1]), ("poor", [0.1, 0.3, 0.2, 0.1, 0.3, 0.2, 0.1])):
        for run, value in zip(client.get_experiment_runs(ids[name]), values):  # the eighth is never scored
            client.score(trace_id=run.trace_id, name="g_eval_overall", value=0.0)
            client.score(trace_id=run.trace_id, name="g_eval_overall", value=value)
            client.score(trace_id=run.trace_id, name="g_eval_depth", value=value / 2)
    found = compare_experiments(ids, store=store)
    good = found["results"]["good"]
    assert found["winner"] == "good" and found["is_significant"] and "poor" not in found["tied_with_winner"]
    assert good["count"] == 8 and good["n_overall"] == 7 and good["n_missing"] == 1
    assert good["avg_overall"] == pytest.approx(np.mean([0.9, 0.8, 1, 0.7, 0.9, 0.8, 1]))
    assert good["std_overall"] == pytest.approx(np.std([0.9, 0.8, 1, 0.7, 0.9, 0.8, 1])) and good[
        "avg_depth"
    ] == pytest.approx(good["avg_overall"] / 2)
    assert found["results"]["empty"] == {
        "count": 0,
        "avg_overall": None,
        "avg_depth": None,
        "std_overall": None,
        "n_overall": 0,
        "n_missing": 0,
        "experiment_id": ids["empty"],
    }
    zero = client.compare_experiments(ids, missing="zero")
    assert (
        zero["results"]["good"]["avg_overall"] == pytest.approx(6.1 / 8) and zero["results"]["good"]["n_missing"] == 0
    )
    alone = compare_experiments({"empty": ids["empty"]}, store=store)
    assert alone["winner"] is None and not alone["is_significant"]
    tied = compare_experiments({"a": ids["good"], "b": ids["good"]}, store=store)
    assert tied["tied_with_winner"] == ["b"] and not tied["is_significant"]


# A/B tests, prompts, export --------------------------------------------------------------------------------------


def answer(input_data, config):
    return 2 * input_data["n"] if config.get("right", True) else -1


def overall(output, expected_output):
    return output == expected_output


@promise("client-35", "client-36", "client-51", "client-40")
def test_configs_and_prompts_run_as_one_group_and_are_compared(client, store):
    made(client, n=8)
    out = client.ab_test("d", {"right": {"right": True}, "wrong": {"right": False}}, task=answer, evaluators=[overall])
    assert out["winner"] == "right" and out["is_significant"] and out["results"]["wrong"]["avg_overall"] == 0
    assert {r.group_id for r in out["experiments"].values()} == {out["group_id"]}
    assert client.get_experiment(out["experiment_ids"]["wrong"]).model_config == {"right": False}
    prompts = prompt_variants(
        client.get_dataset("d"),
        {"long": "Read every row.", "short": "Read."},
        evaluators=[overall],
        store=store,
        task=lambda input_data, config: 2 * input_data["n"] * (config["prompt_template"] == "Read."),
    )
    assert [r.name for r in prompts["experiments"].values()] == [
        "prompt-variant-long",
        "prompt-variant-short",
    ] and prompts["winner"] == "short"
    for call in (lambda: ab_test("d", {}, task=answer, store=store), lambda: compare_experiments({}, store=store)):
        with pytest.raises(ValueError, match="is empty"):
            call()


@promise("client-46", "client-47", "client-48", "client-49")
def test_exports_keep_every_column(client, store):
    experiment = client.create_experiment(name="export").id
    for i, given in enumerate([{"url": "u", "depth": "deep", "run_id": 7}, "a text", {"url": "v"}]):
        run = client.create_run(experiment_id=experiment, input=given, output=i)
        if i:
            client.score(trace_id=run.trace_id, name="depth", value=i / 2)
    frame = export_experiment_results(experiment, store)
    assert list(frame.columns) == ["run_id", "item_id", "url", "depth", "input_run_id", "input", "score_depth"]
    assert frame["score_depth"].tolist()[1:] == [0.5, 1.0] and math.isnan(frame["score_depth"][0])
    assert (
        frame["input"].isna().tolist() == [True, False, True]
        and frame["input"][1] == "a text"
        and frame["depth"][0] == "deep"
        and frame["input_run_id"][0] == 7
    )
    assert frame["run_id"].tolist() == [r.id for r in client.get_experiment_runs(experiment)]
    assert len(export_experiment_results(client.create_experiment(name="none").id, store)) == 0


# In CI -----------------------------------------------------------------------------------------------------------


@promise("client-52", "guide-differences-29")
def test_a_runner_context_pins_data_and_says_who_asked(client):
    made(client, n=3)
    version = client.get_dataset("d").version
    client.create_dataset_item(dataset_name="d", input={"n": 99}, expected_output=198)
    context = RunnerContext(
        client=client, data="d", dataset_version=version, metadata={"commit": "abc", "branch": "main"}
    )
    result = context.run_experiment(
        name="ci", task=answer, evaluators=[overall], metadata={"branch": "topic"}, config={"right": True}
    )
    assert len(result.item_results) == 3 and result.metadata == {"commit": "abc", "branch": "topic"}
    whole = RunnerContext(client=client, data=client.get_dataset("d")).run_experiment(
        name="ci", task=answer, evaluators=[overall], config={}
    )
    assert len(whole.item_results) == 4
    with pytest.raises(ValueError, match="no data"):
        RunnerContext(client=client).run_experiment(name="ci", task=answer)
    mean = result.summary["scores"]["overall"]["mean"]
    with pytest.raises(RegressionError, match="overall") as told:
        raise RegressionError(result=result, metric="overall", value=mean, threshold=1.5)
    assert told.value.result is result and told.value.value == 1.0
    assert len(trend("ci", "overall", client.store).table) == 2
