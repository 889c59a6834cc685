"""Many machines and rough endings: several processes read one folder over one store; what is killed leaves no half file"""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from vote_experiments.datasets.saving import save_dataset
from vote_experiments.experiments.extract import extract
from vote_experiments.models.registry import forget_model
from vote_experiments.store.database import Store, open_store
from vote_experiments.store.maintenance import backup_store, check_store
from vote_experiments.store.runs import create_group, list_groups, resolve_run, runs_to_prune

READER = """
import os, time
from vote_experiments import register_model

def read(images, config):
    with open(os.environ["CALLS"], "a") as calls:
        calls.write(os.path.basename(images[0]) + "\\n")
    time.sleep(float(os.environ.get("SLOW", "0")))
    return {"reports": []}

register_model("shared-reader", read, version="1")
"""


@pytest.fixture
def night(tmp_path, monkeypatch):
    "Twenty stations, a module with a reader, and how to start a process that reads"
    scans = tmp_path / "scans"
    scans.mkdir()
    for i in range(20):
        Image.new("L", (40, 60), 255).save(scans / f"s{i:02d}_page1.png")
    (tmp_path / "shared_reader.py").write_text(READER)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls.txt"))
    monkeypatch.setenv("VOTE_EXPERIMENTS_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    forget_model("shared-reader")
    sys.modules.pop("shared_reader", None)


def command(night, store, *words, **environment):
    words = [sys.executable, "-c", "from vote_experiments.cli.main import main; main()", *words, "--store", store.url]
    return subprocess.Popen(
        words,
        cwd=night,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # tests under nohup inherit that it is ignored
    )


def read_share(night, store, k, n, **environment):
    return command(
        night,
        store,
        "extract",
        str(night / "scans"),
        "-c",
        "shared-reader",
        "--load",
        "shared_reader.py",
        "--share",
        f"{k}/{n}",
        "--jobs",
        "1",
        "--allow-left-out",
        **environment,
    )


def calls(night):
    return (night / "calls.txt").read_text().splitlines() if (night / "calls.txt").exists() else []


def rest(night, store):
    import shared_reader  # noqa: F401

    return extract(night / "scans", {"model": "shared-reader", "temperature": 0.0}, store=store, progress=False)


def test_two_processes_read_one_folder_and_a_third_call_has_nothing_to_do(night, store):
    processes = [read_share(night, store, k, 2) for k in (1, 2)]
    for p in processes:
        out, err = p.communicate(timeout=240)
        assert p.returncode == 0, err
    assert sorted(calls(night)) == [f"s{i:02d}_page1.png" for i in range(20)]
    found = rest(night, store)
    assert (found.n_new, found.n_reports, found.n_read_twice, len(calls(night))) == (0, 20, 0, 20)


def test_a_lost_process_leaves_its_share_to_the_next_call_and_what_was_read_twice_is_counted(night, store):
    lost = read_share(night, store, 1, 2, SLOW="0.2")
    while len(calls(night)) < 3:
        assert lost.poll() is None, lost.communicate()
        time.sleep(0.05)
    lost.kill()
    lost.wait()
    n_called = len(calls(night))
    found = rest(night, store)
    stored_before = 20 - found.n_new
    assert found.n_reports == 20 and found.n_read_twice == 0
    assert len(calls(night)) - n_called == found.n_new and 0 <= n_called - stored_before <= 2, (
        "only what was in flight is read twice"
    )


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_does_what_ctrl_c_does(night, sqlite_store, name):
    process = read_share(night, sqlite_store, 1, 1, SLOW="0.2")
    while len(calls(night)) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "stored" in err, (out, err)
    (group,) = list_groups(sqlite_store)
    assert group["status"] == "interrupted"
    assert rest(night, sqlite_store).n_reports == 20 and len(set(calls(night))) == 20


def kill_while_written(process, folder, after_s):
    "Kill a process that writes into a folder soon after something is there; whether it was still running"
    while process.poll() is None and not (folder.is_dir() and any(folder.iterdir())):
        time.sleep(0.001)
    time.sleep(after_s)
    was_running = process.poll() is None
    process.kill()
    process.communicate()
    return was_running


@pytest.mark.parametrize("attempts", [pytest.param(3), pytest.param(20, marks=pytest.mark.slow)])
def test_an_export_that_is_killed_leaves_no_half_file(night, sqlite_store, attempts):
    rest(night, sqlite_store)
    run = list_groups(sqlite_store)[0]["id"]
    n_killed = 0
    for attempt in range(attempts):
        path = night / str(attempt) / "items.csv"
        process = command(night, sqlite_store, "export", run, "-o", str(path))
        n_killed += kill_while_written(process, path.parent, 0.002 * (attempt % 5))
        if path.exists():
            with open(path, encoding="utf-8-sig", newline="") as f:
                assert len(list(csv.reader(f))) == 21
    assert n_killed


@pytest.mark.parametrize("attempts", [pytest.param(3), pytest.param(20, marks=pytest.mark.slow)])
def test_a_backup_that_is_killed_leaves_no_bad_copy(night, sqlite_store, attempts):
    rest(night, sqlite_store)
    save_dataset(
        "large", [{"id": str(i), "input": os.urandom(20_000).hex()} for i in range(500)], store=sqlite_store
    )  # 20 MB: the copy takes a moment
    n_killed = 0
    for attempt in range(attempts):
        path = night / str(attempt) / "copy.db"
        process = command(night, sqlite_store, "store", "backup", str(path))
        n_killed += kill_while_written(process, path.parent, 0.004 * (attempt % 5))
        if path.exists():
            copy = Store(path)
            assert check_store(copy) == [] and len(list_groups(copy)) == 1
            copy.close()
    assert n_killed
    whole = backup_store(sqlite_store, night / "whole.db")
    assert check_store(Store(whole)) == []


def test_a_backup_that_fails_is_no_backup(sqlite_store, tmp_path, monkeypatch):
    target = tmp_path / "copy.db"
    damaged = tmp_path / "damaged.db"
    Store(damaged).close()
    with open(damaged, "r+b") as f:
        f.seek(4096 * 3)
        f.write(b"\xff" * 4096 * 4)
    with pytest.raises(Exception, match="damaged|malformed"):
        backup_store(_opened(damaged), target)
    assert not target.exists() and not list(tmp_path.glob(".*.part"))


def _opened(path):
    store = object.__new__(Store)
    store.url, store.dialect, store.path = f"sqlite:///{path}", "sqlite", path
    return store


def test_the_newest_run_stays_the_newest_when_the_clock_is_set_back(sqlite_store, monkeypatch):
    from vote_experiments.store import runs

    first = create_group(sqlite_store, "models", "first")
    monkeypatch.setattr(runs, "now_us", lambda: 1_000_000)  # 1970
    second = create_group(sqlite_store, "models", "second")
    assert [g["id"] for g in list_groups(sqlite_store)] == [second, first]
    assert resolve_run(sqlite_store, "latest") == []  # of the second, which has no experiment


def test_retention_names_old_runs_and_never_running_ones(sqlite_store):
    from vote_experiments.store.runs import update_group

    ids = [create_group(sqlite_store, "models", f"run {i}") for i in range(4)]
    for i in ids[:3]:
        update_group(sqlite_store, i, status="finished")
    assert [r["id"] for r in runs_to_prune(sqlite_store, keep=1)] == ids[:3]
    assert [r["id"] for r in runs_to_prune(sqlite_store, keep=3)] == ids[:1]
    assert runs_to_prune(sqlite_store, older_than_days=1) == []
    with pytest.raises(ValueError, match="older_than_days"):
        runs_to_prune(sqlite_store)


def test_one_answer_that_no_reader_of_json_takes_blocks_nothing(sqlite_store):
    from vote_experiments import experiment_result, rescore, run_experiment, seat_flips

    def task(input_data):
        return {"reports": [{"vote_results": [{"number": 1, "vote_count": 10**400 if input_data == 1 else 5}]}]}

    result = run_experiment(
        name="huge",
        data=[
            {
                "id": f"i{n}",
                "input": n,
                "expected_output": {
                    "reports": [{"form_info": {"province": "น่าน"}, "vote_results": [{"number": 1, "vote_count": 5}]}]
                },
            }
            for n in range(3)
        ],
        task=task,
        store=sqlite_store,
    )
    assert len(list(experiment_result(result.experiment_id, sqlite_store).item_results)) == 3
    assert "401 digits" in str(result.item_results[1].output)
    rescore(result.experiment_id, [lambda output: 1.0], store=sqlite_store)
    assert len(seat_flips(result.item_results)) == 1
    assert check_store(open_store(sqlite_store)) == []
