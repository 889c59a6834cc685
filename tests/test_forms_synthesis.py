"""Synthetic reports: reproducible to the byte, and true about what they contain."""

import json
import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vote_experiments import settings as product_settings
from vote_experiments.forms.checks import check_report
from vote_experiments.forms.layout import FORM_TYPES, NUMBER_FIELDS, PAGE_HEIGHT, PAGE_WIDTH
from vote_experiments.forms.schema import parse_reports
from vote_experiments.forms.synthesis import (
    DIFFICULTIES,
    ELECTION_DAYS,
    LEVELS,
    MEN,
    PARTIES,
    PLACES,
    SURNAMES,
    WOMEN,
    Draft,
    demo_dataset,
    difficulty_shares,
    draft_report,
    draw_creases,
    fill_pages,
    form_set,
    scan_page,
    synthesize_dataset,
)
from vote_experiments.forms.thai import number_words, parse_date, parse_number_words

seeds = st.integers(0, 2**40)
form_types = st.sampled_from(FORM_TYPES)
ballots_of = lambda draft: draft.report["ballot_statistics"]  # noqa: E731
SUMS = {  # each as (left, right) of an equation, None where a number is missing
    "used": lambda d: (
        ballots_of(d)["ballots_used"],
        total(ballots_of(d)[k] for k in ("good_ballots", "bad_ballots", "no_vote_ballots")),
    ),
    "allocated": lambda d: (
        ballots_of(d)["ballots_allocated"],
        total(ballots_of(d)[k] for k in ("ballots_used", "ballots_remaining")),
    ),
    "total": lambda d: (d.report["total_votes_recorded"], ballots_of(d)["good_ballots"]),
}


def total(values):
    values = list(values)
    return None if None in values else sum(values)


def broken_sums(draft):
    return [name for name, sides in SUMS.items() if None not in sides(draft) and sides(draft)[0] != sides(draft)[1]]


@given(seeds, form_types)
def test_the_checks_agree_with_the_truth(seed, form_type):
    plain = check_report(parse_reports(draft_report(seed, form_type).report)[0])
    assert {c.status for c in plain.checks} == {"pass"}
    wrong = check_report(parse_reports(draft_report(seed, form_type, "bad_arithmetic").report)[0])
    assert wrong.failed and wrong.named("words_match_digits").status == "pass"
    spoken = check_report(parse_reports(draft_report(seed, form_type, "word_mismatch").report)[0])
    assert [c.name for c in spoken.failed] == ["words_match_digits"]


@given(seeds)
def test_both_forms_of_a_station_have_the_same_voters(seed):
    one, other = (draft_report(seed, form_type).report for form_type in FORM_TYPES)
    assert one["voter_statistics"] == other["voter_statistics"]
    assert {**one["form_info"], "form_type": ""} == {**other["form_info"], "form_type": ""}


def row_of(draft, name):
    number = int(name.split(".")[1])
    return next(row for row in draft.report["vote_results"] if row["number"] == number)


def has(draft, difficulty):
    return [name for name, marks in draft.marks.items() if difficulty in marks]


@given(seeds, form_types)
def test_a_plain_report_adds_up_and_is_complete(seed, form_type):
    draft = draft_report(seed, form_type)
    rows, ballots = draft.report["vote_results"], ballots_of(draft)
    assert not draft.difficulties and not draft.marks and not broken_sums(draft)
    assert sum(row["vote_count"] for row in rows) == ballots["good_ballots"]
    assert min(row["vote_count"] for row in rows) >= 1
    assert all(row["vote_count_text"] == number_words(row["vote_count"]) for row in rows)
    assert draft.report["voter_statistics"]["voters_present"] == ballots["ballots_used"]
    assert draft.report["voter_statistics"]["eligible_voters"] <= ballots["ballots_allocated"]
    assert [row["number"] for row in rows] == list(range(1, len(rows) + 1))
    low, high = (57, 67) if form_type == "PartyList" else (8, 18)
    assert low <= len(rows) <= high and len({row["party_name"] for row in rows}) == len(rows)
    assert all((row["candidate_name"] is None) == (form_type == "PartyList") for row in rows)
    assert all(isinstance(v, str) and v for v in draft.report["form_info"].values())


@given(seeds, form_types, st.sets(st.sampled_from(list(DIFFICULTIES))))
def test_what_is_asked_for_is_recorded_and_visible_in_the_truth(seed, form_type, names):
    draft = draft_report(seed, form_type, sorted(names))
    assert draft.difficulties == names
    assert bool(broken_sums(draft)) == ("bad_arithmetic" in names)
    for name in has(draft, "zero_rows"):
        assert row_of(draft, name)["vote_count"] == 0
    for name in has(draft, "withdrawn"):
        assert row_of(draft, name)["vote_count"] is None and row_of(draft, name)["vote_count_text"] is None
    mismatched = [n for n in has(draft, "word_mismatch") if n.startswith("vote_results")]
    for name in mismatched:
        assert parse_number_words(row_of(draft, name)["vote_count_text"]) not in (
            None,
            row_of(draft, name)["vote_count"],
        )
    for name, spoken in draft.ballot_words.items():
        group, key = name.split(".")
        assert draft.report[group][key] not in (None, spoken)
    for name in has(draft, "blank_cells"):
        written = draft.report
        value = (
            row_of(draft, name)["vote_count_text"]
            if name.startswith("vote") and "results" in name
            else (written[name] if name in written else written[name.split(".")[0]][name.split(".")[1]])
        )
        assert value is None
    for name, first in draft.struck.items():
        now = (
            row_of(draft, name)["vote_count"]
            if "results" in name
            else (draft.report[name.split(".")[0]][name.split(".")[1]])
        )
        assert now is not None and now != first
    for difficulty in names & {
        "zero_rows",
        "withdrawn",
        "word_mismatch",
        "bad_arithmetic",
        "blank_cells",
        "strike_outs",
    }:
        assert has(draft, difficulty)
    assert bool(mismatched) == ("word_mismatch" in names)


@given(seeds, form_types, st.sets(st.sampled_from(list(DIFFICULTIES))))
def test_nothing_happens_that_was_not_asked_for(seed, form_type, names):
    draft = draft_report(seed, form_type, sorted(names))
    rows = draft.report["vote_results"]
    if "zero_rows" not in names:
        assert 0 not in [row["vote_count"] for row in rows]
    if not names & {"withdrawn", "blank_cells"}:
        assert None not in [row["vote_count"] for row in rows]
    if not names & {"bad_arithmetic", "blank_cells"}:
        assert sum(row["vote_count"] or 0 for row in rows) == ballots_of(draft)["good_ballots"]
    if "word_mismatch" not in names:
        assert all(
            row["vote_count"] == parse_number_words(row["vote_count_text"])
            for row in rows
            if row["vote_count_text"] is not None
        )
    if not names:
        assert draft.struck == {}


@given(seeds, form_types, st.sets(st.sampled_from(list(DIFFICULTIES))))
def test_a_station_stays_the_same_station_when_it_is_made_harder(seed, form_type, names):
    plain, hard = draft_report(seed, form_type), draft_report(seed, form_type, sorted(names))
    assert plain.report["form_info"] == hard.report["form_info"]
    keys = ("number", "candidate_name", "party_name")
    assert [[row[k] for k in keys] for row in plain.report["vote_results"]] == [
        [row[k] for k in keys] for row in hard.report["vote_results"]
    ]


def test_hard_reports_differ_and_follow_the_shares():
    drafts = [draft_report(s, "Constituency", "hard") for s in range(400)]
    found = Counter(name for d in drafts for name in d.difficulties)
    for name, difficulty in DIFFICULTIES.items():
        assert abs(found[name] / 400 - difficulty.share) < 0.09, name
    assert len({frozenset(d.difficulties) for d in drafts}) > 50


def test_shares_and_words_for_options():
    assert difficulty_shares("plain") == {} == difficulty_shares([]) == difficulty_shares("")
    assert difficulty_shares("hard") == {name: d.share for name, d in DIFFICULTIES.items()}
    assert difficulty_shares("medium")["stamps"] == DIFFICULTIES["stamps"].share / 2
    assert difficulty_shares("stamps, fold") == difficulty_shares({"fold": 1, "stamps": 1.0, "withdrawn": 0})
    assert not any(draft_report(s, options={"fold": 0.0}).difficulties for s in range(9))


@pytest.mark.parametrize(
    "options, message",
    [
        (["stampz"], "unknown difficulty 'stampz'; known are thai_digits"),
        ("easy", "'easy'"),
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


def test_the_lists_have_variety_and_are_well_formed():
    assert len(set(MEN + WOMEN)) == len(MEN + WOMEN) >= 60 and len(set(SURNAMES)) == len(SURNAMES) >= 60
    assert len(set(PLACES)) == len(PLACES) >= 25 and all(len(place) == 3 for place in PLACES)
    assert len(set(PARTIES)) == len(PARTIES) >= 67
    assert all(parse_date(day) for day in ELECTION_DAYS)


# ---- pictures -------------------------------------------------------------------------------------------------------

ALL = sorted(DIFFICULTIES)


@pytest.mark.parametrize("level", LEVELS)
def test_same_seed_same_bytes(level):
    first, second = (form_set(100_000, level, ALL, "Constituency") for _ in range(2))
    assert first.pages == second.pages and first.record == second.record
    assert form_set(100_001, level, ALL, "Constituency").pages != first.pages


def test_pixels_do_not_depend_on_opencv_threads():
    here, threads = form_set(5, "poor", "hard", "Constituency").pages, cv2.getNumThreads()
    try:
        cv2.setNumThreads(1 if threads > 1 else 2)
        assert form_set(5, "poor", "hard", "Constituency").pages == here
    finally:
        cv2.setNumThreads(threads)


def test_another_process_draws_the_same_bytes():
    code = (
        "import hashlib\nfrom vote_experiments.forms.synthesis import form_set\n"
        "print(hashlib.sha256(b''.join(form_set(9, 'scan', 'hard', 'Constituency').pages)).hexdigest())"
    )
    out = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": h}
        ).stdout
        for h in "12"
    ]
    assert out[0] == out[1] and len(out[0]) == 65


@pytest.mark.parametrize("kind, n_pages, reports", [("Constituency", 2, 1), ("PartyList", 4, 1), ("both", 6, 2)])
def test_kinds(kind, n_pages, reports):
    drawn = form_set(7, "clean", kind=kind)
    truth = drawn.record["ground_truth"]
    assert len(drawn.pages) == drawn.record["input"]["num_pages"] == n_pages
    assert (
        (len(truth) == 2 and [r["form_info"]["form_type"] for r in truth] == list(FORM_TYPES))
        if reports == 2
        else (truth["form_info"]["form_type"] == kind)
    )
    for page in drawn.pages:
        assert cv2.imdecode(np.frombuffer(page, np.uint8), 0).shape == (PAGE_HEIGHT, PAGE_WIDTH)


def test_metadata_says_what_the_item_has():
    drawn = form_set(31, "scan", ALL, "PartyList")
    about = drawn.record["metadata"]
    assert about["difficulties"] == list(DIFFICULTIES)
    assert (about["level"], about["options"], about["kind"], about["seed"]) == ("scan", ALL, "PartyList", 31)
    marked = about["field_difficulties"]["PartyList"]
    assert {d for marks in marked.values() for d in marks} >= set(ALL) - {"thai_digits", "touching_digits", "fold"}
    rows = {row["number"]: row for row in drawn.record["ground_truth"]["vote_results"]}
    for candidate in about["candidates"]["PartyList"]:
        assert set(candidate) == {"number", "candidate_name", "party_name"}
        assert rows[candidate["number"]]["party_name"] == candidate["party_name"]
    json.dumps(drawn.record)


def test_a_blank_cell_is_bare_and_a_withdrawn_row_is_struck_through():
    draft = draft_report(3, "Constituency", ["blank_cells", "withdrawn"])
    pages = fill_pages(draft)
    from vote_experiments.forms.layout import blank_table_page

    rows = blank_table_page("Constituency", len(draft.report["vote_results"])).rows

    def ink(name, column):
        cell = rows[int(name.split(".")[1]) - 1][column]
        return int((pages[1].written[cell.y0 + 10 : cell.y1 - 10, cell.x0 + 6 : cell.x1 - 6] > 90).sum())

    for name in has(draft, "blank_cells"):
        if "results" in name:
            assert ink(name, "vote_count_text") == 0
            assert (ink(name, "vote_count") == 0) == (row_of(draft, name)["vote_count"] is None)
    for name in has(draft, "withdrawn"):
        assert ink(name, "vote_count") > 100 and ink(name, "candidate_name") > 200
    for i, row in enumerate(draft.report["vote_results"]):
        if f"vote_results.{i + 1}" not in draft.marks:
            assert ink(f"vote_results.{i + 1}", "vote_count") > 20 and row["vote_count"]


def test_stamps_lie_over_the_numbers_they_are_said_to():
    for seed in range(6):
        draft: Draft = draft_report(seed, "Constituency", ["stamps"])
        pages = fill_pages(draft)
        marked = has(draft, "stamps")
        assert marked and all(name in NUMBER_FIELDS or name.startswith("vote_results.") for name in marked)
        assert any(ink.ink.shape == (236, 236) for page in pages for ink in page.others)


def test_difficulties_change_pixels_and_levels_get_worse():
    draft = draft_report(2, "Constituency", ["fold"])
    page = fill_pages(draft)[1]
    import random

    creases = draw_creases(random.Random(1))
    bare, folded = (cv2.imdecode(np.frombuffer(scan_page(page, "clean", 1, c), np.uint8), 0) for c in ((), creases))
    near = slice(int(creases[0].y) - 40, int(creases[0].y) + 40)
    assert folded[near].mean() < bare[near].mean() - 4
    light = [cv2.imdecode(np.frombuffer(scan_page(page, level, 1), np.uint8), 0)[1200:1700] for level in LEVELS]
    assert light[0].std() < light[1].std() < light[2].std()


def test_skew_and_pen_width_are_parameters():
    straight, turned = (
        cv2.imdecode(np.frombuffer(form_set(4, "clean", "plain", "Constituency", skew=s).pages[1], np.uint8), 0)
        for s in (0.0, 6.0)
    )
    longest = [(p[:, 95:1145] < 120).sum(1).max() for p in (straight, turned)]
    assert longest[0] > 1000 > longest[1]  # the rules of the table lie along the rows of pixels, or no longer
    thin, thick = (
        sum((p.written > 127).sum() for p in fill_pages(draft_report(4), pen_width=(w, w))) for w in (1.0, 3.5)
    )
    assert thick > 1.3 * thin


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"level": "awful"}, "level='awful' is not one of clean, scan, poor, mixed"),
        ({"kind": "Senate"}, "kind='Senate'"),
        ({"seed": -3}, "seed=-3"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"seed": True}, "seed=True"),
        ({"skew": 45}, "skew=45"),
        ({"skew": "a lot"}, "skew='a lot'"),
        ({"pen_width": (3, 1)}, "pen_width="),
        ({"pen_width": 2}, "pen_width=2"),
        ({"options": "hrad"}, "'hrad'"),
        ({"n": 0}, "n=0"),
        ({"n": -1}, "n=-1"),
        ({"n": "3"}, "n='3'"),
        ({"workers": 0}, "workers=0"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        synthesize_dataset(**{"n": 1, "out_dir": tmp_path / "new", **arguments})
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=r"out_dir='.*file/below' cannot be written to .*choose another folder"):
        synthesize_dataset(1, out_dir=tmp_path / "file" / "below")


# ---- datasets -------------------------------------------------------------------------------------------------------


def test_a_dataset_on_disk_serial_and_parallel(tmp_path):
    told = []
    paths = [
        synthesize_dataset(
            3,
            100_000,
            "mixed",
            tmp_path / str(w),
            "mixed",
            workers=w,
            progress=lambda done, of: told.append((done, of)),
        )
        for w in (1, 2)
    ]
    serial, parallel = (json.loads(p.read_text("utf-8")) for p in paths)
    assert told == [(i, 3) for i in range(1, 4)] * 2
    assert serial["records"] == parallel["records"]
    assert [r["id"] for r in serial["records"]] == ["s100000", "s100001", "s100002"]
    assert set(serial["metadata"]) == {"name", "version", "description", "created_at", "num_records", "total_pages"}
    images = [p for r in serial["records"] for p in r["input"]["image_paths"]]
    assert len(images) == serial["metadata"]["total_pages"] and not any(p.startswith(("/", "..")) for p in images)
    for image in images:
        assert (tmp_path / "1" / image).read_bytes() == (tmp_path / "2" / image).read_bytes()
    assert sorted(p.name for p in (tmp_path / "1").iterdir()) == ["dataset.json", "pages"]
    longer = form_set(100_001, "mixed", "mixed")
    assert longer.record == serial["records"][1]


def test_the_demo_dataset_is_as_promised(tmp_path):
    path = demo_dataset(tmp_path, workers=2)
    demo = json.loads(path.read_text("utf-8"))
    assert demo["metadata"]["name"] == product_settings.SYNTHETIC_DATASET
    assert demo["metadata"]["num_records"] == 10 and demo["metadata"]["total_pages"] >= 50
    about = [r["metadata"] for r in demo["records"]]
    assert {a["level"] for a in about} == set(LEVELS) and {a["kind"] for a in about} == {*FORM_TYPES, "both"}
    assert sum(not a["difficulties"] for a in about) in (3, 4) and sum(a["options"] == "hard" for a in about) >= 3
    assert {d for a in about for d in a["difficulties"]} == set(DIFFICULTIES)
    assert all((tmp_path / p).stat().st_size > 50_000 for r in demo["records"] for p in r["input"]["image_paths"])
