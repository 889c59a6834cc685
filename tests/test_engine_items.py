"Data as people have it: tables of pandas, missing numbers, and messages that say what to do"

import numpy as np
import pandas as pd
import pytest

from vote_experiments.experiments.experiment import run_experiment
from vote_experiments.experiments.rescoring import rescore
from vote_experiments.store.database import Store


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "store.db")
    yield opened
    opened.close()


def right(output, expected_output):
    return None if expected_output is None else output == expected_output


def test_a_data_frame_is_data(store):
    frame = pd.DataFrame({"id": ["a", "b"], "input": [1, 2], "expected_output": [2, 5], "metadata": [{"k": 1}, None]})
    result = run_experiment(name="frame", data=frame, task=lambda input: 2 * input, evaluators=[right], store=store)
    assert [(r.item.id, r.output, r.scores["right"]) for r in result.item_results] == [("a", 2, True), ("b", 4, False)]
    assert result.item_results[0].item.metadata == {"k": 1} and result.item_results[1].item.metadata is None


def test_columns_that_are_no_fields_are_the_input(store):
    frame = pd.DataFrame(
        {
            "station": [1, 2],
            "votes": [np.nan, 7.0],
            "when": pd.to_datetime(["2026-01-01", None]),
            "expected_output": ["x", None],
        }
    )
    seen = []
    result = run_experiment(
        name="frame",
        data=frame,
        task=lambda input: seen.append(input) or input["station"],
        store=store,
        max_concurrency=1,
    )
    assert (
        [set(s) for s in seen] == [{"station", "votes", "when"}] * 2
        and seen[0]["votes"] is None
        and seen[1]["when"] is None
    )
    assert [r.output for r in result.item_results] == [1, 2] and [r.expected_output for r in result.item_results] == [
        "x",
        None,
    ]


def test_a_missing_number_is_no_truth_now_and_when_scored_again(store):
    frame = pd.DataFrame({"input": [1.0, 2.0, 3.0], "expected_output": [1.0, np.nan, 3.0]})
    for data in (frame, frame.to_dict("records")):
        result = run_experiment(name="nan", data=data, task=lambda input: input, evaluators=[right], store=store)
        again = rescore(result.experiment_id, [right], store=store)
        assert result.summary["scores"]["right"]["n"] == again.summary["scores"]["right"]["n"] == 2
        assert result.item_results[1].expected_output is None


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({}, "run_experiment() missing"),
        ({"name": "x", "data": [{"input": 1}], "tsk": 1, "task": len}, "run_experiment() got an unexpected"),
        ({"name": "x", "data": 7, "task": len}, "a DataFrame, or a dataset"),
    ],
)
def test_messages_name_what_was_called(arguments, words, store):
    with pytest.raises(TypeError) as told:
        run_experiment(**arguments)
    assert words in str(told.value) and "arun" not in str(told.value)
