"Checks: what a report says about itself, with missing numbers skipped and never counted as 0"

import copy

import pytest
from hypothesis import given, strategies as st

from vote_experiments.forms.checks import ARITHMETIC_CHECKS, Checks, check_report
from vote_experiments.forms.schema import BALLOT_FIELDS, Report, parse_reports
from vote_experiments.forms.thai import number_words


def sound_report(votes=(200, 120), bad=10, no_vote=5, remaining=750) -> dict:
    "A report in which everything holds"
    good = sum(votes)
    used = good + bad + no_vote
    return {
        "form_info": {
            "form_type": "Constituency",
            "date": "2023-05-14",
            "province": "พิจิตร",
            "district": "โพทะเล",
            "sub_district": "ท่าบัว",
            "constituency_number": "3",
            "polling_station_number": "7",
        },
        "voter_statistics": {"eligible_voters": used + 100, "voters_present": used},
        "ballot_statistics": {
            "ballots_allocated": used + remaining,
            "ballots_used": used,
            "good_ballots": good,
            "bad_ballots": bad,
            "no_vote_ballots": no_vote,
            "ballots_remaining": remaining,
        },
        "vote_results": [
            {
                "number": i,
                "candidate_name": f"นายสมชาย {i}",
                "party_name": "พลังใหม่",
                "vote_count": v,
                "vote_count_text": number_words(v),
            }
            for i, v in enumerate(votes, 1)
        ],
        "total_votes_recorded": good,
    }


def status(report, name) -> str:
    return check_report(report).named(name).status


@given(
    st.lists(st.integers(0, 5000), min_size=1, max_size=67), st.integers(0, 50), st.integers(0, 50), st.integers(0, 900)
)
def test_a_sound_report_passes_everything(votes, bad, no_vote, remaining):
    checks = check_report(sound_report(votes, bad, no_vote, remaining))
    assert {c.status for c in checks.checks} == {"pass"} and checks.quality == 1.0


@given(st.sampled_from(BALLOT_FIELDS), st.integers(1, 500))
def test_one_wrong_ballot_number_fails_a_sum(field, off):
    report = sound_report()
    report["ballot_statistics"][field] += off
    failed = {c.name for c in check_report(report).failed}
    expected = {
        "ballots_allocated": {"ballots_allocated"},
        "ballots_used": {"ballots_used", "ballots_allocated"},
        "good_ballots": {"ballots_used", "votes_equal_good_ballots"},
        "bad_ballots": {"ballots_used"},
        "no_vote_ballots": {"ballots_used"},
        "ballots_remaining": {"ballots_allocated"},
    }
    assert failed == expected[field]


@given(st.sampled_from(BALLOT_FIELDS))
def test_a_missing_number_is_skipped_and_not_zero(field):
    report = sound_report(
        bad=0, no_vote=0, remaining=0
    )  # with 0 for the missing one every sum of bad, no vote and remaining would hold
    report["ballot_statistics"][field] = None
    checks = check_report(report)
    assert not checks.failed and checks.quality == 1.0
    skipped = [c for c in checks.checks if c.status == "skipped"]
    assert skipped and all(field in c.message or c.name == "voters_present" for c in skipped)


def test_numbers_are_in_the_message():
    report = sound_report()
    report["ballot_statistics"]["bad_ballots"] = 11
    assert (
        check_report(report).named("ballots_used").message
        == "good + bad + no vote ≠ ballots_used: 320 + 11 + 5 = 336, not 335 (difference +1)"
    )


def test_a_missing_vote_skips_the_sum():
    report = sound_report()
    report["vote_results"][1]["vote_count"] = None
    for name in ("votes_equal_good_ballots", "votes_equal_total"):
        check = check_report(report).named(name)
        assert check.status == "skipped" and "number=2" in check.message


@pytest.mark.parametrize(
    "present, expected", [(335, "pass"), (340, "pass"), (330, "pass"), (341, "warn"), (329, "warn"), (None, "skipped")]
)
def test_voters_present_may_differ_by_five_and_only_warns(present, expected):
    report = sound_report()
    report["voter_statistics"]["voters_present"] = present
    assert status(report, "voters_present") == expected


def test_words_are_compared_number_by_number():
    report = sound_report((21, 101, 5))
    report["vote_results"][0]["vote_count_text"] = "ยี่สิบหนึ่ง"  # a variant, not an error
    report["vote_results"][1]["vote_count_text"] = "หนึ่งร้อย"
    report["vote_results"][2]["vote_count_text"] = "ฟ้า"
    report["ballot_statistics"]["good_ballots"] = {"arabic": 127, "thai_text": "หนึ่งร้อยยี่สิบเจ็ด"}
    check = check_report(report).named("words_match_digits")
    assert check.status == "fail"
    assert {c.field: c.status for c in check.details} == {
        "ballot_statistics.good_ballots": "pass",
        "vote_results[number=1].vote_count": "pass",
        "vote_results[number=2].vote_count": "fail",
        "vote_results[number=3].vote_count": "warn",
    }
    assert "101 but the words say 100" in check.message


def test_words_that_say_no_number_only_warn():
    report = sound_report()
    report["vote_results"][0]["vote_count_text"] = "สองร้วย"
    assert status(report, "words_match_digits") == "warn"


def test_header_negative_and_repeated_numbers():
    report = sound_report()
    report["form_info"]["district"] = ""
    report["vote_results"][0]["vote_count"] = -200
    report["vote_results"][1]["number"] = 1
    checks = check_report(report)
    assert "district" in checks.named("header_complete").message
    assert "votes of number=1 = -200" in checks.named("not_negative").message
    assert "1 (2 times)" in checks.named("numbers_unique").message
    assert {"header_complete", "not_negative", "numbers_unique"} <= {c.name for c in checks.failed}


@pytest.mark.parametrize(
    "worded, expected", [(10, "pass"), (8, "pass"), (7, "warn"), (5, "warn"), (4, "fail"), (0, "fail")]
)
def test_text_coverage(worded, expected):
    report = sound_report((7,) * 10)
    for row in report["vote_results"][worded:]:
        row["vote_count_text"] = None
    assert status(report, "text_coverage") == expected


def test_quality_counts_a_warning_half_and_a_skip_not_at_all():
    report = sound_report()
    report["voter_statistics"]["voters_present"] = 1
    assert check_report(report).quality == 9.5 / 10
    report["total_votes_recorded"] = None
    assert check_report(report).quality == 8.5 / 9
    assert Checks(None, ()).quality is None


def test_compensating_errors_pass_every_sum():
    report = sound_report()
    report["vote_results"][0]["vote_count"] += 7
    report["vote_results"][1]["vote_count"] -= 7
    checks = check_report(report)
    assert all(checks.named(name).status == "pass" for name in ARITHMETIC_CHECKS)
    assert checks.named("words_match_digits").status == "fail"


def test_an_empty_report_is_skipped_except_for_its_header():
    checks = check_report(Report())
    assert [c.name for c in checks.failed] == ["header_complete"] and checks.count("skipped") == 9


def test_only_one_report_at_a_time():
    with pytest.raises(ValueError, match="2 reports"):
        check_report([sound_report(), sound_report()])
    with pytest.raises(ValueError, match="not a report"):
        check_report({"x": 1})


def test_tables_show_every_check_and_escape_what_is_on_the_form():
    report = copy.deepcopy(sound_report())
    report["vote_results"][0]["vote_count_text"] = "<script>|"
    checks = check_report(parse_reports(report)[0])
    html, markdown = checks._repr_html_(), checks._repr_markdown_()
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert "\\|" in markdown and all(f"| {c.name} |" in markdown and c.name in html for c in checks.checks)
    assert checks.to_dict()["checks"][0]["name"] == "ballots_used"


def test_a_sum_of_votes_is_told_once():
    report = sound_report()
    report["total_votes_recorded"] = 330
    assert (
        check_report(report).named("votes_equal_total").message
        == "Σ votes ≠ total_votes_recorded: 320, not 330 (difference -10)"
    )


def test_only_the_checks_that_were_asked_for():
    assert [c.name for c in check_report(sound_report(), ARITHMETIC_CHECKS).checks] == list(ARITHMETIC_CHECKS)
    with pytest.raises(ValueError, match="'sum' is not a check; there are ballots_used"):
        check_report(sound_report(), ["sum"])
