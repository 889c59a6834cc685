import copy
import gc
import json
import math
import random
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from vote_experiments.analysis.fields import (
    FIELDS,
    FieldTally,
    field_accuracy,
    field_differences,
    share_interval,
    slice_accuracy,
    vote_error_bins,
    vote_errors,
)
from vote_experiments.analysis.intervals import mean_interval
from vote_experiments.synthesis.reports import draft_report
from vote_experiments.records import DatasetItem, ItemError, ItemResult
from vote_experiments.scoring.evaluators import (
    ballot_accuracy_score,
    exact_form_match,
    vote_results_quality,
    voter_statistics_accuracy,
)

DRAFTS = {(seed, kind): draft_report(seed, kind, "hard") for seed in range(6) for kind in ("Constituency", "PartyList")}
TRUTHS = {key: d.report for key, d in DRAFTS.items()}


def misread(report: dict, seed: int, rate: float = 0.2) -> dict:
    "The report with some numbers, names and rows read wrongly"
    r, wrong = random.Random(seed), copy.deepcopy(report)
    for section in ("voter_statistics", "ballot_statistics"):
        for k, v in [(k, v) for k, v in wrong[section].items() if not isinstance(v, str)]:
            if r.random() < rate:
                wrong[section][k] = r.choice([None, (v or 0) + r.randint(1, 900), 0])
    for row in wrong["vote_results"]:
        if r.random() < rate:
            row["vote_count"] = r.choice([None, r.randint(0, 10 ** r.randint(1, 7))])
        if row["party_name"] and r.random() < rate:
            row["party_name"] += "์"
    wrong["vote_results"] = [row for row in wrong["vote_results"] if r.random() > rate / 4]
    if r.random() < rate:
        wrong["form_info"]["district"] = "บางรัก"
    return wrong


def result(i: int, truth, output, repeat: int = 0, **metadata) -> ItemResult:
    error = ItemError("TimeoutError", "too slow") if output is None else None
    return ItemResult(
        DatasetItem(f"f{i}", None, truth, metadata or None), output, error=error, repeat=repeat, position=i
    )


RESULTS = [result(i, t, misread(t, i), level="scan" if i % 2 else "poor") for i, t in enumerate(TRUTHS.values())]


# -- against the evaluators, which count the same fields their own way


def micro(frame: pd.DataFrame, section: str) -> float:
    some = frame[frame["field"].str.startswith(section)]
    return some["correct"].sum() / some["n"].sum()


def test_ballots_and_voters_agree_with_the_evaluators():
    frame = field_accuracy(RESULTS)
    for section, evaluator in (("ballot_", ballot_accuracy_score), ("voter_", voter_statistics_accuracy)):
        each = [evaluator(None, r.output, r.item.expected_output) for r in RESULTS]
        assert micro(frame, section) == pytest.approx(np.mean([v for v in each if v is not None]))


def test_votes_agree_with_the_evaluator_form_by_form():
    for r in RESULTS:
        frame = field_accuracy([r]).set_index("field")
        assert frame.loc["vote_results.vote_count", "mean"] == pytest.approx(
            vote_results_quality(None, r.output, r.item.expected_output)
        )


def test_an_exact_header_is_a_header_without_differences():
    for r in RESULTS:
        differences = field_differences(r.item.expected_output, r.output)
        header = [d for d in differences if d.path.startswith("form_info.")]
        assert exact_form_match(None, r.output, r.item.expected_output) == (not header)


def test_differences_and_the_accuracy_of_fields_tell_the_same_story():
    for r in RESULTS:
        frame = field_accuracy([r])
        numbers = frame[~frame["field"].str.startswith("vote_results")]
        differences = [
            d for d in field_differences(r.item.expected_output, r.output) if not d.path.startswith("vote_results")
        ]
        assert len(differences) == (numbers["n"] - numbers["correct"]).sum()


# -- one report


@pytest.mark.parametrize("key", TRUTHS)
def test_the_truth_has_no_differences_in_any_spelling(key):
    truth = TRUTHS[key]
    for spelling in (
        truth,
        [truth],
        {"reports": [truth]},
        json.dumps({"success": True, "data": [truth]}, ensure_ascii=False),
    ):
        assert field_differences(truth, spelling) == []
        assert field_accuracy([result(0, truth, spelling)])["mean"].eq(1).all()


@given(st.sampled_from(list(TRUTHS)), st.integers(0, 200), st.integers(1, 5000))
@settings(max_examples=60, deadline=None)
def test_one_wrong_number_is_one_difference(key, which, off):
    truth = TRUTHS[key]
    wrong = copy.deepcopy(truth)
    row = wrong["vote_results"][which % len(wrong["vote_results"])]
    was = row["vote_count"]
    row["vote_count"] = (was or 0) + off
    (d,) = field_differences(truth, wrong)
    assert (d.path, d.expected, d.answered) == (
        f"vote_results[number={row['number']}].vote_count",
        was,
        (was or 0) + off,
    )
    assert d.kind == ("invented" if was is None else "wrong") and d.form_type == key[1]


def test_a_row_too_many_and_a_row_too_few_are_told_once_each():
    truth = TRUTHS[0, "Constituency"]
    other = copy.deepcopy(truth)
    lost = other["vote_results"].pop(2)
    other["vote_results"].append({"number": 99, "candidate_name": "นายเกิน มา", "party_name": "ใหม่", "vote_count": 7})
    missing, invented = field_differences(truth, other)
    assert missing.path == f"vote_results[number={lost['number']}].vote_count" and missing.answered is None
    assert (invented.path, invented.answered, invented.kind) == ("vote_results[number=99].vote_count", 7, "invented")


def test_of_two_reports_the_one_not_answered_is_named():
    both = [TRUTHS[1, "Constituency"], TRUTHS[1, "PartyList"]]
    (d,) = field_differences(both, [both[0]])
    assert (d.kind, d.form_type, d.report, d.path) == ("no report", "PartyList", 1, "")
    assert {d.kind for d in field_differences(both, None)} == {"no report"}
    frame = field_accuracy([result(0, both, [both[0]])]).groupby("form_type")["mean"].mean()
    assert frame["Constituency"] == 1 and frame["PartyList"] == 0


@pytest.mark.parametrize("truth", [None, "", "42", 42, [], {}, {"answer": 4}, "รายงาน", float("nan"), {"error": "no"}])
def test_a_truth_that_is_no_report_is_refused_alone_and_left_out_among_others(truth):
    if truth != []:
        with pytest.raises(ValueError):
            field_differences(truth, TRUTHS[0, "PartyList"])
    tally = FieldTally()
    assert tally.add(result(0, truth, {"anything": 1})) is False
    assert tally.add(RESULTS[0]) is True
    assert (tally.n_results, tally.n_judged) == (2, 1)
    assert len(field_accuracy([result(0, truth, 1)])) == 0


@pytest.mark.parametrize(
    "output", [None, "", "sorry", 3, [], {}, {"error": "overloaded"}, {"reports": []}, b"\xff", [[1]]]
)
def test_an_answer_without_a_report_has_everything_wrong(output):
    truth = TRUTHS[2, "Constituency"]
    frame = field_accuracy([ItemResult(DatasetItem("f", None, truth), output)])
    assert frame["correct"].sum() == 0 and frame["n"].sum() > 20
    errors = vote_errors([ItemResult(DatasetItem("f", None, truth), output)])
    assert errors["difference"].isna().all()


def test_fields_come_in_the_order_of_the_form():
    frame = field_accuracy(RESULTS)
    for _, some in frame.groupby("form_type"):
        places = [FIELDS.index(f) for f in some["field"]]
        assert places == sorted(places)
    assert not ((frame["field"] == "vote_results.candidate_name") & (frame["form_type"] == "PartyList")).any()


# -- adding up


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)).map(lambda p: (min(p), max(p))), min_size=1, max_size=20),
    st.sampled_from([0.8, 0.95, 0.99]),
)
@settings(max_examples=150, deadline=None)
def test_shares_have_the_interval_of_their_values_clustered_by_item(pairs, confidence):
    values = [float(k < right) for right, asked in pairs for k in range(asked)]
    clusters = [i for i, (_, asked) in enumerate(pairs) for _ in range(asked)]
    a, b = share_interval(*zip(*pairs), confidence), mean_interval(values, confidence, clusters=clusters)
    assert a.count == b.count
    for x, y in ((a.mean, b.mean), (a.lower_bound, b.lower_bound), (a.upper_bound, b.upper_bound)):
        assert x == pytest.approx(y, abs=1e-9) or (math.isnan(x) and math.isnan(y))


def test_order_does_not_matter_and_repeats_are_no_new_items():
    shuffled = random.Random(1).sample(RESULTS, len(RESULTS))
    key = ["form_type", "field"]
    pd.testing.assert_frame_equal(
        field_accuracy(RESULTS).sort_values(key, ignore_index=True),
        field_accuracy(shuffled).sort_values(key, ignore_index=True),
    )
    again = [result(i, r.item.expected_output, r.output, repeat=1) for i, r in enumerate(RESULTS)]
    once, twice = field_accuracy(RESULTS), field_accuracy([*RESULTS, *again])
    assert (twice["n"] == 2 * once["n"]).all() and (twice["items"] == once["items"]).all()
    np.testing.assert_allclose(twice["lower"], once["lower"], atol=1e-9)


def test_several_experiments_stand_beside_each_other():
    frame = field_accuracy(
        {
            "good": [result(0, TRUTHS[0, "PartyList"], TRUTHS[0, "PartyList"])],
            "bad": [result(0, TRUTHS[0, "PartyList"], None)],
        }
    )
    means = frame.groupby("experiment")["mean"].mean()
    assert means["good"] == 1 and means["bad"] == 0
    assert "experiment" not in field_accuracy(RESULTS)


def test_slices_by_metadata():
    frame = slice_accuracy(RESULTS, "level").set_index("level")
    assert set(frame.index) == {"scan", "poor"} and frame["items"].tolist() == [6, 6]
    assert slice_accuracy(RESULTS, "weather")["weather"].tolist() == ["not given"]
    total = slice_accuracy(RESULTS, "form_type")
    assert total["n"].sum() == frame["n"].sum() and total["correct"].sum() == frame["correct"].sum()


def test_a_number_counts_under_what_makes_it_hard():
    d = DRAFTS[0, "Constituency"]
    wrong = copy.deepcopy(d.report)
    marked = next(n for n, names in d.marks.items() if n.startswith("vote_results.") and names)
    for row in wrong["vote_results"]:
        if f"vote_results.{row['number']}" == marked:
            row["vote_count"] = 987
    found = slice_accuracy(
        [
            result(
                0,
                d.report,
                wrong,
                difficulties=sorted({n for names in d.marks.values() for n in names}),
                field_difficulties={"Constituency": d.marks},
            )
        ]
    ).set_index("difficulty")
    hit = set(d.marks[marked])
    assert set(found.index[found["mean"] < 1]) == hit
    assert "none" in found.index and found.loc["none", "mean"] == 1


def test_a_difficulty_of_the_whole_form_covers_all_its_numbers():
    truth = TRUTHS[3, "Constituency"]
    frame = slice_accuracy([result(0, truth, truth, difficulties=["fold"])])
    assert frame["difficulty"].tolist() == ["fold"] and frame["n"].item() > 10


@pytest.mark.parametrize(
    "metadata",
    [
        {"difficulties": "stamps"},
        {"field_difficulties": ["x"]},
        {"difficulties": [None]},
        {"field_difficulties": {"Constituency": 3}},
        {"level": ["a", 1]},
    ],
)
def test_strange_metadata_is_no_reason_to_stop(metadata):
    truth = TRUTHS[3, "Constituency"]
    tally = FieldTally()
    assert tally.add(result(0, truth, truth, **metadata))
    assert tally.slice_accuracy("level")["mean"].tolist() == [1.0]
    assert tally.slice_accuracy("difficulty")["mean"].tolist() == [1.0]


def test_vote_errors_count_every_row_once():
    truth = TRUTHS[0, "PartyList"]
    known = sum(row["vote_count"] is not None for row in truth["vote_results"])
    errors = vote_errors(RESULTS[1:2])
    assert errors["n"].sum() == known
    assert list(errors.columns) == ["form_type", "difference", "n"]
    bins = vote_error_bins(errors)
    assert bins["n"].sum() == known and bins["share"].sum() == pytest.approx(1)


@given(st.lists(st.integers(-(10**8), 10**8), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_every_difference_has_its_bin(differences):
    bins = vote_error_bins(pd.DataFrame({"form_type": None, "difference": pd.array(differences, "float64"), "n": 1}))
    assert bins["n"].sum() == len(differences)
    exact = bins.loc[bins["bin"] == "exact", "n"].item()
    assert exact == differences.count(0)


def test_what_is_kept_does_not_grow_with_the_answers():
    truth = TRUTHS[0, "Constituency"]
    wrong = [misread(truth, i) for i in range(10)]
    tally = FieldTally()

    def kept(places: range) -> int:  # bytes, with what other threads of this process began to keep meanwhile
        gc.collect()
        tracemalloc.start()
        for i in places:
            tally.add(result(i, truth, wrong[i % 10], level="scan"), "a")
        gc.collect()
        found, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return found

    kept(range(20))
    assert (
        min(kept(range(n, n + 100)) for n in (20, 120, 220)) / 100 < 1500
    )  # bytes an item; an answer has many thousands
