"""Sums by constituency: every station once, whatever the folder looks like, and every fault named"""

import csv
import random

import pytest
from PIL import Image

from vote_experiments.analysis.counted_forms import CONFLICT, SAME_NUMBERS, SAME_REPORT, SAME_SCAN, CountedForm
from vote_experiments.analysis.sums import add_up, read_official
from vote_experiments.experiments.extract import extract
from vote_experiments.forms.places import place_list
from vote_experiments.forms.schema import Report
from vote_experiments.forms.thai import number_words, to_thai_digits
from vote_experiments.models.registry import forget_model, register_model

CANDIDATES = ("นายสมมติ หนึ่ง", "นางสมมติ สอง", "นายสมมติ สาม")
PARTIES = ("เพื่อไทย", "ประชาชน", "ภูมิใจไทย")


def reading(sub_district, unit, votes, province="อุทัยธานี", seat=2, form_type="Constituency", district="บ้านไร่", **header):
    good = sum(votes)
    rows = [
        {
            "number": i,
            "candidate_name": CANDIDATES[(i - 1) % 3],
            "party_name": PARTIES[(i - 1) % 3],
            "vote_count": v,
            "vote_count_text": number_words(v),
        }
        for i, v in enumerate(votes, 1)
    ]
    return {
        "form_info": {
            "form_type": form_type,
            "date": "8 กุมภาพันธ์ 2569",
            "province": province,
            "district": district,
            "sub_district": sub_district,
            "constituency_number": seat,
            "polling_station_number": unit,
            **header,
        },
        "voter_statistics": {"eligible_voters": good + 50, "voters_present": good},
        "ballot_statistics": {
            "ballots_allocated": good + 60,
            "ballots_used": good,
            "good_ballots": good,
            "bad_ballots": 0,
            "no_vote_ballots": 0,
            "ballots_remaining": 60,
        },
        "vote_results": rows,
        "total_votes_recorded": good,
    }


def form(name, *args, **more):
    return CountedForm(name, Report.model_validate(reading(*args, **more)))


# --- spellings of one constituency ---


@pytest.fixture
def night(tmp_path, monkeypatch):
    "A folder of scans that a registered model reads by the names of the files"
    monkeypatch.setenv("VOTE_EXPERIMENTS_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    answers, scans = {}, tmp_path / "scans"

    def put(name, *args, pixel=None, **more):
        answers[name] = reading(*args, **more)
        path = scans / f"{name}_page1.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = len(answers) if pixel is None else pixel
        Image.frombytes("L", (40, 40), random.Random(seed).randbytes(40 * 40)).save(path)

    def read(images, config):
        name = images[0].split("/scans/")[1].rsplit("_page1", 1)[0]
        return {"reports": [answers[name]]}

    register_model("by-name", read)
    yield scans, put
    forget_model("by-name")


def test_four_spellings_are_one_constituency_and_a_second_file_is_counted_once(night, sqlite_store):
    scans, put = night
    votes = (8, 193, 36)
    put("s1", "แก่นมะกรูด", 1, votes)
    put("s1-again", "แก่นมะกรูด", 1, votes)
    put("s2", "ทัพหลวง", 1, votes, province="จังหวัดอุทัยธานี")
    put("s3", "บ้านบึง", 1, votes, seat="เขต 2")
    put("s4", "บ้านไร่", 1, votes, form_type="ส.ส. ๕/๑๘")
    read = extract(scans, {"model": "by-name"}, progress=False, store=sqlite_store)
    assert read.totals[["province", "constituency_number", "number", "votes", "forms"]].values.tolist() == [
        ["อุทัยธานี", "2", n, 4 * v, 4] for n, v in enumerate(votes, 1)
    ]
    first = read.sums.duplicates[0]
    assert (first.kind, sorted(first.forms), len(first.counted)) == (SAME_REPORT, ["s1", "s1-again"], 1)
    assert not read.stations["doubtful"].any()


@pytest.mark.parametrize(
    "province, seat, code",
    [("กทม.", "เขต ๕", "ส.ส. 5/18"), ("กรุงเทพฯ", "05", "5/18"), ("กรุงเทพมหานคร", "5.0", "แบบแบ่งเขต")],
)
def test_other_spellings(province, seat, code):
    sums = add_up(
        [
            form("a", "ยานนาวา", 1, (5, 6, 7), province="กรุงเทพมหานคร", seat=5, district="สาทร"),
            form("b", "แขวงยานนาวา", "๒", (1, 2, 3), province=province, seat=seat, form_type=code, district="เขตสาทร"),
        ]
    )
    assert sums.totals["votes"].tolist() == [6, 8, 10] and sums.totals["forms"].tolist() == [2, 2, 2]


# --- duplicates ---


def test_the_same_place_with_other_numbers_is_held_back_until_somebody_decides():
    forms = [
        form("a", "ทัพหลวง", 1, (8, 193, 36)),
        form("b", "ต.ทัพหลวง", "๐๑", (8, 198, 36)),
        form("c", "บ้านบึง", 1, (1, 2, 3)),
    ]
    sums = add_up(forms)
    assert (
        sums.totals["votes"].tolist() == [1, 2, 3]
        and sums.held_back == ["a", "b"]
        and sums.duplicates[0].kind == CONFLICT
    )
    assert add_up(forms, decisions={"b": "leave out"}).totals["votes"].tolist() == [9, 195, 39]
    assert add_up(forms, decisions={"a": "count"}).totals["votes"].tolist() == [9, 195, 39]
    for wrong, message in (({"x": "count"}, "no form 'x'"), ({"a": "maybe"}, "'maybe' for 'a'")):
        with pytest.raises(ValueError, match=message):
            add_up(forms, decisions=wrong)


def test_the_same_numbers_in_two_places_are_counted_and_shown():
    sums = add_up([form("a", "ทัพหลวง", 1, (8, 193, 36)), form("b", "บ้านบึง", 4, (8, 193, 36))])
    assert sums.totals["votes"].tolist() == [16, 386, 72] and [d.kind for d in sums.duplicates] == [SAME_NUMBERS]
    assert add_up([form("a", "ทัพหลวง", 1, (8, 193, 36)), form("b", "บ้านบึง", 4, (8, 192, 36))]).duplicates == []


def test_two_ballots_two_dates_and_two_committees_are_no_duplicates():
    forms = [
        form("a", "ทัพหลวง", 1, (8, 193, 36)),
        form("b", "ทัพหลวง", 1, (8, 193, 36), form_type="PartyList"),
        form("c", "ทัพหลวง", 1, (8, 193, 37), date="14 พฤษภาคม 2566"),
    ]
    forms += [
        CountedForm(
            f"set{n}",
            Report.model_validate(reading(None, None, (4, 5, 6 + n), form_type="ส.ส. ๕/๑๗", committee_number=n)),
        )
        for n in (1, 2)
    ]
    assert add_up(forms).duplicates == []


def test_a_copy_whose_date_was_not_read_is_a_duplicate():
    sums = add_up(
        [form("a", "ทัพหลวง", 1, (8, 193, 36)), form("b", "ทัพหลวง", 1, (8, 193, 36), date=None, copy_number=2)]
    )
    assert [d.kind for d in sums.duplicates] == [SAME_REPORT] and sums.totals["votes"].tolist() == [8, 193, 36]


def test_the_same_files_read_as_two_places_are_held_back():
    forms = [
        form("a", "ทัพหลวง", 1, (8, 193, 36)),
        form("b", "บ้านบึง", 1, (8, 193, 36)),
        form("c", "ทัพหลวง", 1, (8, 193, 36)),
    ]
    for copy in forms[1:]:
        copy.same_scan_as = "a"
    assert add_up([forms[0], forms[2]]).duplicates[0].kind == SAME_SCAN
    assert add_up(forms[:2]).held_back == ["a", "b"]


# --- names ---


def test_names_are_counted_for_their_official_number_and_every_change_is_listed(tmp_path):
    path = tmp_path / "parties.csv"
    path.write_text("หมายเลข,พรรค\n9,พรรคเพื่อไทย\n46,พรรคประชาชน\n37,พรรคภูมิใจไทย\n", encoding="utf-8")
    rows = [
        {"number": 9, "party_name": "เพื่อไทย", "vote_count": 10},
        {"number": 64, "party_name": "พรรคประชาชน", "vote_count": 20},
        {"number": 37, "party_name": "ภูมใจไทย", "vote_count": 30},
        {"number": 3, "party_name": "ไม่มีใครรู้จัก", "vote_count": 1},
    ]
    other = [
        {"number": 9, "party_name": "พรรคเพื่อไทย", "vote_count": 1},
        {"number": 46, "party_name": "ประชาชน", "vote_count": 2},
        {"number": 37, "vote_count": 3},
    ]
    forms = [
        CountedForm(
            f"s{i}", Report.model_validate(reading("ทัพหลวง", i, (1,), form_type="PartyList") | {"vote_results": r})
        )
        for i, r in enumerate((rows, other))
    ]
    sums = add_up(forms, official=path)
    assert sums.totals[["number", "party_name", "votes"]].values.tolist() == [
        [3, "ไม่มีใครรู้จัก", 1],
        [9, "พรรคเพื่อไทย", 11],
        [37, "พรรคภูมิใจไทย", 33],
        [46, "พรรคประชาชน", 22],
    ]
    assert [(r.form, r.number, r.official_number) for r in sums.rekeyed] == [
        ("s0", 64, 46),
        ("s0", 37, 37),
        ("s0", 3, None),
    ]
    assert sum("name: s0" in line for line in sums.findings()) == 3


def test_an_official_list_of_candidates_is_of_its_own_constituency():
    official = read_official(
        [
            {"number": n, "candidate_name": name, "province": "อุทัยธานี", "constituency_number": seat}
            for seat, names in ((1, CANDIDATES), (2, CANDIDATES[::-1]))
            for n, name in enumerate(names, 1)
        ]
    )
    sums = add_up(
        [form("a", "ทัพหลวง", 1, (1, 2, 3), seat=2), form("b", "อุทัยใหม่", 1, (4, 5, 6), seat="เขต ๑", district="เมือง")],
        official=official,
    )
    assert sums.totals[["constituency_number", "number", "votes"]].values.tolist() == [
        ["1", 1, 4],
        ["1", 2, 5],
        ["1", 3, 6],
        ["2", 1, 3],
        ["2", 2, 2],
        ["2", 3, 1],
    ]
    with pytest.raises(ValueError, match="has no number"):
        read_official([{"party_name": "ก"}])


def test_a_blank_row_that_the_total_proves_to_be_zero_is_not_unread():
    dashed = reading("ทัพหลวง", 1, (8, 193, 0))
    dashed["vote_results"][2]["vote_count"] = None
    torn = reading("บ้านบึง", 1, (8, 193, 5))
    torn["vote_results"][2]["vote_count"] = None
    sums = add_up([CountedForm(n, Report.model_validate(r)) for n, r in (("a", dashed), ("b", torn))])
    assert sums.totals["unread"].tolist() == [0, 0, 1] and sums.totals["votes"].tolist() == [16, 386, 0]


# --- a whole night, with planted faults ---


def plant(put, n_stations, seed=0):
    "Stations of three constituencies with faults; what the sums must be, and the faults by kind"
    rng = random.Random(seed)
    seats = (("อุทัยธานี", 1), ("อุทัยธานี", 2), ("แพร่", 1))
    places = {p: [(d, s) for d, names in place_list()[p].items() for s in names] for p in ("อุทัยธานี", "แพร่")}
    truth = {seat: [0, 0, 0] for seat in seats}
    expected, planted = [], {"same scan": [], "same report": [], "conflict": [], "folder": [], "missing": []}
    spell = lambda *options: rng.choice(options)
    for i in range(n_stations):
        province, seat = place = seats[i % 3]
        others = places[province]
        half = (
            others[: len(others) // 2]
            if place == ("อุทัยธานี", 1)
            else others[len(others) // 2 :]
            if place == ("อุทัยธานี", 2)
            else others
        )
        district, sub = half[(i // 3) % len(half)]
        unit = (i // 3) // len(half) + 1
        votes = [rng.randrange(1000, 9999) + i for _ in range(3)]
        expected.append((province, seat, district, sub, unit))
        folder = f"{spell('จ.', 'จังหวัด', '')}{province}/เขต {spell(str(seat), to_thai_digits(seat))}"
        header = {
            "province": spell("", "จ.", "จังหวัด") + province,
            "seat": spell(seat, f"เขต {seat}", f"เขต {to_thai_digits(seat)}", f"0{seat}"),
            "district": spell("", "อ.", "อำเภอ") + district,
            "form_type": spell("Constituency", "ส.ส. ๕/๑๘", "แบบแบ่งเขต"),
        }
        number, name = spell(unit, f"0{unit}", to_thai_digits(unit), f"{unit}.0"), spell("", "ต.", "ตำบล") + sub
        fault = {5: "same report", 6: "same scan", 7: "conflict", 8: "missing", 9: "folder"}.get(i % 40)
        if fault == "missing":
            planted[fault].append((province, str(seat), sub, str(unit)))
            continue
        if fault == "folder":
            folder = f"{province}/เขต {seat + 3}"
        path = f"{folder}/s{i}"
        put(path, name, number, votes, pixel=i, **header)
        if fault in ("same scan", "same report", "conflict"):
            changed = [votes[0] + 10, *votes[1:]] if fault == "conflict" else votes
            put(
                f"{path}-b",
                sub,
                unit,
                changed,
                pixel=i if fault == "same scan" else i + 100_000,
                province=province,
                seat=seat,
                district=district,
            )
            planted[fault].append((path, f"{path}-b"))
        if fault == "folder":
            planted[fault].append(path)
        if fault != "conflict":
            truth[place] = [a + b for a, b in zip(truth[place], votes)]
    for province, seat in seats:
        votes = truth[province, seat]
        put(
            f"{province}/เขต {seat}/summary",
            None,
            None,
            votes,
            form_type="ส.ส. ๖/๑",
            province=province,
            seat=seat,
            district=None,
            pixel=10**6 + len(province) * 10 + seat,
        )
    return truth, expected, planted


def check_night(scans, put, store, n_stations, tmp_path):
    truth, expected, planted = plant(put, n_stations)
    (scans / "อุทัยธานี" / "readme.txt").write_text("call me")
    stations = tmp_path / "stations-expected.csv"
    with open(stations, "w", encoding="utf-8", newline="") as f:
        csv.writer(f).writerows([("จังหวัด", "เขตเลือกตั้งที่", "อำเภอ", "ตำบล", "หน่วยเลือกตั้งที่"), *expected])
    official = [
        {"number": n, "party_name": f"พรรค{p}", "candidate_name": c}
        for n, (p, c) in enumerate(zip(PARTIES, CANDIDATES), 1)
    ]
    read = extract(
        scans,
        {"model": "by-name"},
        progress=False,
        store=store,
        expected=stations,
        official=official,
        out=tmp_path / "tables",
    )
    totals = {(r.province, int(r.constituency_number), r.number): r.votes for r in read.totals.itertuples()}
    assert totals == {(p, s, n): v for (p, s), votes in truth.items() for n, v in enumerate(votes, 1)}
    sums = read.sums
    by_kind = {
        k: sorted(tuple(sorted(d.forms)) for d in sums.duplicates if d.kind == k)
        for k in (SAME_SCAN, SAME_REPORT, CONFLICT, SAME_NUMBERS)
    }
    assert by_kind == {
        SAME_SCAN: sorted(planted["same scan"]),
        SAME_REPORT: sorted(planted["same report"]),
        CONFLICT: sorted(planted["conflict"]),
        SAME_NUMBERS: [],
    }
    assert sorted((m.province, m.constituency, m.sub_district, m.station) for m in sums.missing) == sorted(
        planted["missing"]
    )
    assert sums.unexpected == [] and sums.rekeyed == [] and sums.cross_checks["difference"].tolist() == [0] * 9
    doubtful = read.stations[read.stations["doubtful"]]
    names = set(read.stations["form_set"])  # a folder with one station has its name
    misplaced = sorted(path if path in names else path.rpartition("/")[0] for path in planted["folder"])
    assert sorted(doubtful.loc[doubtful["doubt_codes"] == "folder", "form_set"]) == misplaced
    assert sorted(doubtful.loc[doubtful["doubt_codes"] == "duplicate", "form_set"]) == sorted(
        f for pair in planted["conflict"] for f in pair
    )
    assert len(doubtful) == len(planted["folder"]) + 2 * len(planted["conflict"]), "nothing else is doubtful"
    assert list(read.left_out) == ["อุทัยธานี/readme.txt"] and not read.is_complete
    return read


def test_a_tree_of_folders_with_planted_faults(night, sqlite_store, tmp_path):
    scans, put = night
    read = check_night(scans, put, sqlite_store, 120, tmp_path)
    assert (
        read.account()[0]
        == f"{read.n_files} files found, {read.n_files - 1} in {read.n_files - 1} form sets, 1 left out"
    )
    assert sorted(p.name for p in read.files) == ["stations.csv", "summaries.csv", "totals.csv", "votes.csv"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_thousand_stations_with_planted_faults(night, sqlite_store, tmp_path):
    scans, put = night
    read = check_night(scans, put, sqlite_store, 2000, tmp_path)
    assert read.n_files > 2000


# --- files that are left out ---


def test_page_one_without_a_suffix_and_a_pdf_called_p1_are_read(night, sqlite_store):
    import pypdfium2

    from vote_experiments.datasets.folders import group_folder

    scans, _ = night
    scans.mkdir()
    for name in ("constituency_10_1", "constituency_10_1_page2", "constituency_10_1_page3"):
        Image.new("L", (60, 80), 255).save(scans / f"{name}.png")
    for name in ("p1", "d1"):
        document = pypdfium2.PdfDocument.new()
        document.new_page(100, 100)
        document.save(scans / f"{name}.pdf")
    sets = group_folder(scans)
    assert {s.name: [p.name for p in s.pages] for s in sets} == {
        "constituency_10_1": [f"constituency_10_1{end}.png" for end in ("", "_page2", "_page3")],
        "p1": ["p1.pdf"],
        "d1": ["d1.pdf"],
    }
    assert sets.left_out == {}


# --- one scan under two places ---


def filed(folder, original="เชียงใหม่/เขต 3/ริมใต้/หน่วย 17", **header):
    unread = {"sub_district": None, "unit": 17, "votes": (8, 193, 36), "district": None}
    same = None if folder == original else original
    return CountedForm(folder, Report.model_validate(reading(**unread, **header)), same_scan_as=same)


def test_a_misfiled_copy_is_counted_where_the_header_says():
    folders = "ตาก/เขต 3/แม่สอด/หน่วย 9", "เชียงใหม่/เขต 3/ริมใต้/หน่วย 17"
    for original in folders:  # whichever folder comes first
        copies = [filed(f, original, province="เชียงใหม่", seat=None) for f in folders]
        copies.sort(key=lambda f: f.same_scan_as is not None)
        sums = add_up(copies)
        assert sums.totals[["province", "constituency_number", "votes"]].values.tolist() == [
            ["เชียงใหม่", "3", v] for v in (8, 193, 36)
        ]
        assert sums.counted == {folders[0]: "duplicate", folders[1]: "yes"}
        assert f"counted once, as {folders[1]}" in sums.findings()[0] and "เชียงใหม่" in sums.findings()[0]


def test_a_misfiled_copy_whose_header_says_nothing_is_in_no_sum_until_it_is_decided():
    folders = "ตาก/เขต 3/แม่สอด/หน่วย 17", "เชียงใหม่/เขต 3/ริมใต้/หน่วย 17"
    copies = [filed(f, folders[0], province=None, seat=None) for f in folders]
    sums = add_up(copies)
    assert sums.totals.empty and sums.held_back == list(folders)
    [line] = sums.findings()
    assert "จ.ตาก" in line and "จ.เชียงใหม่" in line and "left out of the sums until you decide" in line
    for decisions in ({folders[0]: "leave out"}, {folders[1]: "count"}):
        decided = add_up(copies, decisions=decisions)
        assert set(decided.totals["province"]) == {"เชียงใหม่"} and decided.totals["votes"].tolist() == [8, 193, 36]
        assert decided.held_back == []
