"""The arithmetic of a report against every combination, counted one by one"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vote_experiments.ocr.decoding import SIZE, Evidence, distribution, exactly, settle, unknown

numbers = st.dictionaries(st.integers(0, 60).map(str), st.floats(0.05, 1.0), min_size=1, max_size=3)


@settings(max_examples=25, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=3), numbers)
def test_rows_and_total_agree_with_enumeration(rows, total):
    read = [distribution(r) for r in rows]
    told = distribution(total)
    beliefs = settle(Evidence(read, told))
    candidates = [np.argsort(-r)[:8] for r in read]
    weight = {}
    for combination in itertools.product(*candidates):
        p = np.prod([r[v] for r, v in zip(read, combination)])
        s = int(sum(combination))
        through = 0.97 * told[s] + 0.03 * (told @ unknown())  # the equation holds, or the total is any number
        weight[combination] = p * through
    best = max(weight, key=weight.get)
    second = sorted(weight.values())[-2] if len(weight) > 1 else 0.0
    if weight[best] > 3 * second:  # clearly the best combination: the beliefs must point at it
        assert [int(b.argmax()) for b in beliefs.rows] == [int(v) for v in best]


def test_beliefs_are_distributions():
    evidence = Evidence(
        [distribution({"12": 1.0}), exactly(0)],
        distribution({"12": 1.0}),
        {
            "good_ballots": distribution({"12": 1.0}),
            "bad_ballots": exactly(0),
            "no_vote_ballots": exactly(0),
            "ballots_allocated": distribution({"12": 1.0}),
        },
        "ballots_allocated",
    )
    beliefs = settle(evidence)
    for belief in (*beliefs.rows, beliefs.total, *beliefs.ballots.values()):
        assert belief.shape == (SIZE,) and belief.sum() == pytest.approx(1) and belief.min() >= 0
    assert set(beliefs.ballots) == set(evidence.ballots)


def test_a_form_that_does_not_add_up_keeps_what_is_clearly_written():
    evidence = Evidence(
        [distribution({"300": 1.0}), distribution({"45": 1.0})],
        distribution({"354": 1.0}),
        {"good_ballots": distribution({"354": 1.0})},
    )
    beliefs = settle(evidence)
    assert float(beliefs.rows[0][300]) < 0.999 and beliefs.total.argmax() == 354
    assert {int(b.argmax()) for b in beliefs.rows} & {300, 45, 54}
