"""The command line for the store itself, tables for other programs, completion."""

import csv
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from promises import promise
from vote_experiments.store.database import Store
from vote_experiments.experiments.experiment import run_experiment
from vote_experiments.cli import main as cli
from vote_experiments.settings import VARIABLES


def shell(*words, code=0):
    done = CliRunner().invoke(cli.app, [str(w) for w in words])
    assert done.exit_code == code, done.output
    return done.stdout


@pytest.fixture
def run(tmp_path, monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOTE_EXPERIMENTS_STORE", str(tmp_path / "store.db"))
    store = Store()

    def task(input):
        if input == 2:
            raise ValueError("=cmd|' /C calc'!A0, said the page")
        return {"n": input, "text": "ก=1"}

    found = run_experiment(
        name="e",
        data=[{"id": f"=n{i}", "input": i, "expected_output": {"n": i}} for i in range(4)],
        task=task,
        repeats=2,
        evaluators=[lambda output: 1.0],
        store=store,
    )
    yield found
    store.close()


@promise("command-line-14")
def test_a_run_as_csv_opens_in_a_spreadsheet_and_runs_nothing_there(run, tmp_path):
    shell("export", run.experiment_id, "-o", "out/items.csv")
    raw = (tmp_path / "out/items.csv").read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf"), "without the mark, Excel shows Thai as noise"
    rows = list(csv.DictReader(raw.decode("utf-8-sig").splitlines()))
    assert (
        len(rows) == 8
        and sum(r["status"] == "failed" for r in rows) == 2
        and json.loads(rows[0]["output"])["text"] == "ก=1"
    )
    assert not [v for r in rows for v in r.values() if v[:1] in ("=", "+", "-", "@")]


@promise("command-line-14")
def test_a_run_as_json_lines_keeps_every_value(run, tmp_path):
    assert json.loads(shell("export", run.experiment_id, "-o", "items.jsonl", "--json"))["rows"] == 8
    rows = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert (
        [r["item_id"] for r in rows[:4]] == ["=n0", "=n1", "=n2", "=n3"]
        and rows[2]["error"]
        and rows[0]["output"] == {"n": 0, "text": "ก=1"}
    )
    shell("export", run.experiment_id, "-o", "items.xlsx", code=2), shell("export", "exp_none", code=2)


@promise("command-line-12")
def test_a_backup_is_whole_and_never_written_over(run, tmp_path):
    shell("store", "backup", "safe/copy.db")
    assert len(Store(tmp_path / "safe/copy.db").path.read_bytes()) and shell(
        "export", run.experiment_id, "-o", "b.csv", "--store", "safe/copy.db"
    )
    shell("store", "backup", "safe/copy.db", code=1)


@promise("command-line-12")
def test_a_damaged_store_is_told(run, tmp_path):
    assert json.loads(shell("store", "check", "--json"))["faults"] == []
    with sqlite3.connect(tmp_path / "store.db") as c:
        c.execute("PRAGMA foreign_keys=OFF")
        c.execute("UPDATE item_results SET experiment_id = 'exp_gone'")
    assert "points to a missing" in shell("store", "check", code=1)


@promise("command-line-7")
def test_a_shell_completes_commands(tmp_path):
    program = Path(sys.executable).parent / "vote-experiments"
    env = {
        **os.environ,
        "_VOTE_EXPERIMENTS_COMPLETE": "complete_bash",
        "COMP_WORDS": "vote-experiments ga",
        "COMP_CWORD": "1",
    }
    assert subprocess.run([program], env=env, capture_output=True, text=True, cwd=tmp_path).stdout.split() == ["gate"]
