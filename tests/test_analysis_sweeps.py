"""Collating sweeps: the table says what was swept and what came out, in the order it was run."""

import asyncio
import subprocess
import sys
from pathlib import Path
from dataclasses import dataclass, field
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given, strategies as st
from promises import promise

from vote_experiments.analysis.intervals import compute_ci_df, resolve_column
from vote_experiments.analysis.sweeps import collate_sweep_evals, config_leaves, short_names


@dataclass
class Inner:
    rate: float
    layers: list = field(default_factory=lambda: [1, 2])
    _hidden: int = 0


@dataclass
class Config:
    train: Inner
    name: str = "same"


def state(config, scores, status="FINISHED", params=None, key="eval"):
    step = SimpleNamespace(step_name="evaluate", status=status, output_atoms={key: scores})
    more = {} if params is None else {"params": params}
    return SimpleNamespace(
        config=config,
        step_states=[SimpleNamespace(step_name="first", status="FINISHED", output_atoms={}), step],
        **more,
    )


def collate(states, *args, **more):
    return asyncio.run(collate_sweep_evals(states, *args, **more))


@promise("sweeps-31", "sweeps-42")
def test_rows_follow_states_then_tasks():
    scores = {"b": {"accuracy": 0.5, "stats": 1}, "a": {"accuracy": 0.7, "f1": 0.2, "stats": 2}}
    df = collate([state({}, scores, params={"x.rate": r}) for r in (3, 1)])
    assert df[["rate", "task", "accuracy"]].values.tolist() == [
        [3, "b", 0.5],
        [3, "a", 0.7],
        [1, "b", 0.5],
        [1, "a", 0.7],
    ]
    assert df["f1"].isna().tolist() == [True, False] * 2 and df.index.is_unique and df["rate"].dtype.kind == "i"


@promise("sweeps-32", "sweeps-41")
@pytest.mark.parametrize(
    "make",
    [
        lambda r: Config(Inner(r)),
        lambda r: {"train": {"rate": r, "_hidden": r}, "name": "same"},
        lambda r: SimpleNamespace(train=SimpleNamespace(rate=r, _x=1), name="same"),
    ],
)
def test_configs_of_any_kind_show_what_differs_between_runs(make):
    "Private names are dropped, and so is what every run shares"
    df = collate([state(make(r), {"t": {"m": r}}) for r in (0.1, 0.2)])
    assert list(df.columns) == ["rate", "task", "m"] and df["rate"].tolist() == [0.1, 0.2]


@promise("guide-differences-2")
def test_whole_paths_and_everything_on_request():
    states = [state(Config(Inner(r)), {"t": {"m": 1}}, params={"train.rate": r}) for r in (0.1, 0.2)]
    assert list(collate(states, columns="path").columns) == ["train.rate", "task", "m"]
    everything = collate(states, columns="all")
    assert list(everything.columns) == ["train.rate", "train.layers", "name", "task", "m"]
    assert everything["train.layers"].tolist() == ["[1, 2]"] * 2
    for df in (collate(states), collate(states, columns="path"), everything):
        assert df[resolve_column(df, "train.rate")].tolist() == df[resolve_column(df, "rate")].tolist() == [0.1, 0.2]
        assert compute_ci_df(df, "train.rate", "m")["count"].tolist() == [1, 1]
    with pytest.raises(ValueError, match="columns='leaf' must be one of swept, path, all"):
        collate(states, columns="leaf")


def test_a_swept_sub_config_is_told_by_its_leaves_and_every_cell_is_plain(tmp_path):
    states = [
        state(
            {},
            {"t": {"m": 0.5, "more": {"k": 1}}},
            params={"train": Inner(r), "fn": print, "a.seed": 1, "b.seed": 2, "z.task": "hard", "z.m": 3},
        )
        for r in (0.1, 0.2)
    ]
    df = collate(states)
    assert list(df.columns) == ["rate", "layers", "fn", "a.seed", "b.seed", "z.task", "z.m", "task", "m", "more"]
    df.to_csv(tmp_path / "x.csv", index=False)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "x.csv"), df, check_dtype=False)


@promise("sweeps-35", "sweeps-36", "sweeps-37", "sweeps-38", "sweeps-39", "sweeps-40")
def test_what_is_missing_is_named_with_what_there_is():
    good = state({}, {"task1": {"accuracy": 1.0, "stats": {}}})
    for states, more, words in [
        ([], {}, "sweep_states cannot be empty"),
        ([good], {"eval_step_name": "x"}, r"Step 'x' not found. Available steps: \['first', 'evaluate'\]"),
        ([good, state({}, {}, "FAILED")], {}, "did not complete successfully. Status: FAILED"),
        (
            [state({}, {}, key="answers")],
            {},
            r"did not produce an 'eval' output atom. Available outputs: \['answers'\]",
        ),
        ([good], {"metrics": "f1"}, r"Metric 'f1' not found in task 'task1'. Available metrics: \['accuracy'\]"),
        ([good], {"metrics": ["accuracy", "f1"]}, "Metric 'f1' not found in task 'task1'"),
        ([state({}, {"accuracy": 0.9})], {}, "must hold metrics by task"),
        ([state({}, 3)], {}, "must hold metrics by task"),
    ]:
        with pytest.raises(ValueError, match=words):
            collate(states, **{"eval_step_name": "evaluate", **more})


def test_evaluations_may_be_objects_that_are_asked():
    class Atom:
        async def to_eval_results(self):
            return SimpleNamespace(metrics={"t": {"m": 0.25}})

    assert collate([state({}, Atom())])["m"].tolist() == [0.25]


names = st.lists(st.text("abc", min_size=1, max_size=2), min_size=1, max_size=3).map(".".join)


@given(st.lists(names, unique=True, max_size=8), st.sets(st.text("abc", min_size=1, max_size=2), max_size=3))
def test_short_names_are_endings_no_two_alike_and_none_taken(paths, taken):
    short = short_names(paths, taken)
    assert len(set(short.values())) == len(paths) and not taken & set(short.values())
    for path, name in short.items():
        assert f".{path}".endswith(f".{name}") or name == f"config.{path}" and path in taken
        shorter = name.partition(".")[2]
        if shorter and not name.startswith("config."):
            assert shorter in taken or sum(f".{p}".endswith(f".{shorter}") for p in paths) > 1, "it could be shorter"


@given(
    st.recursive(
        st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
        lambda inside: st.dictionaries(st.text("abc_", min_size=1, max_size=3), inside, max_size=3),
        max_leaves=8,
    )
)
def test_leaves_are_plain_and_public(config):
    for path, value in config_leaves({"top": config}):
        assert isinstance(value, (str, int)) and not any(part.startswith("_") for part in path.split("."))


def test_the_room_is_light_and_gives_every_name():
    code = (
        "import sys, vote_experiments.analysis as a; heavy = {'pandas', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules);"
        "assert not heavy, heavy; assert all(getattr(a, n) for n in a.__all__); print(len(a.__all__))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) >= 16
    import vote_experiments.analysis as room

    modules = {p.stem for p in Path(room.__file__).parent.glob("*.py")}
    assert not modules & set(room.__all__), "a name that is a module's too would be either, as imports happen to go"
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = room.nothing
