"""Comparisons: oracles from scipy and statsmodels, measured error rates, and every odd input answered in words."""

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
import statsmodels.api as sm

from vote_experiments.analysis.comparison import compare
from vote_experiments.analysis.wording import markdown_table
from vote_experiments.analysis.pair_laws import PAIR_LAWS, paired_coverage
from vote_experiments.analysis.paired import holm, mcnemar_p, paired_comparisons, score_table, sign_flip_p
from vote_experiments.analysis.planning import fewest_items, items_needed, power
from vote_experiments.analysis.intervals import mean_interval

RNG = np.random.default_rng(5)
close = lambda a, b, eps=1e-9: np.testing.assert_allclose(a, b, rtol=0, atol=eps)


def readers(n=10, gaps=(0.0, 0.02, 0.2), noise=0.02, seed=0):
    rng = np.random.default_rng(seed)
    values = 0.95 - rng.beta(2, 8, (n, 1)) * 0.3 - np.array(gaps) + rng.normal(0, noise, (n, len(gaps)))
    return pd.DataFrame(values.clip(0, 1), columns=[f"reader-{i}" for i in range(len(gaps))])


def tidy(wide, **more):
    long = wide.rename_axis("item_id").reset_index().melt("item_id", var_name="experiment", value_name="value")
    return long.assign(repeat=0, **more)


# statistics against their oracles


@pytest.mark.parametrize("n", [1, 2, 5, 11])
def test_sign_flips_are_scipys_exact_permutation_test(n):
    d = RNG.normal(0.3, 1, n)
    patterns = np.array(list(itertools.product([1, -1], repeat=n)))
    close(sign_flip_p(d[:, None])[0], (abs(patterns @ d) >= abs(d.sum()) - 1e-9).mean())
    if n > 1:
        found = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
        close(sign_flip_p(d[:, None])[0], found.pvalue)


def test_random_sign_flips_come_close_to_the_exact_ones_and_repeat_themselves():
    d = RNG.normal(0.25, 1, 20)
    left, right = (np.sort(np.array(list(itertools.product([1, -1], repeat=10))) @ half) for half in (d[:10], d[10:]))
    far = abs(d.sum()) - 1e-9
    exact = np.mean(
        [
            (np.searchsorted(right, -far - x, "right") + len(right) - np.searchsorted(right, far - x)) / len(right)
            for x in left
        ]
    )
    assert sign_flip_p(d[:, None])[0] == pytest.approx(exact, abs=0.01)
    assert sign_flip_p(d[:, None])[0] == sign_flip_p(d[:, None])[0]


def test_a_clear_difference_is_not_stopped_by_the_number_of_random_flips():
    "9,999 flips cannot show a p below 1/10,000, which Holm over 500 pairs would never accept"
    p = sign_flip_p(np.full((200, 1), 0.1))[0]
    assert p < 1e-20


@pytest.mark.parametrize("b, c", [(0, 0), (7, 1), (3, 3), (0, 12), (40, 21)])
def test_mcnemar_is_statsmodels_exact(b, c):
    close(mcnemar_p(b, c), mcnemar([[5, b], [c, 4]], exact=True).pvalue if b + c else 1.0)


def test_mcnemar_and_sign_flips_are_the_same_test_for_pass_fail():
    a, b = RNG.random((2, 14)) < [[0.9], [0.5]]
    d = a.astype(float) - b
    close(mcnemar_p((d > 0).sum(), (d < 0).sum()), sign_flip_p(d[:, None])[0])


@pytest.mark.parametrize("p", [[0.2], [0.01, 0.01, 0.9], [0.0, 1.0, 0.5], RNG.random(28) ** 3, RNG.random(60).round(1)])
def test_holm_is_statsmodels(p):
    close(holm(p), multipletests(p, method="holm")[1])


def test_holm_passes_over_what_was_not_tested():
    close(holm([0.01, math.nan, 0.04]), [0.02, math.nan, 0.04])
    assert len(holm([])) == 0


@pytest.mark.parametrize("d, sd, n, alpha", [(0.1, 0.2, 10, 0.05), (0.02, 0.1, 150, 0.01), (1, 0.4, 4, 0.05)])
def test_power_is_statsmodels(d, sd, n, alpha):
    close(power(d, sd, n, alpha), TTestPower().power(d / sd, n, alpha))


@settings(max_examples=80, deadline=None)
@given(st.floats(0.005, 1), st.floats(0.01, 1), st.sampled_from([0.05, 0.005]))
def test_items_needed_is_the_smallest_number(d, sd, alpha):
    n = items_needed(d, sd, alpha)
    assert power(d, sd, n, alpha) >= 0.8 and (n == 2 or power(d, sd, n - 1, alpha) < 0.8)


def test_what_rounding_leaves_of_equal_means_needs_no_items():
    "Means that are equal but for 1e-17 once required more items than an integer column holds"
    assert items_needed(1e-17, 0.1) is None and items_needed(1e-6, 1.0) > 10**9
    a = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.25])
    b = a[::-1].copy()
    b[0] += 1e-16
    out = compare(pd.DataFrame({"a": a, "b": b}))
    assert out.table["items_needed"].isna().all() and "cannot be told apart" in out.sentence


def test_items_needed_without_a_difference_and_for_a_tiny_one():
    assert items_needed(0.0, 0.1) is None and items_needed(0.1, 0.0) is None and items_needed(math.nan, 1) is None
    assert items_needed(1e-9, 1) > 10**15


def test_plain_t_and_clustered_t_are_the_textbook_ones():
    wide = readers(24)
    row = paired_comparisons(score_table(wide), method="t").iloc[1]
    t = stats.ttest_rel(wide["reader-0"], wide["reader-2"]).confidence_interval(row["confidence"])
    assert row["confidence"] == pytest.approx(1 - 0.05 / 3)
    close((row["lower"], row["upper"]), (t.low, t.high))
    stations = RNG.integers(0, 7, 24)
    row = paired_comparisons(score_table(wide, clusters=stations), method="t").iloc[1]
    fit = sm.OLS(wide["reader-0"] - wide["reader-2"], np.ones(24)).fit(
        cov_type="cluster", cov_kwds={"groups": stations}, use_t=True
    )
    close((row["lower"], row["upper"]), fit.conf_int(1 - row["confidence"]).iloc[0])
    assert row["clusters"] == len(set(stations))


def test_bootstrap_is_close_to_scipys():
    wide = readers(40)
    row = paired_comparisons(score_table(wide), method="bootstrap").iloc[1]
    d = (wide["reader-0"] - wide["reader-2"]).to_numpy()
    found = stats.bootstrap(
        (d,), np.mean, confidence_level=row["confidence"], method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    close((row["lower"], row["upper"]), (found.low, found.high), 0.002)


def test_the_widened_interval_for_pass_fail_by_hand():
    "9 won, 1 lost, 2 even, and one imaginary item on each side: variance of the 14, around the real mean"
    a, b = [1] * 9 + [0] + [1, 0], [0] * 9 + [1] + [1, 0]
    row = paired_comparisons(score_table({"a": a, "b": b})).iloc[0]
    d = np.array([1] * 10 + [-1] * 2 + [0, 0])
    half = stats.t.ppf(0.975, 13) * d.std(ddof=1) / math.sqrt(14)
    close((row["lower"], row["upper"]), (8 / 12 - half, min(1, 8 / 12 + half)))


def test_an_interval_never_contradicts_its_test():
    "7 won and 1 lost: McNemar's p is .07, so the interval reaches to 0 and the pair is not called different"
    row = paired_comparisons(score_table({"a": [1] * 7 + [0], "b": [0] * 7 + [1]})).iloc[0]
    assert row["p"] == pytest.approx(0.0703125) and row["lower"] == 0 and not row["distinguishable"]


# what comes in


def test_tidy_and_wide_say_the_same():
    wide = readers()
    one, two = compare(wide), compare(tidy(wide))
    assert one.sentence == two.sentence
    pd.testing.assert_frame_equal(one.table, two.table)


def test_repeats_are_averaged_within_their_item_not_counted_as_items():
    wide = readers(8)
    thrice = pd.concat([tidy(wide).assign(repeat=r) for r in range(3)])
    pd.testing.assert_frame_equal(compare(thrice).table, compare(tidy(wide)).table)
    shuffled = thrice.sample(frac=1, random_state=1)
    close(sorted(compare(shuffled).table["p_adjusted"].dropna()), sorted(compare(wide).table["p_adjusted"].dropna()))


def test_clusters_make_the_interval_wider_when_their_items_agree():
    wide = pd.concat([readers(6, noise=0.05)] * 4, ignore_index=True)
    stations = list(range(6)) * 4
    plain, clustered = compare(wide), compare(wide, clusters=stations)
    width = lambda c: (c.pairs["upper"] - c.pairs["lower"]).to_numpy()
    assert (width(clustered) > 1.5 * width(plain)).all()
    own = clustered.table.set_index("experiment").loc["reader-0"]
    expected = mean_interval(wide["reader-0"], clusters=stations)
    close((own["lower"], own["upper"]), (expected.lower_bound, expected.upper_bound))
    assert any("6 clusters" in s for s in clustered.sentences)
    named = compare(tidy(wide).assign(cluster=lambda f: [f"station {stations[i]}" for i in f["item_id"]]))
    close(width(named), width(clustered))


def test_missing_pairs_are_left_out_and_told():
    wide = readers(12)
    wide.loc[[0, 1, 2], "reader-0"] = np.nan
    out = compare(wide)
    assert out.pairs["n"].tolist() == [9, 9, 12] and out.items == 12
    assert out.table.set_index("experiment").loc["reader-0", "missing"] == 3
    assert any("reader-0 (3 of 12)" in s for s in out.sentences)
    close(out.pairs["difference"][0], (wide["reader-0"] - wide["reader-1"]).mean())


def test_several_scores_need_a_choice():
    both = pd.concat([tidy(readers(), score="ballots"), tidy(readers(seed=1), score="names")])
    with pytest.raises(ValueError, match="'ballots', 'names'"):
        compare(both)
    assert compare(both, score="names").table["mean"].tolist() == compare(readers(seed=1)).table["mean"].tolist()
    overall = pd.concat([both, tidy(readers(seed=2), score="overall_accuracy")])
    assert compare(overall).score == "overall_accuracy"


@pytest.mark.parametrize(
    "scores, words",
    [
        (tidy(readers()).drop(columns="value"), "value"),
        (tidy(readers()).assign(item_id=None), "item_id"),
        (tidy(readers()).assign(value="good"), "good"),
        (pd.DataFrame({"a": [1.0], "when": ["x"]}), "x"),
        ({"a": [0.5, 98.0], "b": [1, 1]}, "98"),
        ({"a": [0.5, math.inf]}, "infinite"),
        (tidy(readers()).assign(cluster=range(30)), "more than one cluster"),
        (tidy(readers(), score="x").assign(experiment=np.nan), "experiment"),
    ],
)
def test_bad_frames_are_named(scores, words):
    with pytest.raises(ValueError, match=words):
        compare(scores)


@pytest.mark.parametrize(
    "kwargs, words",
    [
        ({"confidence": 95}, "95"),
        ({"method": "magic"}, "magic"),
        ({"score": "zz"}, "zz"),
        ({"clusters": ["a"]}, "1 labels"),
    ],
)
def test_bad_arguments_are_named(kwargs, words):
    scores = tidy(readers(), score="x") if "score" in kwargs else readers()
    with pytest.raises(ValueError, match=words):
        compare(scores, **kwargs)


# what comes out


@pytest.mark.parametrize(
    "scores, best, words",
    [
        ({}, None, "nothing to compare"),
        (tidy(readers())[:0], None, "nothing to compare"),
        ({"a": [None], "b": [math.nan]}, None, "nothing to compare"),
        ({"a": [1, 0]}, "a", "Only a has scores (2 items)"),
        ({"a": [1, 0], "b": [None, None]}, "a", "Only a has scores (2 items)"),
        ({"a": [1] * 9, "b": [1] * 9}, "a", "a and b cannot be told apart with 9 items: they scored the same on each."),
        ({"a": [0] * 9, "b": [0] * 9}, "a", "a and b scored 0 on 9 items, so none is best."),
        ({"a": [1, 0], "b": [0, 1]}, "a", "their means are equal"),
        ({"a": [1, None], "b": [None, 0]}, "a", "because they share none"),
        ({"a": [0.5], "b": [0.4]}, "a", "cannot be told apart with 1 item: they differ by 10.0 points"),
    ],
)
def test_whatever_comes_in_there_is_an_answer(scores, best, words):
    out = compare(scores)
    assert out.best == best and not out.distinguishable and words in out.sentence
    json.dumps(out.to_dict(), allow_nan=False)
    assert out.sentence in out._repr_markdown_() or "&" in out._repr_markdown_()
    assert out._repr_html_()


def test_a_supported_best_is_called_best_with_its_evidence():
    out = compare(readers(12, gaps=(0.0, 0.12, 0.3)))
    assert out.distinguishable and out.best == "reader-0" and out.tied_with == []
    assert out.sentence.startswith("reader-0 is best: +") and "points over reader-1 (95 % interval +" in out.sentence
    assert (
        "12 items). With 12 items, total failures of reader-0 on up to 22 % of forms cannot be excluded" in out.sentence
    )
    assert out.table["verdict"].tolist() == ["best", "behind", "behind"]
    second = out.table.iloc[1]
    assert (
        second["difference"] < 0 and second["difference_lower"] < second["difference"] < second["difference_upper"] < 0
    )


def test_an_unsupported_best_is_not():
    out = compare(readers(10, gaps=(0.0, 0.005, 0.3), noise=0.05))
    assert not out.distinguishable and len(out.tied_with) == 1
    assert "cannot be told apart with 10 items: they differ by" in out.sentence and "is best" not in out.sentence
    assert "only differences above about" in out.sentence and "items would show it" in out.sentence
    assert any("is ahead of reader-2" in s for s in out.sentences)
    assert out.table["items_needed"].dropna().iloc[0] > 10


def test_too_few_items_are_said_to_be_too_few():
    out = compare(readers(5, gaps=(0.0, 0.4)))
    assert not out.distinguishable and "takes at least 6 items" in out.sentence
    assert out.table["items_needed"].dropna().iloc[0] >= 6
    assert fewest_items(1) == 6 and fewest_items(28) == 11


def test_less_can_be_better_and_quantities_need_no_bounds():
    seconds = pd.DataFrame(RNG.lognormal(0, 0.2, (30, 1)) * [1.7, 1.0], columns=["pro", "lite"])
    out = compare(seconds, bounds=None, higher_is_better=False, unit="s")
    assert out.best == "lite" and out.distinguishable and " s over pro" in out.sentence
    t = stats.ttest_1samp(seconds["lite"], 0).confidence_interval()
    close(out.table.loc[0, ["lower", "upper"]].astype(float), (t.low, t.high))


def test_names_from_outside_stay_text():
    out = compare({"<script>x</script>": [1, 0, 1], "a|b": [0, 1, 1]})
    assert "<script>" not in out._repr_html_() and "<script>" not in out._repr_markdown_()
    assert "a\\|b" in out._repr_markdown_()
    assert markdown_table(pd.DataFrame({"x": ["a\nb"]})).count("\n") == 2


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 14), st.integers(2, 5), st.integers(0, 10**6))
def test_order_of_items_and_experiments_does_not_matter(n, k, seed):
    rng = np.random.default_rng(seed)
    wide = pd.DataFrame(rng.integers(0, 5, (n, k)) / 4, columns=list("abcde")[:k])
    one, two = compare(wide), compare(wide.sample(frac=1, random_state=seed)[list(wide.columns)[::-1]])
    tell = lambda c: (
        c.table.drop(columns=["verdict", "items_needed"])
        .set_index("experiment")
        .sort_index()[["mean", "lower", "upper"]]
    )
    close(tell(one), tell(two))
    assert one.distinguishable == two.distinguishable
    assert all(
        (one.pairs["lower"] <= one.pairs["difference"] + 1e-12)
        & (one.pairs["difference"] <= one.pairs["upper"] + 1e-12)
    )


def test_a_hundred_thousand_items_of_eight_experiments_agree_with_the_plain_formulas():
    wide = pd.DataFrame(RNG.random((100_000, 8)).round(2), columns=[f"c{i}" for i in range(8)])
    out = compare(wide)
    row = out.pairs.iloc[0]
    t = stats.ttest_rel(wide["c0"], wide["c1"])
    close((row["lower"], row["upper"]), tuple(t.confidence_interval(row["confidence"])), 1e-5)
    assert row["p"] == pytest.approx(t.pvalue, abs=1e-3) and set(out.pairs["test"]) == {"normal"}


# measured


@pytest.mark.parametrize("n", [10, 30, 100])
def test_coverage_and_false_claims(n):
    for law in PAIR_LAWS:
        found = paired_coverage(law, n, 400, seed=1)
        assert found["coverage"] >= 0.935 - 0.03, found  # 2.5 standard errors at 400 samples
        if PAIR_LAWS[law].difference == 0:
            assert found["rejected"] <= 0.055 + 0.03, found


def test_the_best_of_four_equal_experiments_is_seldom_called_best_or_better():
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(100):
        pairs = paired_comparisons(score_table(pd.DataFrame(rng.beta(8, 2, (12, 4)))))
        wrong += bool(pairs["distinguishable"].any())
    assert wrong / 100 <= 0.055 + 0.05


@pytest.mark.slow
@pytest.mark.parametrize("n", [10, 30, 100])
@pytest.mark.parametrize("law", PAIR_LAWS)
def test_coverage_and_type_one_error_in_20_000_samples(law, n):
    found = paired_coverage(law, n, 20_000, seed=3)
    assert found["coverage"] >= 0.935, found
    if PAIR_LAWS[law].difference == 0:
        assert found["rejected"] <= 0.055 and found["claimed"] <= 0.055, found


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_best_of_four_equal_experiments_in_20_000_runs():
    rng, wrong = np.random.default_rng(6), 0
    for _ in range(20_000):
        pairs = paired_comparisons(score_table(pd.DataFrame(rng.beta(8, 2, (12, 4)))))
        wrong += bool(pairs["distinguishable"].any())
    assert wrong / 20_000 <= 0.055


@pytest.mark.slow
def test_items_needed_gives_about_the_promised_chance():
    "0.8 for the t test; the exact rule, which asks for the interval too, sees a little less"
    rng, seen, d, sd = np.random.default_rng(4), 0, 0.05, 0.1
    n = items_needed(d, sd)
    for _ in range(400):
        a = rng.uniform(0.4, 0.6, n)
        seen += compare(pd.DataFrame({"a": a + rng.normal(d, sd, n), "b": a}), bounds=(-1, 2)).distinguishable
    assert 0.65 < seen / 400 < 0.9


def test_no_sentence_contradicts_another_one():
    "What can be seen is more than what was found; too few items are called too few; a constant lead may be chance"
    draws, checked = np.random.default_rng(11), 0
    for n in (2, 4, 5, 8, 10, 20, 50):
        for _ in range(40):
            hard = draws.beta(8, 2, n)
            scores = {k: (hard + draws.normal(-lag, 0.1, n)).clip(0, 1) for k, lag in (("a", 0), ("b", 0.05))}
            out = compare(pd.DataFrame(scores))
            if "can be seen" in out.sentence:
                checked += 1
                assert 1 > out.plan.visible > out.table["difference"].abs().min(), out.sentence
            if n < 6:
                assert "can be seen" not in out.sentence and "takes at least 6 items" in out.sentence, out.sentence
    assert checked > 50


def test_the_one_ahead_is_not_said_to_have_the_best_mean_when_another_one_has_it():
    scores = {"fills gaps": [0.81, 0.62, 0.9, 0.75, None, 0.70], "skips hard ones": [0.8, None, 0.9, 0.74, 0.99, 0.69]}
    out = compare(pd.DataFrame(scores))
    own = out.table.set_index("experiment")
    assert own["mean"].idxmax() != out.best and own.loc[out.best, "verdict"] == "best on shared items"
