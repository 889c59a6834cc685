"""run_experiment, line by line of its checklist: what a call takes, what evaluators get, what is stored and shown"""

import asyncio
import logging
import re
import threading

import pytest
import sqlalchemy as sa

from promises import promise
from vote_experiments.compat.datasets import get_dataset
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.store.runs import get_experiment, list_experiments
from vote_experiments.experiments.result import experiment_result
from vote_experiments.store.tables import item_results, scores, traces
from vote_experiments.traces.traces import get_scores, get_trace
from vote_experiments.traces.opentelemetry import StoreSpanExporter
from vote_experiments.experiments.experiment import run_experiment
from vote_experiments.records import DatasetItem, Evaluation, ItemError, ItemResult
from vote_experiments.experiments.result import ExperimentResult

DATA = [{"input": i, "expected_output": 2 * i, "metadata": {"i": i}} for i in range(4)]


def double(*, item, **kwargs):
    return 2 * item["input"] if isinstance(item, dict) else 2 * item.input


def exact(*, input, output, expected_output, metadata, **kwargs):
    return Evaluation("exact", output == expected_output, f"item {metadata['i']}" if metadata else None)


# The call --------------------------------------------------------------------------------------------------------


@promise("run_experiment-1", "run_experiment-2", "run_experiment-3")
def test_arguments_are_keywords_and_three_are_required(store):
    with pytest.raises(TypeError):
        run_experiment("name", DATA, double)
    for missing in ("name", "data", "task"):
        with pytest.raises(TypeError, match=missing):
            run_experiment(
                **{k: v for k, v in {"name": "x", "data": DATA, "task": double}.items() if k != missing}, store=store
            )
    with pytest.raises(ValueError, match="name=''"):
        run_experiment(name="", data=DATA, task=double, store=store)
    assert list_experiments(store) == []
    all_of_it = run_experiment(
        name="x",
        run_name="r",
        description="d",
        data=DATA,
        task=double,
        evaluators=[],
        composite_evaluator=None,
        run_evaluators=[],
        max_concurrency=50,
        metadata=None,
        store=store,
    )
    assert len(all_of_it.item_results) == 4


@promise("run_experiment-4", "run_experiment-5", "run_experiment-6", "run_experiment-38", "run_experiment-43")
def test_names_and_descriptions_are_stored_as_given(store):
    plain = run_experiment(name="nightly", data=DATA, task=double, store=store)
    assert re.fullmatch(r"nightly - \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", plain.run_name)
    named = run_experiment(
        name="nightly",
        run_name="exact: run/1",
        description="why",
        data=save_dataset("d", DATA, store=store).items,
        task=double,
        store=store,
    )
    row = get_experiment(store, named.experiment_id)
    assert (
        (named.name, named.run_name, named.description)
        == ("nightly", "exact: run/1", "why")
        == (row["name"], row["run_name"], row["description"])
    )
    assert "exact: run/1 - why" in named.format()


@promise(
    "run_experiment-7",
    "run_experiment-8",
    "run_experiment-9",
    "run_experiment-13",
    "run_experiment-14",
    "run_experiment-15",
    "run_experiment-19",
    "run_experiment-45",
)
def test_dicts_stored_items_and_datasets_are_data(store):
    save_dataset("d", DATA, store=store)
    dataset = get_dataset("d", store=store)

    async def later(*, item, **kwargs):
        await asyncio.sleep(0.01 if item.input == 0 else 0)
        return (item.input, {"any": [None]})

    for data in (DATA, dataset.items, list(dataset.items), dataset):
        assert [r.output for r in run_experiment(name="x", data=data, task=double, store=store).item_results] == [
            0,
            2,
            4,
            6,
        ]
    assert [r.output for r in dataset.run_experiment(name="x", task=later, store=store).item_results] == [
        (i, {"any": [None]}) for i in range(4)
    ]
    given = []

    def judge(input, expected_output, metadata):
        given.append((input, expected_output, metadata))

    sparse = run_experiment(
        name="x",
        data=[{"input": 1}, {"expected_output": 2}, {"input": 3}],
        task=double,
        evaluators=[judge],
        store=store,
    )
    assert sorted(given) == [(1, None, None), (3, None, None)] and [r.output for r in sparse.item_results] == [2, 6]


@promise(
    "run_experiment-10",
    "run_experiment-11",
    "run_experiment-12",
    "run_experiment-16",
    "run_experiment-29",
    "run_experiment-39",
    "run_experiment-41",
    "run_experiment-42",
    "run_experiment-44",
    "guide-differences-16",
)
def test_every_item_is_a_trace_linked_with_its_run_item_and_scores(store):
    dataset = save_dataset("d", DATA, store=store)
    stored = run_experiment(
        name="x", data=dataset.items, task=double, evaluators=[exact], metadata={"commit": "abc"}, store=store
    )
    local = run_experiment(name="x", data=DATA, task=double, metadata={"commit": "abc"}, store=store)
    assert get_experiment(store, stored.experiment_id)["metadata"] == {"commit": "abc"} and stored.metadata == {
        "commit": "abc"
    }
    assert stored.dataset_run_id == stored.experiment_id and local.dataset_run_id is None and local.experiment_id
    assert stored.dataset_run_url == stored.experiment_url and local.dataset_run_url is None
    assert len({r.trace_id for r in stored.item_results}) == 4
    for r, item in zip(stored.item_results, dataset.items):
        trace = get_trace(r.trace_id, store)
        assert (trace.input, trace.output, trace.metadata, trace.experiment_id) == (
            item.input,
            r.output,
            {"commit": "abc"},
            stored.experiment_id,
        )
        assert (r.item.id, r.dataset_item_id, r.dataset_run_id, trace.dataset_item_id) == (
            item.id,
            item.id,
            stored.experiment_id,
            item.id,
        )
        assert [(s.name, s.value, s.experiment_id) for s in get_scores(trace_id=r.trace_id, store=store)] == [
            ("exact", True, stored.experiment_id)
        ]
    again = experiment_result(stored.experiment_id, store)
    assert [(r.item, r.trace_id) for r in again.item_results] == [(r.item, r.trace_id) for r in stored.item_results]
    with store.read() as c:
        assert (
            c.scalar(sa.select(sa.func.count()).select_from(item_results).where(item_results.c.item_row.is_not(None)))
            == 4
        )


@promise("run_experiment-17", "run_experiment-26", "run_experiment-27", "guide-differences-26")
def test_failures_are_logged_and_kept_apart(store, caplog):
    def fails(*, item):
        if item.input == 2:
            raise ValueError("torn page")
        return 2 * item.input

    def broken(output):
        raise RuntimeError("the judge is away")

    async def late(output, expected_output):
        return output == expected_output

    with caplog.at_level(logging.WARNING):
        result = run_experiment(name="x", data=DATA, task=fails, evaluators=[broken, exact, late], store=store)
    assert [r.item.input for r in result.item_results] == [0, 1, 3] and [r.item.input for r in result.failed_items] == [
        2
    ]
    assert "torn page" in caplog.text and "the judge is away" in caplog.text
    with store.read() as c:
        assert c.scalar(sa.select(traces.c.level).where(traces.c.id == result.failed_items[0].trace_id)) == "ERROR"
    assert all(
        r.scores == {"exact": True, "late": True} and "broken" in r.evaluation_errors for r in result.item_results
    )


@promise("run_experiment-18", "run_experiment-20")
def test_no_more_than_max_concurrency_and_in_any_loop(store):
    lock, now, peak = threading.Lock(), 0, 0

    async def task(*, item):
        nonlocal now, peak
        with lock:
            now += 1
            peak = max(peak, now)
        await asyncio.sleep(0.01)
        with lock:
            now -= 1

    run = {"name": "x", "data": DATA * 5, "task": task, "store": store, "max_concurrency": 3}
    run_experiment(**run)
    assert peak == 3

    async def cell():
        return len(run_experiment(**run).item_results)

    assert asyncio.run(cell()) == 20


# Evaluators ------------------------------------------------------------------------------------------------------


@promise(
    "run_experiment-21",
    "run_experiment-22",
    "run_experiment-23",
    "run_experiment-24",
    "run_experiment-25",
    "run_experiment-28",
    "guide-differences-8",
)
def test_evaluators_get_keywords_and_may_return_any_documented_shape(store):
    given = []

    def one(*, input, output, expected_output, metadata, **kwargs):
        given.append((input, output, expected_output, metadata))
        return Evaluation("one", 1, "c", {"m": 1}, "NUMERIC", "cfg")

    def several(**kwargs):
        return [Evaluation("a", 0.5), Evaluation("b", "good")]

    def as_dict(*, output, **kwargs):
        return {"name": "d", "value": True, "comment": "why", "metadata": {"k": [1]}}

    def dicts(*, output, **kwargs):
        return [{"name": "e", "value": 2}, {"name": "f", "value": "x", "comment": None}]

    result = run_experiment(
        name="x", data=DATA[1:2], task=double, evaluators=[one, several, as_dict, dicts], store=store
    )
    assert given == [(1, 2, 2, {"i": 1})]
    its = experiment_result(result.experiment_id, store).item_results[0].evaluations
    assert [(e.name, e.value, e.data_type) for e in its] == [
        ("one", 1, "NUMERIC"),
        ("a", 0.5, "NUMERIC"),
        ("b", "good", "CATEGORICAL"),
        ("d", True, "BOOLEAN"),
        ("e", 2, "NUMERIC"),
        ("f", "x", "CATEGORICAL"),
    ]
    assert (its[0].comment, its[0].metadata, its[0].config_id, its[3].comment, its[3].metadata) == (
        "c",
        {"m": 1},
        "cfg",
        "why",
        {"k": [1]},
    )


@promise("run_experiment-30", "run_experiment-31", "run_experiment-32", "run_experiment-33")
@pytest.mark.parametrize("style", ["sync", "async"])
def test_composites_combine_an_items_evaluations(store, style):
    def half(output):
        return 0.5

    def weighted(*, input, output, expected_output, metadata, evaluations):
        if input == 3:
            raise ValueError("cannot weigh")
        by_name = {e.name: float(e.value) for e in evaluations}
        return [
            Evaluation("weighted", 0.8 * by_name["exact"] + 0.2 * by_name["half"]),
            Evaluation("passes", all(v >= 0.5 for v in by_name.values())),
        ]

    async def later(**kwargs):
        return weighted(**kwargs)

    result = run_experiment(
        name="x",
        data=DATA,
        task=double,
        evaluators=[exact, half],
        composite_evaluator=weighted if style == "sync" else later,
        store=store,
    )
    assert [r.scores for r in result.item_results][:3] == [
        {"exact": True, "half": 0.5, "weighted": 0.9, "passes": True}
    ] * 3
    assert result.item_results[3].scores == {"exact": True, "half": 0.5}
    assert {s.name for s in get_scores(trace_id=result.item_results[0].trace_id, store=store)} == {
        "exact",
        "half",
        "weighted",
        "passes",
    }
    called = []
    run_experiment(
        name="x",
        data=DATA,
        task=double,
        evaluators=[lambda output: 1 / 0],
        composite_evaluator=lambda evaluations: called.append(1),
        store=store,
    )
    assert called == []


@promise("run_experiment-34", "run_experiment-35", "run_experiment-36", "run_experiment-37", "run_experiment-40")
def test_run_evaluators_see_all_items_once(store, caplog):
    calls = []

    def average(*, item_results, **kwargs):
        calls.append(len(item_results))
        values = [r.output for r in item_results]
        return Evaluation("average", sum(values) / max(1, len(values)), "of all")

    def spread(*, item_results):
        outputs = sorted(r.output for r in item_results)
        return {"name": "largest_step", "value": max((b - a for a, b in zip(outputs, outputs[1:])), default=0)}

    def broken(*, item_results):
        raise RuntimeError("no average")

    result = run_experiment(name="x", data=DATA, task=double, run_evaluators=[average, broken, spread], store=store)
    assert calls == [4] and [(e.name, e.value) for e in result.run_evaluations] == [
        ("average", 3.0),
        ("largest_step", 2),
    ]
    assert "no average" in caplog.text
    with store.read() as c:
        on_run = c.execute(
            sa.select(scores.c.name, scores.c.value_number)
            .where(scores.c.experiment_id == result.experiment_id, scores.c.trace_id.is_(None))
            .order_by(scores.c.id)
        ).all()
    assert [tuple(r) for r in on_run] == [("average", 3.0), ("largest_step", 2.0)]
    empty = run_experiment(name="x", data=[], task=double, run_evaluators=[average], store=store)
    assert calls == [4, 0] and empty.run_evaluations[0].value == 0


# format() --------------------------------------------------------------------------------------------------------


def item_result(i, given, expected, output, *evaluations):
    return ItemResult(DatasetItem(f"i{i}", given, expected), output, list(evaluations), trace_id=f"trace{i}")


@promise("run_experiment-43", "run_experiment-87", "guide-differences-27")
def test_format_has_exactly_the_documented_pieces():
    long = "x" * 60
    result = ExperimentResult(
        "NAME",
        "RUN",
        "exp_1",
        "DESCRIPTION",
        [
            item_result(1, long, "two", {"a": 1}, Evaluation("zeta", 0.5, "a comment"), Evaluation("alpha", True)),
            item_result(2, 3, None, long, Evaluation("zeta", 1.0), Evaluation("label", "good")),
        ],
        run_evaluations=[Evaluation("total", 1.5, "c")],
        url="https://example.com/run",
    )
    tail = (
        "\n"
        + "─" * 50
        + "\n🧪 Experiment: NAME\n📋 Run name: RUN - DESCRIPTION\n2 items\nEvaluations:\n  • zeta\n  • alpha\n  • label\n"
        "\nAverage Scores:\n  • zeta: 0.750\n  • alpha: 1.000\n\nRun Evaluations:\n  • total: 1.500\n    💭 c\n\n🔗 Experiment:\n   https://example.com/run"
    )
    assert (
        result.format()
        == "Individual Results: Hidden (2 items)\n💡 Set include_item_results=True to view them\n" + tail
    )
    assert result.format(include_item_results=True) == (
        f"\n1. Item 1:\n   Input:    {'x' * 50}...\n   Expected: two\n   Actual:   {{'a': 1}}\n   Scores:\n     • zeta: 0.500\n       💭 a comment\n"
        "     • alpha: 1.000\n\n   Trace ID: trace1\n"
        f"\n2. Item 2:\n   Input:    3\n   Actual:   {'x' * 50}...\n   Scores:\n     • zeta: 1.000\n     • label: good\n\n   Trace ID: trace2\n"
        + tail
    )
    assert ExperimentResult("NAME", "RUN", "exp_1").format() == "No experiment results to display."
    failed = ItemResult(DatasetItem("bad", 1), error=ItemError("ValueError", "torn"), status="failed")
    assert (
        "\nFailed items: 1\n  • bad: ValueError: torn\n"
        in ExperimentResult("N", "R", "e", item_results=[item_result(1, 1, 1, 1)], failed_items=[failed]).format()
    )


# A task's own OpenTelemetry spans --------------------------------------------------------------------------------


@promise("run_experiment-16")
@pytest.mark.parametrize("style", ["sync", "async"])
def test_spans_of_a_task_nest_under_its_item(store, style):
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the OpenTelemetry SDK is not installed")
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(StoreSpanExporter(store)))
    tracer = provider.get_tracer("task")

    def task(*, item):
        with tracer.start_as_current_span("look", attributes={"input.value": str(item.input)}):
            with tracer.start_as_current_span(
                "closer", attributes={"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
            ):
                return item.input

    async def later(*, item):
        await asyncio.sleep(0)
        return task(item=item)

    result = run_experiment(name="x", data=DATA, task=task if style == "sync" else later, store=store)
    for r in result.item_results:
        trace = get_trace(r.trace_id, store)
        look, closer = sorted(trace.observations, key=lambda o: o.name, reverse=True)
        assert (trace.name, trace.output, look.name, closer.name) == ("x", r.output, "look", "closer")
        assert (
            look.parent_id is None
            and closer.parent_id == look.id
            and closer.type == "GENERATION"
            and look.input == str(r.item.input)
        )
    with store.read() as c:
        assert c.scalar(sa.select(sa.func.count()).select_from(traces)) == 4
