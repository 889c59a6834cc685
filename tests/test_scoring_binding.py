"""Every documented style of task and evaluator runs unchanged."""

import asyncio
import functools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vote_experiments.records import DatasetItem, Evaluation
from vote_experiments.scoring.binding import (
    COMPOSITE,
    EVALUATOR,
    MAPPER,
    RUN_EVALUATOR,
    SUMMARY_EVALUATOR,
    TASK,
    as_evaluations,
    bind,
    bind_all,
    callable_name,
)

ITEM = DatasetItem("f1", {"q": 1}, "yes", {"level": "scan"})
JUDGED = {
    "item": ITEM,
    "input": ITEM.input,
    "input_data": ITEM.input,
    "output": "yes",
    "output_data": "yes",
    "expected_output": "yes",
    "expected": "yes",
    "metadata": ITEM.metadata,
    "trace_id": "t",
    "config": {"model": "m"},
}


def call(fn, role, values=JUDGED):
    found = bind(fn, role)(values)
    return asyncio.run(found) if asyncio.iscoroutine(found) else found


class CallableTask:
    def __call__(self, input_data, config):
        return config["model"]


class AsyncCallable:
    async def __call__(self, *, item, **kwargs):
        return item.id


def keyword_task(*, item, **kwargs):
    assert not kwargs
    return item["input"]["q"]


@pytest.mark.parametrize(
    "task, answer",
    [
        (lambda input_data, config: (input_data["q"], config["model"]), (1, "m")),
        (keyword_task, 1),
        (lambda item: item.id, "f1"),
        (lambda anything: anything.id, "f1"),
        (lambda row, config: (row.id, config["model"]), ("f1", "m")),
        (lambda input, metadata=None: metadata["level"], "scan"),
        (lambda input_data, retries=3: retries, 3),
        (functools.partial(lambda prefix, input_data: f"{prefix}{input_data['q']}", "n"), "n1"),
        (CallableTask(), "m"),
        (AsyncCallable(), "f1"),
    ],
    ids=range(10),
)
def test_tasks_in_every_style(task, answer):
    assert call(task, TASK) == answer


def datadog(input_data, output_data, expected_output):
    return output_data == expected_output


def langfuse(*, input, output, expected_output, metadata, **kwargs):
    assert not kwargs
    return Evaluation(name="same", value=output == expected_output)


async def langfuse_async(*, output, expected_output=None, **kwargs):
    assert set(kwargs) == {"input", "metadata"}
    return {"name": "same", "value": output == expected_output}


class ClassEvaluator:
    def evaluate(self, ctx):
        return ctx.output == ctx.expected_output and ctx.inputs == {"q": 1} and ctx.metadata == {"level": "scan"}


class AsyncClassEvaluator:
    name = "judge"

    async def evaluate(self, context):
        return context.output_data == context.expected_output


class KeywordClassEvaluator:
    def evaluate(self, output, expected_output):
        return output == expected_output


@pytest.mark.parametrize(
    "evaluator",
    [
        datadog,
        langfuse,
        langfuse_async,
        ClassEvaluator(),
        AsyncClassEvaluator(),
        KeywordClassEvaluator(),
        lambda i, o, e: o == e,
        lambda inp, output_data, truth: output_data == truth,
        lambda answer: answer == "yes",
        lambda output, expected: output == expected,
        lambda output, /, expected_output: True,
        functools.partial(lambda limit, output, expected_output: limit and output == expected_output, True),
    ],
    ids=range(12),
)
def test_evaluators_in_every_style(evaluator):
    found = as_evaluations(call(evaluator, EVALUATOR), bind(evaluator, EVALUATOR).name)
    assert [e.value for e in found] == [True]


@pytest.mark.parametrize(
    "fn, role, words",
    [
        (lambda: 1, EVALUATOR, "takes none"),
        (lambda question, truth: 1, EVALUATOR, "'question'"),
        (lambda output, threshold: 1, EVALUATOR, "'threshold'"),
        (lambda a, b, c, d: 1, EVALUATOR, "'a'"),
        (lambda output, input, other: 1, EVALUATOR, "'other'"),
        (lambda *, other: 1, TASK, "'other'"),
        (lambda a, b: 1, TASK, "cannot be called"),
        (ClassEvaluator, EVALUATOR, "give an instance"),
        ("exact", EVALUATOR, "not callable"),
        (None, TASK, "not callable"),
        (lambda scores: 1, MAPPER, None),
        (lambda inputs, outputs, expected_outputs, evaluators_results: 1, SUMMARY_EVALUATOR, None),
        (lambda a, b, c, d: 1, SUMMARY_EVALUATOR, None),
        (lambda *, item_results, **kwargs: 1, RUN_EVALUATOR, None),
        (lambda item, evaluations: 1, COMPOSITE, None),
        (lambda *, input, output, expected_output, metadata, evaluations: 1, COMPOSITE, None),
    ],
)
def test_unusable_signatures_are_refused_with_a_remedy(fn, role, words):
    if words is None:
        assert bind(fn, role).asks_for
    else:
        with pytest.raises(TypeError, match=words) as told:
            bind(fn, role)
        assert "example" in str(told.value)


def test_a_default_of_an_unknown_parameter_stays():
    assert call(lambda output, threshold=0.5: threshold, EVALUATOR) == 0.5


def test_two_evaluators_with_one_name_are_refused():
    with pytest.raises(ValueError, match="'datadog'.*overwrite"):
        bind_all([datadog, langfuse, datadog], EVALUATOR)
    with pytest.raises(ValueError, match="use def"):
        bind_all([lambda output: 1, lambda output: 2], EVALUATOR)


@pytest.mark.parametrize(
    "value, expected",
    [
        (True, [("e", True)]),
        (0.5, [("e", 0.5)]),
        ("good", [("e", "good")]),
        (None, [("e", None)]),
        (float("nan"), [("e", None)]),
        (np.float64(0.25), [("e", 0.25)]),
        (np.bool_(False), [("e", False)]),
        (np.int32(3), [("e", 3)]),
        (Evaluation("mine", 1), [("mine", 1)]),
        ({"name": "d", "value": 0}, [("d", 0)]),
        ({"value": 0.5}, [("e", 0.5)]),
        ([{"name": "a", "value": 1}, Evaluation("b", 2)], [("a", 1), ("b", 2)]),
        ({"precision": 1.0, "recall": 0.5}, [("precision", 1.0), ("recall", 0.5)]),
        ([], []),
        ({}, []),
        (SimpleNamespace(name="s", score=0.7, metadata=None), [("s", 0.7)]),
        (SimpleNamespace(value=0.2, reasoning="because"), [("e", 0.2)]),
    ],
)
def test_everything_an_evaluator_may_return(value, expected):
    assert [(e.name, e.value) for e in as_evaluations(value, "e")] == expected


@pytest.mark.parametrize("value", [object(), float("inf"), {"name": "x", "value": [1]}, {"a": {"b": object()}}, b"x"])
def test_what_is_no_score_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        as_evaluations(value, "e")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    )
)
def test_any_json_becomes_evaluations_or_a_clear_error(value):
    try:
        found = as_evaluations(value, "e")
    except (TypeError, ValueError) as error:
        assert str(error)
    else:
        assert all(isinstance(e, Evaluation) for e in found)
        assert all(e.value is None or isinstance(e.value, (bool, int, float, str)) for e in found)


def test_names():
    assert callable_name(functools.partial(datadog, 1)) == "datadog"
    assert callable_name(ClassEvaluator()) == "ClassEvaluator"
    assert callable_name(AsyncClassEvaluator()) == "judge"
