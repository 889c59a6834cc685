"Every spelling of a report becomes one shape; what cannot be read is named"

import copy
import json

import pytest
from hypothesis import given, settings, strategies as st

from vote_experiments.forms.schema import (
    BALLOT_FIELDS,
    HEADER_FIELDS,
    VOTER_FIELDS,
    FormInfo,
    Report,
    comparable_header,
    numbered_rows,
    parse_reports,
    plain_reports,
    read_reports,
    report_fields,
    report_kind,
    report_schema,
)
from vote_experiments.forms.thai import number_words, to_thai_digits

PLAIN = {
    "form_info": {
        "form_type": "Constituency",
        "date": "2023-05-14",
        "province": "พิจิตร",
        "district": "โพทะเล",
        "sub_district": "ท่าบัว",
        "constituency_number": "3",
        "polling_station_number": "7",
        "village_moo": None,
        "form_code": None,
        "committee_number": None,
        "copy_number": None,
    },
    "voter_statistics": {"eligible_voters": 1024, "voters_present": 330},
    "ballot_statistics": {
        "ballots_allocated": 1080,
        "ballots_used": 330,
        "good_ballots": 320,
        "bad_ballots": 10,
        "no_vote_ballots": 0,
        "ballots_remaining": 750,
    },
    "vote_results": [
        {
            "number": 1,
            "candidate_name": "นายสมชาย ใจดี",
            "party_name": "พลังใหม่",
            "vote_count": 200,
            "vote_count_text": "สองร้อย",
        },
        {
            "number": 2,
            "candidate_name": "น.ส.อรพรรณ ขำคม",
            "party_name": "รวมไทย",
            "vote_count": 120,
            "vote_count_text": "หนึ่งร้อยยี่สิบ",
        },
    ],
    "total_votes_recorded": 320,
    "notes": None,
}
EXPECTED = Report.model_validate(PLAIN)


def thai_spelling() -> dict:
    "The same report as a careful typist with a Thai keyboard writes it"
    r = copy.deepcopy(PLAIN)
    r["form_info"] |= {
        "form_type": "แบ่งเขต",
        "date": "๑๔ พฤษภาคม ๒๕๖๖",
        "constituency_number": 3,
        "polling_station_number": "๐๗",
        "set_number": "null",
    }
    r["voter_statistics"] = {
        "eligible_voters": "๑,๐๒๔",
        "present_voters": {"arabic": "๓๓๐", "thai_text": "สามร้อยสามสิบ"},
    }
    r["ballot_statistics"] = {k: {"arabic": v, "thai_text": number_words(v)} for k, v in r["ballot_statistics"].items()}
    for row in r["vote_results"]:
        row["vote_count"] = {"arabic": to_thai_digits(row["vote_count"]), "thai_text": row.pop("vote_count_text")}
        row["candidate_name"] = row["candidate_name"].replace("ำ", "ํา")
    return r


def without_words(report: Report) -> dict:
    plain = plain_reports([report])[0]
    for part in ("voter_statistics", "ballot_statistics"):
        plain[part] = {k: v for k, v in plain[part].items() if not k.endswith("_text")}
    return plain


@pytest.mark.parametrize(
    "wrap",
    [
        lambda r: r,
        lambda r: [r],
        lambda r: (r,),
        lambda r: {"reports": [r]},
        lambda r: {"success": True, "data": [r]},
        lambda r: {"success": True, "data": r},
        lambda r: {"success": True, "error": None, "data": {"reports": [r]}},
        lambda r: json.dumps(r),
        lambda r: f"```json\n{json.dumps(r, ensure_ascii=False)}\n```",
        lambda r: f"Here it is:\n```\n{json.dumps([r])}\n```\nDone.",
        lambda r: json.dumps(json.dumps(r)),
        lambda r: json.dumps(r).encode(),
        lambda r: [{"data": [r]}],
    ],
)
@pytest.mark.parametrize("spelling", [lambda: PLAIN, thai_spelling])
def test_every_spelling_and_every_wrapper_is_the_same_report(spelling, wrap):
    [report] = parse_reports(wrap(spelling()))
    assert without_words(report) == PLAIN


def test_parsing_leaves_what_was_given_alone():
    given_ = thai_spelling()
    given_["vote_results"][0]["vote_count"] = "abc"
    before = copy.deepcopy(given_)
    read_reports(given_)
    assert given_ == before


def test_words_of_the_statistics_are_kept_and_written_back():
    [report] = parse_reports(thai_spelling())
    assert report.voter_statistics.voters_present_text == "สามร้อยสามสิบ"
    assert report.ballot_statistics.no_vote_ballots_text == "ศูนย์"
    assert plain_reports([report])[0]["ballot_statistics"]["good_ballots_text"] == "สามร้อยยี่สิบ"
    assert parse_reports(plain_reports([report])) == [report]


def test_missing_stays_none_and_zero_is_a_value():
    [report] = parse_reports({"ballot_statistics": {"good_ballots": 0, "bad_ballots": "null"}, "vote_results": None})
    assert report.ballot_statistics.good_ballots == 0
    assert report.ballot_statistics.bad_ballots is None
    assert report.ballot_statistics.ballots_used is None
    assert report.vote_results == [] and report.form_info.form_type is None


def test_both_spellings_of_voters_present_with_one_empty():
    for section in ({"voters_present": None, "present_voters": 5}, {"present_voters": 5, "voters_present": None}):
        assert parse_reports({"voter_statistics": section})[0].voter_statistics.voters_present == 5


def bad(**changes) -> dict:
    return {**copy.deepcopy(PLAIN), **changes}


@pytest.mark.parametrize(
    "value, message",
    [
        (
            bad(vote_results=[*PLAIN["vote_results"], {"number": 3, "vote_count": "abc"}]),
            'vote_results[2].vote_count: "abc" is not a number',
        ),
        (bad(vote_results=[{"number": "x"}]), 'vote_results[0].number: "x" is not a number'),
        (bad(vote_results=[{"vote_count": {"arabic": "1๒x"}}]), 'vote_results[0].vote_count: "1๒x" is not a number'),
        (bad(vote_results=("x",)), "vote_results[0]: 'x' is not an object"),
        (bad(vote_results="none at all"), "vote_results: 'none at all' is not a list"),
        (bad(vote_results={"1": 2}), "vote_results: {'1': 2} is not a list"),
        (bad(voter_statistics={"present_voters": "12O"}), 'voter_statistics.voters_present: "12O" is not a number'),
        (bad(voter_statistics=[1]), "voter_statistics: [1] is not an object"),
        (bad(form_info={"form_type": "Senate"}), 'form_info.form_type: "Senate" is neither Constituency'),
        (bad(form_info={"province": ["a"]}), "form_info.province: ['a'] is not text"),
        (bad(total_votes_recorded=True), "total_votes_recorded: True is not a number"),
        ([PLAIN, bad(notes={})], "reports[1].notes: {} is not text"),
    ],
)
def test_what_cannot_be_read_is_named_left_out_and_the_rest_is_kept(value, message):
    with pytest.raises(ValueError) as error:
        parse_reports(value)
    assert str(error.value).startswith(message)
    reports, problems = read_reports(value)
    assert len(problems) == 1 and problems[0].startswith(message)
    assert reports[-1].ballot_statistics == EXPECTED.ballot_statistics


def test_many_problems_are_told_in_short():
    with pytest.raises(ValueError, match=r"vote_results\[0\].vote_count.*\(and 62 more\)$"):
        parse_reports({"vote_results": [{"vote_count": "?"}] * 67})


@pytest.mark.parametrize(
    "rubbish, message",
    [
        (None, "None is not a report"),
        (5, "5 is not a report"),
        ("", "empty"),
        ("I cannot read this.", "not JSON"),
        ("```json\n{\n```", "not JSON"),
        ("[1]", "1 is not a report"),
        ({}, "not a report"),
        ({"candidates": []}, r"\['candidates'\] is not a report"),
        ({"error": "timeout"}, "timeout"),
        ([PLAIN, 7], r"reports\[1\]: 7 is not a report"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_report_is_said(rubbish, message):
    for parse in (parse_reports, read_reports):
        with pytest.raises(ValueError, match=message):
            parse(rubbish)


def test_wrappers_nested_without_end():
    value: dict = PLAIN
    for _ in range(500):
        value = {"data": value}
    with pytest.raises(ValueError, match="too deeply"):
        parse_reports(value)
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(ValueError, match="too deeply"):
        parse_reports({"notes": deep})


def test_no_reports_is_an_empty_list():
    assert parse_reports([]) == parse_reports({"reports": []}) == parse_reports({"success": True, "data": []}) == []


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["12", "๑๒", "null", "abc", "PartyList"])
)
names = st.sampled_from(
    [
        "form_info",
        "vote_results",
        "voter_statistics",
        "ballot_statistics",
        "reports",
        "data",
        "error",
        "arabic",
        "thai_text",
        "present_voters",
        "voters_present",
        "vote_count",
        "number",
        "form_type",
        "notes",
        "good_ballots",
    ]
)
rubbish = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)


@settings(max_examples=400)
@given(rubbish)
def test_rubbish_raises_nothing_but_value_error(value):
    try:
        reports, problems = read_reports(value)
    except ValueError:
        return
    assert all(isinstance(r, Report) for r in reports)
    assert parse_reports(plain_reports(reports)) == reports
    assert all(": " in p for p in problems)


counts = st.none() | st.integers(0, 5000)
texts = st.none() | st.text(max_size=8)
sections = st.fixed_dictionaries(
    {},
    optional={
        "form_info": st.dictionaries(st.sampled_from(HEADER_FIELDS[1:]), texts),
        "voter_statistics": st.dictionaries(st.sampled_from(VOTER_FIELDS), counts),
        "ballot_statistics": st.dictionaries(st.sampled_from(BALLOT_FIELDS), counts),
        "vote_results": st.lists(
            st.fixed_dictionaries({"number": counts, "vote_count": counts, "party_name": texts}), max_size=4
        ),
        "notes": texts,
    },
).filter(bool)


@given(sections)
def test_plain_reports_is_the_inverse(value):
    try:
        reports = parse_reports(value)
    except ValueError:  # lone surrogates are no text
        return
    assert parse_reports(json.dumps(plain_reports(reports))) == reports


def test_the_schema_is_plain_and_asks_for_every_field():
    schema = report_schema()
    assert report_schema() is schema
    text = json.dumps(schema)
    assert not any(
        word in text for word in ("$ref", "$defs", "anyOf", '"title"', '"default"', "minimum", "good_ballots_text")
    )
    report = schema["properties"]["reports"]["items"]["properties"]
    assert set(report) == {
        "form_info",
        "voter_statistics",
        "ballot_statistics",
        "vote_results",
        "total_votes_recorded",
        "notes",
    }
    assert (
        tuple(report["ballot_statistics"]["properties"])
        == BALLOT_FIELDS
        == tuple(report["ballot_statistics"]["required"])
    )
    assert report["vote_results"]["items"]["properties"]["vote_count"]["type"] == ["integer", "null"]


def test_what_the_schema_describes_is_what_we_write():
    def fits(value, schema) -> bool:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        python = {"object": dict, "array": list, "integer": int, "string": str, "null": type(None)}
        if not isinstance(value, tuple(python[k] for k in kinds)) or value not in schema.get("enum", [value]):
            return False
        if isinstance(value, dict):
            return list(value) == schema["required"] and all(fits(v, schema["properties"][k]) for k, v in value.items())
        return all(fits(v, schema["items"]) for v in value) if isinstance(value, list) else True

    assert fits({"reports": plain_reports([EXPECTED])}, report_schema())
    assert not fits({"reports": [{**PLAIN, "notes": 5}]}, report_schema())


def test_headers_compare_by_place_and_number():
    a = FormInfo(province="จังหวัดพิจิตร", district="อำเภอ โพทะเล", sub_district="ต.ท่าบัว", polling_station_number="หน่วยที่ 7")
    b = FormInfo(province="พิจิตร", district="โพทะเล", sub_district="ท่าบัว", polling_station_number="๐๗")
    assert comparable_header(a) == comparable_header(b)
    assert (
        comparable_header(FormInfo(province="กทม."))["province"]
        == comparable_header(FormInfo(province="กรุงเทพมหานคร"))["province"]
    )
    assert comparable_header(FormInfo(district="เขตบางพลัด")) != comparable_header(FormInfo(district="เขตบางซื่อ"))


def test_rows_are_found_by_number_however_they_are_ordered():
    report = Report(vote_results=[{"number": 2, "vote_count": 5}, {"number": 2, "vote_count": 6}, {"vote_count": 7}])
    assert {k: r.vote_count for k, r in numbered_rows(report).items()} == {"number=2": 5, "number=2#2": 6, "row=2": 7}
    fields = report_fields(EXPECTED)
    assert fields["vote_results[number=2].vote_count"] == 120
    assert fields["form_info.date"] == "2023-05-14" and fields["total_votes_recorded"] == 320


@pytest.mark.parametrize(
    ("header", "kind", "committee", "copy"),
    [
        ({"form_type": "ส.ส. ๕/๑๗", "set_number": "3"}, "5/17", "3", None),
        ({"form_type": "5/16 (บช)", "set_number": 1, "polling_station_number": None}, "5/16 (บช)", "1", None),
        ({"form_type": "ส.ส. ๕/๑๘(บช)", "set_number": "1"}, "5/18 (บช)", None, "1"),
        ({"form_type": "Constituency", "set_number": "2", "polling_station_number": "7"}, "5/18", None, "2"),
        ({"form_type": "PartyList", "set_number": "11", "polling_station_number": None}, "5/17 (บช)", "11", None),
        ({"form_type": "Constituency", "set_number": None}, "5/18", None, None),
    ],
)
def test_a_set_number_is_a_copy_or_a_committee(header, kind, committee, copy):
    [report] = parse_reports({"form_info": header})
    assert report_kind(report).code == kind
    assert (report.form_info.committee_number, report.form_info.copy_number) == (committee, copy)
    assert parse_reports(plain_reports([report])) == [report]


def test_a_form_without_voters_has_no_fields_for_them():
    fields = report_fields(parse_reports({"form_info": {"form_type": "ส.ส. ๕/๑๗"}})[0])
    assert not any(k.startswith("voter_statistics") for k in fields)
    assert "form_info.polling_station_number" not in fields and "form_info.committee_number" in fields
