"""vote_experiments itself, as a user calls it: everything stored, traces on"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.engine.workload import SCENARIOS, Done, Prepare, Run, Work, add_up, is_exact, nearness


async def exact(output: Any, expected_output: Any) -> bool:
    return is_exact(output, expected_output)


async def near(output: Any, expected_output: Any) -> float:
    return nearness(output, expected_output)


def exact_sync(output: Any, expected_output: Any) -> bool:
    return is_exact(output, expected_output)


def near_sync(output: Any, expected_output: Any) -> float:
    return nearness(output, expected_output)


def _judged_by(*evaluators: Callable) -> Prepare:
    @contextmanager
    def prepare(folder: Path) -> Iterator[Run]:
        from vote_experiments import run_experiment
        from vote_experiments.store.database import Store

        def run(work: Work) -> Done:
            async def task(input_data: Any) -> Any:
                return await work.answer(input_data)

            store = Store(folder / "store.db")
            result = run_experiment(
                name="benchmark",
                data=work.items(),
                task=task,
                evaluators=evaluators,
                max_concurrency=work.jobs,
                store=store,
            )
            store.close()
            scored = [s["n"] for s in result.summary["scores"].values()]
            return Done(min(scored) if len(scored) == 2 else 0)

        yield run

    return prepare


us, us_sync = _judged_by(exact, near), _judged_by(exact_sync, near_sync)


# Resuming: one process does half, another goes on

_stop_at: tuple[int, Any] | None = None  # the station at which the `Run` stops
_first_call_at: float | None = None


async def resumable(input_data: Any) -> Any:
    global _first_call_at
    if _first_call_at is None:
        _first_call_at = time.perf_counter()
    if _stop_at and input_data["station"] == _stop_at[0]:
        _stop_at[1].stop()
    return add_up(input_data)


def do_half(folder: Path, n: int) -> None:
    "Run the first half of `n` items and stop, as Ctrl-C does"
    from vote_experiments import run_experiment
    from vote_experiments.engine.blocking import RunInterrupted

    def on_start(run: Any) -> None:
        global _stop_at
        _stop_at = n // 2, run

    try:
        run_experiment(**_request(folder, n), on_start=on_start)
    except RunInterrupted:
        return
    raise RuntimeError(f"all {n} items were done before the run could be stopped; take a larger --n")


def resume(folder: Path, n: int) -> tuple[float, float]:
    "Seconds from the call until new work starts, and until everything is done"
    from vote_experiments import run_experiment

    request, started = _request(folder, n), time.perf_counter()
    result = run_experiment(**request, resume=True)
    ended = time.perf_counter()
    if result.summary["n_ok"] != n or _first_call_at is None:
        raise RuntimeError(f"{result.summary['n_ok']} of {n} items are stored after the resume")
    return _first_call_at - started, ended - started


def _request(folder: Path, n: int) -> dict[str, Any]:
    return {
        "name": "resumed",
        "data": Work(SCENARIOS["noop"], n).items(),
        "task": resumable,
        "evaluators": [exact, near],
        "store": folder / "store.db",
    }
