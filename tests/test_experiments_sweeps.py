"""Sweeps: every combination once, in order, nothing swept in silence."""

import asyncio
import logging
from dataclasses import dataclass, field

import pytest

from vote_experiments.experiments.sweeps import Step, Workflow, combinations, run_sweep, set_path


@dataclass
class Submit:
    model: str
    hyperparameters: dict
    suffix: str = ""


@dataclass
class Config:
    prepare: dict = field(default_factory=lambda: {"n": 4})
    submit: Submit = field(default_factory=lambda: Submit("small", {"epochs": 2}))
    evaluate: dict = field(default_factory=dict)


def workflow(calls=None, fail_on=None, nap=0.0, name="training"):
    def prepare(config, inputs):
        return {"numbers": list(range(config["n"]))}

    async def submit(config, numbers):
        rate = config.hyperparameters.get("learning_rate", 0.1)
        if calls is not None:
            calls.append(rate)
        await asyncio.sleep(nap)
        if rate == fail_on:
            raise RuntimeError(f"diverged at {rate}")
        return {"weight": rate * len(numbers), "suffix": config.suffix}

    def evaluate(weight, user):
        return {"eval": {"task": {"accuracy": weight, "stats": {"by": user}}}}

    return Workflow(name, [Step("prepare", prepare), Step("submit", submit), Step("evaluate", evaluate)])


def sweep(store, grid, **arguments):
    return asyncio.run(run_sweep(**{"workflow": workflow(), "base_config": Config(), "param_grid": grid, "input_atoms": {},
                                    "user": "alice", "store": store, **arguments}))


def test_combinations_run_in_product_order_without_touching_the_base(sqlite_store):
    base = Config()
    grid = {"submit.hyperparameters.learning_rate": [0.1, 0.2, 0.3], "submit.suffix": ["a", "b"], "prepare": [{"n": 2}]}
    states = sweep(sqlite_store, grid, base_config=base)
    assert [(s.config.submit.hyperparameters["learning_rate"], s.config.submit.suffix) for s in states] == [
        (r, x) for r in (0.1, 0.2, 0.3) for x in ("a", "b")]
    assert base == Config() and {s.config.prepare["n"] for s in states} == {2}
    assert states[0].user == "alice" and states[0].step("evaluate").output_atoms["eval"]["task"]["stats"]["by"] == "alice"
    assert all(s.status == "FINISHED" and all(x.runtime_seconds is not None for x in s.step_states) for s in states)


@pytest.mark.parametrize("limit, peak", [(1, 1), (3, 3), (None, 6)])
def test_at_most_max_parallel_runs_are_active(sqlite_store, limit, peak):
    active, most = 0, 0

    async def work(config):
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(0.03)
        active -= 1

    sweep(sqlite_store, {"submit.suffix": list("abcdef")}, workflow=Workflow("parallel", [Step("submit", work)]),
          max_parallel=limit, cache=False)
    assert most == peak


def test_a_failing_run_is_logged_and_left_out(sqlite_store, caplog):
    caplog.set_level(logging.INFO)
    grid = {"submit.hyperparameters.learning_rate": [0.1, 0.5, 0.9]}
    states = sweep(sqlite_store, grid, workflow=workflow(fail_on=0.5))
    assert [s.params["submit.hyperparameters.learning_rate"] for s in states] == [0.1, 0.9] and len(states) == 2
    assert str(states.failed[0][1]) == "diverged at 0.5"
    assert "sweep run 1" in caplog.text and "diverged" in caplog.text and "2/3 workflows succeeded, 1 failed" in caplog.text
    caplog.clear()
    sweep(sqlite_store, {"submit.suffix": ["x"]})
    assert "Sweep completed successfully: 1/1 workflows" in caplog.text
    with pytest.raises(RuntimeError, match="diverged"):
        sweep(sqlite_store, grid, workflow=workflow(fail_on=0.5), raise_on_error=True)
    assert sweep(sqlite_store, {"submit.hyperparameters.learning_rate": [0.5]}, workflow=workflow(fail_on=0.5)) == []


def test_everything_is_checked_before_the_first_run(sqlite_store):
    calls = []
    for grid, words in [({"submit.hyperparams.rate": [1]}, "Field 'hyperparams' not found in Submit"),
                        ({"sumbit.suffix": ["x"]}, "Field 'sumbit' not found in Config"),
                        ({"submit.model.name": [1]}, "Cannot navigate into str at path 'submit.model"),
                        ({"submit.suffix": "abc"}, "must be a list of values")]:
        with pytest.raises(ValueError, match=words):
            sweep(sqlite_store, grid, workflow=workflow(calls))
    for bad in (0, -1, True, 1.5):
        with pytest.raises(ValueError, match="max_parallel="):
            sweep(sqlite_store, {"submit.suffix": ["x"]}, workflow=workflow(calls), max_parallel=bad)
    assert calls == []


def test_empty_grids(sqlite_store):
    assert len(sweep(sqlite_store, {})) == 1
    assert sweep(sqlite_store, {"submit.suffix": []}) == []
    assert combinations({}) == [{}]


def test_steps_are_reused_until_something_they_depend_on_changes(sqlite_store):
    calls = []
    grid = {"submit.hyperparameters.learning_rate": [0.1, 0.2]}
    sweep(sqlite_store, grid, workflow=workflow(calls))
    again = sweep(sqlite_store, {"submit.hyperparameters.learning_rate": [0.1, 0.2, 0.3]}, workflow=workflow(calls))
    assert calls == [0.1, 0.2, 0.3] and [s.step("submit").cached for s in again] == [True, True, False]
    sweep(sqlite_store, grid, workflow=workflow(calls), input_atoms={"round": 2})
    sweep(sqlite_store, grid, workflow=workflow(calls), cache=False)
    assert len(calls) == 7
    sweep(sqlite_store, grid, workflow=workflow(calls, name="another"))
    assert len(calls) == 9


def test_outputs_without_a_json_form_run_again(sqlite_store):
    calls = []

    def train(config):
        calls.append(1)
        return {"model": object()}

    for _ in range(2):
        sweep(sqlite_store, {}, workflow=Workflow("objects", [Step("submit", train)]))
    assert len(calls) == 2


def test_paths_into_new_keys_and_missing_parts():
    config = {"a": {"b": {}}}
    set_path(config, "a.b.c", 1)
    assert config == {"a": {"b": {"c": 1}}}
    with pytest.raises(ValueError, match="Path 'a.x' not found in configuration"):
        set_path(config, "a.x.c", 1)
    with pytest.raises(ValueError, match="Cannot navigate into int"):
        set_path(config, "a.b.c.d", 1)


def test_workflows_name_their_faults(sqlite_store):
    with pytest.raises(ValueError, match="two steps called"):
        Workflow("w", [Step("a", print), Step("a", print)])
    with pytest.raises(ValueError, match="no steps"):
        Workflow("w", [])
    state = sweep(sqlite_store, {})[0]
    with pytest.raises(ValueError, match="Step 'x' not found. Available steps: .*'prepare'"):
        state.step("x")
    asks = sweep(sqlite_store, {}, workflow=Workflow("asks", [Step("submit", lambda nothing: 1)]))
    assert asks == [] and "asks for 'nothing'" in str(asks.failed[0][1])
