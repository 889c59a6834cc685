"""Kinds of mistakes: digits side by side, slipped rows, counts by size, joins, and the seats that hang on them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from rapidfuzz.distance import Levenshtein

from vote_experiments.analysis.intervals import mean_interval
from vote_experiments.analysis.mistakes import (
    digit_confusions,
    digit_pairs,
    join_agreement,
    row_shifts,
    vote_error_by_size,
)
from vote_experiments.analysis.stakes import seat_flips, stakes_sentence
from vote_experiments.records import DatasetItem, ItemError, ItemResult
from vote_experiments.scoring.evaluators import row_shift, vote_results_by_name, vote_results_quality


def report(votes, names=None, numbers=None, kind="Constituency", place="1", used=None):
    rows = [
        {"number": numbers[i] if numbers else i + 1, "vote_count": v, "candidate_name": names[i] if names else None}
        for i, v in enumerate(votes)
    ]
    return {
        "form_info": {"form_type": kind, "province": "แพร่", "constituency_number": place},
        "ballot_statistics": {"ballots_used": used},
        "vote_results": rows,
    }


def result(truth, answer, id="f1", repeat=0):
    error = ItemError("E", "no page") if answer is None else None
    return ItemResult(
        DatasetItem(id, expected_output=truth), answer, error=error, repeat=repeat, status="failed" if error else "ok"
    )


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_digits_side_by_side_spell_both_numbers_with_the_fewest_edits(a, b):
    pairs = list(digit_pairs(a, b))
    assert "".join(x.strip("\0") for x, _ in pairs) == str(a) and "".join(y.strip("\0") for _, y in pairs) == str(b)
    assert sum(x != y for x, y in pairs) == Levenshtein.distance(str(a), str(b))


def test_confusions_count_every_number_and_leave_out_what_was_not_answered():
    truth = report([117, 20], used=137)
    frame = digit_confusions(
        {"a": [result(truth, report([111, None], used=131)), result(truth, None)], "b": [result(truth, truth)]}
    )
    wrong = frame[frame["expected"] != frame["answered"]]
    assert wrong[["experiment", "expected", "answered", "n"]].values.tolist() == [["a", "7", "1", 2]]
    assert frame.groupby(["experiment", "expected"])["share"].sum().tolist() == pytest.approx([1] * (3 + 5))
    assert digit_confusions([]).columns.tolist() == ["expected", "answered", "n", "share"]


def test_shifts_are_those_the_score_sees():
    truth = report([11, 22, 33, 44, 55, 66])
    for answer in (
        report([11, 11, 22, 33, 44, 55]),
        report([22, 33, 44, 55, 66, 7]),
        truth,
        report([11, 22, 33, 44, 55, 6]),
    ):
        frame, score = row_shifts([result(truth, answer)]), row_shift(None, answer, truth).value
        assert (len(frame) == 1) == (score > 0)
        if len(frame):
            assert frame["rows"][0] / frame["of"][0] == score
    assert row_shifts([result(truth, report([11, 11, 22, 33, 44, 55]))])[["shift", "rows"]].values.tolist() == [[1, 5]]
    assert row_shifts([result(truth, None)]).empty


def test_errors_by_size():
    results = [
        result(report([0, 7, 70, 700, 7000]), report([0, 8, 10, None, 7000]), "f1"),
        result(report([0, 3, 30, 300, 3000]), None, "f2"),
    ]
    frame = vote_error_by_size({"a": results}).set_index("votes")
    assert frame.index.tolist() == ["0", "1–9", "10–99", "100–999", "1,000 or more"] and set(frame["n"]) == {2}
    assert frame["correct"].tolist() == [1, 0, 0, 0, 1] and frame["missing"].tolist() == [1, 1, 1, 2, 1]
    assert frame["mean_error"].tolist() == [0, 1, 60, 0, 0] and frame.loc["10–99", "relative_error"] == 0.6
    one = mean_interval([1, 0])
    assert tuple(frame.loc["0", ["mean", "lower", "upper"]]) == pytest.approx(
        (one.mean, one.lower_bound, one.upper_bound)
    )


@given(st.lists(st.sampled_from(["right", "votes", "number", "name"]), min_size=1, max_size=6))
def test_the_two_joins_are_the_two_scores(kinds):
    names = [f"นายคน{'กขคงจฉ'[i]}" for i in range(len(kinds))]
    truth = report(list(range(10, 10 + len(kinds))), names)
    answer = report(
        [v + 500 * (k == "votes") for v, k in zip(range(10, 20), kinds)],
        [f"{n}ผิดมาก" if k == "name" else n for n, k in zip(names, kinds)],
        [90 + i if k == "number" else i + 1 for i, k in enumerate(kinds)],
    )
    share = join_agreement([result(truth, answer)]).set_index("join")["share"]
    assert share["both"] + share["only by number"] == pytest.approx(vote_results_quality(None, answer, truth))
    assert share["both"] + share["only by name"] == pytest.approx(vote_results_by_name(None, answer, truth))
    assert share["neither"] == pytest.approx(kinds.count("votes") / len(kinds)) and share.sum() == pytest.approx(1)


def test_a_margin_smaller_than_the_readers_errors_flips_a_seat():
    "A made-up constituency decided by 12 votes, read by someone who takes 1 for 7 in one of twenty numbers"
    rng = np.random.default_rng(3)
    truth = [(int(v), int(v) - (1 if i % 2 else 0), 15) for i, v in enumerate(rng.integers(100, 180, 24))]
    careless = [
        result(report(v), report([int(str(x).replace("1", "7", 1)) if rng.random() < 0.05 else x for x in v]), f"s{i}")
        for i, v in enumerate(truth)
    ]
    perfect = [result(report(v), report(v), f"s{i}") for i, v in enumerate(truth)]
    flips = seat_flips({"careless": careless, "perfect": perfect}).set_index("experiment")
    assert flips["margin"].tolist() == [12, 12] and flips["reports"].tolist() == [24, 24]
    assert (
        flips.loc["careless", "winner_changes"]
        and flips.loc["careless", "at_risk"]
        and not flips.loc["perfect", "winner_changes"]
    )
    assert flips.loc["careless", "misread"] > 12 and "was ahead by 12" in stakes_sentence(flips.loc[["careless"]])
    assert "No winner changes in 1 constituency count." == stakes_sentence(flips.loc[["perfect"]])


def test_blanks_ties_places_and_repeats():
    results = [
        result(report([50, 40]), report([None, 40]), "a"),
        result(report([50, 40]), report([None, 40]), "a", repeat=1),
        result(report([5, 5], place="2"), report([6, 5], place="2"), "b"),
        result(report([9, 1], kind="PartyList"), None, "c"),
    ]
    read, zero = (seat_flips(results, blank=b).set_index(["constituency", "form_type"]) for b in ("read", "zero"))
    assert read.loc[("1", "Constituency"), ["votes", "blank_rows", "winner_changes"]].tolist() == [90, 1, False]
    assert zero.loc[("1", "Constituency"), ["read_winner", "winner_changes"]].tolist() == ["2", True]
    assert read.loc[("2", "Constituency"), ["winner", "margin", "winner_changes"]].tolist() == ["1 = 2", 0, True]
    assert read.loc[("1", "PartyList"), "blank_rows"] == 2 and len(read) == 3
    assert stakes_sentence(seat_flips([])) == "No votes could be added up."
    invented = seat_flips([result(report([50, 40]), report([50, 40, 99]))]).iloc[0]
    assert invented["read_winner"] == "3" and invented["winner_changes"]


def test_truths_that_are_no_reports_are_left_out():
    for make in (digit_confusions, row_shifts, vote_error_by_size, join_agreement, seat_flips):
        assert make([result("a text", report([1]))]).empty and isinstance(make({"a": []}), pd.DataFrame)


def test_seats_with_ties_third_candidates_and_rows_on_no_form():
    tied = seat_flips([result(report([50, 40]), report([45, 45]))]).iloc[0]
    assert (tied["read_winner"], tied["winner_changes"]) == ("1 = 2", True)
    third = seat_flips([result(report([50, 40, 39]), report([50, 40, 51]))]).iloc[0]
    assert third["read_winner"] == "3" and third["at_risk"] and third["winner_changes"]
    invented = seat_flips([result(report([50, 40]), report([50, 40, 60]))]).iloc[0]
    assert (invented["misread"], invented["invented_rows"], invented["at_risk"]) == (60, 1, True)
    cancelled = seat_flips(
        [result(report([50, 40]), report([70, 40]), "a"), result(report([50, 40]), report([30, 40]), "b")]
    ).iloc[0]
    assert cancelled["read_margin"] == cancelled["margin"] and cancelled["misread"] == 40 and cancelled["at_risk"]


def test_a_reader_that_returned_nothing_decides_nothing():
    flips = seat_flips(
        [result(report([50, 40]), None, "a"), result(report([90, 10], place="2"), report([90, 10], place="2"), "b")]
    )
    assert flips.set_index("constituency")["undecided"].to_dict() == {"1": True, "2": False}
    said = stakes_sentence(flips)
    assert (
        said.startswith("No winner changes in 1 of 2")
        and "In 1 of 2 constituency counts no winner can be named before a person reads the 2 blank rows" in said
    )
    assert "No winner changes" not in stakes_sentence(flips[flips["undecided"]])
    some = seat_flips([result(report([500, 40, 9]), report([500, 40, None]))]).iloc[0]
    assert some["blank_rows"] == 1 and not some["undecided"], "nine votes cannot decide what 460 are between"


def test_the_probability_of_a_changed_winner_is_how_often_it_changes():
    "Readers of one kind over one constituency: the probability found from one reading, on average, and the share that really changes"
    rng, share, claimed = np.random.default_rng(12), [], []
    truth = [(int(v), int(v) - 6, 20) for v in rng.integers(100, 180, 12)]
    for _ in range(150):
        read = [
            result(
                report(v), report([x + (int(rng.choice([-90, 90])) if rng.random() < 0.1 else 0) for x in v]), f"s{i}"
            )
            for i, v in enumerate(truth)
        ]
        row = seat_flips(read, draws=300).iloc[0]
        share.append(row["winner_changes"]), claimed.append(row["p_changes"])
    assert 0.1 < np.mean(share) < 0.6 and abs(np.mean(claimed) - np.mean(share)) < 0.1
    assert seat_flips([result(report([50, 40]), report([50, 40]))])["p_changes"].tolist() == [0.0]
