"""Jobs: rows that are run once, resumed after a kill, cancelled from anywhere."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import sqlalchemy as sa

from vote_experiments.datasets.dataset import DatasetNotFoundError
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.store.runs import get_group, list_experiments
from vote_experiments.store.run_totals import status_counts
from vote_experiments.store.database import Store
from vote_experiments.store.tables import item_results, jobs
from vote_experiments.engine.archive import write_text
from vote_experiments.server.jobs import (
    JobEndedError,
    JobNotFoundError,
    cancel_job,
    claim_job,
    get_job,
    jobs_to_do,
    list_jobs,
    submit_job,
    wait_for_job,
)
from vote_experiments.server.job_runner import JobRunner
from vote_experiments.engine.resuming import new_owner
from vote_experiments.models.registry import forget_model, register_model
from vote_experiments.settings import VARIABLES

TRUTH = {"form_info": {"form_type": "Constituency"}, "vote_results": [{"number": 1, "vote_count": 200}]}


def stations(store, n=8):
    save_dataset(
        "stations",
        [{"id": f"f{i}", "input": {"image_paths": [f"{i}.jpg"]}, "expected_output": TRUTH} for i in range(n)],
        store=store,
    )


@pytest.fixture
def home(store, tmp_path, monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.chdir(tmp_path)
    stations(store)
    register_model("quick", lambda images, config: {"reports": [TRUTH]})
    yield store
    forget_model("quick")


def asked(suffix="a", **more):
    return {
        "dataset_name": "stations",
        "model_configs": [{"model": "quick", "name_suffix": suffix}],
        "cache": False,
        **more,
    }


def test_jobs_end_with_the_result_of_the_comparison(home):
    first, second = submit_job(asked("a"), home, by="ci"), submit_job(asked("b", sample_size=3), home)
    assert [j.id for j in list_jobs(home, "queued")] == [second.id, first.id] and get_job(first.id, home).by == "ci"
    with JobRunner(home, workers=2, poll_s=0.05):
        done = [wait_for_job(j.id, home, 60) for j in (first, second)]
    assert [j.status for j in done] == ["success", "success"]
    assert done[1].progress["items_done"] == done[1].progress["items_total"] == 3
    assert done[0].result["experiments"][0]["total_records"] == 8 and json.dumps(done[0].to_dict())
    assert get_group(home, done[0].group_id)["status"] == "finished"


def test_what_is_asked_is_what_runs_later(home):
    "a dataset that grows between asking and running does not change the job"
    job = submit_job(asked(), home)
    stations(home, 9)
    with JobRunner(home, workers=1, poll_s=0.05):
        assert wait_for_job(job.id, home, 60).result["experiments"][0]["total_records"] == 8


@pytest.mark.parametrize(
    "change, said",
    [
        ({"dataset_name": "staitons"}, "stations"),
        ({"datset_name": "x"}, "did you mean 'dataset_name'"),
        ({"model_configs": []}, "empty"),
        ({"model_configs": [{"model": "quick", "temprature": 0}]}, "did you mean 'temperature'"),
        ({"model_configs": [{"model": "gemini-2.5-flash"}]}, "GEMINI_API_KEY"),
        ({"backend": "datadog"}, None),
        ({"api_key": "x"}, "no argument 'api_key'"),
    ],
)
def test_what_cannot_work_is_refused_at_once(home, change, said):
    if said is None:  # its key may arrive later: that is found out when it runs
        job = submit_job(asked(**change), home)
        with JobRunner(home, workers=1, poll_s=0.05):
            found = wait_for_job(job.id, home, 60)
        assert found.status == "failed" and "DD_API_KEY" in found.error
        return
    with pytest.raises((ValueError, DatasetNotFoundError), match=said):
        submit_job({**asked(), **change}, home)
    assert list_jobs(home) == []


def test_one_of_many_gets_a_job(home):
    "compare-and-swap: sixteen threads, one job"
    submit_job(asked(), home)
    row, got, gate = next(iter(jobs_to_do(home))), [], threading.Barrier(16)

    def want():
        owner = new_owner()
        gate.wait()
        if claim_job(home, row, owner):
            got.append(owner)

    threads = [threading.Thread(target=want) for _ in range(16)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert len(got) == 1 and get_job(row["id"], home).owner == got[0]


def test_jobs_that_end_together_write_the_page_of_runs_together(tmp_path):
    "fifty clients found it: a temporary file named after the process alone was moved away under another thread"
    gate, wrong = threading.Barrier(8), []

    def write(i: int) -> None:
        gate.wait()
        for k in range(100):
            try:
                write_text(tmp_path / "index.html", f"{i} {k}")
            except OSError as error:
                wrong.append(error)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert wrong == [] and [p.name for p in tmp_path.iterdir()] == ["index.html"]


def test_a_running_job_is_cancelled_from_anywhere_and_its_items_stay(home):
    begun = threading.Event()

    def slow(images, config):
        begun.set()
        time.sleep(0.2)
        return {"reports": [TRUTH]}

    register_model("slow", slow)
    try:
        job = submit_job({**asked(jobs=1), "model_configs": [{"model": "slow"}]}, home)
        with JobRunner(home, workers=1, poll_s=0.05) as runner:
            assert begun.wait(30)
            assert cancel_job(job.id, home).status == "cancelled"  # a row is all that changes: any process may do that
            until = time.monotonic() + 30
            while runner.at_work_on and time.monotonic() < until:
                time.sleep(0.02)
            assert runner.at_work_on == []
            again = submit_job(asked("next"), home)
            assert wait_for_job(again.id, home, 60).status == "success"
        found = get_job(job.id, home)
        assert found.status == "cancelled" and found.result is None and cancel_job(job.id, home).status == "cancelled"
        (experiment,) = list_experiments(home, group_id=found.group_id)
        assert experiment["status"] == "interrupted" and 1 <= sum(status_counts(home, experiment["id"]).values()) < 8
        with pytest.raises(JobEndedError):
            cancel_job(again.id, home)
        with pytest.raises(JobNotFoundError):
            cancel_job("job_none", home)
    finally:
        forget_model("slow")


def test_no_secret_is_kept_with_a_job(home, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "planted-job-secret-123456")

    def leaks(images, config):
        raise RuntimeError("the key planted-job-secret-123456 was refused")

    register_model("leaks", leaks)
    try:
        job = submit_job(
            asked(project_name="p planted-job-secret-123456") | {"model_configs": [{"model": "leaks"}]}, home
        )
        with JobRunner(home, workers=1, poll_s=0.05):
            assert "[redacted]" in (wait_for_job(job.id, home, 60).error or "")
        with home.read() as c:
            assert "planted-job-secret" not in repr(c.execute(sa.select(jobs)).all())
    finally:
        forget_model("leaks")


PROGRAM = textwrap.dedent("""
    import asyncio, os, sys, time
    import vote_experiments as ve
    from vote_experiments.server.job_runner import JobRunner
    from vote_experiments.server.jobs import list_jobs
    store, log = sys.argv[1:3]
    truth = {"form_info": {"form_type": "Constituency"}, "vote_results": [{"number": 1, "vote_count": 200}]}
    async def slow(images, config):
        await asyncio.sleep(0.05)
        with open(log, "a") as f:
            f.write(f"{config['seed']} {os.path.basename(images[0])}\\n")
        return {"reports": [truth]}
    ve.register_model("slow", slow)
    with JobRunner(store, workers=5, poll_s=0.05):
        while any(not j.has_ended for j in list_jobs(store)):
            time.sleep(0.05)
""")


@pytest.mark.slow
def test_a_killed_runner_is_resumed_and_no_stored_item_runs_twice(tmp_path, monkeypatch):
    "SIGKILL with five jobs at work; two new processes want them at once; every item is stored once"
    store = Store(tmp_path / "store.db")
    stations(store, 20)
    register_model("slow", lambda images, config: None)  # known here too, so that a job may name it
    monkeypatch.chdir(tmp_path)
    ids = [
        submit_job(
            {
                "dataset_name": "stations",
                "cache": False,
                "jobs": 1,
                "model_configs": [{"model": "slow", "seed": i, "name_suffix": f"s{i}"}],
            },
            store,
        ).id
        for i in range(5)
    ]
    forget_model("slow")
    program, log = tmp_path / "runner.py", tmp_path / "calls.txt"
    program.write_text(PROGRAM)
    start = lambda: subprocess.Popen([sys.executable, str(program), str(tmp_path / "store.db"), str(log)], cwd=tmp_path)  # noqa: E731
    first, until = start(), time.monotonic() + 90
    while not (log.exists() and len({line.split()[0] for line in log.read_text().splitlines()}) == 5):
        assert first.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    time.sleep(0.3)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = {j.id: j.group_id for j in list_jobs(store)}
    stored = {e["id"]: sum(status_counts(store, e["id"]).values()) for e in list_experiments(store)}
    seed = {e["id"]: e["config"]["seed"] for e in list_experiments(store)}
    with store.read() as c:
        safe = {
            f"{seed[e]} {i[1:]}.jpg"
            for e, i in c.execute(sa.select(item_results.c.experiment_id, item_results.c.item_id))
        }
    n_before = len(log.read_text().splitlines())
    assert len(stored) == 5 and all(before.values()) and 0 < sum(stored.values()) < 100
    both = [start(), start()]
    assert [p.wait(120) for p in both] == [0, 0]
    assert [get_job(i, store).status for i in ids] == ["success"] * 5
    assert {e["id"] for e in list_experiments(store)} == set(stored), "continued, not begun again"
    assert [status_counts(store, e) for e in stored] == [{"ok": 20, "failed": 0, "skipped": 0}] * 5
    calls = log.read_text().splitlines()
    assert len(set(calls)) == 100 and not safe & set(calls[n_before:]), "nothing that was stored runs again"
    store.close()
