"""Intervals: the same statistic as scipy and statsmodels where they have it, and measured coverage for the rest."""

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from promises import promise
import statsmodels.api as sm
from hypothesis import given, settings, strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from vote_experiments.analysis.intervals import (
    CI,
    METHODS,
    Interval,
    compute_bernoulli_ci,
    compute_ci,
    compute_ci_df,
    compute_probability_ci,
    interval_from_sums,
    mean_interval,
    median_interval,
    resolve_column,
)
from vote_experiments.analysis.coverage import DISTRIBUTIONS, coverage

close = lambda a, b, eps=1e-9: np.testing.assert_allclose(a, b, rtol=0, atol=eps)
ends = lambda i: (i.lower_bound, i.upper_bound)
fractions = st.lists(st.floats(0, 1), min_size=1, max_size=40)
RNG = np.random.default_rng(11)


def test_the_module_loads_neither_pandas_nor_matplotlib():
    code = (
        "import sys, vote_experiments.analysis.intervals; "
        "print(sorted({'pandas', 'matplotlib', 'scipy.stats'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


# the product's interval


@pytest.mark.parametrize("n", [1, 2, 10, 33, 400])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_pass_fail_is_clopper_pearson(n, confidence):
    for k in {0, 1, n // 3, n - 1, n}:
        found = mean_interval([True] * k + [False] * (n - k), confidence)
        close(ends(found), proportion_confint(k, n, 1 - confidence, "beta"))
        assert found.count == n and found.mean == k / n


@pytest.mark.parametrize("n", [10, 30, 100])
def test_pass_fail_coverage_computed_exactly_never_falls_below_nominal(n):
    found = [ends(mean_interval([1.0] * k + [0.0] * (n - k))) for k in range(n + 1)]
    low, high = map(np.array, zip(*found))
    for p in np.linspace(0.005, 0.995, 199):
        assert stats.binom.pmf(np.arange(n + 1), n, p)[(low <= p) & (p <= high)].sum() >= 0.95


@pytest.mark.parametrize("value", [0.1, 0.5, 2 / 3])
@pytest.mark.parametrize("n", [1, 3, 10, 30])
def test_two_valued_scores_keep_the_exact_bound_on_both_sides(value, n):
    "Matching the Beta on [0, 1] instead of on the sample's range missed up to 9.8 % on one side"
    found = [ends(mean_interval([value] * k + [0.0] * (n - k))) for k in range(n + 1)]
    low, high = map(np.array, zip(*found))
    for p in np.linspace(0.005, 0.995, 199):
        chance = stats.binom.pmf(np.arange(n + 1), n, p)
        assert chance[low > p * value + 1e-12].sum() <= 0.025 + 1e-9
        assert chance[high < p * value - 1e-12].sum() <= 0.025 + 1e-9


@pytest.mark.parametrize("value", [0.0, 0.3, 0.97, 1.0])
@pytest.mark.parametrize("n", [1, 5, 100])
def test_a_sample_of_equal_values_gets_a_real_bound(value, n):
    low, high = ends(mean_interval([value] * n))
    assert low <= value <= high and high - low > 0.5 / n


@settings(max_examples=150, deadline=None)
@given(fractions, st.floats(0.5, 0.999))
def test_it_holds_the_mean_mirrors_widens_and_forgets_the_order(values, confidence):
    found, mirrored = mean_interval(values, confidence), mean_interval([1 - v for v in values], confidence)
    assert 0 <= found.lower_bound <= found.mean <= found.upper_bound <= 1
    close(ends(found), (1 - mirrored.upper_bound, 1 - mirrored.lower_bound), 1e-7)
    close(ends(found), ends(mean_interval(values[::-1], confidence)))
    wider = mean_interval(values, (1 + confidence) / 2)
    assert wider.lower_bound <= found.lower_bound and wider.upper_bound >= found.upper_bound


@settings(max_examples=100, deadline=None)
@given(fractions, st.integers(1, 4))
def test_repeating_every_value_adds_nothing_when_the_repeats_are_clustered(values, k):
    once, items = mean_interval(values), list(range(len(values))) * k
    again = mean_interval(values * k, clusters=items)
    close(ends(again), ends(once), 1e-7)
    assert again.count == k * len(values)


@settings(max_examples=60, deadline=None)
@given(fractions, st.floats(-50, 50), st.floats(0.1, 100))
def test_bounds_shift_and_scale(values, lowest, width):
    unit, scaled = (
        mean_interval(values),
        mean_interval([lowest + width * v for v in values], bounds=(lowest - 1e-9, lowest + width + 1e-9)),
    )
    close(scaled.lower_bound, lowest + width * unit.lower_bound, 1e-4 * width)
    close(scaled.upper_bound, lowest + width * unit.upper_bound, 1e-4 * width)


@settings(max_examples=60, deadline=None)
@given(fractions)
def test_sums_are_enough(values):
    x = np.array(values)
    close(ends(interval_from_sums(len(x), x.sum(), (x**2).sum(), x.min(), x.max())), ends(mean_interval(x)), 1e-6)


def test_close_to_gaffkes_own_weighted_mean():
    weights = RNG.dirichlet(np.ones(31), 200_000)
    x = RNG.beta(8, 2, 30)
    mixed = weights[:, :-1] @ x
    close(ends(mean_interval(x)), (np.quantile(mixed, 0.025), np.quantile(mixed + weights[:, -1], 0.975)), 0.02)


def test_unequal_clusters_are_told_apart_from_independent_values():
    values, clusters = [1] * 12 + [0] * 6 + [1, 1, 0], ["a"] * 12 + ["b"] * 6 + ["c", "d", "e"]
    clustered, plain = mean_interval(values, clusters=clusters), mean_interval(values)
    assert clustered.mean == plain.mean
    assert clustered.upper_bound - clustered.lower_bound > 1.3 * (plain.upper_bound - plain.lower_bound)
    one = mean_interval([1, 0, 1], clusters=["same"] * 3)  # one cluster of mean 2/3: uniform between it and each end
    close(ends(one), (2 / 3 * 0.025, 1 - 1 / 3 * 0.025))


def test_missing_values_are_left_out_with_their_clusters():
    found = mean_interval([1, None, 0.5, float("nan"), 1], clusters=["a", "a", "b", "b", "c"])
    assert found == mean_interval([1, 0.5, 1], clusters=["a", "b", "c"]) and found.count == 3
    assert mean_interval(pd.Series([1, pd.NA, 0], dtype="Int64")).count == 2
    assert mean_interval(pd.Series([True, None, False], dtype="boolean")) == mean_interval([1, 0])
    for empty in ([], [None], np.array([])):
        nothing = mean_interval(empty)
        assert nothing.count == 0 and all(math.isnan(v) for v in (nothing.mean, *ends(nothing)))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: mean_interval([0.5, 98.5]), "98.5"),
        (lambda: mean_interval([0.5, -0.1]), "-0.1"),
        (lambda: mean_interval(["0.5"]), "text"),
        (lambda: mean_interval([0.5, math.inf]), "infinite"),
        (lambda: mean_interval([0.5], confidence=95), "95"),
        (lambda: mean_interval([0.5, 1], clusters=["a"]), "1 labels for 2 values"),
        (lambda: mean_interval([0.5, 1], clusters=["a", None]), "missing label"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_large_samples_agree_with_the_normal_law():
    x = RNG.beta(8, 2, 20_000)
    close(ends(mean_interval(x)), ends(compute_ci(x)), 3e-4)


# quantities without bounds


def test_without_bounds_it_is_students_t_even_far_from_zero():
    x = 1e8 + RNG.normal(0, 1, 12)
    found = stats.ttest_1samp(x, 0).confidence_interval()
    close(ends(mean_interval(x, bounds=None)), (found.low, found.high), 1e-6)
    assert math.isnan(mean_interval([3.0], bounds=None).lower_bound)


def test_clusters_without_bounds_are_the_cluster_robust_standard_error():
    x, c = RNG.normal(5, 2, 60), RNG.integers(0, 13, 60)
    fit = sm.OLS(x, np.ones(60)).fit(cov_type="cluster", cov_kwds={"groups": c}, use_t=True)
    close(ends(mean_interval(x, bounds=None, clusters=c)), fit.conf_int(0.05)[0])


@pytest.mark.parametrize("n", [6, 7, 10, 41, 200])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95])
def test_median_is_scipys_quantile_test(n, confidence):
    x = RNG.lognormal(size=n)
    found = stats.quantile_test(x, p=0.5).confidence_interval(confidence)
    close(ends(median_interval(x, confidence)), (found.low, found.high))


# the compatible ones


@promise("sweeps-50")
@pytest.mark.parametrize("n", [2, 3, 30, 31, 100])
def test_compute_ci_is_t_up_to_30_and_normal_above(n):
    x = RNG.normal(3, 2, n)
    described = sm.stats.DescrStatsW(x)
    close(ends(compute_ci(x, 0.9)), described.tconfint_mean(0.1) if n <= 30 else described.zconfint_mean(0.1))


@promise("sweeps-48")
@pytest.mark.parametrize("k, n", [(0, 5), (5, 5), (3, 7), (99, 100)])
def test_bernoulli_is_wilson(k, n):
    close(ends(compute_bernoulli_ci([True] * k + [False] * (n - k))), proportion_confint(k, n, method="wilson"))


@promise("sweeps-49")
@pytest.mark.parametrize("n", [2, 3, 10, 57])
def test_probability_is_the_percentile_bootstrap_with_seed_0(n):
    x = RNG.random(n)
    drawn = np.random.default_rng(0)
    means = [drawn.choice(x, size=n, replace=True).mean() for _ in range(2000)]
    close(ends(compute_probability_ci(x)), np.percentile(means, [2.5, 97.5]))
    found = stats.bootstrap((x,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(0))
    close(ends(compute_probability_ci(x)), tuple(found.confidence_interval))


@pytest.mark.parametrize("n", [5, 12, 60])
def test_bca_is_scipys(n):
    x = RNG.beta(8, 1, n)
    found = stats.bootstrap((x,), np.mean, n_resamples=2000, method="BCa", rng=np.random.default_rng(0))
    low, high = METHODS["bca"](x, None, 0.95)
    close((low, high), tuple(found.confidence_interval))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_many_samples_at_once_are_the_same_as_one_by_one(method):
    x = RNG.random((5, 9))
    low, high = METHODS[method](x, None, 0.95)
    single = [METHODS[method](row, None, 0.95) for row in x]
    eps = 1e-3 if method == "bca" else 1e-9  # a resample that equals the mean may round to either side of it
    close(low, [s[0] for s in single], eps)
    close(high, [s[1] for s in single], eps)


@promise("sweeps-52", "sweeps-53", "sweeps-54", "guide-differences-4")
def test_edges_of_the_compatible_functions():
    assert ends(compute_probability_ci([0.7])) == (0.7, 0.7)
    assert (*ends(compute_probability_ci([])), compute_probability_ci([]).count) == (0.0, 0.0, 0)
    assert all(map(math.isnan, ends(compute_ci([0.7])))) and compute_ci([0.7]).count == 1
    for same in (compute_ci([2.0] * 5), compute_ci([2.0] * 50)):
        assert ends(same) == (2.0, 2.0)
    assert ends(compute_probability_ci([0.25] * 5)) == (0.25, 0.25)
    assert CI is Interval and list(compute_ci([1, 2])) == ["mean", "lower_bound", "upper_bound", "count", "confidence"]
    low = [compute_ci([1, 2, 4], c).lower_bound for c in (0.5, 0.9, 0.99)]
    assert low == sorted(low, reverse=True)


def seeds():
    return pd.DataFrame(
        {
            "learning_rate": [1e-4, 1e-4, 5e-5, 5e-5, 1e-5],
            "task": list("ababa"),
            "accuracy": [0.9, 0.95, 0.98, 0.96, 0.92],
            "loss": [1.5, 1.25, 2.0, 0.5, 1.0],
            "steps": [10, 20, 30, 40, 50],
            "passed": [True, False, True, True, True],
        }
    )


@promise("sweeps-43", "sweeps-44", "sweeps-45", "sweeps-46", "sweeps-47", "guide-differences-3")
def test_compute_ci_df_columns_order_and_counts():
    out = compute_ci_df(seeds(), value_col="accuracy", group_cols="learning_rate")
    assert list(out) == ["learning_rate", "mean", "lower_bound", "upper_bound", "count", "confidence"]
    assert out["learning_rate"].tolist() == [1e-4, 5e-5, 1e-5] and out["learning_rate"].dtype == float
    assert out["count"].tolist() == [2, 2, 1] and set(out["confidence"]) == {0.95}
    assert compute_ci_df(seeds(), "learning_rate", "accuracy", sort=True)["learning_rate"].is_monotonic_increasing
    two = compute_ci_df(seeds(), ["learning_rate", "task"], "accuracy", 0.9)
    assert list(two)[:2] == ["learning_rate", "task"] and len(two) == 5 and set(two["confidence"]) == {0.9}


@promise("sweeps-48", "sweeps-49", "sweeps-50", "sweeps-51")
@pytest.mark.parametrize(
    "column, same",
    [
        ("passed", compute_bernoulli_ci),
        ("accuracy", compute_probability_ci),
        ("loss", compute_ci),
        ("steps", compute_ci),
    ],
)
def test_compute_ci_df_chooses_by_dtype(column, same):
    df = seeds()
    out = compute_ci_df(df, "learning_rate", column)
    expected = same(df[column][:2])
    close(out.loc[0, ["mean", "lower_bound", "upper_bound"]].astype(float), [expected.mean, *ends(expected)])


def test_the_choice_looks_at_the_whole_column_not_at_one_group():
    df = pd.DataFrame({"g": [1, 1, 2, 2], "v": [0.1, 0.2, 0.3, 1.5]})
    close(compute_ci_df(df, "g", "v").loc[0, "lower_bound"], compute_ci([0.1, 0.2]).lower_bound)


@promise("guide-differences-4")
def test_compute_ci_df_drops_nan_and_says_so_in_the_count():
    df = pd.DataFrame({"g": ["x", "x", "y", "y"], "v": [0.5, np.nan, np.nan, np.nan]})
    out = compute_ci_df(df, "g", "v")
    assert out["count"].tolist() == [1, 0]


@promise("guide-differences-4")
@pytest.mark.parametrize("method", [m for m in METHODS])
def test_compute_ci_df_takes_a_method(method):
    low = compute_ci_df(seeds(), "task", "accuracy", method=method).loc[0, "lower_bound"]
    close(low, METHODS[method](seeds()["accuracy"].to_numpy()[::2], None, 0.95)[0])


@promise("sweeps-51")
def test_compute_ci_df_refuses_with_words():
    df = seeds().assign(words="high")
    for kwargs, words in [
        ({"value_col": "words"}, "Unsupported dtype"),
        ({"value_col": "acuracy"}, "accuracy"),
        ({"group_cols": "lr"}, "learning_rate"),
        ({"method": "magic"}, "magic"),
    ]:
        with pytest.raises(ValueError, match=words):
            compute_ci_df(**{"df": df, "group_cols": "task", "value_col": "accuracy", **kwargs})
    assert compute_ci_df(df[:0], "task", "accuracy").empty


def test_a_dotted_path_finds_its_column():
    df = pd.DataFrame({"learning_rate": [1], "a.seed": [2], "x": [3]})
    df.attrs["columns"] = {"train.b.seed": "x"}
    assert resolve_column(df, "submit.hyper.learning_rate") == "learning_rate"
    assert resolve_column(df, "wf.a.seed") == "a.seed"
    assert resolve_column(df, "train.b.seed") == "x"


# measured coverage


@pytest.mark.parametrize("n", [10, 30, 100])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_products_interval_keeps_its_word(name, n):
    assert coverage("beta", name, n, 4000, seed=1).coverage >= 0.935


def test_coverage_agrees_with_an_exact_sum():
    n, found = 10, coverage("wilson", "Bernoulli(.9)", 10, 20_000, seed=2)
    held = [p[0] <= 0.9 <= p[1] for k in range(n + 1) for p in [proportion_confint(k, n, method="wilson")]]
    exact = stats.binom.pmf(np.arange(n + 1), n, 0.9)[held].sum()
    assert abs(found.coverage - exact) < 4 * math.sqrt(exact * (1 - exact) / 20_000)
    assert found.coverage == pytest.approx(1 - found.too_low - found.too_high)


def test_repeats_of_a_simulation_are_identical():
    assert coverage("t", "0/1-inflated", 10, 500, seed=3) == coverage("t", "0/1-inflated", 10, 500, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("n", [10, 30, 100])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_products_interval_keeps_its_word_in_20_000_samples(name, n):
    assert coverage("beta", name, n, 20_000, seed=4).coverage >= 0.935


@pytest.mark.slow
def test_published_coverage_of_the_compatible_methods():
    "The figures that the documentation prints: none of these may be mistaken for 95 %"
    found = {
        (m, n): coverage(m, "Beta(30, 1)", n, 20_000, seed=5).coverage
        for m in ("t", "bootstrap", "bca")
        for n in (10, 30, 100)
    }
    assert 0.855 < found["bootstrap", 10] < 0.89 and 0.93 < found["bootstrap", 100] < 0.95
    assert 0.89 < found["t", 10] < 0.915 and 0.86 < found["bca", 10] < 0.90
