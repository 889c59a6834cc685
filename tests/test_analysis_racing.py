"""Racing: evidence that holds at every look, bounds that agree with what was dropped, and the promise about the best."""

import math
import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from scipy.special import betaln

from simulated import assert_not_exceeded, report
from vote_experiments.analysis.comparison import compare
from vote_experiments.analysis.paired import best_level, judged_pairs
from vote_experiments.analysis.race_finding import cluster_order, race_finding, race_words, whole_clusters
from vote_experiments.analysis.racing import (
    BETS,
    SCENARIOS,
    Race,
    add_wealth,
    fractional,
    full_winner,
    log_evidence,
    no_wealth,
    pass_fail,
    places,
    run_race,
    simulate_race,
)

RNG = np.random.default_rng(4)


@given(st.lists(st.floats(-1, 1), max_size=30))
def test_wealth_may_be_added_up_and_bets_on_signs_only(d):
    d = np.array(d)
    whole = add_wealth(no_wealth(), d)
    np.testing.assert_allclose(add_wealth(add_wealth(no_wealth(), d[:7]), d[7:]).log, whole.log, atol=1e-9)
    large = np.where(np.abs(d) > 1e-3, d, 0)
    np.testing.assert_allclose(add_wealth(no_wealth(), 0.01 * large).log, add_wealth(no_wealth(), large).log, atol=1e-6)


def test_a_sign_wins_what_the_other_loses():
    "Given the sizes, the bet is fair: over both signs of the last difference the wealth does not change"
    past = RNG.normal(0.1, 1, 9)
    before = add_wealth(no_wealth(), past)
    for size in (0.01, 0.7, 3.0):
        after = [np.exp(add_wealth(before, [s * size]).log) for s in (1, -1)]
        np.testing.assert_allclose(np.mean(after, 0), np.exp(before.log), rtol=1e-6)


def test_evidence_on_pass_fail_is_near_the_best_mixture_over_discordant_pairs():
    "Robbins' Beta mixture is the known e-value of a one-sided coin; ours bets less on hopeless sides"
    for wins, losses in ((12, 3), (30, 10), (5, 0)):
        d = np.r_[np.tile([1.0] * (wins // max(losses, 1)) + [-1.0] * bool(losses), max(losses, 1)), np.zeros(50)]
        uniform = betaln((d > 0).sum() + 1, (d < 0).sum() + 1) + (d != 0).sum() * math.log(2)
        assert log_evidence(add_wealth(no_wealth(), d)) > uniform - 1.5


NULLS = {
    "rare discordant coins": lambda rng, s: rng.choice([-1.0, 0, 1], s, p=[0.05, 0.9, 0.05]),
    "two of one kind": lambda rng, s: rng.beta(8, 2, s) - rng.beta(8, 2, s),
    "rare large, often small": lambda rng, s: rng.choice([-1, 1], s) * np.where(rng.random(s) < 0.05, 0.9, 0.01),
    "coins": lambda rng, s: rng.choice([-1.0, 1], s),
}


def ever_rejected(draw, samples, looks=400, seed=3):
    rng, wealth, ever = np.random.default_rng(seed), no_wealth((samples,)), np.zeros(samples, dtype=bool)
    for _ in range(looks):
        wealth = add_wealth(wealth, draw(rng, (1, samples)))
        ever |= log_evidence(wealth) >= math.log(20)
    return int(ever.sum())


@pytest.mark.parametrize("name", NULLS)
def test_a_true_claim_is_rejected_at_any_of_400_looks_in_at_most_5_percent(name):
    assert_not_exceeded(ever_rejected(NULLS[name], 1000), 1000, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", NULLS)
def test_a_true_claim_in_20_000_samples(name):
    assert_not_exceeded(ever_rejected(NULLS[name], 20_000, seed=11), 20_000, 0.05)


def test_missing_scores_are_no_bets_and_dropped_configs_are_not_looked_at():
    race = Race(3)
    race.add(np.array([[1.0, 0.0, np.nan], [1.0, np.nan, 1.0]]))
    np.testing.assert_allclose(race.wealth.log[:, 0, 1], np.log1p(np.tanh(BETS)))
    np.testing.assert_allclose(race.wealth.log[:, 2, 1], 0)
    race.alive[1] = False
    before = race.wealth.log[:, :, 1].copy()
    race.add(np.array([[1.0, 50.0, 0.0]]))
    np.testing.assert_allclose(race.wealth.log[:, :, 1], before)
    assert race.items.tolist() == [3, 2, 3]


def test_rounds_of_any_size_give_the_same_evidence():
    scores, races = RNG.random((120, 5)), []
    for size in (1, 7, 120):
        race = Race(5, error=1e-12)
        for start in range(0, 120, size):
            race.add(scores[start : start + size])
        races.append(race.evidence())
    np.testing.assert_allclose(races[0], races[1], atol=1e-9)
    np.testing.assert_allclose(races[0], races[2], atol=1e-9)


def test_races_of_one_and_of_nobody():
    for n in (0, 1):
        assert Race(n).add(np.zeros((5, n))) == []
    race = Race(2)
    assert race.add(np.full((500, 2), 0.5)) == [] and race.last_look() == [], "equal scores tell nothing, however many"


def test_the_last_look_is_the_test_of_compare_with_the_rest_of_the_error():
    scores = fractional([0.95, 0.91])(np.random.default_rng(8), 60)
    race = Race(2)
    race.add(scores)
    pair = judged_pairs(scores, np.array([0]), np.array([1]), level=best_level(2, 0.04))
    assert race.last_look() == ([1] if pair["distinguishable"][0] else [])


@pytest.mark.parametrize("seed", range(12))
def test_every_row_agrees_with_its_bounds(seed):
    rng = np.random.default_rng(seed)
    kind = fractional if seed % 2 else pass_fail
    race = run_race(kind([0.95, 0.93, 0.9, 0.7])(rng, 80), 8)
    for p in places(race):
        assert p.config == p.against or (p.upper < 0) == (not race.alive[p.config])


@pytest.mark.parametrize("seed", range(20))
def test_race_and_compare_never_name_different_winners(seed):
    scores = fractional([0.96, 0.94, 0.94, 0.9])(np.random.default_rng([9, seed]), 60)
    names = ["a", "b", "c", "d"]
    race = run_race(scores, 5)
    found = race_finding(names, race)
    own, full = (compare(pd.DataFrame(x, columns=names)) for x in (race.table(), scores))
    for c in (own, full):
        assert not (found.winner and c.distinguishable) or found.winner == c.best
    assert (found.differs != "") == ((found.winner is not None) != own.distinguishable)
    words = race_words(
        {
            **found.to_dict(),
            "error": 0.05,
            "calls": 1,
            "calls_full": 2,
            "table": [{"experiment": n, "items": int(i), "verdict": ""} for n, i in zip(names, race.items)],
        }
    )
    assert ("looks only once" in words[0]) == (found.differs in ("early", "fewer"))


def test_rare_failures_are_in_the_sentence_of_a_race():
    scores = np.c_[np.full(40, 0.98), np.full(40, 0.96)]
    found = race_finding(["B", "A"], run_race(scores, 5))
    assert found.winner == "B" and found.limit.matters
    words = race_words({**found.to_dict(), "error": 0.05, "table": [{"items": 40}], "calls": 1, "calls_full": 2})
    assert "cannot be excluded" in words[0] and "would outweigh" in words[0]


def test_whole_clusters_come_together_and_count_once():
    labels = [f"c{i // 5}" for i in range(50)]
    order, codes, n = cluster_order(labels, random.Random(1))
    assert sorted(order) == list(range(50)) and n == 10
    assert [labels[i] for i in order] == [labels[order[codes.index(c)]] for c in codes]
    assert whole_clusters([7, 20, 50], codes) == [10, 20, 50]
    share = np.random.default_rng(2).normal(0, 0.05, (10, 1)).repeat(5, 0)
    scores = np.c_[0.84 + share[:, 0], np.full(50, 0.8)]
    alone, together = Race(2), Race(2)
    alone.add(scores), together.add(scores, [i // 5 for i in range(50)])
    assert together.evidence()[1] < alone.evidence()[1]
    assert "constituenc" in " ".join(
        race_words(
            {
                **race_finding(["a", "b"], together, "constituency").to_dict(),
                "error": 0.05,
                "calls": 1,
                "calls_full": 1,
                "table": [{"experiment": "a", "items": 50, "verdict": ""}],
            }
        )
    )


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios_keep_the_promise(name):
    check(simulate_race(name, 5, first_seed=1))


def check(c):
    assert c.same >= 0.97 and c.disagree == 0
    assert_not_exceeded(round(c.best_dropped * c.seeds), c.seeds, 0.05)
    assert_not_exceeded(round(c.wrong_single * c.seeds), c.seeds, 0.05)
    assert c.calls <= (0.5 if "wide" in c.scenario else 0.4 if "two equal" in c.scenario else 1.0)
    assert c.single >= 0.8 * c.full_single


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_published_table_of_200_seeds(name):
    check(simulate_race(name, 200))


def sixty_forms(means, replications, seed):
    "Share of worlds in which the full comparison and the race name a winner, and in which the winners differ"
    draw, counts = fractional(means), np.zeros(3)
    for r in range(replications):
        scores = draw(np.random.default_rng([seed, r]), 60)
        race, (leader, named) = run_race(scores, 5), full_winner(scores)
        left = np.flatnonzero(race.alive)
        counts += [named, len(left) == 1, len(left) == 1 and named and left[0] != leader]
    return counts / replications


@pytest.mark.parametrize("means", [[0.95, 0.90], [0.95, 0.92]])
def test_a_race_over_sixty_forms_names_a_winner_as_often_as_it_should(means):
    full, race, differ = sixty_forms(means, 60, 40)
    assert race >= 0.8 * full and full > 0.3 and differ == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("means", [[0.95, 0.90], [0.95, 0.92], [0.95, 0.91, 0.88, 0.8]])
def test_a_race_over_sixty_forms_in_2_000_worlds(means):
    full, race, differ = sixty_forms(means, 2000, 41)
    report(
        f"race over 60 forms, means {means}; before: 0 %",
        {"full comparison names one": full, "race names one": race, "different winners": differ},
        2000,
    )
    assert race >= 0.8 * full and differ == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_intervals_of_rows_cover_the_truth_although_a_race_looks_many_times():
    draw, truth, missed, rows = fractional([0.95, 0.9, 0.85, 0.75]), np.array([0.95, 0.9, 0.85, 0.75]), 0, 0
    for r in range(500):
        race = run_race(draw(np.random.default_rng([60, r]), 200), 10)
        for p in places(race):
            if p.config != p.against:
                gap = truth[p.config] - truth[p.against]
                rows, missed = rows + 1, missed + (not p.lower <= gap <= p.upper)
    report("rows of a race whose interval misses the truth", {"missed": missed / rows, "promised": 0.05}, rows)
    assert_not_exceeded(missed, rows, 0.05)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("k", [2, 3, 5])
def test_a_false_winner_among_equals_in_2_000_races(k):
    draw, wrong = fractional([0.93] * k), 0
    for r in range(2000):
        wrong += run_race(draw(np.random.default_rng([50, k, r]), 60), 5).alive.sum() == 1
    report(f"race among {k} equals, 60 forms", {"false winner": wrong / 2000}, 2000)
    assert_not_exceeded(wrong, 2000, 0.05)
