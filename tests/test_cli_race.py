"""Race and ensemble from a shell."""

import json

import pytest
from typer.testing import CliRunner

from promises import promise
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.store.database import Store
from vote_experiments.cli import main as cli
from vote_experiments.models.registry import forget_model, register_model
from vote_experiments.settings import VARIABLES


def report(votes):
    return {
        "reports": [{"form_info": {"form_type": "Constituency"}, "vote_results": [{"number": 1, "vote_count": votes}]}]
    }


def shell(*words, code=0):
    done = CliRunner().invoke(cli.app, [str(w) for w in words])
    assert done.exit_code == code, done.output + repr(done.exception)
    return done.stdout if code == 0 else done.output


@pytest.fixture
def home(tmp_path, monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOTE_EXPERIMENTS_STORE", str(tmp_path / "store.db"))
    store = Store()
    save_dataset(
        "stations",
        [
            {"id": f"f{i}", "input": {"image_paths": [f"{i}.jpg"]}, "expected_output": report(200)["reports"][0]}
            for i in range(30)
        ],
        store=store,
    )
    store.close()
    register_model("right", lambda images, config: report(200))
    register_model("never", lambda images, config: report(7))
    yield tmp_path
    forget_model("right"), forget_model("never")


@promise("command-line-15")
def test_a_race_asks_less_and_an_ensemble_nothing(home):
    found = json.loads(shell("race", "-d", "stations", "-m", "right", "-m", "never", "--json"))
    assert (
        "vote-extraction-right-t0.0 wins" in found["sentence"]
        and found["winner"] == "vote-extraction-right-t0.0"
        and found["calls"] < found["calls_full"] == 60
    )
    assert {r["experiment"] for r in found["table"]} == set(found["experiments"])
    together = json.loads(shell("ensemble", *found["experiments"].values(), "--rule", "majority", "--json"))
    assert together["members"] and together["comparison"]["experiments"] and together["name"] == "ensemble-majority"
    assert "Experiment: exp_" in shell("ensemble", found["group_id"])


@pytest.mark.parametrize(
    "words, said",
    [
        (["race", "-d", "stations"], "--preset"),
        (["race", "-d", "stations", "-m", "right", "--preset", "offline"], "who races"),
        (["race", "-d", "station", "-m", "right", "-m", "never"], "'stations'"),
        (["race", "-d", "stations", "-m", "rihgt", "-m", "never"], "did you mean 'right'"),
        (["ensemble", "exp_nothing"], "exp_nothing"),
        (["ensemble", "latest"], "there is no run"),
    ],
)
def test_what_cannot_work_is_one_line_and_2(home, words, said):
    assert said in shell(*words, code=2)
