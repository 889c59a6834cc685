"""Election night in one call: a folder of scans, the chosen reader, the doubtful forms first."""

import pytest
from PIL import Image

from vote_experiments.engine.plan import RunStoppedError
from vote_experiments.store.results import ResultSequence
from vote_experiments.store.runs import list_experiments
from vote_experiments.experiments.extract import extract
from vote_experiments.synthesis.drawn import form_set
from vote_experiments.forms.thai import number_words
from vote_experiments.models.registry import forget_model, register_model
from vote_experiments.models.budget import BudgetExceeded

CALLS = []


def answer(station, first=200, good=290):
    votes = [first, 290 - 200]
    return {
        "reports": [
            {
                "form_info": {
                    "form_type": "Constituency",
                    "date": "14 พฤษภาคม 2566",
                    "province": "ขอนแก่น",
                    "district": "ชุมแพ",
                    "sub_district": "โนนหัน",
                    "constituency_number": "2",
                    "polling_station_number": str(station),
                },
                "ballot_statistics": {
                    "ballots_allocated": 500,
                    "ballots_used": 300,
                    "good_ballots": good,
                    "bad_ballots": 4,
                    "no_vote_ballots": 6,
                    "ballots_remaining": 200,
                },
                "voter_statistics": {"eligible_voters": 480, "voters_present": 300},
                "total_votes_recorded": good,
                "vote_results": [
                    {
                        "number": i + 1,
                        "vote_count": v,
                        "candidate_name": f"นาย ก{i}",
                        "party_name": f"พรรค {i}",
                        "vote_count_text": number_words(v),
                    }
                    for i, v in enumerate(votes)
                ],
            }
        ]
    }


def station_of(images):
    return int(images[0].rsplit("/s", 1)[1].split("_")[0])


def careful(images, config):
    CALLS.append(station_of(images))
    return answer(station_of(images))


def hasty(images, config):
    if station_of(images) == 3:
        raise ValueError("the page is torn")
    return answer(station_of(images), first=201 if station_of(images) == 1 else 200)


def broke(images, config):
    if len(CALLS) >= 2:
        raise BudgetExceeded("stopped: 1.0000 USD are spent of max_cost_usd=1")
    return careful(images, config)


@pytest.fixture
def night(tmp_path, monkeypatch):
    monkeypatch.setenv("VOTE_EXPERIMENTS_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    CALLS.clear()
    scans = tmp_path / "scans"
    scans.mkdir()
    for i in range(5):
        for page in (1, 2):
            Image.new("L", (40, 60), 255).save(scans / f"s{i}_page{page}.png")
    for name, fn in (("careful", careful), ("hasty", hasty), ("broke", broke)):
        register_model(name, fn)
    yield scans
    for name in ("careful", "hasty", "broke"):
        forget_model(name)


def test_a_folder_becomes_tables_with_doubts_from_a_second_reader(night, sqlite_store, tmp_path):
    read = extract(
        night,
        {"model": "careful"},
        second_config={"model": "hasty"},
        store=sqlite_store,
        out=tmp_path / "tables",
        format="json",
        progress=False,
    )
    assert (len(read.stations), read.n_doubtful) == (5, 2)
    doubts = dict(zip(read.stations["form_set"], read.stations["doubts"]))
    assert "200 here, 201 by the second reader" in doubts["s1"] and "second reader" in doubts["s3"]
    assert read.stations["form_set"].tolist()[:2] == ["s3", "s1"], (
        "the doubtful ones come first, by votes that could be wrong"
    )
    assert read.stations["votes_at_stake"].tolist()[:3] == [290, 1, 0]
    assert read.totals["votes"].tolist() == [1000, 450] and read.totals["doubtful_forms"].tolist() == [2, 2]
    assert sorted(p.name for p in read.files) == ["stations.json", "totals.json", "votes.json"]
    assert "ขอนแก่น" in (tmp_path / "tables" / "totals.json").read_text(encoding="utf-8")


def test_tables_as_parquet_hold_what_the_csv_tables_hold(night, sqlite_store, tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pandas as pd

    made = {
        kind: extract(night, {"model": "careful"}, out=tmp_path / kind, format=kind, store=sqlite_store, progress=False)
        for kind in ("csv", "parquet")
    }
    for name in ("stations", "votes", "totals"):
        written = pd.read_parquet(tmp_path / "parquet" / f"{name}.parquet")
        text = pd.read_csv(tmp_path / "csv" / f"{name}.csv", encoding="utf-8-sig")
        assert list(written) == list(text) and len(written) == len(text) > 0
        numbers = [c for c in ("vote_count", "votes", "good_ballots", "number") if c in written]
        assert numbers and all(written[c].dtype == "int64" and (written[c] == text[c]).all() for c in numbers)
    assert made["parquet"].n_reports == made["csv"].n_reports


def test_a_registered_reader_receives_every_page_also_one_that_is_no_form(night, sqlite_store):
    received = {}

    def counts_pages(images, config):
        received[station_of(images)] = len(images)
        return answer(station_of(images))

    Image.effect_noise((40, 60), 90).save(night / "s1_page3.png")  # a picture of nothing, between the pages of a form
    Image.new("L", (40, 60), 0).save(night / "s2_page3.png")
    register_model("counts-pages", counts_pages)
    try:
        read = extract(night, {"model": "counts-pages"}, store=sqlite_store, progress=False)
    finally:
        forget_model("counts-pages")
    assert received == {0: 2, 1: 3, 2: 3, 3: 2, 4: 2} and read.left_out == {}
    assert "page" not in " ".join(read.stations["doubt_codes"])  # whether it is a form is for the reader to say


def test_failed_forms_are_rows_too(night, sqlite_store):
    read = extract(night, {"model": "hasty"}, store=sqlite_store, progress=False)
    assert (
        read.n_unread == 1
        and read.summary().startswith("4 reports read")
        and "1 form set could not be read" in read.summary()
    )
    failed = read.stations[read.stations["form_set"] == "s3"].iloc[0]
    assert failed["doubtful"] and "torn" in failed["doubts"]
    assert read.totals["forms"].tolist() == [4, 4]


def spoiled(images, config):
    "Each station with another fault that no sum shows"
    found, station = answer(station_of(images)), station_of(images)
    report = found["reports"][0]
    if station == 0:
        report["vote_results"], report["total_votes_recorded"] = [], None
    elif station == 1:
        report["vote_results"][1] |= {"vote_count": None, "vote_count_text": None}
    elif station == 2:
        report["voter_statistics"]["eligible_voters"] = 3
    elif station == 3:
        report["voter_statistics"]["eligible_voters"] = None
    elif station == 4:
        found["notes"] = [
            "image 2 (s4_page2.png): the picture is cut off",
            "no candidate list was given: names are as read",
        ]
    return found


def test_what_is_blank_missing_or_impossible_is_doubtful(night, sqlite_store, tmp_path):
    register_model("careful", spoiled)
    read = extract(night, {"model": "careful"}, store=sqlite_store, out=tmp_path, progress=False)
    doubts = dict(zip(read.stations["form_set"], read.stations["doubts"]))
    assert read.n_doubtful == 5 and "no votes were read" in doubts["s0"]
    assert "not read: vote_results[number=2].vote_count" in doubts["s1"]
    assert (
        "more voters present than eligible: 300 > 3" in doubts["s2"]
        and "not read: voter_statistics.eligible_voters" in doubts["s3"]
    )
    assert doubts["s4"] == "image 2 (s4_page2.png): the picture is cut off"
    assert read.totals["unread"].tolist() == [0, 1]
    assert ".0" not in (tmp_path / "totals.csv").read_text() + (tmp_path / "votes.csv").read_text()
    assert ",480," in (tmp_path / "stations.csv").read_text(), "a blank makes no decimals of the others"


def test_new_scans_are_a_new_version_and_a_stopped_night_goes_on(night, sqlite_store):
    with pytest.raises(RunStoppedError, match="max_cost_usd.*resume"):
        extract(night, {"model": "broke"}, jobs=1, store=sqlite_store, progress=False)
    assert len(CALLS) == 2
    register_model("broke", careful)
    read = extract(night, {"model": "broke"}, jobs=1, store=sqlite_store, progress=False)
    assert len(read.stations) == 5 and sorted(CALLS) == [0, 1, 2, 3, 4]
    assert [e["status"] for e in list_experiments(sqlite_store)] == ["finished", "finished"]


def test_an_offline_reader_reads_only_what_came_since(night, sqlite_store, tmp_path):
    folder = tmp_path / "more"
    folder.mkdir()

    def arrives(seed, name):
        for number, page in enumerate(form_set(seed).pages, 1):
            (folder / f"{name}_page{number}.jpg").write_bytes(page)

    def read():
        found = extract(folder, {"model": "ocr-digits"}, store=sqlite_store, progress=False)
        newest = {
            r.item.id: r.output for part in found.experiment_ids for r in ResultSequence(sqlite_store, part, None)
        }
        return found.n_new, newest

    arrives(3, "a"), arrives(4, "b")
    assert read()[0] == 2
    arrives(5, "c"), arrives(6, "b")  # one more, and one scanned again under its old name
    n_new, outputs = read()
    assert n_new == 2 and outputs["a"]["reports"][0] != outputs["b"]["reports"][0]
    arrives(7, "d")
    n_new, more = read()
    assert n_new == 1 and {k: v for k, v in more.items() if k != "d"} == outputs
    assert read() == (0, more)


def test_an_own_model_with_a_version_reads_only_what_came_since(night, sqlite_store, tmp_path):
    register_model("careful", careful, version="1")
    out = tmp_path / "tables"
    first = extract(night, {"model": "careful"}, store=sqlite_store, out=out, progress=False)
    Image.new("L", (40, 60), 255).save(night / "s7_page1.png")
    CALLS.clear()
    second = extract(night, {"model": "careful"}, store=sqlite_store, out=out, progress=False)
    assert (CALLS, second.n_new, second.n_reports) == ([7], 1, 6) and len(first.experiment_ids) == 1
    third = extract(night, {"model": "careful"}, store=sqlite_store, out=out, progress=False)
    assert (CALLS, third.n_new, third.summary()) == ([7], 0, second.summary())
    assert third.stations["form_set"].tolist() == ["s0", "s1", "s2", "s3", "s4", "s7"] and third.totals[
        "votes"
    ].tolist() == [1200, 540]


def test_a_form_set_that_failed_is_tried_again_unless_it_is_kept(night, sqlite_store):
    register_model("hasty", hasty, version="1")
    assert extract(night, {"model": "hasty"}, store=sqlite_store, progress=False).n_unread == 1
    kept = extract(night, {"model": "hasty"}, store=sqlite_store, progress=False, retry_failed=False)
    assert (kept.n_new, kept.n_unread) == (0, 1)
    register_model("hasty", careful, version="1")
    again = extract(night, {"model": "hasty"}, store=sqlite_store, progress=False)
    assert (again.n_new, again.n_unread, again.n_reports) == (1, 0, 5)


def test_bad_requests(night, sqlite_store, tmp_path):
    with pytest.raises(ValueError, match="csv, json, parquet"):
        extract(night, {"model": "careful"}, format="xls", store=sqlite_store)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no page images"):
        extract(tmp_path / "empty", {"model": "careful"}, store=sqlite_store, progress=False)
    with pytest.raises(ValueError, match="unknown model"):
        extract(night, {"model": "nobody"}, store=sqlite_store, progress=False)
    assert CALLS == []
