"""Pages in Markdown and HTML, as document models return them, and reports with other people's keys"""

import json

import pytest

from vote_experiments.forms.checks import check_report
from vote_experiments.forms.field_names import find_field, suggest_field
from vote_experiments.forms.schema import parse_reports, read_reports, unknown_keys
from vote_experiments.forms.thai import number_words, to_thai_digits
from vote_experiments.models.registry import forget_model, register_model

VOTES = (8, 193, 36, 0)
NAMES = ("นายสมมติ หนึ่ง", "นางสมมติ สอง", "นายสมมติ สาม", "นางสาวสมมติ สี่")
PARTIES = ("เพื่อไทย", "ภูมิใจไทย", "ประชาชน", "กล้าธรรม")
HEAD = """ส.ส. ๕/๑๘

# รายงานผลการนับคะแนนสมาชิกสภาผู้แทนราษฎร แบบแบ่งเขตเลือกตั้ง

หน่วยเลือกตั้งที่ ...๑๒... หมู่ที่ ๓ ตำบล/แขวง ทัพหลวง อำเภอ/เขต บ้านไร่ จังหวัด อุทัยธานี เขตเลือกตั้งที่ ๒
เมื่อวันที่ ๘ เดือน กุมภาพันธ์ พ.ศ. ๒๕๖๙

๑.๑ จำนวนผู้มีสิทธิเลือกตั้ง ๓๒๘ คน (สามร้อยยี่สิบแปด)
๑.๒ จำนวนผู้มาแสดงตน ...๒๘๑/... คน
๒.๑ จำนวนบัตรเลือกตั้งที่ได้รับจัดสรร 340 บัตร
๒.๒ จำนวนบัตรเลือกตั้งที่ใช้ 281 บัตร (สองร้อยแปดสิบเอ็ด)
๒.๒.๑ บัตรดี 237 บัตร ๒.๒.๒ บัตรเสีย -27- บัตร ๒.๒.๓ บัตรที่ไม่เลือกผู้สมัครผู้ใด ๑๗ บัตร
๒.๓ จำนวนบัตรเลือกตั้งที่เหลือ 59 บัตร
"""


def votes_cell(n):
    return f"{to_thai_digits(n)}/ ({number_words(n)})"


def rows():
    return zip(("๑", "๒", "๓", "๔"), NAMES, PARTIES, map(votes_cell, VOTES))


def markdown():
    lines = [
        "| หมายเลขประจำตัวผู้สมัคร | ชื่อตัว - ชื่อสกุล | สังกัดพรรคการเมือง | ได้คะแนน (ให้กรอกทั้งตัวเลขและตัวอักษร) |",
        "|:--|---|---|--:|",
    ]
    lines += [f"| {' | '.join(cells)} |" for cells in rows()] + [f"| รวมคะแนนทั้งสิ้น | | | {votes_cell(sum(VOTES))} |"]
    return HEAD + "\n" + "\n".join(lines)


def html():
    body = "".join(f"<tr>{''.join(f'<td>{c}</td>' for c in cells)}</tr>" for cells in rows())
    heads = "<tr><th>หมายเลข</th><th>ชื่อผู้สมัคร</th><th>พรรค</th><th>ได้คะแนน</th></tr>"
    return f"{HEAD}<table><thead>{heads}</thead><tbody>{body}<tr><td colspan='3'>รวมคะแนนทั้งสิ้น<td>{votes_cell(sum(VOTES))}</tr></table>"


def unclosed():
    return html().replace("</td>", "").replace("</tr>", "").replace("</tbody></table>", "")


def two_tables():
    first, last = markdown().rsplit("| ๓ |", 1)
    return f"{first}\n\n<page_number>2</page_number>\n\n| ๓ |{last}"


@pytest.mark.parametrize(
    "text",
    [
        markdown(),
        html(),
        unclosed(),
        two_tables(),
        f"```markdown\n{markdown()}\n```",
        json.dumps({"natural_text": html()}),
    ],
    ids=["markdown", "html", "unclosed", "pages", "fenced", "natural_text"],
)
def test_a_page_of_a_document_model_is_a_report(text):
    [report] = parse_reports(text)
    assert [row.vote_count for row in report.vote_results] == list(VOTES) and report.total_votes_recorded == 237
    assert [row.vote_count_text for row in report.vote_results] == [number_words(n) for n in VOTES]
    assert [row.party_name for row in report.vote_results] == list(PARTIES)
    info = report.form_info
    assert (
        info.form_code,
        info.province,
        info.district,
        info.sub_district,
        info.constituency_number,
        info.polling_station_number,
        info.village_moo,
        info.date,
    ) == ("5/18", "อุทัยธานี", "บ้านไร่", "ทัพหลวง", "๒".translate({0x0E52: "2"}), "12", "3", "2026-02-08")
    assert report.voter_statistics.model_dump() == {
        "eligible_voters": 328,
        "voters_present": 281,
        "eligible_voters_text": "สามร้อยยี่สิบแปด",
        "voters_present_text": None,
    }
    ballots = report.ballot_statistics
    assert (
        ballots.ballots_allocated,
        ballots.ballots_used,
        ballots.good_ballots,
        ballots.bad_ballots,
        ballots.no_vote_ballots,
        ballots.ballots_remaining,
    ) == (340, 281, 237, 27, 17, 59)
    assert not check_report(report).failed


def test_two_reports_in_one_text():
    party = markdown().replace("ส.ส. ๕/๑๘", "ส.ส. ๕/๑๘ (บช)").replace("แบบแบ่งเขตเลือกตั้ง", "แบบบัญชีรายชื่อ")
    reports = parse_reports(f"{markdown()}\n\n{party}")
    assert [r.form_info.form_type for r in reports] == ["Constituency", "PartyList"] and all(
        len(r.vote_results) == 4 for r in reports
    )


def test_text_without_a_table_is_no_report():
    for text in ("I cannot read this page.", "จังหวัด อุทัยธานี", "| a | b |\n|---|---|\n| 1 | 2 |"):
        with pytest.raises(ValueError, match="not JSON"):
            parse_reports(text)


def test_a_document_model_is_a_reader_in_one_line(tmp_path, sqlite_store, monkeypatch):
    from PIL import Image

    from vote_experiments.datasets.saving import save_dataset
    from vote_experiments.experiments.comparison import run_model_experiments
    from vote_experiments.experiments.result import experiment_result

    monkeypatch.setenv("VOTE_EXPERIMENTS_RUNS", str(tmp_path / "runs"))
    page = tmp_path / "s1_page1.png"
    Image.new("L", (60, 80), 255).save(page)
    [truth] = parse_reports(markdown())
    save_dataset(
        "pages",
        [{"id": "s1", "input": {"image_paths": [str(page)]}, "expected_output": truth.model_dump(exclude_unset=True)}],
        root=tmp_path,
        store=sqlite_store,
    )
    register_model("my-ocr", lambda images, config: html())
    try:
        made = run_model_experiments(
            dataset_name="pages",
            model_configs=[{"model": "my-ocr"}],
            store=sqlite_store,
            backend="local",
            show_comparison=False,
            progress=False,
        )
    finally:
        forget_model("my-ocr")
    [result] = experiment_result(made["experiments"][0]["experiment_id"], sqlite_store).item_results
    values = {e.name: e.value for e in result.evaluations}
    assert (
        values["vote_results_quality"] == values["ballot_accuracy_score"] == values["has_no_errors"] == 1.0
        and values["exact_form_match"]
    )


# --- cells with digits and words ---


def cells(**changes):
    return {
        "form_info": {
            "form_type": "แบบแบ่งเขต",
            "date": "8 กุมภาพันธ์ 2569",
            "province": "พิษณุโลก",
            "constituency_number": "๑",
        },
        "ballot_statistics": {"ballots_used": "431 บัตร (สี่ร้อยสามสิบเอ็ด)", "good_ballots": "400 บัตร (สี่ร้อยถ้วน)"},
        "vote_results": [
            {"number": "๑", "party_name": "เพื่อไทย", "vote_count": "15 (สิบห้า)"},
            {"number": "๒", "party_name": "ภูมิใจไทย", "vote_count": "๓๘๕/ (สามร้อยแปดสิบห้า)"},
        ],
        "total_votes_recorded": "400 (สี่ร้อย)",
        **changes,
    }


def test_digits_and_words_of_one_cell_become_two_fields():
    [report] = parse_reports(cells())
    assert (report.ballot_statistics.ballots_used, report.ballot_statistics.ballots_used_text) == (431, "สี่ร้อยสามสิบเอ็ด")
    assert [(r.number, r.vote_count, r.vote_count_text) for r in report.vote_results] == [
        (1, 15, "สิบห้า"),
        (2, 385, "สามร้อยแปดสิบห้า"),
    ]
    assert (report.total_votes_recorded, report.total_votes_recorded_text) == (400, "สี่ร้อย")
    assert check_report(report, ["words_match_digits"]).checks[0].status == "pass"


def test_words_alone_stay_words_and_bad_digits_stay_a_problem():
    reports, problems = read_reports(
        cells(vote_results=[{"number": 1, "vote_count": "สิบห้า"}, {"number": 2, "vote_count": "3B5 (สามร้อย)"}])
    )
    assert [(r.vote_count, r.vote_count_text) for r in reports[0].vote_results] == [(None, "สิบห้า"), (None, "สามร้อย")]
    assert len(problems) == 1 and problems[0].startswith("vote_results[1].vote_count") and "3B5" in problems[0]


# --- keys of peers, and keys of no one ---


PEER = {
    "rel_path": "แพร่/1.pdf",
    "page_num": 1,
    "source": "human",
    "annotated_at": "2026-02-20T00:00:00Z",
    "metadata": {
        "province": "แพร่",
        "constituency": 3,
        "amphoe": "สูงเม่น",
        "tambon": "พระหลวง",
        "unit_number": 6,
        "form_type": "constituency",
    },
    "voter_stats": {
        "eligible_voters": 512,
        "voters_appeared": 300,
        "valid_ballots": 280,
        "invalid_ballots": 12,
        "no_vote_ballots": 8,
    },
    "candidates": [{"number": 1, "votes": 120}, {"number": 2, "votes": 160}],
    "flags": [],
}
MISNAMED = {
    "form_info": {
        "form_type": "Constituency",
        "province": "แพร่",
        "amphoe": "สูงเม่น",
        "tambon": "พระหลวง",
        "constituency": 3,
        "unit_number": 6,
    },
    "voter_statistics": {"eligible_voters": 512, "voters_appeared": 300},
    "ballot_statistics": {
        "ballots_allocated": 540,
        "ballots_used": 300,
        "valid_ballots": 280,
        "invalid_ballots": 12,
        "no_vote_ballots": 8,
        "ballots_remaining": 240,
    },
    "vote_results": [
        {"number": 1, "name": "นายสมมติ หนึ่ง", "party": "พรรคก", "votes": 120},
        {"number": 2, "party": "พรรคข", "votes": 160},
    ],
    "total": 280,
}


@pytest.mark.parametrize("peer", [PEER, MISNAMED], ids=["peer", "misnamed"])
def test_well_known_keys_of_peers_are_accepted(peer):
    [report] = parse_reports(peer)
    info = report.form_info
    assert (info.district, info.sub_district, info.constituency_number, info.polling_station_number) == (
        "สูงเม่น",
        "พระหลวง",
        "3",
        "6",
    )
    assert (
        report.voter_statistics.voters_present,
        report.ballot_statistics.good_ballots,
        report.ballot_statistics.bad_ballots,
    ) == (300, 280, 12)
    assert [row.vote_count for row in report.vote_results] == [120, 160] and unknown_keys(peer) == []


def test_a_peers_word_for_the_constituency_ballot():
    [report] = parse_reports({**PEER, "metadata": {**PEER["metadata"], "form_type": "district"}})
    assert report.form_info.form_type == "Constituency"


@pytest.mark.parametrize(
    "path, key, suggestion",
    [
        (("vote_results", 0), "vote_cuont", "vote_count"),
        (("form_info",), "provinse", "province"),
        (("ballot_statistics",), "good_balots", "good_ballots"),
        ((), "total_votes_recored", "total_votes_recorded"),
        (("voter_statistics",), "horoscope", None),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(path, key, suggestion):
    report = json.loads(json.dumps(MISNAMED))
    part = report
    for step in path:
        part = part[step]
    part[key] = 5
    [message] = unknown_keys(report)
    assert key in message and (f"did you mean '{suggestion}'?" if suggestion else "take it out") in message


@pytest.mark.parametrize(
    "header, field",
    [
        ("เขตเลือกตั้งที่", "form_info.constituency_number"),
        ("หน่วยเลือกตั้งที่", "form_info.polling_station_number"),
        ("ชุดที่", "form_info.set_number"),
        ("จำนวนบัตรที่ไม่เลือกผู้สมัคร", "ballot_statistics.no_vote_ballots"),
        ("จำนวนบัตรคงเหลือ", "ballot_statistics.ballots_remaining"),
        ("Votes", "row.vote_count"),
        ("Party Name", "row.party_name"),
        ("eligible-voters", "voter_statistics.eligible_voters"),
        ("weather", None),
    ],
)
def test_names_of_columns(header, field):
    assert find_field(header) == field


def test_a_near_name_is_suggested_and_never_taken():
    assert find_field("vote_cuont") is None and suggest_field("vote_cuont") == "row.vote_count"


def test_a_models_unknown_keys_are_recorded_next_to_its_reports():
    from vote_experiments.models.answers import report_reading

    answer = report_reading().read
    misspelt = json.dumps({**MISNAMED, "vote_results": [{"number": 1, "vote_cuont": 5, "votes": 4}]})
    output = answer(misspelt)
    assert (
        output["reports"][0]["vote_results"][0]["vote_count"] == 4
        and "did you mean 'vote_count'" in output["warnings"][0]
    )
    assert "warnings" not in answer(json.dumps(MISNAMED))
