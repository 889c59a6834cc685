"""Ground truth as people have it: long, wide and nested tables, spreadsheets, our own tables, and joins that report everything"""

import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vote_experiments.datasets.dataset import get_dataset
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.datasets.files import import_dataset
from vote_experiments.datasets.joining import join_truth
from vote_experiments.datasets.mapping import as_mapping, propose_mapping, save_mapping
from vote_experiments.datasets.tables import read_table
from vote_experiments.datasets.truth_files import read_truth
from vote_experiments.forms.schema import parse_reports
from vote_experiments.forms.thai import to_thai_digits

LONG = """จังหวัด,เขตเลือกตั้งที่,ตำบล,อำเภอ,หน่วยเลือกตั้งที่,หมู่ที่,จำนวนผู้มีสิทธิเลือกตั้ง,จำนวนผู้มาแสดงตน,จำนวนบัตรที่ได้รับจัดสรร,จำนวนบัตรที่ใช้,จำนวนบัตรดี,จำนวนบัตรเสีย,จำนวนบัตรที่ไม่เลือกผู้สมัคร,จำนวนบัตรคงเหลือ,หมายเลข,ชื่อสกุล,พรรค,คะแนน
เชียงราย,3,ตำบลแม่ยาว,เมือง,1,4,512,400,520,400,350,20,30,120,1,นายตัวอย่าง หนึ่ง,ภูมิใจไทย,150
เชียงราย,3,ตำบลแม่ยาว,เมือง,1,4,512,400,520,400,350,20,30,120,2,นางตัวอย่าง สอง,ประชาชน,200
เชียงราย,3,ตำบลดอยฮาง,เมือง,1,2,301,210,310,210,200,4,6,100,1,นายตัวอย่าง หนึ่ง,ภูมิใจไทย,90
เชียงราย,3,ตำบลดอยฮาง,เมือง,1,2,301,210,310,210,200,4,6,100,2,นางตัวอย่าง สอง,ประชาชน,110
"""
ADVANCE = """จังหวัด,เขต,ชุดที่,บัตรดี,บัตรเสีย,บัตรที่ไม่เลือก,หมายเลข,ชื่อสกุล,พรรค,คะแนน
พะเยา,1,4,570,9,41,1,นายตัวอย่าง หนึ่ง,ภูมิใจไทย,300
พะเยา,1,4,570,9,41,2,นางตัวอย่าง สอง,ประชาชน,270
"""
PEERS = [
    {
        "rel_path": f"น่าน/{n}.pdf",
        "page_num": 1,
        "source": "human",
        "annotated_at": "2026-02-20T00:00:00Z",
        "metadata": {
            "province": "น่าน",
            "constituency": 2,
            "amphoe": "ปัว",
            "tambon": "ศิลาแลง",
            "unit_number": n,
            "form_type": "district",
        },
        "voter_stats": {
            "eligible_voters": 400 + n,
            "voters_appeared": 300,
            "valid_ballots": 280,
            "invalid_ballots": 12,
            "no_vote_ballots": 8,
        },
        "candidates": [{"number": 1, "votes": 120}, {"number": 2, "votes": 160}],
        "flags": [],
    }
    for n in (1, 2)
]
WIDE = """province;constituency;tambon;unit;good votes;เบอร์ 1;เบอร์ 2;weather
น่าน;2;ศิลาแลง;1;280;120;160;hot
น่าน;2;ศิลาแลง;2;281;๑๒๑;160 (หนึ่งร้อยหกสิบ);hot
"""
PARTY_WIDE = "จังหวัด,เขต,ตำบล,หน่วย,พรรคเพื่อไทย,พรรคประชาชน\nน่าน,2,ศิลาแลง,1,30,45\n"
FIELDS = """จังหวัด,เขต,ตำบล,หน่วย,รายการ,จำนวน
น่าน,2,ศิลาแลง,1,ผู้มีสิทธิเลือกตั้ง,401
น่าน,2,ศิลาแลง,1,บัตรดี,280
น่าน,2,ศิลาแลง,1,บัตรเสีย,12
น่าน,2,ศิลาแลง,1,อากาศ,30
"""
ECT = {
    "result_province": [
        {
            "province": "น่าน",
            "constituencies": [
                {
                    "cons_no": n,
                    "turn_out": 900,
                    "valid_votes": 880,
                    "invalid_votes": 12,
                    "blank_votes": 8,
                    "candidates": [
                        {"mp_app_no": 1, "mp_app_vote": 500, "mp_app_name": "นายตัวอย่าง หนึ่ง", "mp_app_rank": 1},
                        {"mp_app_no": 2, "mp_app_vote": 380, "mp_app_name": "นางตัวอย่าง สอง", "mp_app_rank": 2},
                    ],
                }
                for n in (1, 2)
            ],
        }
    ]
}


def write(folder, name, text):
    path = Path(folder, name)
    path.write_text(text if isinstance(text, str) else json.dumps(text, ensure_ascii=False), encoding="utf-8")
    return path


def truths(dataset):
    return {item.id: parse_reports(item.expected_output) for item in dataset.iter_items()}


def votes(report):
    return [(row.number, row.vote_count) for row in report.vote_results]


def test_a_long_table_with_two_sub_districts_is_two_stations(tmp_path):
    dataset = import_dataset(write(tmp_path, "truth.csv", LONG), "truth", mapping="auto", store=tmp_path / "s.db")
    by_id = truths(dataset)
    assert list(by_id) == ["เชียงราย/เขต 3/แม่ยาว/หน่วย 1", "เชียงราย/เขต 3/ดอยฮาง/หน่วย 1"]
    [[first], [second]] = by_id.values()
    assert votes(first) == [(1, 150), (2, 200)] and votes(second) == [(1, 90), (2, 110)]
    assert first.ballot_statistics.model_dump(exclude_none=True) == {
        "ballots_allocated": 520,
        "ballots_used": 400,
        "good_ballots": 350,
        "bad_ballots": 20,
        "no_vote_ballots": 30,
        "ballots_remaining": 120,
    }
    assert (first.voter_statistics.eligible_voters, first.form_info.village_moo, first.form_info.form_type) == (
        512,
        "4",
        "Constituency",
    )
    assert "date" not in dataset.item("เชียงราย/เขต 3/แม่ยาว/หน่วย 1").expected_output["form_info"], (
        "not recorded is not blank"
    )
    assert dataset.provenance["unmapped"] == []


def test_advance_votes_are_counted_by_a_committee(tmp_path):
    [[report]] = truths(
        import_dataset(write(tmp_path, "a.csv", ADVANCE), mapping="auto", store=tmp_path / "s.db")
    ).values()
    info = report.form_info
    assert (info.committee_number, info.copy_number, info.polling_station_number, info.constituency_number) == (
        "4",
        None,
        None,
        "1",
    )
    assert votes(report) == [(1, 300), (2, 270)] and report.ballot_statistics.no_vote_ballots == 41


def test_ground_truth_of_peers_line_by_line(tmp_path):
    text = "\n".join(json.dumps(p, ensure_ascii=False) for p in PEERS)
    dataset = import_dataset(write(tmp_path, "peer.jsonl", text), mapping="auto", store=tmp_path / "s.db")
    by_id = truths(dataset)
    assert list(by_id) == ["น่าน/1.pdf", "น่าน/2.pdf"] and votes(by_id["น่าน/2.pdf"][0]) == [(1, 120), (2, 160)]
    [report] = by_id["น่าน/1.pdf"]
    assert (report.form_info.sub_district, report.form_info.polling_station_number, report.form_info.form_type) == (
        "ศิลาแลง",
        "1",
        "Constituency",
    )
    assert (
        report.voter_statistics.voters_present,
        report.ballot_statistics.good_ballots,
        report.ballot_statistics.bad_ballots,
    ) == (300, 280, 12)
    assert dataset.item("น่าน/1.pdf").metadata["source"] == "human" and "annotated_at" in dataset.provenance["unmapped"]


def test_a_wide_table_with_a_column_per_candidate(tmp_path):
    dataset = import_dataset(write(tmp_path, "wide.csv", WIDE), mapping="auto", store=tmp_path / "s.db")
    [[first], [second]] = truths(dataset).values()
    assert (
        votes(first) == [(1, 120), (2, 160)]
        and votes(second) == [(1, 121), (2, 160)]
        and second.vote_results[1].vote_count_text == "หนึ่งร้อยหกสิบ"
    )
    assert dataset.provenance["unmapped"] == ["weather"] and first.ballot_statistics.good_ballots == 280


def test_a_wide_table_with_a_column_per_party(tmp_path):
    [[report]] = truths(
        import_dataset(write(tmp_path, "p.csv", PARTY_WIDE), mapping="auto", store=tmp_path / "s.db")
    ).values()
    assert report.form_info.form_type == "PartyList"
    assert [(row.party_name, row.vote_count) for row in report.vote_results] == [
        ("พรรคเพื่อไทย", 30),
        ("พรรคประชาชน", 45),
    ]


def test_a_table_with_a_row_per_station_and_field(tmp_path):
    dataset = import_dataset(write(tmp_path, "f.csv", FIELDS), mapping="auto", store=tmp_path / "s.db")
    [[report]] = truths(dataset).values()
    assert (
        report.voter_statistics.eligible_voters,
        report.ballot_statistics.good_ballots,
        report.ballot_statistics.bad_ballots,
    ) == (401, 280, 12)
    assert dataset.provenance["unmapped"] == ["อากาศ"]


def test_nested_results_of_the_election_commission(tmp_path):
    dataset = import_dataset(write(tmp_path, "ect.json", ECT), mapping="auto", store=tmp_path / "s.db")
    reports = [r for [r] in truths(dataset).values()]
    assert [(r.form_info.province, r.form_info.constituency_number) for r in reports] == [("น่าน", "1"), ("น่าน", "2")]
    assert votes(reports[0]) == [(1, 500), (2, 380)] and reports[0].ballot_statistics.no_vote_ballots == 8
    assert dataset.provenance["unmapped"] == ["mp_app_rank"]


def test_a_spreadsheet_with_a_title_and_several_sheets(tmp_path):
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    sheet.append(["ผลการนับคะแนน 8 ก.พ. 2569"])
    for line in LONG.splitlines():
        sheet.append([int(c) if c.isdigit() else c for c in line.split(",")])
    book.create_sheet("อื่น ๆ").append(["x"])
    book.save(tmp_path / "truth.xlsx")
    table = read_table(tmp_path / "truth.xlsx")
    assert "อื่น ๆ" in table.notes[0]
    by_id = truths(import_dataset(tmp_path / "truth.xlsx", mapping="auto", store=tmp_path / "s.db"))
    assert [votes(r) for [r] in by_id.values()] == [[(1, 150), (2, 200)], [(1, 90), (2, 110)]]


def test_a_table_from_thai_windows(tmp_path):
    (tmp_path / "t.csv").write_bytes(LONG.encode("cp874"))
    truth = read_truth(tmp_path / "t.csv")
    assert len(truth.items) == 2 and "874" in truth.mapping.notes[0]


def test_parquet_says_what_is_missing_or_reads(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1....")
    with pytest.raises((ImportError, ValueError, OSError)):
        read_table(tmp_path / "t.parquet")


@pytest.mark.parametrize("dtype", [str, None])  # all text, or numbers as pandas guesses them
def test_a_parquet_table_gives_the_same_truth_as_its_csv(tmp_path, dtype):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    table = write(tmp_path, "truth.csv", LONG)
    pd.read_csv(table, dtype=dtype).to_parquet(tmp_path / "truth.parquet")
    from_csv = import_dataset(table, "csv", mapping="auto", store=tmp_path / "s.db")
    from_parquet = import_dataset(tmp_path / "truth.parquet", "parquet", mapping="auto", store=tmp_path / "s.db")
    assert truths(from_parquet) == truths(from_csv) and len(truths(from_csv)) == 2
    assert from_parquet.provenance["unmapped"] == []


# --- mappings ---


def test_a_mapping_is_shown_saved_changed_and_used_again(tmp_path):
    table = read_table(write(tmp_path, "truth.csv", LONG.replace("คะแนน\n", "ผล\n")))
    proposal = propose_mapping(table)
    assert proposal.unmapped == ["ผล"] and "ผล" in proposal.summary()
    saved = save_mapping(proposal, tmp_path / "map.yaml")
    text = saved.read_text(encoding="utf-8").replace("unmapped:\n- ผล\n", "")
    saved.write_text(
        text.replace("  พรรค: row.party_name", "  พรรค: row.party_name\n  ผล: vote_count"), encoding="utf-8"
    )
    [[report], _] = truths(
        import_dataset(tmp_path / "truth.csv", "again", mapping=saved, store=tmp_path / "s.db")
    ).values()
    assert votes(report) == [(1, 150), (2, 200)]


def test_a_dict_is_a_mapping_and_what_it_leaves_out_is_named(tmp_path):
    path = write(tmp_path, "t.csv", "a,b,c,d\nแพร่,1,7,x\n")
    dataset = import_dataset(path, mapping={"a": "province", "b": "number", "c": "vote_count"}, store=tmp_path / "s.db")
    [[report]] = truths(dataset).values()
    assert votes(report) == [(1, 7)] and dataset.provenance["unmapped"] == ["d"]


@pytest.mark.parametrize(
    "mapping, message",
    [
        ({"x": "vote_count"}, "no column 'x'"),
        ({"a": "vote_cuont"}, "did you mean"),
        ("nowhere.yaml", "neither 'auto', a dict nor a file"),
        ({"a": "province"}, "no column was recognised as votes"),
    ],
)
def test_mappings_that_cannot_be(tmp_path, mapping, message):
    path = write(tmp_path, "t.csv", "a,b\nแพร่,1\n")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        import_dataset(path, mapping=mapping, store=tmp_path / "s.db")


@pytest.mark.parametrize(
    "line, message",
    [
        (
            "เชียงราย,3,ตำบลแม่ยาว,เมือง,1,4,512,400,520,400,351,20,30,120,3,นายตัวอย่าง,ก,1",
            "line 6: ballot_statistics.good_ballots is '351', but '350' in line 2",
        ),
        (
            "เชียงราย,3,ตำบลแม่ยาว,เมือง,1,4,512,400,520,400,350,20,30,120,2,นายตัวอย่าง,ก,1",
            "line 6: number 2 of this form is in line 3 already",
        ),
        ("เชียงราย,3,ตำบลแม่ยาว,เมือง,1,4,512,400,520,400,350,20,30,120,3,นายตัวอย่าง,ก,1O", '"1O" is not a number'),
    ],
)
def test_a_truth_that_contradicts_itself_is_refused_with_its_lines(tmp_path, line, message):
    with pytest.raises(ValueError) as error:
        import_dataset(write(tmp_path, "t.csv", LONG + line + "\n"), mapping="auto", store=tmp_path / "s.db")
    assert message in str(error.value)


def test_an_empty_cell_is_not_recorded_and_a_dash_is_blank(tmp_path):
    text = "จังหวัด,เขต,ตำบล,หน่วย,บัตรดี,บัตรเสีย,หมายเลข,ชื่อสกุล,คะแนน\nแพร่,1,ในเวียง,4,,-,1,นายตัวอย่าง,5\nแพร่,1,ในเวียง,4,,-,2,นางตัวอย่าง,-\n"
    [item] = import_dataset(write(tmp_path, "t.csv", text), mapping="auto", store=tmp_path / "s.db").iter_items()
    assert item.expected_output["ballot_statistics"] == {"bad_ballots": None}
    assert [row["vote_count"] for row in item.expected_output["vote_results"]] == [5, None]


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ในเวียง", "นาจักร", "ป่าแมต"]), st.integers(1, 40), st.integers(0, 999), st.integers(0, 999)
        ),
        min_size=1,
        max_size=12,
        unique_by=lambda s: s[:2],
    ),
    st.randoms(),
)
def test_every_spelling_of_a_table_gives_the_same_truth(tmp_path_factory, stations, random):
    folder = tmp_path_factory.mktemp("t")

    def line(tambon, unit, number, n):
        seat = random.choice(["1", "เขต 1", "๑", "01", "1.0"])
        cells = [
            random.choice(["", "จ.", "จังหวัด"]) + "แพร่",
            seat,
            random.choice(["", "ต.", "ตำบล"]) + tambon,
            random.choice([str(unit), to_thai_digits(unit), f"0{unit}", f"{unit}.0"]),
            str(number),
            f"นาย{number}",
            random.choice([f"{n:,}", str(n), f"{n}/"]),
        ]
        return ";".join(cells)

    rows = [line(t, u, number, n) for t, u, *counts in stations for number, n in enumerate(counts, 1)]
    random.shuffle(rows)
    path = write(folder, "t.csv", "จังหวัด;เขต;ตำบล;หน่วย;หมายเลข;ชื่อสกุล;คะแนน\n" + "\n".join(rows) + "\n")
    read = {item.id: sorted(votes(parse_reports(item.expected_output)[0])) for item in read_truth(path).items}
    assert read == {f"แพร่/เขต 1/{t}/หน่วย {u}": [(1, a), (2, b)] for t, u, a, b in stations}


# --- joins ---


def scans(store, *names, **more):
    save_dataset("scans", [{"id": n, "input": {"form_set_name": n}, **more} for n in names], store=store)


def test_a_join_reports_what_matched_what_did_not_and_what_matched_twice(tmp_path):
    store = tmp_path / "s.db"
    scans(store, "เชียงราย/เขต 3/ต.แม่ยาว/หน่วย 1", "เชียงราย/เขต ๓/ต.ดอยฮาง/หน่วย ๑", "เชียงราย/เขต 3/ต.ดอยฮาง/หน่วย 9")
    report = join_truth("scans", write(tmp_path, "t.csv", LONG), store=store)
    assert report.matched == {
        "เชียงราย/เขต 3/ต.แม่ยาว/หน่วย 1": "เชียงราย/เขต 3/แม่ยาว/หน่วย 1",
        "เชียงราย/เขต ๓/ต.ดอยฮาง/หน่วย ๑": "เชียงราย/เขต 3/ดอยฮาง/หน่วย 1",
    }
    assert (
        report.items_without == ["เชียงราย/เขต 3/ต.ดอยฮาง/หน่วย 9"]
        and not report.truth_without
        and not report.is_complete
    )
    assert report.version == 2 and join_truth("scans", tmp_path / "t.csv", store=store).version is None, (
        "the same again changes nothing"
    )


def test_a_truth_that_fits_two_items_is_given_to_neither(tmp_path):
    store = tmp_path / "s.db"
    scans(store, "เชียงราย/ก/หน่วย 1", "เชียงราย/ข/หน่วย 1")
    report = join_truth(
        "scans", write(tmp_path, "t.csv", LONG.splitlines()[0] + "\n" + LONG.splitlines()[1] + "\n"), store=store
    )
    assert not report.matched and list(report.ambiguous.values()) == [["เชียงราย/ก/หน่วย 1", "เชียงราย/ข/หน่วย 1"]]


def test_what_a_reader_found_on_the_pages_helps_to_join(tmp_path):
    store = tmp_path / "s.db"
    scans(store, "IMG_1", "IMG_2")
    path = write(tmp_path, "t.csv", LONG)
    assert not join_truth("scans", path, store=store).matched
    outputs = {
        f"IMG_{n}": {
            "form_info": {
                "form_type": "Constituency",
                "province": "เชียงราย",
                "constituency_number": 3,
                "sub_district": t,
                "polling_station_number": 1,
            }
        }
        for n, t in ((1, "ดอยฮาง"), (2, "แม่ยาว"))
    }
    assert join_truth("scans", path, store=store, outputs=outputs).matched == {
        "IMG_1": "เชียงราย/เขต 3/ดอยฮาง/หน่วย 1",
        "IMG_2": "เชียงราย/เขต 3/แม่ยาว/หน่วย 1",
    }


def test_both_ballots_of_a_station_belong_to_its_form_set(tmp_path):
    store = tmp_path / "s.db"
    scans(store, "แพร่/เขต 1/ต.ในเวียง/หน่วย 4")
    text = "จังหวัด,เขต,ตำบล,หน่วย,แบบ,หมายเลข,คะแนน\nแพร่,1,ในเวียง,4,แบ่งเขต,1,5\nแพร่,1,ในเวียง,4,บัญชีรายชื่อ,1,7\n"
    assert join_truth("scans", write(tmp_path, "t.csv", text), store=store).is_complete
    [item] = get_dataset("scans", store=store).iter_items()
    assert [(r.form_info.form_type, votes(r)) for r in parse_reports(item.expected_output)] == [
        ("Constituency", [(1, 5)]),
        ("PartyList", [(1, 7)]),
    ]


def test_another_truth_is_kept_unless_it_is_to_be_replaced(tmp_path):
    store = tmp_path / "s.db"
    scans(store, "แพร่/เขต 1/ต.ในเวียง/หน่วย 4", expected_output={"vote_results": [{"number": 1, "vote_count": 1}]})
    path = write(tmp_path, "t.csv", "จังหวัด,เขต,ตำบล,หน่วย,หมายเลข,คะแนน\nแพร่,1,ในเวียง,4,1,5\n")
    assert join_truth("scans", path, store=store).kept == ["แพร่/เขต 1/ต.ในเวียง/หน่วย 4"]
    assert join_truth("scans", path, store=store, replace_truth=True).is_complete


def test_as_mapping_refuses_what_is_no_part_of_one():
    with pytest.raises(ValueError, match="'colums' is no part"):
        as_mapping({"columns": {"a": "province"}, "colums": {}})


@pytest.mark.parametrize("word", ["รวม", "รวมทั้งสิ้น", "ยอดรวม", "Total"])
def test_a_row_of_totals_is_no_station_and_is_named(tmp_path, word):
    path = tmp_path / "sheet.csv"
    path.write_text(f"จังหวัด,เขตเลือกตั้งที่,ตำบล,หน่วยที่,เบอร์ 1,เบอร์ 2\nแพร่,1,ในเวียง,4,10,20\n{word},,,,10,20\n", "utf-8")
    truth = read_truth(path)
    assert [item.id for item in truth.items] == ["แพร่/เขต 1/ในเวียง/หน่วย 4"]
    assert f"sheet.csv, line 3 is left out: {word!r} is a total, not a station" in truth.mapping.notes
