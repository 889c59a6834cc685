"Faults around the engine: workers that hang or crash, executors that are lost, values that evaluators share"

import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from vote_experiments.engine.plan import RunStoppedError
from vote_experiments.engine.task_calls import ExecutorLostError
from vote_experiments.experiments.experiment import run_experiment
from vote_experiments.experiments.comparison import run_model_experiments
from vote_experiments.engine.processes import process_pool
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.models.registry import forget_model, register_model
from vote_experiments.records import Extraction
from vote_experiments.workers import WorkerPool


@pytest.fixture
def own_model():
    "A model of one's own that computes, and only this process registered it"

    def read(images, config):
        return {"reports": [], "process": os.getpid(), "pages": len(images)}

    register_model("own-reader", read, cpu_bound=True)
    yield "own-reader"
    forget_model("own-reader")


def _items(n):
    return [
        {"id": f"i{k}", "input": {"image_paths": [f"{k}.png"]}, "expected_output": {"reports": []}} for k in range(n)
    ]


@pytest.mark.parametrize("executor", [None, process_pool], ids=["own", "given"])
def test_a_model_of_ones_own_runs_in_other_processes(own_model, sqlite_store, executor):
    save_dataset("forms", _items(4), store=sqlite_store)
    result = run_model_experiments(
        dataset_name="forms",
        model_configs=[{"model": own_model}],
        store=sqlite_store,
        executor=executor,
        jobs=2,
        backend="local",
        show_comparison=False,
        progress=False,
    )
    (entry,) = result["experiments"]
    assert (entry["successful_records"], entry["failed_records"]) == (4, 0)


def test_a_model_of_ones_own_runs_on_dask(own_model, sqlite_store):
    distributed = pytest.importorskip("distributed")
    save_dataset("forms", _items(4), store=sqlite_store)
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None) as cluster:
        with distributed.Client(cluster) as client, client.get_executor() as executor:
            result = run_model_experiments(
                dataset_name="forms",
                model_configs=[{"model": own_model}],
                store=sqlite_store,
                executor=executor,
                jobs=2,
                backend="local",
                show_comparison=False,
                progress=False,
            )
    assert result["experiments"][0]["successful_records"] == 4


@contextlib.contextmanager
def loky_pool():
    loky = pytest.importorskip("loky")
    pool = loky.ProcessPoolExecutor(2)
    try:
        yield pool
    finally:
        pool.shutdown(kill_workers=True)


@contextlib.contextmanager
def dask_pool():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        with distributed.Client(cluster) as client, client.get_executor() as executor:
            yield executor


@contextlib.contextmanager
def thread_pool():
    with ThreadPoolExecutor(2) as executor:
        yield executor


@contextlib.contextmanager
def own_pool():
    yield None


@pytest.mark.parametrize("pool", [own_pool, thread_pool, loky_pool, dask_pool])
def test_a_cost_cap_holds_where_models_run_in_other_processes(pool, sqlite_store, tmp_path, monkeypatch):
    monkeypatch.setenv("VOTE_EXPERIMENTS_RUNS", str(tmp_path / "runs"))
    calls = tmp_path / "calls.txt"

    def read(images, config):
        with open(calls, "a") as file:
            file.write(images[0] + "\n")
        return Extraction({"reports": []}, cost_usd=0.01)

    register_model("priced", read, cpu_bound=True)
    save_dataset("forms", _items(20), store=sqlite_store)
    how = {"model_configs": [{"model": "priced"}], "store": sqlite_store, "jobs": 2, "backend": "local"}
    how |= {"show_comparison": False, "progress": False, "dataset_name": "forms"}
    try:
        with pool() as executor:
            with pytest.raises(RunStoppedError, match="max_cost_usd=0.05"):
                run_model_experiments(**how, executor=executor, max_cost_usd=0.05)
            assert 5 <= len(calls.read_text().split()) <= 6  # what is spent, and one more in flight
            result = run_model_experiments(**how, executor=executor, max_cost_usd=1.0, resume=True)
    finally:
        forget_model("priced")
    assert result["experiments"][0]["successful_records"] == 20
    assert len(calls.read_text().split()) == 20  # none twice


def hangs_on_two(input_data):
    if input_data in (3, 4):
        time.sleep(1000)
    return input_data


@pytest.mark.parametrize("kind", ["own pool", "threads of an executor", "processes of an executor"])
def test_two_hung_items_of_forty_cost_two_items(sqlite_store, kind):
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
    from multiprocessing import get_context

    made = {
        "own pool": lambda: process_pool,
        "threads of an executor": lambda: ThreadPoolExecutor(2),
        "processes of an executor": lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")),
    }[kind]()
    data = [{"id": f"i{n}", "input": n} for n in range(40)]
    result = run_experiment(
        name="hung", data=data, task=hangs_on_two, executor=made, timeout_s=4.0, max_concurrency=40, store=sqlite_store
    )
    assert [(r.item.id, r.error.type) for r in result.failed_items] == [("i3", "TimeoutError"), ("i4", "TimeoutError")]
    assert [r.output for r in result.item_results] == [n for n in range(40) if n not in (3, 4)]


def _scheduler_and_worker(folder):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    start = lambda kind, *more: subprocess.Popen(
        [
            sys.executable,
            "-m",
            f"distributed.cli.dask_{kind}",
            "--scheduler-file",
            str(folder / "scheduler.json"),
            "--no-dashboard",
            *more,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    return start("scheduler", "--port", "0", "--host", "127.0.0.1"), start("worker", "--nthreads", "2", "--no-nanny")


def test_a_killed_scheduler_interrupts_the_run_and_it_is_resumed(sqlite_store, tmp_path):
    distributed = pytest.importorskip("distributed")
    processes = _scheduler_and_worker(tmp_path)
    done = []

    def note(progress):
        done.append(progress.done)
        if progress.done >= 5 and processes[0].poll() is None:
            processes[0].kill()

    def task(input_data):
        time.sleep(0.05)
        return input_data

    data = [{"id": f"i{n}", "input": n} for n in range(200)]
    client = distributed.Client(scheduler_file=str(tmp_path / "scheduler.json"), timeout=60)
    try:
        with pytest.raises(RunStoppedError, match="lost.*continue with resume="):
            run_experiment(
                name="lost",
                data=data,
                task=task,
                executor=client.get_executor(),
                max_concurrency=8,
                store=sqlite_store,
                progress=note,
            )
    finally:
        client.close(timeout=2)
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    resumed = run_experiment(name="lost", data=data, task=task, max_concurrency=8, store=sqlite_store, resume=True)
    assert [r.output for r in resumed.item_results] == list(range(200)) and len(resumed.failed_items) == 0
    assert 5 <= max(done) < 200


def test_a_pool_that_broke_interrupts_the_run(sqlite_store):
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    def data():
        return [{"id": f"i{n}", "input": n} for n in range(6)]

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool, pytest.raises(RunStoppedError) as stopped:
        run_experiment(
            name="broken", data=data(), task=crashes_on_two, executor=pool, max_concurrency=1, store=sqlite_store
        )
    assert "i2" not in str(stopped.value) and issubclass(ExecutorLostError, RunStoppedError)
    done = run_experiment(
        name="broken",
        data=data(),
        task=crashes_on_two,
        executor=process_pool,
        max_concurrency=1,
        store=sqlite_store,
        resume=True,
    )
    assert [r.item.id for r in done.failed_items] == ["i2"] and len(done.item_results) == 5


def crashes_on_two(input_data):
    if input_data == 2:
        os.abort()
    return input_data


def test_evaluators_and_repeats_share_nothing_that_can_change(sqlite_store):
    def task(input_data):
        input_data["pages"].append("changed")
        return {"votes": [3, 1, 2]}

    def normalises(output, expected_output):
        output["votes"].sort()
        expected_output["votes"].clear()
        return float(output["votes"] == [1, 2, 3])

    def compares(output, expected_output):
        return float(output == expected_output)

    async def also(output, expected_output):
        output.clear()
        return 1.0

    data = [{"id": "a", "input": {"pages": ["1.png"]}, "expected_output": {"votes": [3, 1, 2]}}]
    result = run_experiment(
        name="shared", data=data, task=task, evaluators=[normalises, also, compares], repeats=2, store=sqlite_store
    )
    assert [r.scores for r in result.item_results] == [{"normalises": 1.0, "also": 1.0, "compares": 1.0}] * 2
    assert data == [{"id": "a", "input": {"pages": ["1.png"]}, "expected_output": {"votes": [3, 1, 2]}}]
    assert [r.item.input for r in result.item_results] == [{"pages": ["1.png"]}] * 2


def test_a_pool_that_is_ended_leaves_no_process():
    pool = WorkerPool(2)
    pids = [pool.submit(os.getpid).result() for _ in range(2)]
    busy = [pool.submit(time.sleep, 1000) for _ in range(4)]
    pool.shutdown(kill_workers=True)
    assert all(f.cancelled() or f.exception() is not None for f in busy)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_pool_can_be_ended_while_its_workers_start():
    pool = WorkerPool(2)
    busy = [pool.submit(time.sleep, 1000) for _ in range(4)]  # no worker has answered yet
    pool.shutdown(kill_workers=True)
    assert all(future.cancelled() or future.exception() is not None for future in busy)
