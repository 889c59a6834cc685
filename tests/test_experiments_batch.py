"""Batch evaluation: every count exact, killed at any moment and resumed, pages never held together, real failures."""

import asyncio
import json
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter

import pytest
import sqlalchemy as sa
from hypothesis import given, settings, strategies as st

from promises import promise
from vote_experiments.store.database import RowInsert
from vote_experiments.store.tables import batch_items, batches, scores, trace_tags, traces
from vote_experiments.store.maintenance import check_store
from vote_experiments.store.encoding import encode_json, to_us
from vote_experiments.traces.traces import Trace, create_trace, get_scores
from vote_experiments.traces.search import get_traces
from vote_experiments.experiments.batch import (
    BatchEvaluationResumeToken,
    EvaluatorInputs,
    arun_batched_evaluation,
    batch_evaluation_result,
    run_batched_evaluation,
)
from vote_experiments.engine.resuming import RunBusyError, SettingsChangedError
from vote_experiments.experiments.experiment import run_experiment
from vote_experiments.records import Evaluation, Observation


def filled(store, n, tags=lambda i: (), **columns):
    "n traces: input i, output 2 i, one a second"
    start = to_us("2024-01-01")
    with store.write() as c:
        names = ("id", "timestamp", "input", "output", "metadata", *columns)
        RowInsert(traces, names, store.dialect)(
            c,
            [
                (
                    f"t{i:06d}",
                    start + i * 1_000_000,
                    str(i),
                    str(2 * i),
                    encode_json({"i": i}),
                    *(f(i) for f in columns.values()),
                )
                for i in range(n)
            ],
        )
        RowInsert(trace_tags, ("tag", "trace_id"), store.dialect)(
            c, [(t, f"t{i:06d}") for i in range(n) for t in tags(i)]
        )
    return store


def mapper(item):
    return EvaluatorInputs(item.input, item.output, 2 * item.input, item.metadata)


def doubled(output, expected_output):
    return output == expected_output


async def size(*, input, **kwargs):
    return Evaluation("size", input / 100, "its number")


def request(store, **changes):
    return {"scope": "traces", "mapper": mapper, "evaluators": [doubled], "store": store, **changes}


def told(result):
    "Every invariant of the counters, and what is stored"
    handled = result.total_items_processed + result.total_items_failed
    assert result.total_items_fetched == handled
    assert sum(s.total_scores_created for s in result.evaluator_stats) == result.total_scores_created
    assert sum(s.failed_runs for s in result.evaluator_stats) == result.total_evaluations_failed
    assert all(
        s.total_runs == result.total_items_processed == s.successful_runs + s.failed_runs
        for s in result.evaluator_stats
    )
    assert sum(result.error_summary.values()) == result.total_items_failed == len(result.failed_item_ids)
    assert len(result.item_evaluations) == result.total_items_processed
    assert (result.resume_token is None) == result.completed and not (result.completed and result.has_more_items)
    assert result.duration_seconds > 0
    with result._store.read() as c:
        rows = c.scalar(
            sa.select(sa.func.count()).select_from(batch_items).where(batch_items.c.batch_id == result.batch_id)
        )
        made = c.scalar(
            sa.select(sa.func.count())
            .select_from(scores)
            .where(scores.c.batch_id == result.batch_id, scores.c.source != "ERROR")
        )
    assert rows == handled and made == result.total_scores_created + result.total_composite_scores_created
    return result


# What a call takes and gives -------------------------------------------------------------------------------------


@promise(
    "batch-evaluation-46", "batch-evaluation-49", "batch-evaluation-54", "guide-differences-11", "guide-differences-15"
)
def test_arguments_are_keywords_and_checked_before_anything_is_fetched(sqlite_store):
    with pytest.raises(TypeError):
        run_batched_evaluation("traces", mapper)
    for wrong, error, words in [
        ({"scope": "spans"}, ValueError, "scope='spans' is not one of 'traces', 'observations'"),
        ({"scope": None}, TypeError, "needs scope="),
        ({"fetch_batch_size": 0}, ValueError, "fetch_batch_size=0"),
        ({"max_items": 0}, ValueError, "max_items=0"),
        ({"max_retries": -1}, ValueError, "max_retries=-1"),
        ({"max_concurrency": True}, ValueError, "max_concurrency=True"),
        ({"filter": {"colour": "red"}}, ValueError, "no column 'colour'"),
        ({"filter": "{"}, ValueError, "not JSON"),
        ({"mapper": lambda: 1}, TypeError, "mapper"),
        ({"mapper": None}, TypeError, "not callable"),
        ({"evaluators": doubled}, TypeError, "give a list"),
        ({"evaluators": [doubled, doubled]}, ValueError, "'doubled'"),
        ({"metadata": 3}, ValueError, "metadata=3"),
        ({"resume_from": 3}, ValueError, "resume_from=3"),
        ({"resume_from": "batch_0"}, ValueError, "no batch evaluation 'batch_0'"),
        ({"resume_from": {"scope": "observations"}}, ValueError, "scope='observations'"),
        ({"resume_from": {"scope": "traces", "x": 1}}, ValueError, "no field 'x'"),
    ]:
        with pytest.raises(error, match=words):
            run_batched_evaluation(**request(sqlite_store, **wrong))
    told(run_batched_evaluation(**request(sqlite_store)))  # nothing stored: complete at once
    later = run_batched_evaluation(
        mapper=lambda o: EvaluatorInputs(), evaluators=[doubled], fields="core,io", store=sqlite_store
    )
    assert later.completed


@promise(
    "batch-evaluation-47",
    "batch-evaluation-50",
    "batch-evaluation-52",
    "batch-evaluation-69",
    "batch-evaluation-71",
    "batch-evaluation-72",
    "batch-evaluation-73",
    "batch-evaluation-74",
    "batch-evaluation-75",
    "batch-evaluation-76",
    "batch-evaluation-77",
    "batch-evaluation-78",
    "batch-evaluation-79",
    "batch-evaluation-80",
    "batch-evaluation-81",
    "batch-evaluation-82",
    "batch-evaluation-84",
    "batch-evaluation-85",
    "guide-differences-24",
    "guide-differences-28",
)
def test_every_count_is_exact(store):
    filled(store, 23)
    create_trace(id="t000003", store=store).observe(Observation("call", "GENERATION", input="page"))

    def some_fail(item):
        if item.input % 7 == 0:
            raise KeyError(f"no answer in {item.id}")
        return mapper(item)

    def broken(output):
        if output % 4 == 0:
            raise RuntimeError("the judge is away")
        return {"name": "two", "value": 1, "comment": "c", "metadata": {"own": 1}}, {"name": "three", "value": "good"}

    def silent(output):
        return None

    def seen(item):
        return len(item.observations) + len(item.scores)

    result = told(
        run_batched_evaluation(
            **request(
                store,
                mapper=some_fail,
                evaluators=[doubled, size, broken, silent, seen],
                composite_evaluator=lambda evaluations: len(evaluations),
            )
        )
    )
    assert (result.total_items_fetched, result.total_items_processed, result.total_items_failed) == (23, 19, 4)
    assert result.error_summary == {"KeyError": 4} and result.failed_item_ids == [
        "t000000",
        "t000007",
        "t000014",
        "t000021",
    ]
    n_broken = sum(1 for i in range(23) if i % 7 and 2 * i % 4 == 0)
    stats = {
        s.name: (s.total_runs, s.successful_runs, s.failed_runs, s.total_scores_created) for s in result.evaluator_stats
    }
    assert stats == {
        "doubled": (19, 19, 0, 19),
        "size": (19, 19, 0, 19),
        "broken": (19, 19 - n_broken, n_broken, 2 * (19 - n_broken)),
        "silent": (19, 19, 0, 0),
        "seen": (19, 19, 0, 19),
    }
    assert (
        result.evaluator_stats[2].errors == {"RuntimeError: the judge is away": n_broken}
        and result.evaluator_stats[0].success_rate == 1
    )
    assert result.total_composite_scores_created == 19 and result.total_evaluations_failed == n_broken
    its = result.item_evaluations["t000003"]
    assert [(e.name, e.value) for e in its] == [
        ("doubled", True),
        ("size", 0.03),
        ("two", 1),
        ("three", "good"),
        ("seen", 1),
        ("<lambda>", 5),
    ]
    assert its[0].data_type == "BOOLEAN" and its[2].comment == "c"
    assert {s.name for s in get_scores(trace_id="t000003", store=store)} == {e.name for e in its}
    assert "19 evaluated, 4 failed" in str(result) and "4 × KeyError" in str(result) and "completed" in str(result)
    assert set(result.item_evaluations) == {f"t{i:06d}" for i in range(23) if i % 7}
    with pytest.raises(KeyError):
        result.item_evaluations["t000007"]
    again = batch_evaluation_result(result.batch_id, store)
    assert str(again) == str(result) and again.resume_token is None


@promise("batch-evaluation-48", "batch-evaluation-69")
def test_observations_are_judged_singly(store):
    for i in range(3):
        t = create_trace(name=f"trace {i}", store=store)
        for kind in ("SPAN", "GENERATION", "EVENT"):
            t.observe(Observation(kind.lower(), kind, 1_700_000_000 + i, input=i, output=kind))
    result = told(
        run_batched_evaluation(
            scope="observations",
            mapper=lambda item: EvaluatorInputs(item.input, item.output, metadata={"trace": item.trace.name}),
            store=store,
            evaluators=[lambda output, metadata: {"name": "kind", "value": f"{output} of {metadata['trace']}"}],
            filter={"type": ["SPAN", "EVENT"]},
        )
    )
    assert result.total_items_processed == 6
    for t in get_traces(store=store):
        assert t.scores == []
        assert [(o.type, [s.value for s in o.scores]) for o in sorted(t.observations, key=lambda o: o.type)] == [
            ("EVENT", [f"EVENT of {t.name}"]),
            ("GENERATION", []),
            ("SPAN", [f"SPAN of {t.name}"]),
        ]


@promise("batch-evaluation-51", "batch-evaluation-52", "guide-differences-14", "guide-differences-8")
@pytest.mark.parametrize("style", ["positional", "keyword", "async", "dict", "returns awaitable", "partial"])
def test_mappers_of_every_style(store, style):
    import functools

    filled(store, 3)

    def positional(trace):
        return mapper(trace)

    def keyword(*, item, **kwargs):
        return mapper(item)

    async def later(item):
        await asyncio.sleep(0)
        return mapper(item)

    def as_dict(item):
        return mapper(item).to_dict()

    def awaitable(item):
        return later(item)

    styles = {
        "positional": positional,
        "keyword": keyword,
        "async": later,
        "dict": as_dict,
        "returns awaitable": awaitable,
        "partial": functools.partial(lambda k, item: mapper(item), 1),
    }
    result = told(run_batched_evaluation(**request(store, mapper=styles[style], evaluators=[doubled, size])))
    assert result.total_items_processed == 3 and result.total_scores_created == 6


def test_a_mapper_that_gives_something_else_fails_its_item(store):
    filled(store, 2)
    result = told(run_batched_evaluation(**request(store, mapper=lambda item: 3)))
    assert (result.total_items_failed, result.error_summary) == (2, {"TypeError": 2}) and result.completed


@promise(
    "batch-evaluation-53",
    "batch-evaluation-61",
    "batch-evaluation-62",
    "batch-evaluation-63",
    "guide-differences-13",
    "guide-differences-8",
)
def test_a_failing_evaluator_is_logged_and_every_score_carries_the_metadata(store, caplog):
    filled(store, 4)

    def broken(output):
        raise ValueError("no")

    def whole(item, evaluations):
        assert isinstance(item, Trace) and item.output == 2 * item.input
        return {
            "name": "whole",
            "value": sum(bool(e.value) for e in evaluations),
            "metadata": {"version": "own", "k": 1},
        }

    result = told(
        run_batched_evaluation(
            **request(
                store,
                evaluators=[broken, doubled, size],
                composite_evaluator=whole,
                metadata={"version": "v2", "job": 7},
            )
        )
    )
    assert (
        "evaluator broken failed" in caplog.text
        and result.total_scores_created == 8
        and result.total_composite_scores_created == 4
    )
    assert [e.metadata for e in result.item_evaluations["t000001"]] == [{"version": "v2", "job": 7}] * 2 + [
        {"version": "own", "job": 7, "k": 1}
    ]
    quiet = run_batched_evaluation(**request(store, evaluators=[broken], composite_evaluator=whole))
    assert quiet.total_composite_scores_created == 0  # nothing to combine
    fails = told(run_batched_evaluation(**request(store, composite_evaluator=broken)))
    assert (fails.total_scores_created, fails.composite_errors, fails.total_evaluations_failed) == (4, 4, 0)

    def langfuse_style(*, input, output, expected_output, metadata, evaluations):
        return Evaluation("sum", len(evaluations) + metadata["i"])

    assert (
        told(
            run_batched_evaluation(**request(store, composite_evaluator=langfuse_style))
        ).total_composite_scores_created
        == 4
    )


@promise("batch-evaluation-55", "batch-evaluation-56", "batch-evaluation-57", "batch-evaluation-70")
def test_filters_choose_the_items(store):
    filled(
        store, 40, tags=lambda i: ["production"] if i % 4 == 0 else [], user_id=lambda i: "user123" if i % 2 else None
    )
    for filter, n in [
        ('{"tags": ["production"]}', 10),
        ('{"user_id": "user123", "timestamp": {"operator": ">", "value": "2024-01-01T00:00:29Z"}}', 5),
        ('[{"type": "arrayOptions", "column": "tags", "operator": "none of", "value": ["production"]}]', 30),
        (None, 40),
    ]:
        assert told(run_batched_evaluation(**request(store, filter=filter))).total_items_processed == n


@promise("batch-evaluation-86")
def test_a_batch_can_be_kept_to_one_run(store):
    data = [{"input": i, "expected_output": 2 * i} for i in range(5)]
    one, other = (
        run_experiment(name=n, data=data, task=lambda item: 2 * item.input, store=store) for n in ("one", "other")
    )
    for column in ("experiment_id", "dataset_run_id"):
        result = told(run_batched_evaluation(**request(store, filter={column: one.experiment_id})))
        assert result.total_items_processed == 5
    assert all(r.scores == {"doubled": True} for r in one.item_results)
    assert all(r.scores == {} for r in other.item_results)


@promise("batch-evaluation-60", "guide-differences-17")
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_at_most_max_concurrency_items_are_judged_at_once(store, kind):
    filled(store, 30)
    now, peak, lock = 0, 0, threading.Lock()
    threads, tasks = (
        threading.Barrier(6),
        asyncio.Barrier(6),
    )  # no one leaves before six are there, however slow the machine

    def enter(step):
        nonlocal now, peak
        with lock:
            now += step
            peak = max(peak, now)

    def sync_judge(output):
        enter(1), threads.wait(60), time.sleep(0.01), enter(-1)

    async def async_judge(output):
        enter(1)
        await asyncio.wait_for(tasks.wait(), 60)
        await asyncio.sleep(0.01)
        enter(-1)

    run_batched_evaluation(
        **request(
            store, evaluators=[sync_judge if kind == "sync" else async_judge], max_concurrency=6, fetch_batch_size=20
        )
    )
    assert peak == 6


def test_a_slow_item_does_not_hold_up_the_pages_behind_it(store):
    filled(store, 30)
    seen = []

    async def judge(input):
        async with asyncio.timeout(60):
            while input == 0 and len(seen) < 29:  # the first item waits for all others
                await asyncio.sleep(0.01)
        seen.append(input)

    told(run_batched_evaluation(**request(store, evaluators=[judge], fetch_batch_size=3, max_concurrency=4)))
    assert len(seen) == 30 and seen[-1] == 0


@promise("batch-evaluation-66")
def test_verbose_tells_and_quiet_is_silent(sqlite_store, capsys):
    filled(sqlite_store, 5)
    run_batched_evaluation(**request(sqlite_store))
    assert capsys.readouterr().out == ""
    result = run_batched_evaluation(**request(sqlite_store, verbose=True, fetch_batch_size=3))
    out = capsys.readouterr().out
    assert f"{result.batch_id}: fetched 3 items" in out and "completed: 5 evaluated, 0 failed, 5 scores" in out


def test_it_works_inside_a_running_loop_and_on_it(store):
    filled(store, 3)

    async def cell():
        return run_batched_evaluation(**request(store)), await arun_batched_evaluation(**request(store))

    assert [r.total_items_processed for r in asyncio.run(cell())] == [3, 3]


# Portions and tokens ---------------------------------------------------------------------------------------------


@promise(
    "batch-evaluation-59", "batch-evaluation-67", "batch-evaluation-68", "batch-evaluation-83", "guide-differences-12"
)
def test_portions_make_one_whole(store):
    filled(store, 10)
    first = told(run_batched_evaluation(**request(store, max_items=4, fetch_batch_size=3)))
    assert (first.total_items_processed, first.has_more_items, first.completed) == (4, True, False)
    assert first.resume_token.last_processed_id == "t000003" and first.resume_token.items_processed == 4
    for spelling in (first.resume_token, first.resume_token.to_dict(), first.resume_token.to_json()):
        assert (
            BatchEvaluationResumeToken.from_dict(json.loads(json.dumps(first.resume_token.to_dict())))
            == first.resume_token
        )
        second = told(run_batched_evaluation(**request(store, resume_from=spelling, max_items=2)))
    assert second.total_items_processed == 10 and second.batch_id == first.batch_id and second.completed
    assert Counter(
        s.trace_id for t in get_traces(store=store) for s in get_scores(trace_id=t.id, history=True, store=store)
    ) == {f"t{i:06d}": 1 for i in range(10)}
    done = run_batched_evaluation(**request(store, resume_from=first.batch_id))
    assert done.total_items_processed == 10 and done.completed


@promise("batch-evaluation-83")
def test_max_items_that_takes_the_last_one_has_no_more(store):
    filled(store, 6)
    for limit, more in [(5, True), (6, False), (7, False)]:
        result = told(run_batched_evaluation(**request(store, max_items=limit, fetch_batch_size=2)))
        assert (result.has_more_items, result.completed, result.total_items_processed) == (
            more,
            not more,
            min(limit, 6),
        )


@promise("guide-differences-12")
def test_a_token_of_plain_fields_begins_behind_its_item(store):
    filled(store, 6)
    token = {"scope": "traces", "last_processed_timestamp": "2024-01-01T00:00:02Z", "last_processed_id": "t000002"}
    assert run_batched_evaluation(**request(store, resume_from=token)).total_items_processed == 3
    with pytest.raises(SettingsChangedError, match="the call has another"):
        run_batched_evaluation(**request(store, resume_from={**token, "filter": '{"tags": ["x"]}'}))


def test_changed_requests_are_named(store):
    filled(store, 6)
    token = run_batched_evaluation(**request(store, max_items=2)).resume_token
    for change, words in [
        ({"evaluators": [doubled, size]}, "evaluators.size"),
        ({"filter": {"tags": ["x"]}}, "filter: was"),
        ({"mapper": lambda item: mapper(item)}, "mapper.mapper"),
    ]:
        with pytest.raises(SettingsChangedError, match="allow_changes=True") as e:
            run_batched_evaluation(**request(store, resume_from=token, **change))
        assert words in str(e.value)
    grown = run_batched_evaluation(**request(store, resume_from=token, evaluators=[doubled, size], allow_changes=True))
    assert grown.completed and grown.total_scores_created == 2 + 4 * 2


@promise("batch-evaluation-67")
def test_latest_is_the_newest_unfinished_that_asked_the_same(store):
    filled(store, 6)
    first = run_batched_evaluation(**request(store, resume_from="latest", max_items=2))
    run_batched_evaluation(**request(store, evaluators=[size], max_items=2))
    second = told(run_batched_evaluation(**request(store, resume_from="latest")))
    assert second.batch_id == first.batch_id and second.completed
    third = run_batched_evaluation(**request(store, resume_from="latest", max_items=1))
    assert third.batch_id not in (first.batch_id, second.batch_id) or third.total_items_processed == 1


# Pages that cannot be read ---------------------------------------------------------------------------------------


class BrokenReads:
    "Real database errors on the reads of pages, by script"

    def __init__(self, store, script):
        self.script = list(script)
        sa.event.listen(store.engine, "before_cursor_execute", self)

    def __call__(self, connection, cursor, statement, parameters, context, many):
        if "FROM traces" in statement and "LIMIT" in statement and self.script and self.script.pop(0):
            raise sa.exc.OperationalError(statement, None, sqlite3.OperationalError("disk I/O error"))


@promise("batch-evaluation-64", "guide-differences-10")
def test_reads_are_tried_again_after_1_2_and_4_seconds(store):
    filled(store, 9)
    waits = []
    BrokenReads(store, [1, 1, 1, 0, 1, 0])
    result = told(run_batched_evaluation(**request(store, sleep=waits.append, fetch_batch_size=4)))
    assert waits == [1, 2, 4, 1] and result.total_items_processed == 9 and result.completed


@promise("batch-evaluation-65", "batch-evaluation-67")
def test_a_source_that_stays_away_ends_in_a_token_not_an_error(store):
    filled(store, 9)
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    BrokenReads(store, [0, 1, 1, 1, 1])
    result = told(run_batched_evaluation(**request(store, sleep=sleep, fetch_batch_size=4)))
    assert waits == [1, 2, 4] and (result.completed, result.total_items_processed, result.has_more_items) == (
        False,
        4,
        False,
    )
    assert (
        "disk I/O error" in result.fetch_error
        and "stopped:" in str(result)
        and result.resume_token.last_processed_id == "t000003"
    )
    rest = told(run_batched_evaluation(**request(store, resume_from=result.resume_token)))
    assert rest.completed and rest.total_items_processed == 9


@promise("guide-differences-10")
def test_what_will_not_pass_is_not_tried_again(sqlite_store):
    from vote_experiments.experiments.batch import _may_pass

    class Answer(Exception):
        def __init__(self, status_code):
            self.status_code = status_code

    assert [s for s in (400, 401, 403, 404, 408, 409, 422, 429, 500, 503) if _may_pass(Answer(s))] == [
        408,
        409,
        429,
        500,
        503,
    ]
    assert _may_pass(ConnectionResetError()) and _may_pass(TimeoutError()) and not _may_pass(ValueError())


# Memory ----------------------------------------------------------------------------------------------------------


@promise("batch-evaluation-58")
def test_never_more_than_a_page_and_what_is_in_flight_is_held(sqlite_store):
    filled(sqlite_store, 300)
    import gc

    most = 0

    async def count(output):  # on the loop: no other look at the same time keeps items alive
        nonlocal most
        if output % 100 == 0:
            gc.collect()
            most = max(most, sum(isinstance(o, Trace) and o._store is sqlite_store for o in gc.get_objects()))

    run_batched_evaluation(**request(sqlite_store, evaluators=[count], fetch_batch_size=20, max_concurrency=5))
    assert 0 < most <= 2 * 20 + 2 * 5  # two pages at a change, those in flight


# Killed and resumed ----------------------------------------------------------------------------------------------

CHILD = """
import asyncio, os, sys
from vote_experiments.experiments.batch import EvaluatorInputs, run_batched_evaluation

def mapper(item):
    if item.input % 50 == 7:
        raise ValueError("no answer")
    return EvaluatorInputs(item.input, item.output)

async def judge(output):
    await asyncio.sleep(0.01)
    return output

result = run_batched_evaluation(scope="traces", mapper=mapper, evaluators=[judge], composite_evaluator=lambda evaluations: 1.0,
                                store=sys.argv[1], resume_from="latest", max_concurrency=8, fetch_batch_size=30)
print("finished", result.batch_id, flush=True)
"""


def kill_storm(tmp_path, store, n, kills, seed):
    (tmp_path / "child.py").write_text(textwrap.dedent(CHILD))
    rng, killed = random.Random(seed), 0
    while True:
        process = subprocess.Popen(
            [sys.executable, tmp_path / "child.py", store.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if killed < kills:
            started = time.monotonic()
            while (
                process.poll() is None and time.monotonic() - started < 120
            ):  # until this process has stored something
                time.sleep(0.02)
                with store.read() as c:
                    if (c.scalar(sa.select(sa.func.count()).select_from(batch_items)) or 0) > killed * n // (kills + 1):
                        break
            time.sleep(rng.uniform(0, 0.15))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                killed += 1
        out, err = process.communicate(timeout=180)
        assert process.returncode in (0, -signal.SIGKILL), err[-3000:]
        with store.read() as c:
            row = c.execute(sa.select(batches.c.id, batches.c.status)).one()  # never a second one
        if row.status == "finished":  # perhaps killed just after that
            return row.id, killed


@promise("batch-evaluation-67", "batch-evaluation-68", "batch-evaluation-85")
@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_killed_at_random_and_resumed_nothing_is_skipped_or_judged_twice(tmp_path, store, kills):
    n = 200 * (kills + 1)
    filled(store, n)
    batch_id, killed = kill_storm(tmp_path, store, n, kills, seed=kills)
    assert killed >= kills // 2
    result = told(batch_evaluation_result(batch_id, store))
    failed = [f"t{i:06d}" for i in range(n) if i % 50 == 7]
    assert result.completed and result.failed_item_ids == failed and result.total_items_processed == n - len(failed)
    with store.read() as c:
        per_trace = c.execute(
            sa.select(scores.c.trace_id, scores.c.name, sa.func.count()).group_by(scores.c.trace_id, scores.c.name)
        ).all()
    assert all(k == 1 for *_, k in per_trace) and len(per_trace) == 2 * (n - len(failed))
    assert check_store(store) == []


@promise("batch-evaluation-85")
def test_random_portions_pages_and_failures_keep_the_invariants(store):
    filled(store, 25)

    @settings(max_examples=8)
    @given(
        st.integers(1, 9),
        st.lists(st.integers(1, 9), max_size=4),
        st.lists(st.booleans(), max_size=8),
        st.integers(1, 6),
        st.integers(0, 30),
    )
    def whole(page, portions, failures, concurrency, bad):
        def some(item):
            if item.input % 11 == bad:
                raise ValueError("bad")
            return mapper(item)

        token, breaks = None, BrokenReads(store, failures)
        for limit in [*portions, None, None, None]:
            result = told(
                run_batched_evaluation(
                    **request(
                        store,
                        mapper=some,
                        fetch_batch_size=page,
                        max_items=limit,
                        max_concurrency=concurrency,
                        max_retries=1,
                        sleep=lambda s: None,
                        resume_from=token,
                        allow_changes=True,
                    )
                )
            )
            token = result.resume_token or result.batch_id
        sa.event.remove(store.engine, "before_cursor_execute", breaks)
        last = told(run_batched_evaluation(**request(store, mapper=some, resume_from=token, allow_changes=True)))
        assert last.completed and last.total_items_fetched == 25
        assert last.total_items_failed == len([i for i in range(25) if i % 11 == bad])

    whole()


def test_two_processes_do_not_work_on_one_batch(store):
    filled(store, 20)
    refused = []

    async def both():
        async def judge(output):
            if not refused:
                refused.append("trying")
                try:
                    await arun_batched_evaluation(**request(store, evaluators=[judge], resume_from="latest"))
                except RunBusyError as error:
                    refused.append(str(error))

        return await arun_batched_evaluation(**request(store, evaluators=[judge], max_concurrency=1))

    result = asyncio.run(both())
    assert result.completed and "wait for it, or stop it first" in refused[1]


def test_a_batch_stopped_by_hand_goes_on_later(store):
    filled(store, 200)
    runs = []

    async def judge(output):
        await asyncio.sleep(0.001)
        if output == 40:
            runs[0].stop()

    stopped = told(
        run_batched_evaluation(**request(store, evaluators=[judge], on_start=runs.append, max_concurrency=3))
    )
    assert not stopped.completed and stopped.total_items_fetched < 200
    rest = told(run_batched_evaluation(**request(store, evaluators=[judge], resume_from="latest")))
    assert rest.batch_id == stopped.batch_id and rest.completed and rest.total_items_fetched == 200


# Load ------------------------------------------------------------------------------------------------------------

LOAD = """
import resource, sys, time
from vote_experiments.experiments.batch import EvaluatorInputs, run_batched_evaluation

started = time.perf_counter()
result = run_batched_evaluation(scope="traces", mapper=lambda item: EvaluatorInputs(item.input, item.output), evaluators=[lambda output: 1.0],
                                filter='{"tags": ["production"]}', store=sys.argv[1], fetch_batch_size=200)
seconds = time.perf_counter() - started
n = sum(1 for _ in result.item_evaluations)
assert result.completed and n == result.total_items_processed == int(sys.argv[2]), result
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, n / seconds)
"""


def load(store, n):
    filled(store, n, tags=lambda i: ["production"])
    done = subprocess.run([sys.executable, "-c", LOAD, store.url, str(n)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [float(x) for x in done.stdout.split()]


@promise("batch-evaluation-58")
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_thousand_traces_take_no_more_memory_than_a_thousand(tmp_path_factory):
    from vote_experiments.store.database import Store

    peaks = {}
    for n in (1_000, 100_000):
        store = Store(tmp_path_factory.mktemp("load") / "store.db")
        peaks[n], rate = load(store, n)
        store.close()
    assert peaks[100_000] - peaks[1_000] < 60
    print(f"peak MB {peaks}, {rate:.0f} items/s")
