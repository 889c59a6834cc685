"""Drawn form sets: the same pixels for the same seed, places of all numbers, every kind of form and of image"""

import json
import random
import subprocess
import sys

import cv2
import numpy as np
import pytest

from vote_experiments import settings as product_settings
from vote_experiments.forms.kinds import FORM_KINDS
from vote_experiments.forms.schema import parse_reports
from vote_experiments.synthesis.difficulties import DIFFICULTIES
from vote_experiments.synthesis.drawn import demo_dataset, form_set, synthesize_dataset
from vote_experiments.synthesis.filling import fill_pages
from vote_experiments.synthesis.layouts import DRAWN_KINDS, draw_design
from vote_experiments.synthesis.printing import print_form
from vote_experiments.synthesis.sheet import PAGE_HEIGHT, PAGE_WIDTH
from vote_experiments.synthesis.reports import draft_report
from vote_experiments.synthesis.scanning import draw_creases, scan_page
from vote_experiments.synthesis.image_kinds import IMAGE_KINDS, LEVELS

ALL = sorted(DIFFICULTIES)


def gray(jpeg):
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), 0)


@pytest.mark.parametrize("image", IMAGE_KINDS)
def test_same_seed_same_bytes(image):
    first, second = (form_set(100_000, image, ALL, "5/18") for _ in range(2))
    assert first.pages == second.pages and first.record == second.record
    assert form_set(100_001, image, ALL, "5/18").pages != first.pages


def test_pixels_do_not_depend_on_opencv_threads():
    here, threads = form_set(5, "photo", "hard", "5/18").pages, cv2.getNumThreads()
    try:
        cv2.setNumThreads(1 if threads > 1 else 2)
        assert form_set(5, "photo", "hard", "5/18").pages == here
    finally:
        cv2.setNumThreads(threads)


def test_another_process_draws_the_same_bytes():
    code = (
        "import hashlib\nfrom vote_experiments.synthesis.drawn import form_set\n"
        "print(hashlib.sha256(b''.join(form_set(9, 'phone_app', 'hard', '5/17').pages)).hexdigest())"
    )
    out = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": h}
        ).stdout
        for h in "12"
    ]
    assert out[0] == out[1] and len(out[0]) == 65


@pytest.mark.parametrize(
    ("kind", "codes"),
    [
        ("Constituency", ["5/18"]),
        ("PartyList", ["5/18 (บช)"]),
        ("both", ["5/18", "5/18 (บช)"]),
        ("สส.5/17", ["5/17"]),
        ("ส.ส. ๕/๑๗(บช)", ["5/17 (บช)"]),
        ("5/16", ["5/16"]),
        ("5/16 (บช)", ["5/16 (บช)"]),
    ],
)
def test_kinds(kind, codes):
    drawn = form_set(7, "clean", kind=kind)
    reports = parse_reports(drawn.record["ground_truth"])
    assert [r.form_info.form_code for r in reports] == codes == drawn.record["metadata"]["form_codes"]
    assert len(drawn.pages) == drawn.record["input"]["num_pages"] == sum(FORM_KINDS[c].edition().pages for c in codes)
    assert all(gray(page).shape == (PAGE_HEIGHT, PAGE_WIDTH) for page in drawn.pages)


@pytest.mark.parametrize("n", [4, 10, 11, 12, 15])
@pytest.mark.parametrize("code", ["5/18", "5/17", "5/16"])
def test_every_candidate_has_a_row_and_the_total_comes_last(code, n):
    kind = FORM_KINDS[code]
    for seed in range(6):
        pages = print_form(kind, draw_design(kind, random.Random(seed), n), n)
        rows = [i for page in pages for i in page.rows]
        assert rows == list(range(len(rows))) and len(rows) >= n
        tables = [page.table for page in pages if page.table]
        assert [t.has_total for t in tables] == [False] * (len(tables) - 1) + [True]
        for table in tables:
            assert all(b > a for a, b in zip(table.ys, table.ys[1:])) and table.ys[-1] < PAGE_HEIGHT


def test_designs_are_varied_beyond_what_was_measured():
    described = [form_set(s, "clean", kind="5/18").record["metadata"]["designs"][0] for s in range(12)]
    assert len({tuple(d["columns"]) for d in described}) == 12
    assert len({d["pitch"] for d in described}) > 6
    assert {d["thai_row_numbers"] for d in described} == {True, False}


@pytest.mark.parametrize("image", ["digital", "flatbed", "camscanner", "photo", "fax"])
def test_regions_are_where_the_ink_is(image):
    "The place of a written number holds ink"
    drawn = form_set(12, image, "plain", "5/18")
    written = []
    for name, place in drawn.record["metadata"]["regions"].items():
        x0, y0, x1, y1 = place["box"]
        if not name.startswith("vote_results") or name.endswith("_text"):
            continue
        im = gray(drawn.pages[place["page"]])
        h, w = im.shape
        cell = im[int(y0 * h) + 4 : int(y1 * h) - 4, int(x0 * w) : int(x1 * w)]
        written.append(float((cell < 150).mean()))
    assert min(written) > 0.01


@pytest.mark.parametrize("image", ["flatbed", "phone_app", "photo"])
def test_tables_are_where_the_rules_are(image):
    drawn = form_set(21, image, "plain", "5/18 (บช)")
    for table in drawn.record["metadata"]["tables"]:
        im = gray(drawn.pages[table["page"]])
        h, w = im.shape
        seen = []
        for (x0, y0), (x1, y1) in table["rows"]:
            for t in (0.1, 0.3, 0.7, 0.9):  # on the rule, give or take the bow of the page
                x, y = int((x0 + t * (x1 - x0)) * w), int((y0 + t * (y1 - y0)) * h)
                seen.append(im[max(0, y - 12) : y + 13, x - 1 : x + 2].min() < 225)
        assert np.mean(seen) > 0.95


def test_metadata_names_everything():
    drawn = form_set(31, "phone_app", ALL, "PartyList")
    about = drawn.record["metadata"]
    assert set(about["difficulties"]) >= set(DIFFICULTIES) - {
        "zero_blanks",
        "zero_rows",
        "spelled_digits",
        "word_mismatch",
    }
    assert (about["level"], about["image"], about["options"], about["kind"], about["seed"]) == (
        "phone_app",
        "phone_app",
        ALL,
        "PartyList",
        31,
    )
    assert len(about["image_effects"]) == len(drawn.pages) and about["blank_or_dash_means_zero"] is True
    rows = {row["number"]: row for row in drawn.record["ground_truth"]["vote_results"]}
    for candidate in about["candidates"]["PartyList"]:
        assert set(candidate) == {"number", "candidate_name", "party_name"}
        assert rows[candidate["number"]]["party_name"] == candidate["party_name"]
    assert {f"vote_results[number={n}].vote_count" for n in rows} <= set(about["regions"])
    json.dumps(drawn.record)


def test_a_blank_is_bare_and_a_dash_is_small():
    for option, low, high in (("zero_blanks", 0, 0), ("zero_dashes", 8, 160)):
        draft = draft_report(3, "5/18", option)
        page = fill_pages(draft)[0]
        for name in draft.zeros:
            number = name.split(".")[1]
            x0, y0, x1, y1 = page.regions[f"vote_results[number={number}].vote_count"]
            assert low <= int((page.written[y0 + 4 : y1 - 4, x0:x1] > 90).sum()) <= high


def test_stamps_lie_over_the_numbers_they_are_recorded_for():
    for seed in range(6):
        draft = draft_report(seed, "5/18", ["stamps"])
        pages = fill_pages(draft)
        marked = [name for name, marks in draft.marks.items() if "stamps" in marks]
        assert marked and all(name in draft.number_fields() or name.startswith("vote_results.") for name in marked)
        assert any(ink.ink.shape == (236, 236) for page in pages for ink in page.others)


def test_folds_darken_and_skew_turns():
    page = fill_pages(draft_report(2, "5/18", ["fold"]))[1]
    creases = draw_creases(random.Random(1))
    bare, folded = (gray(scan_page(page, IMAGE_KINDS["digital"], 1, c).jpeg) for c in ((), creases))
    near = slice(int(creases[0].y) - 40, int(creases[0].y) + 40)
    assert folded[near].mean() < bare[near].mean() - 2
    straight, turned = (gray(form_set(4, "digital", "plain", "5/18 (บช)", skew=s).pages[1]) for s in (0.0, 6.0))
    longest = [(p[:, 95:1145] < 160).sum(1).max() for p in (straight, turned)]
    assert longest[0] > 900 > longest[1]


def test_black_and_white_images_have_two_tones():
    for image in ("fax", "threshold"):
        values = gray(form_set(4, image, "plain", "5/18").pages[0])
        assert ((values < 60) | (values > 200)).mean() > 0.97


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": "awful"}, "level='awful' is not one of clean, scan, poor, digital"),
        ({"kind": "Senate"}, "kind='Senate'"),
        ({"kind": "6/1"}, "kind='6/1'"),
        ({"kind": 3}, "kind=3"),
        ({"printer": "bangkok", "kind": "5/18"}, "no design of 5/18 by bangkok"),
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
def test_wrong_arguments_are_reported_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        synthesize_dataset(**{"n": 1, "out_dir": tmp_path / "new", **arguments})
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=r"out_dir='.*file/below' cannot be written to .*choose another folder"):
        synthesize_dataset(1, out_dir=tmp_path / "file" / "below")


def test_a_dataset_on_disk_serial_and_parallel(tmp_path):
    calls = []
    paths = [
        synthesize_dataset(
            3,
            100_000,
            "mixed",
            tmp_path / str(w),
            "mixed",
            workers=w,
            progress=lambda done, of: calls.append((done, of)),
        )
        for w in (1, 2)
    ]
    serial, parallel = (json.loads(p.read_text("utf-8")) for p in paths)
    assert calls == [(i, 3) for i in range(1, 4)] * 2
    assert serial["records"] == parallel["records"]
    assert [r["id"] for r in serial["records"]] == ["s100000", "s100001", "s100002"]
    images = [p for r in serial["records"] for p in r["input"]["image_paths"]]
    assert len(images) == serial["metadata"]["total_pages"] and not any(p.startswith(("/", "..")) for p in images)
    for image in images:
        assert (tmp_path / "1" / image).read_bytes() == (tmp_path / "2" / image).read_bytes()
    assert form_set(100_001, "mixed", "mixed").record == serial["records"][1]


def test_the_demo_dataset_is_as_promised(tmp_path):
    demo = json.loads(demo_dataset(tmp_path, workers=2).read_text("utf-8"))
    assert demo["metadata"]["name"] == product_settings.SYNTHETIC_DATASET and demo["metadata"]["num_records"] == 10
    about = [r["metadata"] for r in demo["records"]]
    assert {a["level"] for a in about} == set(LEVELS)
    assert {c for a in about for c in a["form_codes"]} == set(DRAWN_KINDS) - {"5/16 (บช)"}
    assert len({a["image"] for a in about}) >= 4
    assert sum(not a["difficulties"] for a in about) >= 1 and any(a["options"] == "hard" for a in about)
