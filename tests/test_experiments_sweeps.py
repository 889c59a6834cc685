"""Sweeps: every combination once, in order, nothing swept in silence."""

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import date

import pytest
from promises import promise

from vote_experiments.analysis.sweeps import collate_sweep_evals
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.store.runs import list_experiments, list_groups
from vote_experiments.experiments.sweeps import (
    Step,
    Workflow,
    WorkflowState,
    combinations,
    run_sweep,
    run_workflow,
    set_path,
)
from vote_experiments.models.registry import forget_model, register_model


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
    return asyncio.run(
        run_sweep(
            **{
                "workflow": workflow(),
                "base_config": Config(),
                "param_grid": grid,
                "input_atoms": {},
                "user": "alice",
                "store": store,
                **arguments,
            }
        )
    )


@promise(
    "sweeps-4", "sweeps-5", "sweeps-6", "sweeps-7", "sweeps-10", "sweeps-11", "sweeps-20", "sweeps-22", "sweeps-28"
)
def test_combinations_run_in_product_order_without_touching_the_base(sqlite_store):
    base = Config()
    grid = {"submit.hyperparameters.learning_rate": [0.1, 0.2, 0.3], "submit.suffix": ["a", "b"], "prepare": [{"n": 2}]}
    states = sweep(sqlite_store, grid, base_config=base)
    assert [(s.config.submit.hyperparameters["learning_rate"], s.config.submit.suffix) for s in states] == [
        (r, x) for r in (0.1, 0.2, 0.3) for x in ("a", "b")
    ]
    assert base == Config() and {s.config.prepare["n"] for s in states} == {2}
    assert (
        states[0].user == "alice" and states[0].step("evaluate").output_atoms["eval"]["task"]["stats"]["by"] == "alice"
    )
    assert all(s.status == "FINISHED" and all(x.runtime_seconds is not None for x in s.step_states) for s in states)


@promise("sweeps-3", "sweeps-13")
@pytest.mark.parametrize("limit, peak", [(1, 1), (3, 3), (None, 6)])
def test_at_most_max_parallel_runs_are_active(sqlite_store, limit, peak):
    active, most = 0, 0

    async def work(config):
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(0.03)
        active -= 1

    sweep(
        sqlite_store,
        {"submit.suffix": list("abcdef")},
        workflow=Workflow("parallel", [Step("submit", work)]),
        max_parallel=limit,
        cache=False,
    )
    assert most == peak


@promise("sweeps-14", "sweeps-15", "sweeps-16", "sweeps-17", "guide-differences-5")
def test_a_failing_run_is_logged_and_left_out(sqlite_store, caplog):
    caplog.set_level(logging.INFO)
    grid = {"submit.hyperparameters.learning_rate": [0.1, 0.5, 0.9]}
    states = sweep(sqlite_store, grid, workflow=workflow(fail_on=0.5))
    assert [s.params["submit.hyperparameters.learning_rate"] for s in states] == [0.1, 0.9] and len(states) == 2
    assert str(states.failed[0][1]) == "diverged at 0.5"
    assert (
        "sweep run 1" in caplog.text
        and "diverged" in caplog.text
        and "2/3 workflows succeeded, 1 failed" in caplog.text
    )
    caplog.clear()
    sweep(sqlite_store, {"submit.suffix": ["x"]})
    assert "Sweep completed successfully: 1/1 workflows" in caplog.text
    with pytest.raises(RuntimeError, match="diverged"):
        sweep(sqlite_store, grid, workflow=workflow(fail_on=0.5), raise_on_error=True)
    assert sweep(sqlite_store, {"submit.hyperparameters.learning_rate": [0.5]}, workflow=workflow(fail_on=0.5)) == []


@promise("sweeps-25", "sweeps-26", "guide-differences-5")
def test_everything_is_checked_before_the_first_run(sqlite_store):
    calls = []
    for grid, words in [
        ({"submit.hyperparams.rate": [1]}, "Field 'hyperparams' not found in Submit"),
        ({"sumbit.suffix": ["x"]}, "Field 'sumbit' not found in Config"),
        ({"submit.model.name": [1]}, "Cannot navigate into str at path 'submit.model"),
        ({"submit.suffix": "abc"}, "must be a list of values"),
    ]:
        with pytest.raises(ValueError, match=words):
            sweep(sqlite_store, grid, workflow=workflow(calls))
    for bad in (0, -1, True, 1.5):
        with pytest.raises(ValueError, match="max_parallel="):
            sweep(sqlite_store, {"submit.suffix": ["x"]}, workflow=workflow(calls), max_parallel=bad)
    assert calls == []


@promise("sweeps-18", "sweeps-19")
def test_empty_grids(sqlite_store):
    assert len(sweep(sqlite_store, {})) == 1
    assert sweep(sqlite_store, {"submit.suffix": []}) == []
    assert combinations({}) == [{}]


@promise("sweeps-21", "sweeps-29")
def test_steps_are_reused_until_something_they_depend_on_changes(sqlite_store):
    calls = []
    grid = {"submit.hyperparameters.learning_rate": [0.1, 0.2]}
    sweep(sqlite_store, grid, workflow=workflow(calls))
    again = sweep(sqlite_store, {"submit.hyperparameters.learning_rate": [0.1, 0.2, 0.3]}, workflow=workflow(calls))
    assert sorted(calls) == [0.1, 0.2, 0.3] and [s.step("submit").cached for s in again] == [True, True, False]
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


@promise("sweeps-8", "sweeps-25", "sweeps-26")
def test_paths_into_new_keys_and_missing_parts():
    config = {"a": {"b": {}}}
    set_path(config, "a.b.c", 1)
    assert config == {"a": {"b": {"c": 1}}}
    with pytest.raises(ValueError, match="Path 'a.x' not found in configuration"):
        set_path(config, "a.x.c", 1)
    with pytest.raises(ValueError, match="Cannot navigate into int"):
        set_path(config, "a.b.c.d", 1)


@promise("sweeps-27")
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


@promise("sweeps-28")
def test_the_state_tells_how_far_a_failed_run_came():
    seen = []

    def fails(state):
        seen.extend(s.status for s in state.step_states)
        raise RuntimeError("diverged")

    steps = Workflow("w", [Step("a", lambda: {"x": 1}), Step("b", fails), Step("c", print)])
    state = WorkflowState("w", {})
    with pytest.raises(RuntimeError):
        asyncio.run(run_workflow(steps, state=state))
    assert seen == ["FINISHED", "RUNNING", "PENDING"] and [s.status for s in state.step_states] == [
        "FINISHED",
        "FAILED",
        "PENDING",
    ]
    a, b, c = state.step_states
    assert (a.step_name, a.output_atoms, a.error) == (
        "a",
        {"x": 1},
        None,
    ) and a.started_at <= a.finished_at <= b.finished_at
    assert (
        b.error == "RuntimeError: diverged"
        and b.runtime_seconds >= 0
        and c.runtime_seconds is None
        and state.status == "FAILED"
    )


def test_a_step_that_is_cancelled_is_no_success_and_the_others_go_on(sqlite_store):
    async def work(config):
        if config.suffix == "b":
            raise asyncio.CancelledError("the service gave up")

    states = sweep(
        sqlite_store, {"submit.suffix": ["a", "b", "c"]}, workflow=Workflow("w", [Step("submit", work)]), max_parallel=1
    )
    assert [s.params["submit.suffix"] for s in states] == ["a", "c"]
    assert [p["submit.suffix"] for p, _ in states.failed] == ["b"]


def test_a_sweep_that_is_stopped_raises_and_is_remembered_as_interrupted(sqlite_store):
    async def stopped():
        async def work():
            await asyncio.sleep(30)

        task = asyncio.create_task(run_sweep(Workflow("w", [Step("submit", work)]), {}, {}, store=sqlite_store))
        await asyncio.sleep(0.05)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(stopped())
    assert list_groups(store=sqlite_store)[0]["status"] == "interrupted"


@dataclass
class Typed:
    rate: float
    layers: tuple[int, ...] = ()
    when: date | None = None
    free: object = None


@promise("sweeps-9", "guide-differences-6")
def test_dicts_become_the_declared_class_and_types_are_checked_before_the_first_run(sqlite_store):
    ran = []
    steps = Workflow("typed", [Step("train", lambda config: ran.append(config), Typed)])
    base = {"train": {"rate": 1, "layers": [1, 2], "when": "2026-01-31"}}
    arguments = {"workflow": steps, "base_config": base, "cache": False}
    sweep(sqlite_store, {"train.rate": [0.1, 2]}, **arguments)
    assert [type(c) for c in ran] == [Typed, Typed] and ran[0].rate == 0.1
    for grid, words in [
        ({"train.rate": [0.1, "fast"]}, "Typed.rate = 'fast': it is no float"),
        ({"train.layers": [["a"]]}, r"Typed.layers = \['a'\]"),
        ({"train.rte": [1]}, "unexpected keyword argument 'rte'"),
        ({"train.when": ["soon"]}, "Typed.when = 'soon'"),
    ]:
        with pytest.raises(ValueError, match=words):
            sweep(sqlite_store, grid, **arguments)
    config = {"train": Typed(0.5)}
    with pytest.raises(ValueError, match="Typed.rate = True"):
        sweep(sqlite_store, {"train.rate": [True]}, **{**arguments, "base_config": config})
    sweep(sqlite_store, {"train.free": [print, None, 3]}, **{**arguments, "base_config": config})
    assert len(ran) == 5


def test_a_sweep_over_models_is_one_experiment_a_combination(sqlite_store, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("VOTE_EXPERIMENTS_RUNS", str(tmp_path / "runs"))

    def read(images, config):
        if config.get("temperature") == 0.9:
            raise RuntimeError("too hot")
        return {"reports": [{"vote_results": [{"number": 1, "vote_count": 7}]}]}

    register_model("seven", read)
    try:
        save_dataset(
            "tiny",
            [
                {
                    "id": f"f{i}",
                    "input": {"image_paths": [f"{i}.jpg"]},
                    "expected_output": {"vote_results": [{"number": 1, "vote_count": 7 + i // 2}]},
                }
                for i in range(4)
            ],
            store=sqlite_store,
        )
        states = asyncio.run(
            run_sweep(
                base_config={"model": "seven"},
                param_grid={"temperature": [0.0, 0.9, 0.5]},
                user="alice",
                dataset="tiny",
                store=sqlite_store,
            )
        )
    finally:
        forget_model("seven")
    assert [s.params["temperature"] for s in states] == [0.0, 0.5] and "too hot" in str(states.failed[0][1])
    assert "sweep run 1 with {'temperature': 0.9} failed" in caplog.text
    df = asyncio.run(collate_sweep_evals(states, metrics=["overall_accuracy", "success_rate"]))
    assert df.values.tolist() == [[0.0, "tiny", 0.5, 1.0], [0.5, "tiny", 0.5, 1.0]]
    group = list_groups(store=sqlite_store)[0]
    assert group["kind"] == "sweep" and {e["metadata"]["user"] for e in list_experiments(store=sqlite_store)} == {
        "alice"
    }
