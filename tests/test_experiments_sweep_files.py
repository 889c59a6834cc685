"""Sweep files: read whole, checked before the first run, the same sweep in YAML, TOML and JSON, and from a shell."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from promises import promise
from typer.testing import CliRunner

from vote_experiments.datasets.dataset import DatasetNotFoundError
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.store.runs import list_groups
from vote_experiments.experiments.sweep_files import (
    SWEEP_TEMPLATE,
    load_workflow,
    planned_runs,
    read_mapping,
    read_sweep_file,
    run_sweep_file,
    sweep_figures,
)
from vote_experiments.cli.main import app

WORKFLOW = """
from vote_experiments.workflow import Step, Workflow

def train(config):
    if config["rate"] > 1:
        raise ValueError("diverged")
    return {"weight": config["rate"] * 1e4 * config.get("seed", 1)}

def evaluate(weight):
    return {"eval": {"growth": {"accuracy": min(1.0, weight / 10), "weight": weight}}}

workflow = Workflow("growing", [Step("train", train), Step("evaluate", evaluate)])
"""
YAML = """
workflow: growing.py:workflow
base_config: {train: {}}
param_grid: {train.rate: [1e-4, 5e-4], train.seed: [1, 2, 3]}
execution: {max_parallel: 2, user: alice}
output:
  folder: out
  plot: [true, {x: rate, y: [accuracy, weight]}, {x: rate, y: seed, value: weight, title: Weights}]
  confidence_intervals: [true, {value: weight, group: [rate, seed], confidence: 0.9}]
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOTE_EXPERIMENTS_STORE", str(tmp_path / "store.db"))
    monkeypatch.setenv("VOTE_EXPERIMENTS_RUNS", str(tmp_path / "runs"))
    Path("growing.py").write_text(WORKFLOW)
    Path("rates.yaml").write_text(YAML)
    return tmp_path


def test_the_same_sweep_in_every_notation(home):
    file = read_sweep_file("rates.yaml")
    Path("rates.json").write_text(
        json.dumps({k: v for k, v in file.to_dict().items() if k not in ("path", "dataset", "name")})
    )
    Path("rates.toml").write_text(
        'workflow = "growing.py:workflow"\nbase_config.train = {}\noutput.folder = "out"\n[execution]\n'
        'max_parallel = 2\nuser = "alice"\n[param_grid]\n"train.rate" = [1e-4, 5e-4]\n"train.seed" = [1, 2, 3]'
    )
    plans = [planned_runs(read_sweep_file(f"rates.{e}")) for e in ("yaml", "json", "toml")]
    assert plans[0] == plans[1] == plans[2] and len(plans[0]) == 6
    assert plans[0][0] == {"train.rate": 1e-4, "train.seed": 1}, "numbers, not words"
    assert not Path("store.db").exists(), "planning runs nothing"


def test_a_sweep_writes_its_tables_and_plots(home):
    outcome = asyncio.run(run_sweep_file(read_sweep_file("rates.yaml")))
    assert (
        sorted(p.name for p in Path("out").iterdir())
        == sorted(p.name for p in outcome.files)
        == ["accuracy-weight.png", "accuracy.png", "intervals.csv", "results.csv", "weight-heatmap.png", "weight.png"]
    )
    assert len(pd.read_csv("out/results.csv")) == 6
    found = pd.read_csv("out/intervals.csv")
    assert found["count"].tolist() == [3, 3, 3, 3] + [1] * 6 and found["confidence"].tolist() == [0.95] * 4 + [0.9] * 6
    assert {s.user for s in outcome.states} == {"alice"} and list_groups()[0]["name"] == "growing"
    assert (
        sweep_figures(read_sweep_file("rates.yaml"), outcome.frame)["weight-heatmap"].axes[0].get_title(loc="left")
        == "Weights"
    )


def test_a_base_config_may_be_another_file_and_a_module_is_found_by_name(home):
    Path("base.json").write_text('{"train": {"rate": 1e-3}}')
    Path("one.yaml").write_text("workflow: growing.py:workflow\nbase_config: base.json\nparam_grid: {}")
    outcome = asyncio.run(run_sweep_file(read_sweep_file("one.yaml"), folder="here"))
    assert outcome.frame.values.tolist() == [["growth", 1.0, 10.0]] and Path("here/results.csv").is_file()
    assert load_workflow("train_and_evaluate:train_and_evaluate_workflow", home).name == "train_and_evaluate"


@pytest.mark.parametrize(
    "text, words",
    [
        ("param_grid: {a: [1]}", "say what runs"),
        ("workflow: a:b\ndataset: x\nparam_grid: {}", "say what runs"),
        ("dataset: x", "param_grid is needed"),
        ("dataset: x\nparam_grid: [1]", "param_grid is needed"),
        ("dataset: x\nparam_gird: {}", "did you mean 'param_grid'"),
        ("- dataset", "must be a mapping"),
        ("dataset: x\nparam_grid: {}\nexecution: {max_parallel: 2}", "unknown key 'max_parallel'"),
        ("dataset: x\nparam_grid: {}\nexecution: {api_key: s}", "unknown key 'api_key'"),
        ("dataset: x\nparam_grid: {}\noutput: [plot]", "must be a mapping of names"),
        ("dataset: x\nparam_grid: {}\nbase_config: [1]", "must be a mapping of names"),
        ("dataset: 'x\nparam_grid: {}", "cannot be read"),
    ],
)
def test_what_a_file_may_not_say(home, text, words):
    Path("wrong.yaml").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_sweep_file("wrong.yaml")


@pytest.mark.parametrize(
    "change, words",
    [
        (("train.rate: [1e-4, 5e-4]", "train.rate: 1e-4"), "must be a list of values"),
        (("train.rate:", "trian.rate:"), "Path 'trian' not found"),
        (("growing.py", "shrinking.py"), "there is no file"),
        (("growing.py:workflow", "growing.py:flow"), "it has workflow"),
        (("growing.py:workflow", "growing"), "write it as package.module:name"),
        (("growing.py:", "no.such.module:"), "No module named"),
        (("max_parallel: 2", "max_parallel: 0"), "max_parallel=0"),
        (("x: rate, y: [", "x: rate, z: ["), "did you mean 'x'|unknown key 'z'"),
        (("{x: rate, y: [accuracy, weight]}", "{x: rate}"), "needs x and y"),
        (("group:", "groups:"), "did you mean 'group'"),
    ],
)
def test_what_would_stop_a_sweep_is_said_before_it_runs(home, change, words):
    Path("wrong.yaml").write_text(YAML.replace(*change))
    with pytest.raises(ValueError, match=words):
        planned_runs(read_sweep_file("wrong.yaml"))


def test_models_over_a_dataset_are_checked_too(home):
    Path("models.yaml").write_text(
        "dataset: forms\nbase_config: {model: ocr-fused}\nparam_grid: {temperature: [0.0, 0.5]}"
    )
    with pytest.raises(DatasetNotFoundError, match="forms"):
        planned_runs(read_sweep_file("models.yaml"))
    save_dataset("forms", [{"id": "f1", "input": {"image_paths": ["1.jpg"]}}])
    assert planned_runs(read_sweep_file("models.yaml")) == [{"temperature": 0.0}, {"temperature": 0.5}]
    Path("models.yaml").write_text("dataset: forms\nbase_config: {model: ocr-fused}\nparam_grid: {temperature: [7]}")
    with pytest.raises(ValueError, match="temperature"):
        planned_runs(read_sweep_file("models.yaml"))


@pytest.mark.parametrize(
    "text, value",
    [
        ("1e-4", 1e-4),
        ("5E+3", 5000.0),
        ("-2e0", -2.0),
        ("1.5e-3", 0.0015),
        ("e4", "e4"),
        ("1e", "1e"),
        ("2026-01-02e", "2026-01-02e"),
        ("'1e-4'", "1e-4"),
        ("0x10", 16),
        ("no", False),
    ],
)
def test_numbers_of_yaml(tmp_path, text, value):
    (tmp_path / "a.yaml").write_text(f"a: {text}")
    found = read_mapping(tmp_path / "a.yaml")["a"]
    assert (found, type(found)) == (value, type(value))


@promise("sweeps-67")
def test_from_a_shell(home):
    def typed(*words):
        return subprocess.run(
            [str(Path(sys.executable).parent / "vote-experiments"), *words], capture_output=True, text=True
        )

    template = CliRunner().invoke(app, ["sweep", "template"])
    assert template.exit_code == 0 and template.stdout == SWEEP_TEMPLATE
    Path("template.yaml").write_text(template.stdout)
    assert read_sweep_file("template.yaml").param_grid == {"temperature": [0.0, 0.5]}
    dry = CliRunner().invoke(app, ["sweep", "rates.yaml", "--dry-run"])
    assert dry.exit_code == 0 and "6 runs of workflow growing.py:workflow" in dry.stdout and not Path("out").exists()
    ran = typed("sweep", "rates.yaml")
    assert (
        ran.returncode == 0
        and "6 of 6 runs succeeded" in ran.stdout
        and Path("out/weight-heatmap.png").stat().st_size > 5000
    )
    assert {"mean", "lower_bound", "upper_bound", "count", "confidence"} <= set(
        pd.read_csv("out/intervals.csv").columns
    )


def test_exit_codes_and_json(home):
    def typed(*words):
        return CliRunner().invoke(app, ["sweep", *words])

    Path("rates.yaml").write_text(YAML.replace("5e-4", "5"))
    found = typed("rates.yaml", "--json", "--out", "elsewhere")
    said = json.loads(found.stdout)
    assert found.exit_code == 1 and len(said["results"]) == 3 and "diverged" in said["failed"][0]["error"]
    assert len(json.loads(Path("elsewhere/failed.json").read_text())) == 3
    assert json.loads(typed("rates.yaml", "--dry-run", "--json").stdout)["runs"][0] == {
        "train.rate": 1e-4,
        "train.seed": 1,
    }
    for words in (["no.yaml"], ["rates.txt"]):
        assert typed(*words).exit_code == 2
