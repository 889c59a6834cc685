"The standard evaluators: what is right, what is wrong, what is missing, and what is rubbish"

import copy
import gc
import json
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import given, settings, strategies as st

from vote_experiments.forms.schema import BALLOT_FIELDS, HEADER_FIELDS, Report, parse_reports
from vote_experiments.forms.thai import number_words, to_thai_digits
from vote_experiments.records import DatasetItem, Evaluation, ItemError, ItemResult
from vote_experiments.scoring.binding import EVALUATOR, as_evaluations, bind_all
from vote_experiments.scoring.pairs import answer_warnings
from vote_experiments.scoring.evaluators import (
    FURTHER_EVALUATORS,
    OPTIONAL_EVALUATORS,
    STANDARD_EVALUATORS,
    absolute_vote_error,
    anls_star,
    arithmetic_consistency,
    ballot_accuracy_score,
    exact_form_match,
    field_f1,
    has_no_errors,
    invented_rows,
    name_cer,
    omitted_rows,
    row_shift,
    vote_results_by_name,
    vote_results_quality,
    voter_statistics_accuracy,
    words_match_digits,
)
from vote_experiments.scoring.pairs import _read, match_reports
from vote_experiments.scoring.suspect_labels import suspect_labels

ALL = (*STANDARD_EVALUATORS, *FURTHER_EVALUATORS, *OPTIONAL_EVALUATORS)
WITHOUT_TRUTH = (has_no_errors, arithmetic_consistency, words_match_digits)
NAMES = ("นายสมชาย ใจดี", "น.ส.อรพรรณ ขำคม", "ร.ต.อ.มานะ บุญมาก", "นายกิตติศักดิ์ แก้วมณี", "นางวรรณา สุขสมบูรณ์", "นายธนกร ศรีสุข")


def report(votes=(160, 90, 70, 31, 12, 8), form_type="Constituency", station="7", **changes) -> dict:
    good = sum(votes)
    return copy.deepcopy(
        {
            "form_info": {
                "form_type": form_type,
                "date": "2023-05-14",
                "province": "พิจิตร",
                "district": "โพทะเล",
                "sub_district": "ท่าบัว",
                "constituency_number": "3",
                "polling_station_number": station,
            },
            "voter_statistics": {"eligible_voters": good + 500, "voters_present": good + 15},
            "ballot_statistics": {
                "ballots_allocated": good + 765,
                "ballots_used": good + 15,
                "good_ballots": good,
                "bad_ballots": 10,
                "no_vote_ballots": 5,
                "ballots_remaining": 750,
            },
            "vote_results": [
                {
                    "number": i,
                    "candidate_name": None if form_type == "PartyList" else NAMES[(i - 1) % 6],
                    "party_name": f"พรรคที่{i}",
                    "vote_count": v,
                    "vote_count_text": number_words(v),
                }
                for i, v in enumerate(votes, 1)
            ],
            **changes,
        }
    )


def with_votes(*votes, **changes) -> dict:
    return report(**changes) | {
        "vote_results": [{**row, "vote_count": v} for row, v in zip(report()["vote_results"], votes)]
    }


def score(evaluator, output, expected):
    "The bare value"
    value = evaluator({}, output, expected)
    return value.value if isinstance(value, Evaluation) else value


LOWER_IS_BETTER = {
    e.__name__
    for e in (*FURTHER_EVALUATORS, *OPTIONAL_EVALUATORS)
    if hasattr(e, "score_rule") and not e.score_rule.higher_is_better
}
BEST = {e.__name__: 0.0 if e.__name__ in LOWER_IS_BETTER else 1.0 for e in ALL} | {
    "exact_form_match": True,
    "has_no_errors": True,
}
WORST = {e.__name__: 0.0 for e in ALL} | {
    "exact_form_match": False,
    "has_no_errors": False,
    "absolute_vote_error": 1.0,
    "omitted_rows": 1.0,
    "name_cer": 1.0,
    "row_shift": None,
}


def thai(value):
    "The same report in the spelling of another team"
    value = copy.deepcopy(value)
    value["form_info"] |= {
        "form_type": "แบ่งเขต",
        "date": "๑๔ พฤษภาคม ๒๕๖๖",
        "province": "จ.พิจิตร",
        "polling_station_number": "๐๗",
    }
    value["voter_statistics"]["present_voters"] = to_thai_digits(value["voter_statistics"].pop("voters_present"))
    for row in value["vote_results"]:
        row["vote_count"] = {"arabic": to_thai_digits(row["vote_count"]), "thai_text": row.pop("vote_count_text")}
        row["candidate_name"] = row["candidate_name"].replace("ำ", "ํา")
    return {"success": True, "data": [value]}


@pytest.mark.parametrize("evaluator", ALL)
def test_the_truth_itself_is_best_in_every_spelling(evaluator):
    truth = report()
    for answer in (
        truth,
        [truth],
        {"reports": [truth]},
        thai(truth),
        json.dumps(truth),
        f"```json\n{json.dumps(thai(truth))}\n```",
    ):
        assert score(evaluator, answer, truth) == BEST[evaluator.__name__]
        assert score(evaluator, truth, answer) == BEST[evaluator.__name__]


@pytest.mark.parametrize("evaluator", ALL)
@pytest.mark.parametrize(
    "rubbish",
    [
        None,
        {},
        [],
        "",
        "I am sorry, I cannot read this form.",
        '```json\n{"form_info": {\n```',
        {"error": "timeout"},
        [{"error": "timeout"}],
        {"success": False, "error": "x", "data": None},
    ],
)
def test_no_answer_is_the_worst_answer(evaluator, rubbish):
    assert score(evaluator, rubbish, report()) == WORST[evaluator.__name__]


@pytest.mark.parametrize("evaluator", [e for e in ALL if e not in WITHOUT_TRUTH])
@pytest.mark.parametrize("nothing", [None, {}, [], "", "null", float("nan"), {"reports": []}])
def test_no_truth_is_not_scored(evaluator, nothing):
    assert score(evaluator, report(), nothing) is None
    assert score(evaluator, None, nothing) is None


@pytest.mark.parametrize("evaluator", [e for e in ALL if e not in WITHOUT_TRUTH])
def test_truth_that_cannot_be_read_is_an_error_that_names_it(evaluator):
    for bad, message in (
        ({"foo": 1}, "not a report"),
        ("no JSON", "not JSON"),
        ({"vote_results": [{"vote_count": "abc"}]}, '"abc" is not a number'),
    ):
        for answer in (report(), None):
            with pytest.raises(ValueError, match=f"^expected_output: .*{message}"):
                evaluator({}, answer, bad)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["12", "๑๒", "null", "abc", "PartyList"])
)
keys = st.sampled_from(
    [*report(), "reports", "data", "error", "vote_count", "number", "form_type", "good_ballots", "candidate_name"]
)
rubbish_outputs = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=10
)


@settings(max_examples=60)
@given(rubbish_outputs)
def test_no_output_whatever_raises(output):
    for evaluator in (*STANDARD_EVALUATORS, *FURTHER_EVALUATORS):
        value = score(evaluator, output, report())
        assert value is None or value >= 0
        if evaluator.__name__ not in LOWER_IS_BETTER and value is not None:
            assert value <= 1


@pytest.mark.parametrize(
    "odd", [object(), {1, 2}, {"form_info": object()}, lambda: 1, b"\xff", float("nan"), {"vote_results": {3}}, 10**400]
)
def test_outputs_that_are_no_json_do_not_raise(odd):
    for evaluator in (*STANDARD_EVALUATORS, *FURTHER_EVALUATORS):
        score(evaluator, odd, report())


def test_arrays_and_frames_as_outputs_do_not_raise():
    import numpy as np
    import pandas as pd

    for odd in (np.arange(3), pd.DataFrame({"a": [1]}), pd.NA, np.float64("nan"), {"vote_results": np.arange(3)}):
        for evaluator in (*STANDARD_EVALUATORS, *FURTHER_EVALUATORS):
            score(evaluator, odd, report())


# --- the standard four ---


@pytest.mark.parametrize("field", HEADER_FIELDS)
def test_one_wrong_header_field_is_no_match(field):
    for wrong in ("PartyList" if field == "form_type" else "ผิด", None):
        answer = report()
        answer["form_info"][field] = wrong
        assert exact_form_match({}, answer, report()) is False


def test_optional_header_fields_count_only_when_the_truth_has_them():
    answer, truth = report(), report()
    answer["form_info"] |= {"copy_number": "2", "village_moo": "5"}
    assert exact_form_match({}, answer, truth) is True
    truth["form_info"]["copy_number"] = "1"
    assert exact_form_match({}, answer, truth) is False


def test_a_header_of_the_truth_that_is_blank_must_be_blank():
    answer, truth = report(), report()
    truth["form_info"]["date"] = None
    assert exact_form_match({}, answer, truth) is False
    truth["form_info"] = {}
    assert exact_form_match({}, answer, truth) is None


@given(st.sets(st.sampled_from(BALLOT_FIELDS)))
def test_ballot_accuracy_is_the_share_of_six(wrong):
    answer = report()
    for field in wrong:
        answer["ballot_statistics"][field] += 1
    assert ballot_accuracy_score({}, answer, report()) == pytest.approx(1 - len(wrong) / 6)


def test_blank_is_right_only_where_the_truth_is_blank():
    truth = report()
    truth["ballot_statistics"]["bad_ballots"] = None
    blank, zero = copy.deepcopy(truth), copy.deepcopy(truth)
    zero["ballot_statistics"]["bad_ballots"] = 0
    assert ballot_accuracy_score({}, blank, truth) == 1.0
    assert ballot_accuracy_score({}, zero, truth) == pytest.approx(5 / 6)
    truth["ballot_statistics"] = {f: None for f in BALLOT_FIELDS}
    assert ballot_accuracy_score({}, blank, truth) is None
    assert ballot_accuracy_score({}, truth, report()) == 0.0


def test_one_unreadable_cell_costs_one_cell():
    answer = report()
    answer["vote_results"][2]["vote_count"] = "7O"
    answer["ballot_statistics"]["bad_ballots"] = "?"
    assert vote_results_quality({}, answer, report()) == pytest.approx(5 / 6)
    assert ballot_accuracy_score({}, answer, report()) == pytest.approx(5 / 6)


def test_votes_are_joined_by_number_and_not_by_order():
    answer = report()
    answer["vote_results"].reverse()
    assert vote_results_quality({}, answer, report()) == 1.0
    answer["vote_results"] = answer["vote_results"][:3]
    assert vote_results_quality({}, answer, report()) == 0.5


def test_a_blank_row_must_be_there_to_be_right():
    truth = with_votes(160, 90, 70, 31, 12, None)
    assert vote_results_quality({}, truth, truth) == 1.0
    assert vote_results_quality({}, {**truth, "vote_results": truth["vote_results"][:5]}, truth) == pytest.approx(5 / 6)
    assert vote_results_quality({}, with_votes(160, 90, 70, 31, 12, 0), truth) == pytest.approx(5 / 6)


def test_has_no_errors():
    for good in (report(), [report()], json.dumps(report()), {"answer": 5}, {**report(), "error": None}, 5):
        assert has_no_errors({}, good, None) is True
    for bad in (
        None,
        {},
        "?",
        {**report(), "error": "cut off"},
        [report(), {"error": "x"}],
        {"success": False, "data": []},
    ):
        assert has_no_errors({}, bad, None) is False


# --- several reports ---


def test_two_reports_are_matched_by_type_and_averaged():
    constituency, party = report(), report(form_type="PartyList")
    party_wrong = with_votes(0, 0, 0, 31, 12, 8, form_type="PartyList")
    assert vote_results_quality({}, [party_wrong, constituency], [constituency, party]) == 0.75
    assert vote_results_quality({}, [constituency], [constituency, party]) == 0.5
    assert vote_results_quality({}, [party], [constituency]) == 0.0
    assert exact_form_match({}, [party, constituency], [constituency, party]) is True
    assert exact_form_match({}, [party], [constituency, party]) is False
    assert ballot_accuracy_score({}, [constituency, party, party], [constituency, party]) == 1.0


def test_a_report_the_truth_is_silent_about_is_not_averaged():
    silent = report(form_type="PartyList") | {"ballot_statistics": {}}
    assert ballot_accuracy_score({}, [report()], [report(), silent]) == 1.0


stations = st.lists(st.tuples(st.sampled_from(["Constituency", "PartyList"]), st.integers(1, 3)), max_size=5)


@given(stations, stations)
def test_matching_gives_every_expected_report_one_answer_of_its_type_at_most(expected, answered):
    a, b = (
        [Report(form_info={"form_type": t, "polling_station_number": n}) for t, n in side]
        for side in (expected, answered)
    )
    pairs = match_reports(a, b)
    assert [e for e, _ in pairs] == a
    used = [id(r) for _, r in pairs if r is not None]
    assert len(used) == len(set(used))
    assert all(r is None or r.form_info.form_type == e.form_info.form_type for e, r in pairs)
    for kind in ("Constituency", "PartyList"):  # as many as possible
        have = [[x for x, _ in side].count(kind) for side in (expected, answered)]
        assert sum(r is not None and r.form_info.form_type == kind for _, r in pairs) == min(have)


@given(st.permutations(["1", "2", "3"]))
def test_reports_of_one_type_are_told_apart_by_station(order):
    truth = [report(station=s, votes=(int(s) * 10, 5)) for s in "123"]
    assert vote_results_quality({}, [report(station=s, votes=(int(s) * 10, 5)) for s in order], truth) == 1.0


def test_an_answer_without_a_type_may_take_the_place_that_is_left():
    untyped = report()
    untyped["form_info"]["form_type"] = None
    assert vote_results_quality({}, untyped, report()) == 1.0
    assert vote_results_quality({}, [untyped, report()], [report(), report(form_type="PartyList")]) == 1.0


# --- the further ones ---


def test_by_name_where_the_numbers_slipped():
    answer = report()
    for row in answer["vote_results"]:
        row["number"] += 1
        row["candidate_name"] = row["candidate_name"].removeprefix("นาย").replace(" ", "  ")
    assert vote_results_quality({}, answer, report()) == 0.0
    assert vote_results_by_name({}, answer, report()) == 1.0
    parties = report(form_type="PartyList")
    unprefixed = copy.deepcopy(parties)
    for row in unprefixed["vote_results"]:
        row["party_name"] = row["party_name"].removeprefix("พรรค")
    assert vote_results_by_name({}, unprefixed, parties) == 1.0


def test_two_candidates_of_one_name_are_two_rows():
    truth = report(votes=(5, 7))
    truth["vote_results"][1]["candidate_name"] = truth["vote_results"][0]["candidate_name"]
    assert vote_results_by_name({}, truth, truth) == 1.0
    one_of_them = {**truth, "vote_results": truth["vote_results"][:1]}
    assert vote_results_by_name({}, one_of_them, truth) == 0.5


@given(
    st.lists(st.integers(0, 900), min_size=1, max_size=6).filter(any),
    st.lists(st.integers(0, 900), min_size=1, max_size=6),
)
def test_absolute_vote_error_is_the_share_of_the_votes(expected, answered):
    n = max(len(expected), len(answered))
    a, b = ([*side, *[0] * (n - len(side))] for side in (expected, answered))
    assert absolute_vote_error({}, report(answered), report(expected)) == pytest.approx(
        sum(abs(x - y) for x, y in zip(a, b)) / sum(expected)
    )


def test_a_blank_cell_has_lost_its_votes():
    assert absolute_vote_error({}, with_votes(160, 90, None, 31, 12, 8), report()) == pytest.approx(70 / 371)
    assert absolute_vote_error({}, report(), report(votes=(0, 0))) is None


def test_a_misread_of_a_blank_row_is_no_lost_vote():
    truth = with_votes(160, 90, 70, 31, 12, None)
    assert absolute_vote_error({}, with_votes(160, 90, 70, 31, 12, 8), truth) == 0.0


def test_omitted_and_invented_rows():
    answer = report()
    answer["vote_results"] = [*answer["vote_results"][:3], {"number": 30, "vote_count": 1}, {"vote_count": 2}]
    assert omitted_rows({}, answer, report()) == 0.5
    assert invented_rows({}, answer, report()) == pytest.approx(2 / 5)


PARETO = (160, 90, 70, 31, 12, 8, 6, 5, 3, 2, 1, 1, 0, 0, 0)


@pytest.mark.parametrize("start", [0, 3, 6])
@pytest.mark.parametrize("by", [1, 2])
def test_a_slip_downward_is_found_with_its_distance(start, by):
    read = [*PARETO[: start + by], *PARETO[start:-by]]
    found = row_shift({}, report(read), report(PARETO))
    assert found.value > 0.3 and f"the row {by} above" in found.comment


def test_a_slip_upward_is_found():
    found = row_shift({}, report((*PARETO[1:], 0)), report(PARETO))
    assert found.value > 0.5 and "the row 1 below" in found.comment


@given(st.lists(st.sampled_from([0, 0, 0, 1]), min_size=4, max_size=60))
def test_rows_that_are_right_never_slipped(votes):
    assert row_shift({}, report(votes), report(votes)).value == 0.0


def test_single_errors_are_no_slip():
    assert row_shift({}, with_votes(160, 90, 70, 31, 8, 8), report()).value == 0.0
    assert row_shift({}, report((0,) * 10), report((0, 1) * 5)).value == 0.0
    assert row_shift({}, {**report(), "vote_results": []}, report()).value is None


def test_name_errors_are_edits_over_characters():
    answer = report(votes=(5,))
    answer["vote_results"][0]["candidate_name"] = "นายสมขาย ใจดี"
    assert name_cer({}, answer, report(votes=(5,))) == pytest.approx(1 / len("นายสมชาย ใจดี" + "พรรคที่1"))


def test_arithmetic_needs_no_truth_and_is_no_accuracy():
    compensating = with_votes(161, 89, 70, 31, 12, 8)
    assert arithmetic_consistency({}, compensating) == 1.0
    assert words_match_digits({}, compensating) == pytest.approx(4 / 6)
    off = report()
    off["ballot_statistics"]["bad_ballots"] += 1
    assert arithmetic_consistency({}, off) == pytest.approx(2 / 3)
    assert arithmetic_consistency({}, {"vote_results": []}) is None


def test_field_f1_counts_a_wrong_field_on_both_sides():
    answer = report()
    n = (
        len(
            [
                v
                for v in (
                    *report()["form_info"].values(),
                    *report()["voter_statistics"].values(),
                    *report()["ballot_statistics"].values(),
                )
            ]
        )
        + 18
    )
    answer["ballot_statistics"]["bad_ballots"] = 11
    assert field_f1({}, answer, report()) == pytest.approx((n - 1) / n)
    answer["ballot_statistics"]["bad_ballots"] = None
    assert field_f1({}, answer, report()) == pytest.approx(2 * (n - 1) / (2 * n - 1))


def test_anls_star_forgives_spelling_and_not_numbers():
    misspelt, misread = report(), report()
    misspelt["vote_results"][0]["candidate_name"] = "นายสมขาย ใจดี"
    misread["vote_results"][0]["candidate_name"] = None
    assert 1 > anls_star({}, misspelt, report()) > anls_star({}, misread, report()) > 0.9


def test_anls_star_says_what_to_install():
    code = (
        "import sys; sys.modules['anls_star'] = None\n"
        "from vote_experiments.scoring.evaluators import anls_star\n"
        "anls_star({}, {'notes': 'a'}, {'notes': 'a'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install anls-star" in done.stderr


def test_they_all_bind_and_give_scores_of_their_own_name():
    values = {"input": {}, "output": report(), "expected_output": report(), "input_data": {}, "output_data": report()}
    bound = bind_all(ALL, EVALUATOR)
    assert [e.name for b in bound for e in as_evaluations(b(values), b.name)] == [f.__name__ for f in ALL]


# --- parsed once ---


def test_four_evaluators_parse_once(monkeypatch):
    from vote_experiments.scoring import pairs

    times = []
    monkeypatch.setattr(pairs, "read_reports", lambda value, read=pairs.read_reports: (times.append(1), read(value))[1])
    answer, truth = report(votes=(1, 2, 3)), report(votes=(1, 2, 4))
    pairs._read_content.cache_clear()
    for evaluator in STANDARD_EVALUATORS:
        evaluator({}, answer, truth)
    assert len(times) == 2


def test_a_changed_object_is_read_again():
    truth, answer = report(), report()
    assert vote_results_quality({}, answer, truth) == 1.0
    answer["vote_results"][0]["vote_count"] = 0
    assert vote_results_quality({}, answer, truth) == pytest.approx(5 / 6)
    truth["vote_results"][0]["vote_count"] = 0
    assert vote_results_quality({}, answer, truth) == 1.0


@settings(max_examples=60)
@given(rubbish_outputs)
def test_what_is_kept_is_what_would_be_read(value):
    from vote_experiments.scoring.pairs import _read_now

    assert _read(value) == _read(copy.deepcopy(value)) == _read_now(value)


def test_true_and_one_are_not_confused():
    assert _read({"total_votes_recorded": 1}).problems == ()
    assert _read({"total_votes_recorded": True}).problems
    assert _read({"total_votes_recorded": 1.0}).problems == ()


def test_memory_does_not_grow_with_the_number_of_items():
    def run(n, start):
        for i in range(start, start + n):
            vote_results_quality({}, report(votes=(i, i + 1)), report(votes=(i, i)))

    def grown(start) -> int:  # bytes, with what other threads of this process began to keep meanwhile
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        run(200, start)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    run(40, 0)
    tracemalloc.start()
    run(40, 1000)
    found = [grown(start) for start in (2000, 3000, 4000)]
    tracemalloc.stop()
    assert min(found) < 100_000


# --- suspect labels ---


def results_of(truth, **answers) -> dict:
    item = DatasetItem("f001", {}, truth)
    return {name: [ItemResult(item, output)] for name, output in answers.items()}


def test_a_label_that_models_and_arithmetic_contradict():
    truth = with_votes(160, 90, 10, 31, 12, 8)
    found = suspect_labels(results_of(truth, a=report(), b=[report()], c=truth))
    assert [(s.item_id, s.path, s.expected, s.answered, s.models, s.n_models) for s in found] == [
        ("f001", "vote_results[number=3].vote_count", 10, 70, ("a", "b"), 3)
    ]
    assert found[0].expected_fails == ("votes_equal_good_ballots", "words_match_digits")
    assert found[0]["form_type"] == "Constituency"


def test_no_suspicion_without_a_second_model_or_against_the_sums():
    truth, wrong = report(), with_votes(160, 90, 71, 31, 12, 8)
    assert suspect_labels(results_of(truth, a=wrong, b=wrong)) == []  # agree with each other, not with the arithmetic
    label = with_votes(160, 90, 10, 31, 12, 8)
    assert suspect_labels(results_of(label, a=report())) == []
    assert suspect_labels(results_of(label, a=report(), b=label)) == []
    assert suspect_labels(results_of(label, a=report(), b=report(), c=label, d=label)) == []  # as many for the truth
    assert len(suspect_labels(results_of(label, a=report(), b=report(), c=report()), min_models=3)) == 1
    assert suspect_labels(results_of(label, a=report(), b=report()), min_models=3) == []


def test_two_models_of_one_version_are_two_and_two_configs_of_one_model_are_one():
    label = with_votes(160, 90, 10, 31, 12, 8)
    results = results_of(label, a=report(), b=report())
    for r in (*results["a"], *results["b"]):
        r.model_version = "offline-3"
    assert [s.models for s in suspect_labels(results, models={"a": "ocr-fused", "b": "ocr-sums"})] == [("a", "b")]
    assert suspect_labels(results, models={"a": "ocr-fused", "b": "ocr-fused"}) == []
    with pytest.raises(TypeError, match="results='my-forms' is not item results by the name of their config"):
        suspect_labels("my-forms")


def test_failed_items_items_without_truth_and_silent_truth():
    truth = with_votes(160, 90, 10, 31, 12, 8)
    results = results_of(truth, a=report(), b=report(), c=None)
    results["failed"] = [ItemResult(DatasetItem("f001", {}, truth), None, error=ItemError("TimeoutError", ""))]
    results["d"] = [ItemResult(DatasetItem("f002", {}, None), report())]
    [found] = suspect_labels(results)
    assert found.n_models == 2
    silent = copy.deepcopy(truth)
    silent["vote_results"][2] = {**silent["vote_results"][2], "vote_count": None, "vote_count_text": None}
    [found] = suspect_labels(results_of(silent, a=report(), b=report()))
    assert (found.expected, found.answered, found.expected_fails) == (None, 70, ())


def test_a_config_with_repeats_must_agree_with_itself():
    truth = with_votes(160, 90, 10, 31, 12, 8)
    item = DatasetItem("f001", {}, truth)
    results = results_of(truth, a=report(), b=report())
    results["b"].append(ItemResult(item, with_votes(160, 90, 71, 31, 12, 8), repeat=1))
    assert suspect_labels(results) == []


def test_the_strongest_suspicion_comes_first():
    weak, strong = report(), with_votes(160, 90, 10, 31, 12, 8)
    for row in weak["vote_results"][:2]:  # compensating: the label passes its own sum
        row.pop("vote_count_text")
    weak["vote_results"][0]["vote_count"], weak["vote_results"][1]["vote_count"] = 161, 89
    results = {
        m: [ItemResult(DatasetItem("f001", {}, weak), report()), ItemResult(DatasetItem("f002", {}, strong), report())]
        for m in "ab"
    }
    assert [(s.item_id, len(s.expected_fails)) for s in suspect_labels(results)] == [
        ("f002", 2),
        ("f001", 0),
        ("f001", 0),
    ]


def test_unreadable_truth_is_named_with_its_item():
    with pytest.raises(ValueError, match="item 'f001': expected_output"):
        suspect_labels(results_of({"foo": 1}, a=report(), b=report()))


def test_the_report_is_what_the_tests_say_it_is():
    [parsed] = parse_reports(report())
    assert sum(row.vote_count for row in parsed.vote_results) == parsed.ballot_statistics.good_ballots == 371


# --- absent, blank, zero ---


COMPARING = (
    exact_form_match,
    ballot_accuracy_score,
    voter_statistics_accuracy,
    vote_results_quality,
    vote_results_by_name,
    field_f1,
)


def without(full, *paths):
    partial = copy.deepcopy(full)
    for path in paths:
        section, _, name = path.rpartition(".")
        del (partial[section] if section else partial)[name]
    return partial


@pytest.mark.parametrize(
    "missing",
    [
        ["form_info.date"],
        ["voter_statistics.voters_present"],
        ["voter_statistics"],
        ["form_info.district", "form_info.sub_district"],
        [
            "ballot_statistics.ballots_allocated",
            "ballot_statistics.ballots_used",
            "ballot_statistics.ballots_remaining",
        ],
        ["form_info.date", "ballot_statistics.bad_ballots", "voter_statistics.eligible_voters"],
    ],
    ids=lambda paths: "+".join(paths),
)
def test_a_perfect_reader_scores_fully_against_a_truth_that_records_less(missing):
    full = report()
    partial = without(full, *missing)
    for evaluator in COMPARING:
        perfect, omitting = score(evaluator, full, partial), score(evaluator, partial, partial)
        assert (
            perfect == omitting == BEST[evaluator.__name__]
            or missing == ["voter_statistics"]
            and perfect is omitting is None
        ), evaluator.__name__


def test_null_is_blank_on_the_form_and_is_scored():
    blank = report()
    blank["ballot_statistics"]["bad_ballots"] = None
    blank["form_info"]["date"] = None
    assert (
        score(ballot_accuracy_score, report(), blank) == pytest.approx(5 / 6)
        and score(ballot_accuracy_score, blank, blank) == 1.0
    )
    assert score(exact_form_match, report(), blank) is False


def dashed(*empty):
    "A form whose empty rows mean zero: the rest adds up"
    form = report(votes=(160, 90, 0, 31, 0, 8))
    read = copy.deepcopy(form)
    for number in empty:
        form["vote_results"][number - 1] |= {"vote_count": None, "vote_count_text": None}
    return form, read


def test_a_blank_row_is_zero_where_the_sums_say_so_and_the_comment_counts_them():
    truth, read = dashed(3, 5)
    given = vote_results_quality({}, read, truth)
    assert given.value == 1.0 and given.comment == "2 blank numbers of the truth counted as 0"
    assert vote_results_quality({}, truth, truth) == 1.0
    assert vote_results_quality({}, read, truth, blank_is_zero=False) == pytest.approx(4 / 6)


def test_a_blank_row_is_unknown_where_the_sums_do_not_add_up():
    truth, read = dashed(3)
    truth["vote_results"][0]["vote_count"] += 1  # as written, an error of the officers
    read["vote_results"][0]["vote_count"] += 1
    assert vote_results_quality({}, read, truth) == pytest.approx(5 / 6)
    assert vote_results_quality({}, read, truth, blank_is_zero=True).value == 1.0


def test_a_blank_ballot_line_that_the_sum_proves_to_be_zero():
    truth = report()
    truth["ballot_statistics"] |= {
        "ballots_used": truth["ballot_statistics"]["good_ballots"] + 10,
        "no_vote_ballots": None,
    }
    read = copy.deepcopy(truth)
    read["ballot_statistics"]["no_vote_ballots"] = 0
    assert score(ballot_accuracy_score, read, truth) == 1.0
    assert ballot_accuracy_score({}, read, truth, blank_is_zero=False) == pytest.approx(5 / 6)


def test_numbers_that_nobody_read_are_no_agreement():
    nothing = {"form_info": {"form_type": "Constituency"}, "vote_results": [{"number": 1, "vote_count": None}]}
    assert vote_results_quality({}, nothing, nothing) is None


# --- misnamed keys ---


def test_peers_names_are_read_on_both_sides_and_unknown_ones_are_an_error_of_the_truth():
    truth = report()
    peer = {
        **truth,
        "vote_results": [
            {"number": r["number"], "name": r["candidate_name"], "party": r["party_name"], "votes": r["vote_count"]}
            for r in truth["vote_results"]
        ],
    }
    wrong = copy.deepcopy(peer)
    wrong["vote_results"][0]["votes"] += 1
    assert vote_results_quality({}, peer, peer) == 1.0 and vote_results_quality({}, wrong, peer) == pytest.approx(5 / 6)
    misspelt = {**truth, "vote_results": [{"number": 1, "vote_cuont": 5}]}
    with pytest.raises(ValueError, match="did you mean 'vote_count'"):
        vote_results_quality({}, truth, misspelt)
    assert vote_results_quality({}, misspelt, truth) == 0.0
    assert answer_warnings(misspelt) == (
        "vote_results[0].vote_cuont: this is no field of a report; did you mean 'vote_count'?",
    )


# --- several reports in one item ---


def station(sub_district, number, votes, **header):
    made = report(votes=votes, station=str(number))
    made["form_info"] |= {
        "province": "อุทัยธานี",
        "district": "บ้านไร่",
        "sub_district": sub_district,
        "constituency_number": "2",
        **header,
    }
    return made


THREE = [station("แก่นมะกรูด", 1, (8, 193, 36)), station("ทัพหลวง", 1, (11, 159, 10)), station("บ้านบึง", 1, (15, 250, 36))]
IN_ONE = [station("ทัพหลวง", n, votes) for n, votes in ((1, (8, 193, 36)), (2, (11, 159, 10)), (3, (15, 250, 36)))]


@pytest.mark.parametrize("truth", [THREE, IN_ONE], ids=["three sub-districts", "three stations"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_the_order_of_the_reports_plays_no_part(truth, order):
    assert score(vote_results_quality, [truth[i] for i in order], truth) == 1.0


@pytest.mark.parametrize("truth", [THREE, IN_ONE], ids=["three sub-districts", "three stations"])
@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_report_costs_its_share(truth, missing):
    answered = [r for i, r in enumerate(truth) if i != missing]
    assert score(vote_results_quality, answered, truth) == pytest.approx(2 / 3)
    assert score(exact_form_match, answered, truth) is False


def test_the_number_of_the_copy_is_not_the_station():
    copied = [{**r, "form_info": {**r["form_info"], "set_number": "ชุดที่ ๑"}} for r in IN_ONE]
    assert score(vote_results_quality, copied, IN_ONE) == 1.0
    assert score(vote_results_quality, copied[1:], IN_ONE) == pytest.approx(2 / 3)


def test_a_misread_station_is_matched_by_its_numbers():
    misread = copy.deepcopy(IN_ONE)
    misread[0]["form_info"]["polling_station_number"], misread[2]["form_info"]["polling_station_number"] = "7", "8"
    assert (
        score(vote_results_quality, misread[::-1], IN_ONE) == 1.0 and score(exact_form_match, misread, IN_ONE) is False
    )


# --- a tolerance is no arithmetic ---


def test_voters_within_the_tolerance_are_no_proof_against_the_truth():
    truth = report()
    answer = copy.deepcopy(truth)
    answer["voter_statistics"]["voters_present"] += 2
    assert suspect_labels(results_of(truth, a=answer, b=answer)) == []


def test_a_number_that_the_truth_does_not_record_is_no_suspect():
    truth = without(report(), "ballot_statistics.ballots_used")
    assert suspect_labels(results_of(truth, a=report(), b=report())) == []
