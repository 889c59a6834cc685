"""Whole form sets, read offline"""

import json
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from vote_experiments.forms import reading
from vote_experiments.forms.layout import blank_first_page
from vote_experiments.forms.registration import Found
from vote_experiments.forms.schema import parse_reports
from vote_experiments.forms.synthesis import form_set
from vote_experiments.scoring.evaluators import ballot_accuracy_score, vote_results_quality

SEEDS = {"Constituency": (7021,), "PartyList": (7031,)}  # not used in development


def image(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


@pytest.fixture(scope="module")
def drawn():
    return [form_set(seed, level="scan", kind=kind) for kind, seeds in SEEDS.items() for seed in seeds]


@pytest.fixture(scope="module")
def read(drawn):
    "Every reader's answer for every form set"
    return {
        reader: [
            reading.read_form_set([image(p) for p in d.pages], reader, d.record["metadata"]["candidates"])
            for d in drawn
        ]
        for reader in reading.READERS
    }


def scores(answers, drawn, evaluator):
    return np.mean([evaluator(None, a, d.record["ground_truth"]) for a, d in zip(answers, drawn)])


@pytest.mark.parametrize(
    "reader, votes, ballots",
    [("ocr-words", 0.6, 0.6), ("ocr-digits", 0.9, 0.85), ("ocr-fused", 0.95, 0.9), ("ocr-fused-names", 0.95, 0.9)],
)
def test_readers_reach_their_floor(read, drawn, reader, votes, ballots):
    assert scores(read[reader], drawn, vote_results_quality) >= votes
    assert scores(read[reader], drawn, ballot_accuracy_score) >= ballots


def test_readers_differ(read, drawn):
    rows = {
        reader: [r for a in answers for report in a["reports"] for r in report["vote_results"]]
        for reader, answers in read.items()
    }
    assert all(r["party_name"] is None and r["vote_count_text"] is None for r in rows["ocr-digits"])
    assert [r["vote_count"] for r in rows["ocr-words"]] != [r["vote_count"] for r in rows["ocr-digits"]]
    assert [r["party_name"] for r in rows["ocr-fused"]] != [r["party_name"] for r in rows["ocr-fused-names"]]
    known = {c["party_name"] for d in drawn for cs in d.record["metadata"]["candidates"].values() for c in cs}
    assert np.mean([r["party_name"] in known for r in rows["ocr-fused-names"]]) > 0.97


def test_answers_are_plain_reports_in_our_schema(read, drawn):
    for answers in read.values():
        for answer, d in zip(answers, drawn):
            json.dumps(answer)
            (report,) = parse_reports(answer)
            truth = d.record["ground_truth"]
            assert report.form_info.form_type == truth["form_info"]["form_type"]
            assert [r.number for r in report.vote_results] == [r["number"] for r in truth["vote_results"]]


def test_the_ground_truth_is_never_looked_at(drawn):
    d = drawn[0]
    without = reading.read_form_set([image(p) for p in d.pages], "ocr-fused-names")
    assert "no candidate list" in without["notes"][0]
    assert without["reports"] == reading.read_form_set([image(p) for p in d.pages], "ocr-fused")["reports"]


# --- pages that are not as they should be ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def party():
    d = form_set(7041, level="scan", kind="PartyList")
    return [image(p) for p in d.pages], d.record["ground_truth"]


def votes(answer):
    return {r["number"]: r["vote_count"] for r in answer["reports"][0]["vote_results"]}


def test_order_and_turning_do_not_matter(party):
    pages, truth = party
    straight = votes(reading.read_form_set(pages, "ocr-digits"))
    mixed = votes(
        reading.read_form_set([np.rot90(pages[k], q) for k, q in ((3, 2), (0, 0), (2, 1), (1, 3))], "ocr-digits")
    )
    assert list(straight) == list(mixed) == [r["number"] for r in truth["vote_results"]]
    assert np.mean([straight[n] == mixed[n] for n in straight]) > 0.9


def test_a_missing_page_shifts_nothing(party):
    pages, truth = party
    whole, torn = (votes(reading.read_form_set(p, "ocr-digits")) for p in (pages, [pages[0], pages[2], pages[3]]))
    assert list(torn) == list(whole)[23:]
    assert np.mean([torn[n] == whole[n] for n in torn]) > 0.9


def test_only_a_first_page(party):
    answer = reading.read_form_set(party[0][:1], "ocr-digits")
    assert answer["reports"][0]["vote_results"] == [] and answer["reports"][0]["total_votes_recorded"] is None


def test_pages_that_are_none_are_noted(party):
    pages, _ = party
    noise = np.random.default_rng(0).integers(0, 255, (1754, 1240, 3)).astype(np.uint8)
    answer = reading.read_form_set(
        [noise, pages[0], np.full((1754, 1240), 255, np.uint8), pages[1], np.zeros((8, 8), np.uint8)], "ocr-digits"
    )
    assert len(answer["reports"]) == 1 and len(answer["reports"][0]["vote_results"]) == 23
    assert [n.split(" (")[0] for n in answer["notes"]] == ["image 1", "image 3", "image 5"]


def test_the_same_page_twice_counts_once(party):
    pages, _ = party
    numbers = [
        r["number"] for r in reading.read_form_set([*pages[:2], pages[1]], "ocr-digits")["reports"][0]["vote_results"]
    ]
    assert numbers == list(range(1, 24))


def test_both_reports_of_a_station_in_one_set():
    d = form_set(7042, level="clean", kind="both")
    answer = reading.read_form_set([image(p) for p in d.pages], "ocr-digits")
    for report, truth in zip(answer["reports"], d.record["ground_truth"], strict=True):
        assert report["form_info"]["form_type"] == truth["form_info"]["form_type"]
        assert len(report["vote_results"]) == len(truth["vote_results"])


def test_nothing_to_report_is_an_error(party):
    pages, _ = party
    for images in ([], pages[1:], [np.full((1754, 1240), 255, np.uint8)]):
        with pytest.raises(ValueError, match="no first page"):
            reading.read_form_set(images, "ocr-digits")
    with pytest.raises(ValueError, match="ocr-magic.*ocr-words"):
        reading.read_form_set(pages, "ocr-magic")


def test_files_damaged_missing_and_outside(tmp_path, drawn):
    data = drawn[0].pages
    (tmp_path / "1.jpg").write_bytes(data[0])
    (tmp_path / "2\n'\".jpg").write_bytes(data[1])
    (tmp_path / "half.jpg").write_bytes(data[1][: len(data[1]) // 2])
    (tmp_path / "no.jpg").write_bytes(b"no image")
    paths = [tmp_path / n for n in ("1.jpg", "2\n'\".jpg", "half.jpg", "no.jpg")]
    answer = reading.read_form_set(paths, "ocr-digits", roots=[tmp_path])
    assert len(answer["reports"][0]["vote_results"]) == len(drawn[0].record["ground_truth"]["vote_results"])
    assert len(answer["notes"]) == 2 and "truncated" in answer["notes"][0] and "not an image" in answer["notes"][1]
    with pytest.raises(FileNotFoundError, match="3.jpg"):
        reading.read_form_set([*paths, tmp_path / "3.jpg"], "ocr-digits", roots=[tmp_path])
    with pytest.raises(PermissionError, match="VOTE_EXPERIMENTS_ROOTS"):
        reading.read_form_set(paths, "ocr-digits", roots=[tmp_path / "else"])
    with pytest.raises(ValueError, match="no first page.*truncated"):
        reading.read_form_set(paths[2:3], "ocr-digits", roots=[tmp_path])


def test_a_pdf_of_all_pages(tmp_path, party):
    from PIL import Image

    sheets = [Image.fromarray(np.ascontiguousarray(p)) for p in party[0]]
    sheets[0].save(tmp_path / "set.pdf", save_all=True, append_images=sheets[1:], resolution=150)
    answer = reading.read_form_set([tmp_path / "set.pdf"], "ocr-digits", roots=[tmp_path])
    assert len(answer["reports"][0]["vote_results"]) == len(party[1]["vote_results"]) and answer["notes"] == []


def test_only_the_digit_reader_runs_without_tesseract(party, monkeypatch):
    monkeypatch.setitem(sys.modules, "tesserocr", None)
    for reader in ("ocr-words", "ocr-fused", "ocr-fused-names"):
        with pytest.raises(ModuleNotFoundError, match=f"{reader}.*tesserocr"):
            reading.read_form_set(party[0][:1], reader)
    assert reading.read_form_set(party[0][:1], "ocr-digits")["reports"]


def test_hard_forms_never_end_in_an_error():
    d = form_set(
        7043,
        level="poor",
        options="thai_digits,strike_outs,touching_digits,stamps,withdrawn,blank_cells,fold",
        kind="Constituency",
    )
    for reader in reading.READERS:
        assert reading.read_form_set([image(p) for p in d.pages], reader)["reports"]


def test_a_mark_beside_the_total_is_no_row():
    d = form_set(1, level="scan", options="hard", kind="Constituency")  # a shadow lies next to its total
    answer = reading.read_form_set([image(p) for p in d.pages], "ocr-digits")
    assert [r["number"] for r in answer["reports"][0]["vote_results"]] == [
        r["number"] for r in d.record["ground_truth"]["vote_results"]
    ]


def test_a_stroke_that_crosses_a_dotted_line_stays_whole():
    print_ = blank_first_page("Constituency")
    slot = print_.slots["form_info.district"]
    dotted = slot.y0 + int(print_.ink[slot.y0 : slot.y1, slot.x0 : slot.x1].sum(1).argmax())
    page = cv2.GaussianBlur(255 - cv2.convertScaleAbs(print_.ink, alpha=0.8), (0, 0), 0.7)
    columns = range(slot.x0 + 40, slot.x0 + 48)  # on a dot, or between two
    darkest_gaps = []
    for x in columns:
        drawn = page.copy()
        cv2.line(drawn, (x, dotted - 12), (x, dotted + 8), 50, 3)
        cell = reading.cut_first_page(drawn, Found("Constituency", np.eye(3))).cells["form_info.district"]
        top, left = max(0, slot.y0 - 2), max(0, slot.x0 - 6)
        darkest_gaps.append(int(cell[dotted - 10 - top : dotted + 6 - top, x - 1 - left : x + 2 - left].min(1).max()))
    assert max(darkest_gaps) < 100


# --- the arithmetic ----------------------------------------------------------------------------------------------

readings_of = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(0, 40)), st.floats(-8, 0)),
    min_size=1,
    max_size=5,
    unique_by=lambda t: t[0],
).map(lambda r: sorted(r, key=lambda t: -t[1]))


@given(st.lists(readings_of, max_size=6), st.lists(st.integers(0, 120), max_size=2))
def test_settled_votes_are_always_readings(rows, totals):
    settled = reading.settle_votes(rows, totals)
    assert len(settled) == len(rows)
    assert all(v in dict(r) for v, r in zip(settled, rows))
    if settled != [r[0][0] for r in rows]:
        assert sum(v or 0 for v in settled) in totals


@settings(deadline=None, max_examples=40)
@given(st.lists(readings_of, min_size=7, max_size=7), readings_of)
def test_settled_ballots_are_always_readings(seven, total):
    readings = dict(zip((*reading.BALLOTS, "voters_present"), seven))
    settled = reading.settle_ballots(readings, total)
    assert list(settled) == list(reading.BALLOTS)
    assert all(settled[k] in dict(readings[k]) for k in settled)


@given(readings_of, st.one_of(st.just([]), readings_of))
def test_fused_readings_are_probabilities_of_what_was_read(digits, words):
    words = [w for w in words if w[0] is not None]
    fused = reading.fuse(digits, words)
    assert {v for v, _ in fused} <= {v for v, _ in (*digits, *words)} | {None}
    assert [p for _, p in fused] == sorted((p for _, p in fused), reverse=True)


@pytest.mark.parametrize("candidates", [None, [], {}, {"PartyList": []}, {"Constituency": ["นายหนึ่ง"]}])
def test_candidate_lists_that_are_empty(candidates):
    assert reading.candidate_names(candidates, "PartyList") == []


def test_names_are_snapped_by_similarity_then_by_number():
    rows = [
        {"number": 2, "candidate_name": None, "party_name": "ลานดาว"},
        {"number": 5, "candidate_name": None, "party_name": None},
    ]
    reading.snap_names(rows, [{"number": 1, "party_name": "ลานดาวก"}, {"number": 2, "party_name": "ลานดาวข"}])
    assert [r["party_name"] for r in rows] == ["ลานดาวข", None]
