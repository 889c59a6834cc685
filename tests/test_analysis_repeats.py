"""Repeats: the variances are those of the textbooks, and repeats are never taken for new items."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, strategies as st
from scipy import stats

from vote_experiments.analysis.comparison import compare
from vote_experiments.analysis.intervals import mean_interval
from vote_experiments.analysis.repeats import advice, planned_error, repeat_variance, variance_parts

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("sizes", [[3] * 12, [1, 2, 5, 3, 3, 4, 1, 6]])
def test_the_clustered_error_is_statsmodels(sizes):
    items = np.repeat(np.arange(len(sizes)), sizes)
    x = RNG.normal(0.5, 0.2, len(sizes))[items] + RNG.normal(0, 0.1, len(items))
    fit = sm.OLS(x, np.ones(len(x))).fit(cov_type="cluster", cov_kwds={"groups": items})
    found = variance_parts(x, items)
    np.testing.assert_allclose((found.error, found.mean), (fit.bse[0], fit.params[0]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("sizes", [[3] * 12, [2, 2, 5, 3, 3, 4, 2, 6]])
def test_the_two_variances_are_those_of_the_analysis_of_variance(sizes):
    items = np.repeat(np.arange(len(sizes)), sizes)
    x = RNG.normal(0.5, 0.2, len(sizes))[items] + RNG.normal(0, 0.1, len(items))
    found, groups = variance_parts(x, items), [x[items == i] for i in range(len(sizes))]
    usual = (len(x) - sum(s * s for s in sizes) / len(x)) / (len(sizes) - 1)
    f = (usual * found.between + found.within) / found.within
    np.testing.assert_allclose(f, stats.f_oneway(*groups).statistic, rtol=1e-9)
    np.testing.assert_allclose(
        found.within, sum(((g - g.mean()) ** 2).sum() for g in groups) / (len(x) - len(sizes)), atol=1e-12
    )


def test_they_find_what_was_put_in():
    items = np.repeat(np.arange(4000), 3)
    found = variance_parts(RNG.normal(0, 0.3, 4000)[items] + RNG.normal(0, 0.1, 12000), items)
    assert abs(found.between - 0.09) < 0.006 and abs(found.within - 0.01) < 0.0005
    assert abs(planned_error(found, 4000, 3) - found.error) < 1e-4


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(1, 4))
def test_asking_again_and_hearing_the_same_adds_nothing(values, k):
    items = list(range(len(values)))
    once, again = variance_parts(values, items), variance_parts(values * k, items * k)
    if len(values) > 1:
        assert math.isclose(once.error, again.error, abs_tol=1e-9)
    assert again.items == len(values) and again.values == k * len(values)
    if k > 1:
        assert again.unstable == 0 and again.within < 1e-20


def test_repeats_within_compare_and_in_the_interval():
    "The table's interval, `compare` and `mean_interval` agree on what a repeat is worth: nothing by itself"
    values = (RNG.random(30) < 0.8).astype(float)
    wide = pd.DataFrame({"experiment": "a", "item_id": np.arange(30), "value": values})
    tall = pd.concat([wide] * 3)
    row = repeat_variance(tall).iloc[0]
    one = mean_interval(values)
    assert (row["lower"], row["upper"]) == pytest.approx((one.lower_bound, one.upper_bound), abs=1e-7)
    assert row["naive_error"] < 0.6 * row["error"]
    noisy = wide.assign(experiment="b", value=1 - values)
    a, b = compare(pd.concat([wide, noisy])), compare(pd.concat([wide, noisy] * 3))
    pd.testing.assert_frame_equal(a.table, b.table)


def test_missing_scores_and_too_few_of_them():
    assert variance_parts([1, None, 0.5, math.nan], list("aabb")) == variance_parts([1, 0.5], list("ab"))
    assert variance_parts([None], ["a"]).items == 0
    one = variance_parts([1, 0], list("aa"))
    assert one.within == 0.5 and math.isnan(one.between) and math.isnan(one.error) and one.unstable == 1
    table = repeat_variance(pd.DataFrame({"experiment": ["a"], "item_id": ["x"], "value": [1.0]}))
    assert table["values"].tolist() == [1] and table[["within_sd", "error", "naive_error"]].isna().all(axis=None)
    assert "it is unknown" in advice(variance_parts([1, 0], list("ab")))
    assert "more items come first" in advice(one)
