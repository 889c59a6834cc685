"""run_experiment: order, isolation, parallelism, durability, resume. Real SQLite files, real processes, real signals."""

import asyncio
import functools
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from vote_experiments.engine.plan import ItemFailedError, RunStoppedError
from vote_experiments.store.database import StoreError, open_store
from vote_experiments.store.maintenance import check_store
from vote_experiments.store.run_totals import status_counts
from vote_experiments.store.runs import get_experiment, list_experiments
from vote_experiments.store.tables import item_results, scores, traces
from vote_experiments.experiments.experiment import arun_experiment, run_experiment
from vote_experiments.experiments.rescoring import rescore
from vote_experiments.engine.processes import ProcessPools, TaskNotPicklableError, process_pool
from vote_experiments.engine.resuming import RunBusyError, SettingsChangedError, fingerprint
from vote_experiments.engine.summaries import summarise
from vote_experiments.records import Evaluation


def numbers(n):
    return [{"input": {"n": i}, "expected_output": 2 * i, "metadata": {"odd": bool(i % 2)}} for i in range(n)]


def double(input_data):
    return 2 * input_data["n"]


def exact(output, expected_output):
    return output == expected_output


async def aexact(output, expected_output):
    return output == expected_output


class InFlight:
    "Counts how many calls are going on at once"

    def __init__(self):
        self.now = self.peak = 0
        self.lock = threading.Lock()

    def __enter__(self):
        with self.lock:
            self.now += 1
            self.peak = max(self.peak, self.now)

    def __exit__(self, *exc):
        with self.lock:
            self.now -= 1


def test_results_keep_the_order_of_the_data_whatever_finishes_first(store):
    async def slow_first(input_data):
        await asyncio.sleep(0.02 if input_data["n"] < 5 else 0)
        return input_data["n"]

    result = run_experiment(name="order", data=numbers(20), task=slow_first, store=store, max_concurrency=20)
    assert [r.output for r in result.item_results] == list(range(20))


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_exactly_max_concurrency_items_are_in_flight(store, kind):
    flight = InFlight()

    def sync_task(input_data):
        with flight:
            time.sleep(0.03)

    async def async_task(input_data):
        with flight:
            await asyncio.sleep(0.03)

    task = {"sync": sync_task, "async": async_task}[kind]
    run_experiment(name="flight", data=numbers(40), task=task, store=store, max_concurrency=8)
    assert flight.peak == 8


def test_it_works_inside_a_running_loop(store):
    async def cell():
        return run_experiment(name="cell", data=numbers(3), task=double, store=store)

    assert len(asyncio.run(cell()).item_results) == 3


def test_arun_stays_on_the_callers_loop(store):
    async def main():
        here = asyncio.get_running_loop()

        async def task(input_data):
            return asyncio.get_running_loop() is here

        return await arun_experiment(name="loop", data=numbers(2), task=task, store=store)

    assert [r.output for r in asyncio.run(main()).item_results] == [True, True]


def raises(error):
    def task(input_data):
        if input_data["n"] == 1:
            raise error
        return input_data["n"]

    return task


@pytest.mark.parametrize(
    "error, name",
    [
        (ValueError("no"), "ValueError"),
        (SystemExit(3), "SystemExit"),
        (asyncio.CancelledError(), "CancelledError"),
        (StopIteration("x"), "RuntimeError"),
        (RecursionError("deep"), "RecursionError"),
        (MemoryError(), "MemoryError"),
    ],
    ids=lambda e: type(e).__name__ if isinstance(e, BaseException) else "",
)
@pytest.mark.parametrize("style", ["sync", "async"])
def test_a_failing_item_never_stops_the_others(store, error, name, style):
    task = raises(error)

    async def atask(input_data):
        return task(input_data)

    if style == "sync" and isinstance(error, StopIteration):
        name = "RuntimeError"
    result = run_experiment(name="isolation", data=numbers(4), task=task if style == "sync" else atask, store=store)
    assert [r.item.id for r in result.failed_items] == ["item-1"]
    assert result.failed_items[0].error.type in (name, "TypeError")  # a future refuses StopIteration
    assert len(result.item_results) == 3
    assert result.summary["n_failed"] == 1 and result.summary["denominator"] == 4


def test_a_failed_item_keeps_input_stack_and_trace(store):
    result = run_experiment(name="kept", data=numbers(2), task=raises(ValueError("page 3 missing")), store=store)
    failed = result.failed_items[0]
    assert failed.item.input == {"n": 1} and failed.error.message == "page 3 missing"
    assert "raises" in failed.error.stack or "task" in failed.error.stack
    with store.read() as c:
        level, message = c.execute(
            sa.select(traces.c.level, traces.c.status_message).where(traces.c.id == failed.trace_id)
        ).one()
    assert (level, message) == ("ERROR", "ValueError: page 3 missing")


def test_items_without_input_are_skipped_and_counted(store):
    data = [{"input": 1}, {"expected_output": 2}, {"input": None}, {"input": 0}]
    result = run_experiment(name="skip", data=data, task=lambda item: item.input, store=store)
    assert [r.output for r in result.item_results] == [1, 0]
    assert [r.item.id for r in result.skipped_items] == ["item-1", "item-2"]
    assert (result.summary["n_ok"], result.summary["n_skipped"]) == (2, 2)


def test_evaluators_mix_and_fail_alone(store, caplog):
    def broken(output):
        raise RuntimeError("judge is away")

    def rubbish(output):
        return object()

    def several(output, expected_output):
        return [Evaluation("half", 0.5, "a comment", {"k": 1}), {"name": "label", "value": "good"}]

    def nothing(output):
        return None

    def composite(*, input, output, expected_output, metadata, evaluations):
        return {"name": "all", "value": len(evaluations)}

    result = run_experiment(
        name="mix",
        data=numbers(2),
        task=double,
        store=store,
        composite_evaluator=composite,
        evaluators=[aexact, broken, several, rubbish, exact, nothing],
    )
    first = result.item_results[0]
    assert [e.name for e in first.evaluations] == ["aexact", "half", "label", "exact", "nothing", "all"]
    assert first.scores == {"aexact": True, "half": 0.5, "label": "good", "exact": True, "nothing": None, "all": 5}
    assert first.evaluations[1].comment == "a comment" and first.evaluations[1].metadata == {"k": 1}
    assert first.evaluation_errors == {
        "broken": "RuntimeError: judge is away",
        "rubbish": first.evaluation_errors["rubbish"],
    }
    assert "is not a score" in first.evaluation_errors["rubbish"]
    assert "evaluator broken failed" in caplog.text
    assert "nothing" not in result.summary["scores"] and result.summary["scores"]["half"]["n"] == 2


def test_the_composite_is_not_called_without_evaluations_and_may_fail(store):
    called = []

    def composite(evaluations, item):
        called.append(item.id)
        raise ValueError("cannot combine")

    none = run_experiment(name="none", data=numbers(1), task=double, composite_evaluator=composite, store=store)
    assert called == [] and none.item_results[0].evaluations == []
    some = run_experiment(
        name="some", data=numbers(1), task=double, evaluators=[exact], composite_evaluator=composite, store=store
    )
    assert called == ["item-0"] and some.item_results[0].scores == {"exact": True}
    assert "cannot combine" in some.item_results[0].evaluation_errors["composite"]


class MoneyIsSpent(RuntimeError):
    pass


async def adouble(input_data):
    return double(input_data)


PLACES = {  # where the money may run out: (task, is a composite, is async, returns an awaitable)
    "the task": (None, False, False, False),
    "evaluator in the task's thread": (double, False, False, False),
    "evaluator after an async task": (adouble, False, False, False),
    "async evaluator": (double, False, True, False),
    "evaluator that returns an awaitable": (double, False, False, True),
    "composite": (double, True, False, False),
    "async composite": (adouble, True, True, False),
}


@pytest.mark.parametrize("place", PLACES)
def test_an_error_of_stop_on_ends_the_run_wherever_it_comes_up_and_resume_goes_on(store, place):
    task, is_composite, is_async, late = PLACES[place]
    rich = []  # someone paid

    def spend(value):
        if value >= 10 and not rich:
            raise MoneyIsSpent("1.00 USD are spent")
        return 1.0

    async def aspend(value):
        await asyncio.sleep(0)
        return spend(value)

    async def ajudge(output):
        return await aspend(output)

    def judge(output):
        return aspend(output) if late else spend(output)

    def costly(input_data):
        spend(double(input_data))
        return double(input_data)

    judge = ajudge if is_async else judge
    arguments = {
        "name": "money",
        "data": numbers(20),
        "store": store,
        "max_concurrency": 2,
        "stop_on": (MoneyIsSpent,),
        "task": task or costly,
        "evaluators": [exact, *([judge] if task and not is_composite else [])],
        "composite_evaluator": judge if is_composite else None,
    }
    with pytest.raises(
        RunStoppedError, match=r"1.00 USD are spent; \d+ items are stored in experiment exp_\w+: continue with"
    ):
        run_experiment(**arguments)
    (row,) = list_experiments(store, name="money")
    assert row["status"] == "interrupted" and status_counts(store, row["id"]) == {"ok": 5, "failed": 0, "skipped": 0}
    rich.append(True)
    result = run_experiment(**arguments, resume=True)
    assert result.experiment_id == row["id"] and len(result.item_results) == 20
    assert (
        not any(r.evaluation_errors for r in result.item_results) and result.summary["scores"]["exact"]["mean"] == 1.0
    )


def test_run_evaluators_see_everything_once_even_for_nothing(store, caplog):
    def n_items(*, item_results, **kwargs):
        return Evaluation("n", len(item_results), "all of them")

    def broken(item_results):
        raise RuntimeError("no")

    def columns(inputs, outputs, expected_outputs, evaluators_results):
        assert len(inputs) == len(outputs) == len(expected_outputs) == len(evaluators_results["exact"]) == 3
        return sum(a == b for a, b in zip(outputs, expected_outputs)) / len(outputs)

    result = run_experiment(
        name="run",
        data=numbers(3),
        task=double,
        evaluators=[exact],
        run_evaluators=[n_items, broken],
        summary_evaluators=[columns],
        store=store,
    )
    assert [(e.name, e.value, e.comment) for e in result.run_evaluations] == [
        ("n", 3, "all of them"),
        ("columns", 1.0, None),
    ]
    assert "run evaluator broken failed" in caplog.text
    empty = run_experiment(name="empty", data=[], task=double, run_evaluators=[n_items], store=store)
    assert empty.run_evaluations[0].value == 0 and empty.format() == "No experiment results to display."
    with store.read() as c:
        on_run = (
            c.execute(
                sa.select(scores.c.name).where(
                    scores.c.experiment_id == result.experiment_id, scores.c.trace_id.is_(None)
                )
            )
            .scalars()
            .all()
        )
    assert on_run == ["n", "columns"]


def test_repeats_ask_every_item_again_and_intervals_cluster_by_item(store):
    flaky = random.Random(0)
    result = run_experiment(
        name="rep",
        data=numbers(10),
        task=lambda input_data: 2 * input_data["n"] if flaky.random() < 0.8 else 0,
        evaluators=[exact],
        repeats=5,
        store=store,
        max_concurrency=1,
    )
    assert [(r.repeat, r.position) for r in result.item_results] == [(k, i) for k in range(5) for i in range(10)]
    clustered = result.summary["scores"]["exact"]
    assert clustered["n"] == 50 and clustered["lower"] < clustered["mean"] < clustered["upper"]


def test_outputs_of_any_type_come_back(store):
    class Thing:
        def __eq__(self, other):
            return isinstance(other, Thing)

        __hash__ = None

    strange = [Thing(), {1, 2}, ("a", 1), float("nan"), "a\ud800\x00", 2**80, b"bytes", {"k": {3}}, None]
    result = run_experiment(
        name="any", data=[{"input": i} for i in range(len(strange))], task=lambda item: strange[item.input], store=store
    )
    back = [r.output for r in result.item_results]
    assert back[0] == Thing() and back[1] == {1, 2} and back[2] == ("a", 1) and back[5] == 2**80 and back[8] is None
    assert check_store(store) == []


def test_timeouts_fail_the_item_with_the_limit_named(store):
    async def hangs(input_data):
        await asyncio.sleep(30 if input_data["n"] == 1 else 0)

    result = run_experiment(name="late", data=numbers(3), task=hangs, timeout_s=0.1, store=store)
    assert [str(r.error) for r in result.failed_items] == ["TimeoutError: no answer within timeout_s=0.1"]

    def own(input_data):
        raise TimeoutError("the scanner is slow")

    result = run_experiment(name="own", data=numbers(1), task=own, timeout_s=5, store=store)
    assert result.failed_items[0].error.message == "the scanner is slow"


def test_context_reaches_threads_and_processes_time_themselves(sqlite_store):
    import contextvars

    mark = contextvars.ContextVar("mark", default="unset")
    mark.set("from the caller")
    result = run_experiment(name="context", data=numbers(1), task=lambda item: mark.get(), store=sqlite_store)
    assert result.item_results[0].output == "from the caller"
    slow = run_experiment(
        name="timed", data=numbers(2), task=naps, executor=process_pool, max_concurrency=2, store=sqlite_store
    )
    assert all(0.05 <= r.latency_s < 1.5 for r in slow.item_results)  # starting the processes is not counted


def naps(input_data):
    time.sleep(0.05)
    return os.getpid()


def test_any_executor_runs_the_task(sqlite_store):
    with ProcessPoolExecutor(2, mp_context=__import__("multiprocessing").get_context("spawn")) as pool:
        result = run_experiment(
            name="pool", data=numbers(6), task=naps, executor=pool, max_concurrency=2, store=sqlite_store
        )
    assert os.getpid() not in {r.output for r in result.item_results} and len(result.item_results) == 6
    lock = threading.Lock()
    with pytest.raises(TaskNotPicklableError, match="Leave open files"):
        run_experiment(name="lock", data=numbers(1), task=lambda item: lock, executor=process_pool, store=sqlite_store)


def dies_on_two(input_data):
    if input_data["n"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return input_data["n"]


def test_a_process_that_dies_takes_only_its_own_item(sqlite_store):
    with ProcessPools() as pools:
        result = run_experiment(
            name="dies", data=numbers(6), task=dies_on_two, executor=pools, max_concurrency=2, store=sqlite_store
        )
        again = run_experiment(
            name="fine", data=numbers(2), task=double, executor=pools, max_concurrency=2, store=sqlite_store
        )
    assert [(r.item.id, r.error.type) for r in result.failed_items] == [("item-2", "WorkerDied")]
    assert len(result.item_results) == 5 and len(again.item_results) == 2


def test_raise_errors_stops_keeps_what_is_done_and_says_how_to_go_on(store):
    asked = []

    def task(input_data):
        asked.append(input_data["n"])
        if input_data["n"] == 3 and len(asked) < 6:
            raise ValueError("torn page")
        return double(input_data)

    request = dict(name="stop", data=numbers(10), task=task, evaluators=[exact], max_concurrency=1, store=store)
    with pytest.raises(ItemFailedError, match="item-3.*torn page.*continue with resume='exp_.*retry_failed=True"):
        run_experiment(**request, raise_errors=True)
    assert asked == [0, 1, 2, 3]
    row = list_experiments(store, name="stop")[0]
    assert row["status"] == "failed" and status_counts(store, row["id"]) == {"ok": 3, "failed": 1, "skipped": 0}
    resumed = run_experiment(**request, resume=row["id"])
    assert asked == list(range(10)) and resumed.summary["n_failed"] == 1
    retried = run_experiment(**request, resume=row["id"], failed_only=True)
    assert asked[10:] == [3] and retried.summary["n_ok"] == 10
    with store.read() as c:
        assert c.scalar(sa.select(sa.func.count()).select_from(item_results)) == 10


def test_resume_true_starts_or_continues_and_a_finished_run_is_not_repeated(store):
    calls = []

    def task(input_data):
        calls.append(1)
        return double(input_data)

    request = dict(name="again", data=numbers(3), task=task, store=store)
    first = run_experiment(**request, resume=True)
    second = run_experiment(**request, resume=first.experiment_id)
    assert first.experiment_id == second.experiment_id and len(calls) == 3
    third = run_experiment(**request, resume=True)
    assert third.experiment_id != first.experiment_id and len(calls) == 6
    with pytest.raises(LookupError, match="exp_zzz"):
        run_experiment(**request, resume="exp_zzz")


def test_changed_requests_are_named(store):
    def interrupted(input_data):
        if input_data["n"] == 2:
            raise ValueError("stop here")
        return input_data["n"]

    request = dict(
        name="changed",
        data=numbers(5),
        task=interrupted,
        evaluators=[exact],
        config={"model": "a"},
        store=store,
        max_concurrency=1,
    )
    with pytest.raises(ItemFailedError):
        run_experiment(**request, raise_errors=True)
    run_id = list_experiments(store, name="changed")[0]["id"]
    for change, words in [
        ({"config": {"model": "b"}}, "config.model: was 'a', now 'b'"),
        ({"evaluators": [aexact]}, "evaluators.aexact"),
        ({"repeats": 2}, "repeats: was 1, now 2"),
        ({"task": double}, "task.double"),
        ({"data": numbers(4)}, "n_items: was 5, now 4"),
    ]:
        with pytest.raises(SettingsChangedError, match="allow_changes=True") as told:
            run_experiment(**request | change, resume=run_id)
        assert words in str(told.value)
    other = [*numbers(4), {"input": {"n": 99}}]
    other[0] = {"input": {"n": 77}}
    with pytest.raises(SettingsChangedError, match="item-0"):
        run_experiment(**request | {"data": other}, resume=run_id)
    mixed = run_experiment(**request | {"data": other}, resume=run_id, allow_changes=True)
    assert [r.output for r in mixed.item_results] == [0, 1, 3, 99]


def test_fingerprints_follow_code_defaults_and_state():
    def a(x, k=1):
        return x + k

    def b(x, k=2):
        return x + k

    assert fingerprint(a) != fingerprint(b)
    assert fingerprint(lambda x: x + 1) == fingerprint(lambda x: x + 1)
    assert fingerprint(lambda x: x + 1) != fingerprint(lambda x: x + 2)


def test_progress_tells_only_what_is_stored(store):
    seen = []

    def watch(p):
        with store.read() as c:
            seen.append((p.done, c.scalar(sa.select(sa.func.count()).select_from(item_results)), p.finished))

    run_experiment(name="watched", data=numbers(1200), task=double, store=store, progress=watch)
    assert seen[0][0] == 0 and seen[-1] == (1200, 1200, True) and len(seen) >= 4
    assert all(told <= stored for told, stored, _ in seen)


def test_progress_is_printed_when_asked_for_and_nothing_else_is_taken_for_it(sqlite_store, capsys):
    run_experiment(name="told", data=numbers(3), task=double, store=sqlite_store, progress=True)
    assert "3/3" in capsys.readouterr().out
    run_experiment(name="quiet", data=numbers(3), task=double, store=sqlite_store, progress=False)
    assert capsys.readouterr().out == ""
    with pytest.raises(TypeError, match="progress='bar' is neither"):
        run_experiment(name="wrong", data=numbers(3), task=double, store=sqlite_store, progress="bar")
    assert [e["name"] for e in list_experiments(sqlite_store)] == ["told", "quiet"]


def test_a_broken_progress_callback_is_an_error_not_a_loss(store):
    def watch(p):
        if p.done:
            raise RuntimeError("the progress bar broke")

    with pytest.raises(RuntimeError, match="progress bar"):
        run_experiment(name="bar", data=numbers(5), task=double, store=store, progress=watch)
    row = list_experiments(store, name="bar")[0]
    assert row["status"] == "failed" and status_counts(store, row["id"])["ok"] == 5
    assert len(run_experiment(name="bar", data=numbers(5), task=double, store=store, resume=True).item_results) == 5


def limit_pages(store, pages):
    def small(connection, _record):
        connection.execute(f"PRAGMA max_page_count={pages}")

    sa.event.listen(store.engine, "connect", small)
    store.engine.dispose()
    return small


def test_a_full_disk_is_told_and_resumable(sqlite_store):
    store = sqlite_store

    def bulky(input_data):
        return "x" * 20_000

    with store.read() as c:
        pages = c.exec_driver_sql("PRAGMA page_count").scalar()
    small = limit_pages(store, pages + 400)
    request = dict(name="full", data=numbers(2000), task=bulky, store=store)
    with pytest.raises(StoreError, match="full.*What was stored is safe.*resume="):
        run_experiment(**request)
    sa.event.remove(store.engine, "connect", small)
    store.engine.dispose()
    assert check_store(store) == []
    n_before = status_counts(store, list_experiments(store, name="full")[0]["id"])["ok"]
    result = run_experiment(**request, resume=True)
    assert len(result.item_results) == 2000 and n_before < 2000


def test_bad_arguments_are_refused_before_anything_runs(store):
    for arguments, words in [
        ({"name": ""}, "name="),
        ({"data": "vote-extraction"}, "get_dataset"),
        ({"data": {"input": 1}}, "list of dicts"),
        ({"max_concurrency": 0}, "max_concurrency=0"),
        ({"repeats": -1}, "repeats=-1"),
        ({"task": None}, "not callable"),
        ({"evaluators": [exact, exact]}, "'exact'"),
        ({"evaluators": exact}, "give a list"),
        ({"task": lambda: 1}, "takes none"),
        ({"max_concurrency": True}, "max_concurrency=True"),
    ]:
        with pytest.raises((ValueError, TypeError), match=words):
            run_experiment(**{"name": "x", "data": numbers(1), "task": double, "store": store} | arguments)
    for missing in ("name", "data", "task"):
        arguments = {"name": "x", "data": [], "task": double}
        del arguments[missing]
        with pytest.raises(TypeError, match=missing):
            run_experiment(**arguments, store=store)
    with pytest.raises(TypeError):
        run_experiment("x", [], double)
    assert list_experiments(store) == []


def test_a_failed_item_is_zero_in_shares_and_missing_elsewhere(store):
    def exact_form_match(output):
        return True

    def words(output):
        return 12

    result = run_experiment(
        name="zero", data=numbers(4), task=raises(ValueError("x")), evaluators=[exact_form_match, words], store=store
    )
    s = result.summary["scores"]
    assert s["exact_form_match"]["mean"] == 0.75 and s["exact_form_match"]["n"] == 4
    assert s["words"]["mean"] == 12 and s["words"]["n"] == 3 and s["words"]["n_unscored"] == 1
    assert result.summary["success_rate"]["mean"] == 0.75
    assert summarise(store, result.experiment_id)["scores"] == s


# processes and signals

CHILD = """
import asyncio, os, sys, time
from vote_experiments.experiments.experiment import run_experiment

log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

async def task(input_data):
    await asyncio.sleep(0.005)
    os.write(log, b"%d %d %.6f\\n" % (input_data["n"], os.getpid(), time.monotonic()))
    return input_data["n"]

def judge(output):
    return output % 2 == 0

data = [{"input": {"n": i}, "id": f"i{i}"} for i in range(int(sys.argv[3]))]
result = run_experiment(name="killed", data=data, task=task, evaluators=[judge], store=sys.argv[1], resume=True,
                        max_concurrency=20)
print("finished", len(result.item_results), flush=True)
"""


def child(tmp_path, store, n, code=CHILD):
    script = tmp_path / "child.py"
    script.write_text(textwrap.dedent(code))
    return subprocess.Popen(
        [sys.executable, script, store.url, tmp_path / "asked.log", str(n)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@dataclass
class Answer:
    "One answer of the child's task, as its log has it"

    n: int
    pid: int
    at: float  # seconds of the clock that all processes share


def answers(tmp_path) -> list[Answer]:
    path = tmp_path / "asked.log"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [Answer(int(n), int(pid), float(at)) for n, pid, at in lines]


def storm(tmp_path, store, n, kills, seed) -> dict[int, float]:  # by process: when it was killed
    "Kill the run again and again, now and then while it still starts, mostly while it works"
    rng, killed, log = random.Random(seed), {}, tmp_path / "asked.log"
    while len(killed) < kills:
        before, process = log.stat().st_size if log.exists() else 0, child(tmp_path, store, n)
        if rng.random() < 0.75:
            while process.poll() is None and (log.stat().st_size if log.exists() else 0) == before:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.25))
        else:
            time.sleep(rng.uniform(0, 0.8))
        assert process.poll() is None, ("it ended before it was killed", process.communicate())
        process.send_signal(signal.SIGKILL)
        killed[process.pid] = time.monotonic()
        process.communicate()
    return killed


@pytest.mark.parametrize("kills", [6, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_sigkill_at_random_moments_loses_and_repeats_nothing(tmp_path, store, kills):
    n = 4000 + 1000 * kills
    killed = storm(tmp_path, store, n, kills, seed=kills)
    err = child(tmp_path, store, n).communicate(timeout=300)[1]
    assert check_store(store) == []
    row = list_experiments(store, name="killed")[0]
    assert len(list_experiments(store)) == 1 and row["status"] == "finished", err[-2000:]
    assert status_counts(store, row["id"])["ok"] == n
    with store.read() as c:
        stored = c.execute(sa.select(item_results.c.position)).scalars().all()
        judged = c.execute(sa.select(scores.c.trace_id).where(scores.c.name == "judge")).scalars().all()
    assert sorted(stored) == list(range(n)), "an item was lost or doubled"
    assert len(judged) == len(set(judged)) == n, "an item was scored twice"
    last: dict[int, Answer] = {}
    ages = []  # seconds before the kill at which an answer came whose item ran again
    for answer in answers(tmp_path):
        if answer.n in last:
            ages.append(killed[last[answer.n].pid] - last[answer.n].at)
        last[answer.n] = answer
    print(
        f"{kills} kills: {len(ages)} of {n} ran again, {sum(a > 0.1 for a in ages)} of them answered more than 100 ms before"
    )
    assert len({a.pid for a in answers(tmp_path)} & set(killed)) > kills / 3, "hardly a kill met a run at work"
    # a batch is begun after 50 ms; a machine with other work may take long to end it, so most must be young, not all
    assert np.median(ages or [0]) <= 0.1 and max(ages, default=0) < 1, sorted(ages)[-20:]


def interrupted_child(tmp_path, store, n_signals, code=CHILD, n=4000):
    process = child(tmp_path, store, n, code)
    log = tmp_path / "asked.log"
    while not log.exists() or log.stat().st_size < 300:
        time.sleep(0.05)
        assert process.poll() is None, process.communicate()
    for _ in range(n_signals):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def test_ctrl_c_once_stores_what_is_in_flight_and_says_how_to_resume(tmp_path, sqlite_store):
    code, out, err = interrupted_child(tmp_path, sqlite_store, 1)
    assert code != 0 and "continue with resume=" in err and "stopping" in out
    row = list_experiments(sqlite_store)[0]
    asked = len(answers(tmp_path))
    assert row["status"] == "interrupted" and status_counts(sqlite_store, row["id"])["ok"] == asked < 4000


def test_ctrl_c_twice_stops_at_once(tmp_path, sqlite_store):
    slow = CHILD.replace("await asyncio.sleep(0.005)", "await asyncio.sleep(0.005 if input_data['n'] < 200 else 3600)")
    code, out, err = interrupted_child(tmp_path, sqlite_store, 2, slow)  # it would wait for an hour otherwise
    assert code != 0
    assert list_experiments(sqlite_store)[0]["status"] == "interrupted"


def test_a_run_of_a_living_process_is_not_taken_over(tmp_path, store):
    process = child(
        tmp_path, store, 4000, CHILD.replace("sleep(0.005)", "sleep(0.1)")
    )  # 20 s: longer than we need to try
    log = tmp_path / "asked.log"
    try:
        while not log.exists() or not log.stat().st_size:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        run_id = list_experiments(store)[0]["id"]
        with pytest.raises(RunBusyError, match=str(process.pid)):
            run_experiment(name="killed", data=numbers(1), task=double, store=store, resume=run_id)
    finally:
        process.kill()
        process.communicate()


def test_two_processes_share_one_store(tmp_path, store):
    mine = CHILD.replace("resume=True", "resume=None").replace('name="killed"', 'name=f"run {os.getpid()}"')
    both = [child(tmp_path, store, 1500, mine), child(tmp_path, store, 1500, mine)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert "finished 1500" in out, err
        assert "locked" not in err
    assert [status_counts(store, e["id"])["ok"] for e in list_experiments(store)] == [1500, 1500]


def test_a_full_file_system_is_told_and_resumable(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        request = dict(name="full", data=numbers(1000), task=lambda input_data: "x" * 5000, store=disk / "store.db")
        with pytest.raises(StoreError, match="resume="):
            run_experiment(**request)
        store = open_store(disk / "store.db")
        before = status_counts(store, list_experiments(store)[0]["id"])["ok"]
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        assert check_store(store) == []
        assert len(run_experiment(**request, resume=True).item_results) == 1000 and before < 1000
        store.close()
    finally:
        subprocess.run(["umount", disk], check=False)


@pytest.mark.parametrize("held_s, patience_ms", [(1.0, 20_000), (30, 300)])
def test_a_store_locked_by_somebody_else_is_waited_for(sqlite_store, held_s, patience_ms):
    def patience(connection, _record):
        connection.execute(f"PRAGMA busy_timeout={patience_ms}")

    locked, release = threading.Event(), threading.Event()

    def hold():
        other = sqlite3.connect(sqlite_store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        locked.set()
        release.wait(held_s)
        other.execute("ROLLBACK")
        other.close()

    def task(input_data):
        if input_data["n"] == 5 and not locked.is_set():
            threading.Thread(target=hold).start()
            locked.wait()
        return input_data["n"]

    sa.event.listen(sqlite_store.engine, "connect", patience)
    sqlite_store.engine.dispose()
    request = dict(name="locked", data=numbers(300), task=task, store=sqlite_store, max_concurrency=4)
    if held_s < 20:
        assert len(run_experiment(**request).item_results) == 300
        return
    with pytest.raises(StoreError, match="locked by another process.*resume="):
        run_experiment(**request)
    release.set()
    time.sleep(0.1)
    assert len(run_experiment(**request, resume=True).item_results) == 300


def test_dask_runs_the_task_through_its_executor(sqlite_store):
    distributed = pytest.importorskip("distributed", reason="the extra [dask] is not installed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        with distributed.Client(cluster) as client, client.get_executor() as executor:
            result = run_experiment(
                name="dask",
                data=numbers(6),
                task=naps,
                evaluators=[lambda output: output != os.getpid()],
                executor=executor,
                max_concurrency=4,
                store=sqlite_store,
            )
    assert len(result.item_results) == 6 and all(r.scores["<lambda>"] for r in result.item_results)


# scoring again


def test_rescoring_asks_nothing_and_is_linked_to_its_parent(store):
    calls = []

    def task(input_data):
        calls.append(1)
        if input_data["n"] == 1:
            raise ValueError("torn page")
        return double(input_data)

    parent = run_experiment(name="first", data=numbers(700), task=task, evaluators=[exact], store=store)
    child = rescore(
        parent.experiment_id,
        [lambda output, expected_output, metadata: {"name": "odd", "value": metadata["odd"]}],
        store=store,
    )
    assert len(calls) == 700
    assert (len(child.item_results), [r.item.id for r in child.failed_items]) == (699, ["item-1"])
    assert child.failed_items[0].error.message == "torn page"
    assert child.item_results[1].output == 4 and child.item_results[1].scores == {"odd": False}
    assert get_experiment(store, child.experiment_id)["parent_id"] == parent.experiment_id
    assert parent.item_results[0].scores == {"exact": True}
    assert child.name == "first" and child.experiment_id != parent.experiment_id


def test_rescoring_a_run_with_repeats_keeps_them(store):
    parent = run_experiment(name="twice", data=numbers(3), task=double, repeats=2, store=store)
    child = rescore(parent.experiment_id, [exact], name="judged later", store=store)
    assert [(r.repeat, r.position) for r in child.item_results] == [(k, i) for k in range(2) for i in range(3)]
    assert child.name == "judged later" and child.summary["scores"]["exact"]["n"] == 6


# what a newcomer broke


def stopped_at(n, store, name="stop", **request):
    "A run that an error at item n ended, and its id"

    def task(input_data):
        if input_data["n"] == n and not (Path.cwd() / "mended").exists():
            raise ValueError("torn page")
        return input_data["n"]

    request = {"name": name, "data": numbers(6), "task": task, "store": store, "max_concurrency": 1, **request}
    with pytest.raises(ItemFailedError):
        run_experiment(**request, raise_errors=True)
    return request, list_experiments(store, name=name)[0]["id"]


def test_only_failed_items_leave_the_rest_for_later(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request, run_id = stopped_at(2, store)
    (tmp_path / "mended").touch()
    partial = run_experiment(**request, resume=run_id, failed_only=True)
    assert partial.summary["n_ok"] == 3 and partial.status == "interrupted"
    whole = run_experiment(**request, resume=run_id)
    assert whole.summary["n_ok"] == 6 and whole.status == "finished"


def test_retry_failed_asks_the_failed_items_and_what_is_left(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request, run_id = stopped_at(2, store)
    (tmp_path / "mended").touch()
    whole = run_experiment(**request, resume=run_id, retry_failed=True)
    assert whole.summary["n_ok"] == 6 and whole.status == "finished"
    assert [r.output for r in whole.item_results] == list(range(6))


def test_retrying_without_a_run_is_refused(sqlite_store):
    with pytest.raises(ValueError, match="resume="):
        run_experiment(name="x", data=numbers(2), task=double, store=sqlite_store, failed_only=True)


def made(k, notes=None):
    def task(input_data):
        if notes is not None:
            notes.append(input_data)
        return input_data["n"] * k

    return task


class Scale:
    def __init__(self, k):
        self.k, self._calls = k, 0

    def __call__(self, input_data):
        self._calls += 1
        return self.k

    def read(self, input_data):
        return self.k


def helped(text):
    space = {"__builtins__": __builtins__, "__name__": "a_notebook"}
    exec(
        f"LIMIT = {text!r}\n\ndef helper(x):\n    return {text!r}\n\ndef task(input_data):\n    return helper(LIMIT)\n",
        space,
    )
    return space["task"]


def test_fingerprints_follow_closures_methods_objects_and_helpers():
    assert fingerprint(made(2)) != fingerprint(made(3))
    assert fingerprint(made(2, [])) == fingerprint(made(2, [1, 2])), "lists are where callers take notes"
    assert fingerprint(Scale(2).read) != fingerprint(Scale(3).read)
    used = Scale(2)
    used({}), used({})
    assert fingerprint(used) == fingerprint(Scale(2)) != fingerprint(Scale([1]))
    assert fingerprint(helped("a")) != fingerprint(helped("b"))
    assert fingerprint(functools.partial(made(1), {"k": [1]})) == fingerprint(functools.partial(made(1), {"k": [1]}))


def test_fingerprints_are_the_same_in_every_process():
    code = textwrap.dedent("""
        import functools
        from vote_experiments.engine.resuming import fingerprint
        def task(x, wanted=frozenset(("alpha", "beta")), made=object()):
            return x in {"alpha", "beta", "gamma"}
        print(fingerprint(task), fingerprint(functools.partial(task, made=object())))
    """)
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(told) == 1


@pytest.mark.parametrize(
    "config", [{"sizes": (1, 2)}, {"t": float("nan")}, {1: 2}, {"api_key": "sk-planted-0123456789"}]
)
def test_any_config_can_be_resumed(store, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request, run_id = stopped_at(2, store, config=config)
    assert run_experiment(**request, resume=True).experiment_id == run_id
    with pytest.raises(SettingsChangedError) as told:
        run_experiment(**request | {"config": {**config, "api_key": "sk-planted-9876543210", "more": 1}}, resume=run_id)
    assert "planted" not in str(told.value)


def test_another_request_of_the_same_name_is_told_when_it_is_not_continued(store, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    request, run_id = stopped_at(2, store)
    other = run_experiment(**request | {"config": {"k": 2}}, resume=True)
    assert other.experiment_id != run_id and f"{run_id} is unfinished" in caplog.text and "config.k" in caplog.text


def test_one_run_is_worked_on_once_in_one_process(store):
    asked, began, tried = [], threading.Event(), threading.Event()

    def task(input_data):
        asked.append(input_data["n"])
        began.set()
        tried.wait(60)
        return 1

    request = dict(name="twice", data=numbers(6), task=task, store=store, max_concurrency=1)
    first = threading.Thread(target=lambda: run_experiment(**request))
    first.start()
    try:
        assert began.wait(60)
        run_id = list_experiments(store, name="twice")[0]["id"]
        for resume in (run_id, True):
            with pytest.raises(RunBusyError, match=run_id):
                run_experiment(**request, resume=resume)
    finally:
        tried.set()
        first.join()
    assert sorted(asked) == list(range(6)) and len(list_experiments(store)) == 1


def test_a_claim_is_taken_once(store, tmp_path, monkeypatch):
    from vote_experiments.store.runs import claim_experiment, get_experiment

    monkeypatch.chdir(tmp_path)
    _, run_id = stopped_at(2, store)
    row = get_experiment(store, run_id)
    assert claim_experiment(store, row, status="running", owner="a:1:x", heartbeat=1)
    assert not claim_experiment(store, row, status="running", owner="b:2:y", heartbeat=2), (
        "it was read before the first came"
    )


def with_ids(*ids):
    return [{"id": f"i{k}", "input": {"n": k}} for k in ids]


def test_local_items_are_known_again_by_their_ids(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request, run_id = stopped_at(2, store, data=with_ids(0, 1, 2, 3, 4, 5))
    turned = run_experiment(**request | {"data": with_ids(5, 4, 3, 2, 1, 0)}, resume=run_id)
    assert {r.item.id: r.output for r in turned.item_results} == {f"i{k}": k for k in (0, 1, 3, 4, 5)}
    assert [r.item.id for r in turned.failed_items] == ["i2"] and turned.summary["n_items"] == 6


def test_a_removed_item_does_not_hide_another(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request, run_id = stopped_at(2, store, data=with_ids(0, 1, 2, 3, 4))
    fewer = run_experiment(**request | {"data": with_ids(1, 2, 3, 4)}, resume=run_id, allow_changes=True)
    assert {r.item.id for r in fewer.item_results} == {"i0", "i1", "i3", "i4"}, (
        "what was stored stays, the remaining items run"
    )


def test_ids_that_are_zero_twice_or_whose_input_is_called_otherwise(sqlite_store):
    result = run_experiment(name="zero", data=[{"id": 0, "input": {"n": 1}}], task=double, store=sqlite_store)
    assert result.item_results[0].item.id == "0"
    with pytest.raises(ValueError, match="more than one item with the id 'a'"):
        run_experiment(
            name="twice",
            data=[{"id": "a", "input": {"n": 1}}, {"id": "a", "input": {"n": 2}}],
            task=double,
            store=sqlite_store,
        )
    with pytest.raises(ValueError, match="no item of data has an 'input'; the first has 'question'"):
        run_experiment(name="typo", data=[{"question": 1}, {"question": 2}], task=double, store=sqlite_store)
    with pytest.raises(ValueError, match="timeout_s=-1"):
        run_experiment(name="late", data=numbers(1), task=double, store=sqlite_store, timeout_s=-1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'evalutors'"):
        run_experiment(name="typo", data=numbers(1), task=double, store=sqlite_store, evalutors=[])


def test_one_impossible_score_fails_its_evaluator_and_nothing_else(store):
    def enormous(output):
        return 10**400 if output == 2 else 1

    result = run_experiment(name="huge", data=numbers(3), task=double, evaluators=[enormous, exact], store=store)
    assert result.status == "finished" and len(result.item_results) == 3
    assert result.summary["evaluator_errors"] == {"enormous": 1} and "enormous" in result.format()


def test_evaluators_do_not_overwrite_each_others_scores(store):
    def a(output):
        return Evaluation("score", 1.0)

    def b(output):
        return Evaluation("score", 0.0)

    result = run_experiment(name="overlap", data=numbers(3), task=double, evaluators=[a, b], store=store)
    assert result.summary["scores"]["score"]["mean"] == 1.0 and result.summary["evaluator_errors"] == {"b": 3}
    assert [[e.value for e in r.evaluations] for r in result.item_results] == [[1.0]] * 3


def test_what_the_model_said_is_stored_whatever_evaluators_do_to_it(store):
    def spoils(output, item):
        output["v"] = -1
        item.input["n"] = "spoilt"
        return True

    async def aspoils(output):
        output["v"] = -2
        return True

    def task(input_data):
        n, input_data["n"] = input_data["n"], "taken"
        return {"v": n}

    for evaluators in ([spoils], [aspoils], [spoils, aspoils]):
        result = run_experiment(name="spoilt", data=numbers(3), task=task, evaluators=evaluators, store=store)
        assert [(r.item.input["n"], r.output["v"]) for r in result.item_results] == [(0, 0), (1, 1), (2, 2)]


def test_a_failing_run_evaluator_is_told(store):
    def broken(item_results):
        raise ValueError("no such thing")

    result = run_experiment(name="late", data=numbers(2), task=double, run_evaluators=[broken], store=store)
    assert result.summary["run_evaluator_errors"] == {"broken": "ValueError: no such thing"}
    assert "broken" in result.format()


def test_an_unfinished_run_says_so_when_read_back(store, tmp_path, monkeypatch):
    from vote_experiments.experiments.result import experiment_result

    monkeypatch.chdir(tmp_path)
    _, run_id = stopped_at(2, store)
    back = experiment_result(run_id, store)
    assert "2 ok, 1 failed" in repr(back) and "failed" in repr(back).split("ok")[1] and "not finished" in back.format()
    assert experiment_result("latest", store).experiment_id == run_id


def test_messages_of_a_stopped_run_hold_no_secrets(store, tmp_path, monkeypatch):
    def task(input_data):
        raise ValueError("api_key=sk-planted-0123456789abcdef refused")

    with pytest.raises(ItemFailedError) as told:
        run_experiment(name="secret", data=numbers(1), task=task, store=store, raise_errors=True)
    assert "planted" not in str(told.value)
