"""Invented reports: reproducible, complete for their kind of form, and true about what they contain"""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vote_experiments.forms.checks import check_report
from vote_experiments.forms.kinds import FORM_KINDS
from vote_experiments.forms.schema import parse_reports, report_kind
from vote_experiments.forms.thai import number_words, parse_date, parse_number_words
from vote_experiments.synthesis.difficulties import DIFFICULTIES, difficulty_shares
from vote_experiments.synthesis.layouts import DRAWN_KINDS
from vote_experiments.synthesis.reports import draft_report, number_at
from vote_experiments.synthesis.drafts import ELECTION_DAY, MEN, PARTIES, PLACES, SURNAMES, WOMEN

seeds = st.integers(0, 2**40)
codes = st.sampled_from(DRAWN_KINDS)
some_difficulties = st.sets(st.sampled_from(list(DIFFICULTIES)))
BLANKING = {"withdrawn", "blank_cells", "zero_dashes", "zero_blanks"}


def row_of(draft, name):
    number = int(name.split(".")[1])
    return next(row for row in draft.report["vote_results"] if row["number"] == number)


def having(draft, difficulty):
    return [name for name, marks in draft.marks.items() if difficulty in marks]


def statuses(draft):
    return {c.name: c.status for c in check_report(draft.report).checks}


@given(seeds, codes)
def test_a_plain_report_adds_up_and_has_the_fields_of_its_kind(seed, code):
    draft = draft_report(seed, code)
    [report] = parse_reports(draft.report)
    kind = FORM_KINDS[code]
    assert report_kind(report) is kind
    assert {k: s for k, s in statuses(draft).items() if s != "pass"} == {}
    assert set(statuses(draft)) == set(kind.checks)
    assert set(draft.report["ballot_statistics"]) >= set(kind.ballot_fields)
    assert not draft.difficulties and not draft.marks
    rows = draft.report["vote_results"]
    assert [row["number"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) == 57 if kind.is_party_list else 4 <= len(rows) <= 13
    assert all((row["candidate_name"] is None) == kind.is_party_list for row in rows)
    assert all(row["vote_count"] >= 1 and row["vote_count_text"] == number_words(row["vote_count"]) for row in rows)


@given(seeds, codes)
def test_the_checks_agree_with_the_truth(seed, code):
    assert check_report(draft_report(seed, code, "bad_arithmetic").report).failed
    spoken = check_report(draft_report(seed, code, "word_mismatch").report)
    assert [c.name for c in spoken.failed] == ["words_match_digits"]
    for harmless in ("strike_outs", "overwriting", "endings", "slashes", "odd_shapes", "check_marks"):
        assert "fail" not in statuses(draft_report(seed, code, harmless)).values()


@given(seeds)
def test_both_forms_of_a_station_have_the_same_voters(seed):
    one, other = (draft_report(seed, code).report for code in ("5/18", "5/18 (บช)"))
    assert one["voter_statistics"] == other["voter_statistics"]
    differs = {k for k in one["form_info"] if one["form_info"][k] != other["form_info"][k]}
    assert differs == {"form_type", "form_code"}


@given(seeds, codes, some_difficulties)
def test_what_is_requested_is_recorded_and_visible_in_the_truth(seed, code, names):
    draft = draft_report(seed, code, sorted(names))
    wanted = names | ({"zero_rows"} if names & {"zero_dashes", "zero_blanks", "flourishes"} else set())
    missing = wanted - draft.difficulties
    # what left nothing to do: rows are marked already, dashes go before blanks, or the place has no short form
    assert missing <= {"word_mismatch", "spelled_digits", "zero_blanks", "zero_rows", "blank_cells", "overwriting"}
    assert draft.difficulties <= wanted
    for name in having(draft, "zero_dashes") + having(draft, "zero_blanks"):
        assert row_of(draft, name)["vote_count"] is None and name in draft.zeros
    for name in having(draft, "withdrawn"):
        assert row_of(draft, name)["vote_count"] is None
    for name in having(draft, "word_mismatch"):
        if name.startswith("vote_results"):
            words = parse_number_words(row_of(draft, name)["vote_count_text"])
            assert words is None or words != row_of(draft, name)["vote_count"]
    for name, first in draft.struck.items():
        now = row_of(draft, name)["vote_count"] if "results" in name else number_at(draft.report, name)
        assert now is not None and now != first


@given(seeds, codes, some_difficulties)
def test_nothing_happens_that_was_not_requested(seed, code, names):
    rows = draft_report(seed, code, sorted(names)).report["vote_results"]
    if not names & {"zero_rows", "zero_dashes", "zero_blanks", "flourishes"}:
        assert 0 not in [row["vote_count"] for row in rows]
    if not names & BLANKING:
        assert None not in [row["vote_count"] for row in rows]
    if not names & (BLANKING | {"bad_arithmetic"}):
        draft = draft_report(seed, code, sorted(names))
        assert sum(row["vote_count"] for row in rows) == draft.report["ballot_statistics"]["good_ballots"]


@given(seeds, codes, some_difficulties)
def test_a_station_stays_the_same_station_when_it_is_made_harder(seed, code, names):
    plain, hard = draft_report(seed, code), draft_report(seed, code, sorted(names - {"header_slips", "short_places"}))
    assert plain.report["form_info"] == hard.report["form_info"]
    keys = ("number", "candidate_name", "party_name")
    assert [[row[k] for k in keys] for row in plain.report["vote_results"]] == [
        [row[k] for k in keys] for row in hard.report["vote_results"]
    ]


@pytest.mark.parametrize("word", ["hard", "real"])
def test_difficulties_follow_the_shares(word):
    drafts = [draft_report(s, "5/18", word) for s in range(400)]
    counts = Counter(name for d in drafts for name in d.difficulties)
    for name, share in difficulty_shares(word).items():
        if name not in ("zero_rows", "zero_blanks", "word_mismatch", "spelled_digits"):  # depend on others
            assert abs(counts[name] / 400 - share) < 0.09, name


def test_shares_and_words_for_options():
    assert difficulty_shares("plain") == {} == difficulty_shares([]) == difficulty_shares("")
    assert difficulty_shares("hard") == {name: d.share for name, d in DIFFICULTIES.items()}
    assert difficulty_shares("easy")["stamps"] == DIFFICULTIES["stamps"].share / 4
    assert difficulty_shares("stamps, fold") == difficulty_shares({"fold": 1, "stamps": 1.0, "withdrawn": 0})
    assert not any(draft_report(s, options={"fold": 0.0}).difficulties for s in range(9))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["stampz"], "unknown difficulty 'stampz'; known are thai_digits"),
        ("esay", "'esay'"),
        ({"fold": 1.5}, "fold=1.5 is not a share"),
        ({"fold": "yes"}, "fold='yes'"),
        ({"fold": float("nan")}, "fold=nan"),
        ({"fold": True}, "fold=True"),
        (7, "options=7"),
        ([3], "unknown difficulty 3"),
        (None, "options=None"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        difficulty_shares(options)


@pytest.mark.parametrize("kind", ["6/1", "referendum", "Senate"])
def test_a_kind_that_is_not_drawn_is_named(kind):
    with pytest.raises(ValueError, match=kind):
        draft_report(1, kind)


def test_the_lists_have_variety_and_are_well_formed():
    assert len(set(MEN + WOMEN)) == len(MEN + WOMEN) >= 60 and len(set(SURNAMES)) == len(SURNAMES) >= 60
    assert len(set(PLACES)) == len(PLACES) >= 25 and all(len(place) == 3 for place in PLACES)
    assert len(set(PARTIES)) == len(PARTIES) >= 67
    assert parse_date(ELECTION_DAY) == "2026-02-08"
