"""The pure core of an outcome check: its formulas, and the promise it makes, on simulated elections"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vote_experiments.outcome.assertions import Contest, largest_remainder, largest_remainder_seats
from vote_experiments.outcome.bounds import Batches, error_bounds, signed_errors
from vote_experiments.outcome.risk import betting, clean_next, kaplan_markov, outcome_risk, with_lot
from vote_experiments.outcome.sampling import seed_lot, uniform
from vote_experiments.outcome.simulation import (
    METHODS,
    PLACEMENTS,
    ballots_used,
    clean_forms,
    excess_p_value,
    hide_errors,
    mean_forms,
    simulate_checks,
    simulated_election,
)

# ── formulas ────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.floats(-2, 0.99), min_size=1, max_size=30), st.floats(1.5, 500))
def test_kaplan_markov_is_the_formula_by_hand(taints, total):
    by_hand = 1.0
    for taint in taints:
        by_hand *= (1 - 1 / total) / (1 - taint)
    assert kaplan_markov(taints, total)[-1] == pytest.approx(by_hand)


def test_a_form_as_wrong_as_can_be_sets_p_to_infinity():
    assert kaplan_markov([0.0, 1.0, 0.0], 9.0)[-1] == math.inf


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (1, 0, 0, 0), (2, 1, 3, 1), (0, 0, 5, 2)])
def test_kaplan_markov_agrees_with_rlacalc(counts):
    "rlacalc computes it for single ballots: there U = 2γ/margin, and an error of one or two votes has a fixed taint"
    rlacalc = pytest.importorskip("rlacalc", reason="rlacalc, a public implementation, is not installed")
    gamma, margin, n = 1.03905, 0.05, 200
    over1, over2, under1, under2 = counts
    taints = [1 / (2 * gamma)] * over1 + [1 / gamma] * over2 + [-1 / (2 * gamma)] * under1 + [-1 / gamma] * under2
    taints += [0.0] * (n - len(taints))
    assert kaplan_markov(taints, 2 * gamma / margin)[-1] == pytest.approx(rlacalc.KM_P_value(n, gamma, margin, *counts))


def test_the_sample_size_without_errors_agrees_with_rlacalc():
    "Its sample size is −U·ln α, rounded up, which exceeds the exact number by at most one draw here"
    rlacalc = pytest.importorskip("rlacalc", reason="rlacalc, a public implementation, is not installed")
    p = kaplan_markov(np.zeros(300), 2 * 1.03905 / 0.05)
    assert rlacalc.nmin(0.1, 1.03905, 0.05) - 1 <= int(np.argmax(p <= 0.1)) + 1 <= rlacalc.nmin(0.1, 1.03905, 0.05)


def test_the_published_california_example():
    "M. Lindeman, A Kaplan–Markov auditing example using 2008 California data (2010): bounds, errors and one factor"
    choices = ["Lungren", "Durston"]
    totals = np.array([155_424, 137_971])
    assertions = Contest().assertions(choices, totals)
    precincts = np.array([[48, 83], [158, 172], [440, 392]], dtype=float)
    rest = totals - precincts.sum(axis=0)
    batches = Batches(np.vstack([precincts, rest]), np.array([139.0, 382, 919, 300_000]))
    bounds = error_bounds(assertions, batches)
    assert bounds.margins[0] == 17_453
    assert bounds.station[:2] == pytest.approx([0.005958860940812468, 0.021085200252105654])
    seen = np.vstack([[[48, 83], [158, 182], [442, 393]], rest]).astype(float)
    errors = signed_errors(assertions, bounds, batches.reported, seen, batches.ballots)[:, 0]
    assert errors == pytest.approx([0, 0.000572967398155045, -5.72967398155045e-05, 0])
    assert kaplan_markov([0.003953], 20.47)[0] == pytest.approx(0.9549228314475828)


def test_betting_equals_a_step_by_step_computation():
    rng = np.random.default_rng(4)
    bounds, k = rng.uniform(0.05, 0.4, 40), 3
    reach = np.array([1.0, 0.7, 0.4])
    errors = rng.normal(0, 0.02, (40, k)) * bounds[:, None]
    p = betting(errors[:12], bounds[:12], bounds.sum(), reach, bet=0.9)
    for a in range(k):
        wealth, owed, left = 1.0, 1.0, bounds.sum()
        for i in range(12):
            mean = owed / left
            wealth *= 1 + 0.9 / (reach[a] - mean) * (mean - errors[i, a] / bounds[i])
            owed, left = owed - errors[i, a], left - bounds[i]
            assert p[i, a] == pytest.approx(1 / wealth)


def two_errors():
    "240 stations with equal bounds, U = 12, thirty draws of which two have errors, a bet of .9: taints, bounds, and our p-values"
    taints = np.zeros(30)
    taints[[3, 6]] = 0.02, 0.4
    bounds = np.full(30, 12.0 / 240)
    return taints, bounds, betting((taints * bounds)[:, None], bounds, 12.0, np.ones(1), bet=0.9)[:, 0]


def test_betting_gives_the_values_of_shangrla():
    """SHANGRLA (P. Stark and others, github.com/pbstark/SHANGRLA, NonnegMean.betting_mart at commit 9d5db92): with equal bounds, the taint of a form
    is a value 1 − taint whose mean must exceed 1 − 1/U"""
    published = {0: 0.9243697478991597, 5: 0.6321610346038838, 6: 0.9156285420197564, 29: 0.1339965040203052}
    assert two_errors()[2][list(published)] == pytest.approx(list(published.values()), rel=1e-12)


def test_betting_agrees_with_shangrla_where_it_is_installed():
    shangrla = pytest.importorskip(
        "shangrla.core.NonnegMean", reason="SHANGRLA, a public implementation, is not installed"
    )
    taints, bounds, ours = two_errors()
    owed = 1 - np.r_[0, np.cumsum(taints * bounds)[:-1]]
    theirs = shangrla.NonnegMean(bet=shangrla.NonnegMean.fixed_bet, u=1.0, N=240, t=1 - 1 / 12)
    theirs.lam = 0.9 / (1 - owed / (12 - np.arange(30) * bounds))
    assert np.minimum(1, ours) == pytest.approx(theirs.betting_mart(1 - taints)[1], rel=1e-12)


def test_betting_is_fair_when_the_errors_sum_to_the_whole_margin():
    "The mean of what the gambler holds is 1 after any number of draws, over all orders of draws"
    bounds = np.array([0.9, 0.7, 0.6, 0.5, 0.4])
    errors = np.array([0.4, 0.0, 0.35, 0.05, 0.2])
    assert errors.sum() == pytest.approx(1)
    rng = np.random.default_rng(0)
    order = np.argsort(rng.exponential(size=(200_000, 5)) / bounds, axis=1)
    p = betting(errors[order][..., None], bounds[order], bounds.sum(), np.ones(1), bet=0.5)
    held = 1 / p[:, :3, 0]
    for draw in range(3):
        assert held[:, draw].mean() == pytest.approx(1, abs=5 * held[:, draw].std() / math.sqrt(len(held)))


def test_what_is_confirmed_is_not_taken_back():
    p = np.array([[0.5], [0.04], [0.4]])
    assert outcome_risk(p, 0.05).tolist() == [0.5, 0.04, 0.04]


# ── contests ────────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 50_000), min_size=2, max_size=9),
    st.lists(st.integers(0, 50_000), min_size=2, max_size=9),
    st.integers(1, 120),
)
def test_assertions_of_a_party_list_hold_exactly_for_its_own_allocation(votes, others, seats):
    n = min(len(votes), len(others))
    votes, others = votes[:n], others[:n]
    won, tied = largest_remainder_seats(votes, seats)
    theirs, other_tied = largest_remainder_seats(others, seats)
    if tied or other_tied or not sum(votes) or not sum(others):
        return
    values = largest_remainder([str(i) for i in range(n)], votes, seats).values(others)
    rounding = 1e-9 * sum(others)
    assert (values > -rounding).all() == (won == theirs) or np.abs(values).min() <= rounding


def test_unread_stations_weigh_on_every_assertion():
    votes = np.array([[100.0, 40, 30], [np.nan] * 3, [90, 60, 20]])
    batches = Batches(votes, np.array([200.0, 50, 200]))
    bounds = error_bounds(Contest().assertions("abc", batches.totals), batches)
    assert bounds.margins.tolist() == [190 - 100 - 50, 190 - 50 - 50]
    assert bounds.station[1] == 0


def test_a_form_that_nobody_can_read_counts_at_its_worst():
    votes = np.array([[100.0, 40], [90, 60]])
    batches = Batches(votes, np.array([200.0, 200]))
    assertions = Contest().assertions("ab", batches.totals)
    bounds = error_bounds(assertions, batches)
    errors = signed_errors(assertions, bounds, votes, np.array([[np.nan, np.nan], [90, 60]]), batches.ballots)
    assert errors[0, 0] == pytest.approx(bounds.station[0]) and errors[1, 0] == 0


# ── the promise ─────────────────────────────────────────────────────────────────────────────────────────────────────


def contest_of(kind, rng, number):
    "A small election of each kind, right as reported"
    if kind == "constituency":
        votes = simulated_election(rng, rng.choice([0.02, 0.05, 0.1, 0.2]), 60, 4)
        contest, choices = Contest(), "abcd"
    elif kind == "referendum":
        votes = simulated_election(rng, rng.choice([0.02, 0.05, 0.1]), 60, 3)
        contest, choices = Contest("referendum", ["yes > no", "yes + maybe > no"][number % 2]), ["yes", "no", "maybe"]
    else:
        votes = simulated_election(rng, 0.1, 60, 5)
        contest, choices = Contest("party list", seats=10), "abcde"
    return contest, choices, votes


def wrong_elections(kind, method, placement, elections):
    "How many checks confirm an outcome that is wrong: a new election each time"
    confirmed = checked = 0
    for number in range(elections):
        rng = np.random.default_rng([number, len(placement)])
        contest, choices, votes = contest_of(kind, rng, number)
        batches = Batches(votes.astype(float), ballots_used(votes))
        assertions = contest.assertions(choices, batches.totals)
        if not error_bounds(assertions, batches).open:
            continue  # equal remainders: nothing to confirm
        doubtful = rng.random(len(votes)) < 0.1  # the adversary leaves them right: they are read first
        hidden = hide_errors(assertions, batches, placement, rng, untouched=doubtful)
        checked += 1
        confirmed += int(simulate_checks(assertions, batches, hidden, method, 0.05, 1, number).confirmed[0])
    assert checked > 0.9 * elections
    return confirmed, checked


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["constituency", "party list", "referendum"])
def test_wrong_outcomes_are_seldom_confirmed(kind, method):
    confirmed, checked = wrong_elections(kind, method, "few whole stations", 150)
    assert excess_p_value(confirmed, checked, 0.05) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["constituency", "party list", "referendum"])
def test_wrong_outcomes_are_confirmed_no_more_often_than_the_risk_limit(kind, method, placement):
    "2,000 elections each, errors placed by an adversary who knows the readings and the doubts but not the seed"
    confirmed, checked = wrong_elections(kind, method, placement, 2000)
    assert excess_p_value(confirmed, checked, 0.05) > 0.01


# ── workload ────────────────────────────────────────────────────────────────────────────────────────────────────────

REFERENCE = {  # margin: mean distinct forms with b = ballots used, and with b doubled; 240 stations, 6 candidates, α .05
    0.02: (117, 172),
    0.05: (58, 99),
    0.1: (32, 58),
    0.2: (17, 32),
}


@pytest.mark.parametrize("margin", REFERENCE)
def test_workload_without_errors(margin):
    used, doubled = REFERENCE[margin]
    for method in METHODS:
        assert mean_forms(margin, method, 40) == pytest.approx(used, rel=0.03, abs=1.1)
        assert mean_forms(margin, method, 20, ballots=2) == pytest.approx(doubled, rel=0.03, abs=1.1)


@pytest.mark.slow
@pytest.mark.parametrize("error_rate", [0, 0.03, 0.1])
@pytest.mark.parametrize("margin", REFERENCE)
def test_the_default_needs_no_more_forms_than_kaplan_markov(margin, error_rate):
    default, reference = (mean_forms(margin, method, 500, error_rate) for method in METHODS)
    assert default < reference


def test_the_estimate_before_any_draw_is_close_to_the_simulation():
    votes = simulated_election(np.random.default_rng(3), 0.05)
    batches = Batches(votes.astype(float), ballots_used(votes))
    assertions = Contest().assertions("abcdef", batches.totals)
    simulated = simulate_checks(assertions, batches, batches.reported, checks=300).forms.mean()
    assert clean_forms(error_bounds(assertions, batches)) == pytest.approx(simulated, rel=0.05)


def test_many_unread_stations_cannot_be_confirmed_by_draws():
    votes = simulated_election(np.random.default_rng(3), 0.02, 50).astype(float)
    votes[:10] = np.nan
    batches = Batches(votes, np.full(50, 800.0))
    assertions = Contest().assertions("abcdef", batches.totals)
    checks = simulate_checks(assertions, batches, np.nan_to_num(votes), checks=20)
    assert not checks.confirmed.any() and (checks.forms == 50).all()


# ── the lot for the last form ───────────────────────────────────────────────────────────────────────────────────────


def exact_risk(taints, bounds, risk_limit, steps=400):
    "The chance of confirming, over all orders of drawing and all lots, by enumeration"
    total, chance = bounds.sum(), 0.0
    lots = (np.arange(steps) + 0.5) / steps
    for order in map(list, itertools.permutations(range(len(bounds)))):
        left = total - np.r_[0, np.cumsum(bounds[order])[:-1]]
        forms = ((taints * bounds)[order][:, None], bounds[order], total, np.ones(1))
        p = betting(*forms), clean_next(*forms)
        many = [np.broadcast_to(a, (steps, *a.shape)) for a in p]
        low = outcome_risk(with_lot(*many, lots, risk_limit).p, risk_limit)[:, :-1] <= risk_limit
        chance += np.prod(bounds[order] / left) * low.any(axis=1).mean()
    return chance


@pytest.mark.parametrize("seed", range(12))
def test_the_lot_keeps_the_risk_limit_exactly_over_all_orders_and_lots(seed):
    "Six stations whose errors just sum to the margin, in whole stations or spread: no order is left out"
    rng = np.random.default_rng(seed)
    bounds = rng.uniform(0.3, 0.9, 6)
    taints = rng.uniform(0, 1, 6) if seed % 2 else (np.arange(6) < 2).astype(float)
    taints *= 1 / (taints * bounds).sum()
    if taints.max() > 1:
        taints = np.minimum(1, taints)
        bounds = bounds / (taints * bounds).sum()
    assert (taints * bounds).sum() == pytest.approx(1)
    for risk_limit in (0.1, 0.3):
        assert exact_risk(taints, bounds, risk_limit) <= risk_limit + 1 / 400


def test_the_lot_exchanges_at_a_fair_price():
    "The mean of what the gambler holds is the same before and after the lot, for every assertion by itself"
    rng = np.random.default_rng(8)
    bounds, reach = rng.uniform(0.02, 0.4, 30), np.array([1.0, 0.8])
    forms = (rng.normal(0, 0.01, (30, 2)) * bounds[:, None], bounds, bounds.sum(), reach)
    p, clean = betting(*forms), clean_next(*forms)
    lots = (np.arange(20_000) + 0.5) / 20_000
    made = with_lot(*(np.broadcast_to(a, (20_000, *a.shape)) for a in (p, clean)), lots, 0.05)
    for k in range(2):
        at = made.at[0, k]
        assert at >= 0 and (made.p[:, :at, k] == p[:at, k]).all()
        assert (1 / made.p[:, at, k]).mean() == pytest.approx(1 / p[at, k], rel=1e-3)


def test_the_lot_of_a_check_is_a_number_of_its_seed_and_is_independent_of_the_draws():
    lots = [seed_lot(str(s)) for s in range(3000)]
    first = [uniform(str(s), "หน่วย 1") for s in range(3000)]
    assert abs(np.corrcoef(lots, first)[0, 1]) < 0.06 and 0.48 < np.mean(lots) < 0.52


@pytest.mark.slow
@pytest.mark.parametrize("margin", [0.02, 0.05, 0.1, 0.2])
def test_the_default_needs_no_more_than_the_reference(margin):
    "Mean of 500 elections, against the reference of Kaplan–Markov: 117, 58, 32, 17 forms, rounded to whole ones"
    default = [mean_forms(margin, "betting", 500, ballots=b) for b in (1, 2)]
    reference = [mean_forms(margin, "kaplan-markov", 500, ballots=b) for b in (1, 2)]
    print(f"\nmargin {margin:.0%}: default {default}, Kaplan–Markov {reference}")
    assert round(default[0]) <= REFERENCE[margin][0]
    assert all(d < k for d, k in zip(default, reference))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_the_whole_chain_from_dice_to_state_keeps_the_risk_limit(method, whole):
    "Seeds as people type them, the order, the lot and the path of a check: a wrong outcome of 14 stations, 1,500 seeds, risk limit 20 %"
    from vote_experiments.outcome.frame import CheckFrame
    from vote_experiments.outcome.progress import baseline, risk_path

    rng = np.random.default_rng(3)
    votes = simulated_election(rng, 0.3, 14, 2).astype(float)
    batches = Batches(votes, ballots_used(votes))
    assertions = Contest().assertions("ab", batches.totals)
    hidden = hide_errors(assertions, batches, "few whole stations" if whole else "at random", rng)
    frame = CheckFrame("", Contest(), ["a", "b"], [f"s{i:02}" for i in range(14)], votes, batches.ballots)
    base, observed, confirmed = baseline(frame, {}), dict(enumerate(hidden)), 0
    for number in range(1500):
        seed = f"{number:020}"
        path = risk_path(frame, base, seed, observed, method, 0.2, seed_lot(seed) if method == "betting" else None)
        last = len(path) - 1 if method == "betting" else list(path.drawn).index(path.drawn[-1])
        confirmed += bool((path.risk[:last] <= 0.2).any())
    print(f"\n{method}, {'whole stations' if whole else 'at random'}: {confirmed} of 1,500")
    assert excess_p_value(confirmed, 1500, 0.2) > 0.01
    assert confirmed > 60, "a method that hardly ever confirms would pass as well"
