"""Form kinds: one declaration each, found by any spelling of the printed code"""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vote_experiments.forms import checks, schema
from vote_experiments.forms.kinds import BALLOTS, FORM_KINDS, find_form_kind, form_kind, kind_of, register_form_kind
from vote_experiments.forms.thai import to_thai_digits

PREFIXES = ("", "ส.ส. ", "ส.ส.", "สส.", "สส", "แบบ ส.ส. ", "แบบส.ส.")
SLASHES = ("/", "ทับ", "_", "-")
ENDINGS = {
    "Constituency": ("", " แบบแบ่งเขต", " แบ่งเขตเลือกตั้ง"),
    "PartyList": ("(บช)", " (บช)", "บช", " (บช.)", " บัญชีรายชื่อ"),
}


@pytest.mark.parametrize("kind", FORM_KINDS.values(), ids=lambda k: k.code)
def test_every_spelling_of_a_code_names_the_kind(kind):
    assert form_kind(kind.printed_code) is kind and form_kind(kind.code) is kind
    if kind.ballot == "Referendum":
        return
    number = kind.code.split()[0]
    for prefix, slash, ending in itertools.product(PREFIXES, SLASHES, ENDINGS[kind.ballot]):
        plain = f"{prefix}{number.replace('/', slash)}{ending}"
        assert form_kind(plain) is kind
        assert form_kind(to_thai_digits(plain)) is kind


@pytest.mark.parametrize("text", ["Senate", "5/19", "", "15/18", "5/18 menu", "5", "1/6", "ส.ส.", "2569"])
def test_what_names_no_form(text):
    assert find_form_kind(text) is None
    with pytest.raises(ValueError, match="names no form; known are 5/18"):
        form_kind(text)


@given(st.text(max_size=30))
def test_any_text_is_a_known_kind_or_none(text):
    kind = find_form_kind(text)
    assert kind is None or FORM_KINDS[kind.code] is kind


@pytest.mark.parametrize("kind", FORM_KINDS.values(), ids=lambda k: k.code)
def test_a_declaration_uses_known_fields_and_checks(kind):
    assert kind.ballot in BALLOTS
    assert set(kind.voter_fields) <= set(schema.VOTER_FIELDS)
    assert set(kind.ballot_fields) <= set(schema.BALLOT_FIELDS)
    assert {*kind.header_fields, *kind.optional_header_fields} <= set(schema.FormInfo.model_fields)
    assert set(kind.row_fields) <= set(schema.VoteResult.model_fields)
    assert set(kind.checks) <= set(checks.CHECKS)
    assert len({e.year for e in kind.editions}) == len(kind.editions)


def test_party_lists_have_room_for_every_party_of_their_election():
    for kind in FORM_KINDS.values():
        if kind.is_party_list:
            assert sum(kind.edition(2569).rows) == 57 and sum(kind.edition(2566).rows) == 67


def test_a_report_without_a_code():
    assert kind_of(None, "Constituency", station="3", committee="1").code == "5/18"
    assert kind_of(None, "PartyList", committee="1").code == "5/17 (บช)"
    assert kind_of("not a code", "PartyList").code == "5/18 (บช)"
    assert kind_of(None, "Referendum").code == "referendum"


def test_a_declared_kind_is_understood_everywhere():
    local = replace(
        FORM_KINDS["5/17"],
        code="5/12",
        ballot_fields=("good_ballots", "bad_ballots"),
        checks=("votes_equal_good_ballots",),
    )
    try:
        register_form_kind(local)
        [report] = schema.parse_reports({"form_info": {"form_type": "สส.๕/๑๒", "set_number": 4}})
        assert schema.report_kind(report) is local and report.form_info.committee_number == "4"
        assert [c.name for c in checks.check_report(report).checks] == ["votes_equal_good_ballots"]
        assert [k for k in schema.report_fields(report) if k.startswith("ballot")] == [
            "ballot_statistics.good_ballots",
            "ballot_statistics.bad_ballots",
        ]
    finally:
        del FORM_KINDS["5/12"]
        find_form_kind.cache_clear()
    with pytest.raises(ValueError, match="is not spelled like a form code"):
        register_form_kind(replace(local, code="my form"))
    assert "my form" not in FORM_KINDS
