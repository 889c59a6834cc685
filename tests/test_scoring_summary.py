"Summaries: failed items are 0, unscored ones are left out, nothing scored is None"

import math

import pytest
from hypothesis import given, strategies as st

from vote_experiments.scoring.binding import SUMMARY_EVALUATOR, bind_all
from vote_experiments.scoring.summary import (
    JUDGE_SCORES,
    STANDARD_SUMMARIES,
    WEIGHTS,
    WEIGHTS_WITH_JUDGE,
    avg_ballot_accuracy,
    avg_llm_judge_score,
    item_accuracy,
    overall_accuracy,
    success_rate,
)

fractions = st.none() | st.floats(0, 1)
values = {
    "exact_form_match": st.none() | st.booleans(),
    "ballot_accuracy_score": fractions,
    "vote_results_quality": fractions,
    "has_no_errors": st.booleans(),
}
runs = st.lists(
    st.tuples(st.booleans(), st.fixed_dictionaries(values, optional={"llm_judge_score": fractions})), max_size=12
)


def columns(run) -> tuple[list, dict]:
    "Outputs and results as a platform hands them over"
    names = list(values) + ["llm_judge_score"] * any("llm_judge_score" in scores for _, scores in run)
    outputs = [None if failed else {"reports": []} for failed, _ in run]
    return outputs, {n: [None if failed else scores.get(n) for failed, scores in run] for n in names}


@given(runs)
def test_a_run_is_the_mean_of_its_items(run):
    outputs, results = columns(run)
    items = [item_accuracy({n: c[i] for n, c in results.items()}, outputs[i] is None) for i in range(len(run))]
    scored = [a for a in items if a is not None]
    overall = overall_accuracy([], outputs, [], results)
    assert overall == pytest.approx(sum(scored) / len(scored)) if scored else overall is None


@given(runs)
def test_every_summary_is_a_fraction_or_none(run):
    outputs, results = columns(run)
    for summary in (*STANDARD_SUMMARIES, avg_llm_judge_score):
        value = summary([], outputs, [], results)
        assert value is None or (0 <= value <= 1 + 1e-12 and not math.isnan(value))


@given(runs.filter(bool), st.data())
def test_failing_an_item_never_helps(run, data):
    outputs, results = columns(run)
    i = data.draw(st.integers(0, len(run) - 1))
    before = overall_accuracy([], outputs, [], results), success_rate([], outputs, [], results)
    scored = item_accuracy({n: c[i] for n, c in results.items()}, outputs[i] is None) is not None
    worse = [None if j == i else o for j, o in enumerate(outputs)]
    after = overall_accuracy([], worse, [], results), success_rate([], worse, [], results)
    assert after[1] <= before[1] + 1e-12
    if scored:
        assert after[0] <= before[0] + 1e-12


@given(st.fixed_dictionaries({n: st.floats(0, 1) for n in WEIGHTS}), st.floats(0, 1), st.sampled_from(JUDGE_SCORES))
def test_the_documented_weights(scores, judge, name):
    e, b, v = (scores[name] for name in WEIGHTS)
    assert item_accuracy(scores, False) == pytest.approx(0.2 * e + 0.4 * b + 0.4 * v)
    assert item_accuracy({**scores, name: judge}, False) == pytest.approx(0.15 * e + 0.25 * b + 0.30 * v + 0.30 * judge)


def test_weights_add_up_to_one():
    assert sum(WEIGHTS.values()) == pytest.approx(1) == sum(WEIGHTS_WITH_JUDGE.values())


@given(st.fixed_dictionaries({n: fractions for n in WEIGHTS}))
def test_a_missing_score_gives_its_weight_to_the_others(scores):
    present = {n: s for n, s in scores.items() if s is not None}
    accuracy = item_accuracy(scores, False)
    assert accuracy == item_accuracy(present, False)
    if present:
        assert min(present.values()) - 1e-12 <= accuracy <= max(present.values()) + 1e-12
    else:
        assert accuracy is None


def test_weights_of_your_own_are_taken_as_they_are():
    scores = {"exact_form_match": False, "name_cer": 0.25, "llm_judge_score": 1.0}
    assert item_accuracy(scores, False, {"name_cer": 3, "exact_form_match": 1}) == 0.1875
    assert item_accuracy(scores, False, {"judge": 1, "exact_form_match": 1}) == 0.5
    assert item_accuracy(scores, False, {"llm_judge_score": 1}) == 1.0
    assert item_accuracy(scores, False, dict(WEIGHTS)) == item_accuracy(
        scores, False
    )  # read back from a stored request


@pytest.mark.parametrize("weights", [{}, {"a": 0}, {"a": -1, "b": 2}, {"a": math.nan}])
def test_weights_that_are_none(weights):
    for failed in (False, True):
        with pytest.raises(ValueError, match="weights="):
            item_accuracy({"a": 1}, failed, weights)


def test_nan_and_text_are_not_scores():
    assert item_accuracy({"ballot_accuracy_score": math.nan, "vote_results_quality": 0.5}, False) == 0.5
    assert item_accuracy({"ballot_accuracy_score": "good"}, False) is None


def test_nothing_scored_is_none():
    for summary in (*STANDARD_SUMMARIES, avg_llm_judge_score):
        assert summary([], [], [], {}) is None
    outputs = [{}, {}]
    assert overall_accuracy([], outputs, [], {"has_no_errors": [True, True]}) is None
    assert overall_accuracy([], [None, None], [], {"has_no_errors": [None, None]}) is None
    assert avg_ballot_accuracy([], outputs, [], {"ballot_accuracy_score": [None, None]}) is None
    assert avg_llm_judge_score([], outputs, [], {"extraction_judge": [None, None]}) is None


def test_all_failed_is_zero():
    results = {"ballot_accuracy_score": [None, None], "has_no_errors": [None, None]}
    assert [s([], [None, None], [], results) for s in STANDARD_SUMMARIES] == [0.0, 0.0, 0.0]


def test_success_without_the_evaluator_is_having_an_output():
    assert success_rate([], [{}, None, 5, 5], [], {}) == 0.75
    assert success_rate([], [{}, None, 5, 5], [], {"has_no_errors": [False, None, True, True]}) == 0.5


def test_a_judge_that_failed_is_left_out_and_a_failed_item_is_zero():
    assert avg_llm_judge_score([], [{}, {}, None], [], {"extraction_judge": [0.8, None, None]}) == 0.4


def test_misaligned_values_are_refused():
    for summary in STANDARD_SUMMARIES:
        with pytest.raises(ValueError, match="has 1 values for 2 outputs"):
            summary([], [{}, {}], [], {n: [1.0] for n in values})


def test_they_bind_as_summary_evaluators():
    outputs = [{"reports": []}]
    given_ = {
        "inputs": [{}],
        "outputs": outputs,
        "expected_outputs": [{}],
        "evaluators_results": {n: [1.0] for n in values},
        "weights": WEIGHTS,
    }
    assert [bound(given_) for bound in bind_all(STANDARD_SUMMARIES, SUMMARY_EVALUATOR)] == [1.0, 1.0, 1.0]
