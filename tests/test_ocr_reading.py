"""The offline readers on drawn forms that look like real ones, and on what is no form"""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from vote_experiments.forms.schema import parse_reports
from vote_experiments.ocr.reading import READERS, read_form_set
from vote_experiments.synthesis.drawn import form_set

CONSTITUENCY, PARTY_LIST, COMMITTEE = (9001, "5/18"), (9002, "5/18 (บช)"), (9003, "5/17")


def pages_of(seed, kind, level="flatbed"):
    drawn = form_set(seed, level=level, options="plain", kind=kind)
    truth = parse_reports(drawn.record["ground_truth"])[0]
    return [cv2.imdecode(np.frombuffer(p, np.uint8), cv2.IMREAD_GRAYSCALE) for p in drawn.pages], truth


@pytest.fixture(scope="module")
def constituency():
    return pages_of(*CONSTITUENCY)


@pytest.fixture(scope="module")
def party_list():
    return pages_of(*PARTY_LIST)


def votes(report):
    return {r["number"]: r["vote_count"] for r in report["vote_results"]}


def share_right(report, truth):
    read = votes(report)
    written = {r.number: r.vote_count for r in truth.vote_results if r.vote_count is not None}
    return np.mean([read.get(n) == v for n, v in written.items()])


def confident(output):
    return [(path, p) for report in output["confidence"] for path, p in report.items() if p >= 0.9]


@pytest.mark.parametrize(
    "reader, least", [("ocr-digits", 0.4), ("ocr-numbers", 0.8), ("ocr-sums", 0.9), ("ocr-fused", 0.9)]
)
def test_each_reader_reads_a_drawn_form(constituency, reader, least):
    pages, truth = constituency
    output = read_form_set(pages, reader)
    assert len(output["reports"]) == 1 and parse_reports(output)[0].form_info.form_code == "5/18"
    assert sorted(votes(output["reports"][0])) == [r.number for r in truth.vote_results]
    assert share_right(output["reports"][0], truth) >= least


def test_readers_differ(party_list):
    pages, _ = party_list
    read = {name: read_form_set(pages, name) for name in ("ocr-digits", "ocr-numbers", "ocr-sums", "ocr-words")}
    sure = [tuple(output["confidence"][0].values()) for output in read.values()]
    assert len(set(sure)) == 4
    assert votes(read["ocr-words"]["reports"][0]) != votes(read["ocr-sums"]["reports"][0])


def test_every_number_has_a_confidence_and_a_place(constituency):
    pages, truth = constituency
    output = read_form_set(pages, "ocr-sums")
    confidence, regions = output["confidence"][0], output["regions"][0]
    assert set(confidence) == set(regions)
    assert {f"vote_results[number={r.number}].vote_count" for r in truth.vote_results} | {
        "total_votes_recorded"
    } <= set(confidence)
    assert all(0 <= p <= 1 for p in confidence.values())
    heights = [regions[f"vote_results[number={r.number}].vote_count"]["box"][1] for r in truth.vote_results]
    assert heights == sorted(heights) and all(r["page"] == 0 for r in regions.values())
    left, top, right, bottom = regions["total_votes_recorded"]["box"]
    assert 0.4 < left < right <= 1 and 0.4 < top < bottom <= 1


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_page_reads_like_a_straight_one(constituency, turns):
    pages, truth = constituency
    output = read_form_set([np.rot90(p, turns) for p in pages], "ocr-sums")
    assert share_right(output["reports"][0], truth) >= 0.9
    box = output["regions"][0]["total_votes_recorded"]["box"]
    straight = read_form_set(pages, "ocr-sums")["regions"][0]["total_votes_recorded"]["box"]
    x, y = (straight[0] + straight[2]) / 2, (straight[1] + straight[3]) / 2
    for _ in range(turns):  # a quarter turn counterclockwise
        x, y = y, 1 - x
    assert box[0] - 0.02 <= x <= box[2] + 0.02 and box[1] - 0.02 <= y <= box[3] + 0.02


def test_pages_out_of_order_and_scanned_twice(party_list):
    pages, truth = party_list
    straight = votes(read_form_set(pages, "ocr-sums")["reports"][0])
    output = read_form_set([pages[2], pages[3], pages[1], pages[0], pages[1]], "ocr-sums")
    assert len(output["reports"]) == 1 and votes(output["reports"][0]) == straight
    assert sorted(straight) == [r.number for r in truth.vote_results]


def test_a_missing_page_moves_no_row(party_list):
    pages, truth = party_list
    output = read_form_set([pages[0], pages[2], pages[3]], "ocr-sums")
    assert sorted(votes(output["reports"][0])) == [*range(1, 11), *range(35, 58)]
    assert any("24 rows" in note for note in output["notes"])
    assert share_right(output["reports"][0], truth) < 1
    without_first = read_form_set(pages[1:], "ocr-sums")
    assert sorted(votes(without_first["reports"][0])) == list(range(11, 58))
    assert any("first page" in note for note in without_first["notes"])


def test_two_reports_in_one_file(constituency):
    pages, truth = constituency
    others, other_truth = pages_of(*COMMITTEE)
    output = read_form_set([*pages, *others], "ocr-sums")
    assert [r["form_info"]["form_code"] for r in output["reports"]] == ["5/18", "5/17"]
    assert share_right(output["reports"][0], truth) >= 0.9 and share_right(output["reports"][1], other_truth) >= 0.8


def test_two_stations_in_one_pdf(tmp_path, constituency):
    from PIL import Image

    others, other_truth = pages_of(9021, "5/18")
    sheets = [Image.fromarray(np.ascontiguousarray(p)) for p in [*constituency[0], *others]]
    sheets[0].save(tmp_path / "both.pdf", save_all=True, append_images=sheets[1:], resolution=150)
    output = read_form_set([tmp_path / "both.pdf"], "ocr-sums", roots=[tmp_path])
    for report, truth in zip(output["reports"], (constituency[1], other_truth), strict=True):
        assert share_right(report, truth) >= 0.8
    assert output["regions"][1]["total_votes_recorded"]["page"] >= len(constituency[0])


def test_a_damaged_file_is_noted_and_the_rest_is_read(tmp_path, constituency):
    cv2.imwrite(str(tmp_path / "1.jpg"), constituency[0][0])
    (tmp_path / "torn.jpg").write_bytes((tmp_path / "1.jpg").read_bytes()[:3000])
    output = read_form_set([tmp_path / "1.jpg", tmp_path / "torn.jpg"], "ocr-sums", roots=[tmp_path])
    assert len(output["reports"]) == 1 and any("image 2" in note for note in output["notes"])
    with pytest.raises(FileNotFoundError, match="2.jpg"):
        read_form_set([tmp_path / "2.jpg"], "ocr-sums", roots=[tmp_path])
    with pytest.raises(PermissionError, match="VOTE_EXPERIMENTS_ROOTS"):
        read_form_set([tmp_path / "1.jpg"], "ocr-sums", roots=[tmp_path / "else"])


@pytest.mark.parametrize("seed, rows", [(511, 13), (507, 57)])
def test_words_that_form_a_column_and_a_table_that_goes_on_overleaf(seed, rows):
    drawn = form_set(seed, "scan", "real")
    pages = [cv2.imdecode(np.frombuffer(p, np.uint8), cv2.IMREAD_GRAYSCALE) for p in drawn.pages]
    assert len(read_form_set(pages, "ocr-sums")["reports"][0]["vote_results"]) == rows


def test_ticks_behind_every_number_are_no_digits():
    drawn = form_set(594, "scan", "real")
    pages = [cv2.imdecode(np.frombuffer(p, np.uint8), cv2.IMREAD_GRAYSCALE) for p in drawn.pages]
    assert "slashes" in drawn.record["metadata"]["difficulties"]
    assert (
        share_right(read_form_set(pages, "ocr-sums")["reports"][0], parse_reports(drawn.record["ground_truth"])[0])
        > 0.85
    )


def test_the_header_names_the_station_or_says_what_was_not_read():
    right = wrong = 0
    for seed in range(9030, 9034):
        pages, truth = pages_of(seed, "5/18")
        output = read_form_set(pages[:1], "ocr-sums")
        info, sure = output["reports"][0]["form_info"], output["confidence"][0]
        for name in ("polling_station_number", "constituency_number", "village_moo"):
            if info.get(name) and sure[f"form_info.{name}"] >= 0.9:
                right += info[name] == getattr(truth.form_info, name)
                wrong += info[name] != getattr(truth.form_info, name)
        unread = next(note for note in output["notes"] if note.startswith("not read in the header"))
        assert "district" in unread and info.get("district") is None
    assert right >= 4 and wrong == 0


def test_names_come_from_the_candidate_list_by_number(constituency):
    pages, truth = constituency
    listed = [r.model_dump(include={"number", "candidate_name", "party_name"}) for r in truth.vote_results]
    with_names = read_form_set(pages[:1], "ocr-fused-names", {"Constituency": listed})["reports"][0]
    without = read_form_set(pages[:1], "ocr-fused", {"Constituency": listed})["reports"][0]
    assert [r["party_name"] for r in with_names["vote_results"]] == [r["party_name"] for r in listed]
    assert {r["party_name"] for r in without["vote_results"]} == {None}
    assert any("no candidate list" in n for n in read_form_set(pages[:1], "ocr-fused-names")["notes"])


def test_a_cropped_page_gives_what_is_left(constituency):
    pages, truth = constituency
    h, w = pages[0].shape
    output = read_form_set([pages[0][int(0.5 * h) :, :]], "ocr-sums")
    assert share_right(output["reports"][0], truth) >= 0.8
    assert output["reports"][0]["voter_statistics"] == {}


@pytest.mark.parametrize("level", ["phone_app", "camscanner", "fax", "threshold"])
def test_kinds_of_image(level):
    pages, truth = pages_of(9010, "5/17", level)
    assert share_right(read_form_set(pages, "ocr-sums")["reports"][0], truth) >= 0.8


def no_forms():
    r = np.random.default_rng(5)
    yield np.full((1600, 1200), 255, np.uint8)
    yield np.zeros((1600, 1200), np.uint8)
    yield r.integers(0, 255, (1600, 1200)).astype(np.uint8)
    face = cv2.GaussianBlur(r.integers(0, 255, (1600, 1200)).astype(np.uint8), (0, 0), 60)
    yield cv2.normalize(face, None, 20, 235, cv2.NORM_MINMAX)  # a soft photo
    lined = np.full((1600, 1200), 240, np.uint8)
    for y in range(100, 1500, 60):
        cv2.line(lined, (60, y), (1140, y), 90, 2)
    yield lined  # ruled paper
    for x in (60, 300, 700, 1140):
        cv2.line(lined, (x, 100), (x, 1480), 90, 2)
    for i, y in enumerate(range(145, 1480, 60)):
        cv2.putText(lined, f"{i}   item {i}        {i * 37 % 100}", (80, y), cv2.FONT_HERSHEY_SIMPLEX, 1, 40, 2)
    yield lined  # another table


@pytest.mark.parametrize("page", no_forms(), ids=["blank", "black", "noise", "photo", "lined", "table"])
@pytest.mark.parametrize("reader", ["ocr-sums", "ocr-digits"])
def test_nothing_is_invented_on_what_is_no_form(page, reader):
    with pytest.raises(ValueError, match="not a known form"):
        read_form_set([page], reader)


def test_an_empty_form_has_no_votes():
    drawn = pages_of(9004, "5/18")[0][0]
    page = drawn.copy()
    h, w = page.shape
    output = read_form_set([page], "ocr-sums")
    row = output["regions"][0]["vote_results[number=1].vote_count"]["box"]
    x0, y0, x1, y1 = (int(v * s) for v, s in zip(row, (w, h, w, h)))
    inside = slice(y0 + 6, y0 + int(0.62 * (y1 - y0))), slice(x0 + 10, x1 - 10)
    page[inside] = np.percentile(page[inside], 90)  # digits and words wiped out, rules left
    read = read_form_set([page], "ocr-numbers")
    value, p = votes(read["reports"][0])[1], read["confidence"][0]["vote_results[number=1].vote_count"]
    assert value is None or p < 0.9


def test_errors_name_the_remedy():
    with pytest.raises(ValueError, match="ocr-magic.*ocr-digits"):
        read_form_set([], "ocr-magic")
    with pytest.raises(ValueError, match="not a known form"):
        read_form_set([], "ocr-digits")


def test_what_a_reader_needs_is_named():
    code = (
        "import sys; sys.modules['onnxruntime'] = None; sys.modules['tesserocr'] = None\n"
        "from vote_experiments.models.registry import model_available\n"
        "for name in ('ocr-digits', 'ocr-numbers', 'ocr-words'): print(model_available(name))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert out[0] == "None" and "pip install onnxruntime" in out[1] and "pip install tesserocr" in out[2]


def test_readers_are_the_registered_models():
    from vote_experiments.settings import OFFLINE_MODELS

    assert tuple(READERS) == OFFLINE_MODELS


def test_later_pages_of_a_party_list_are_not_taken_for_first_pages():
    drawn = form_set(700055, "mixed", "mixed")  # a photo: its second and third page became reports of their own
    pages = [cv2.imdecode(np.frombuffer(p, np.uint8), cv2.IMREAD_GRAYSCALE) for p in drawn.pages]
    (report,) = read_form_set(pages, "ocr-sums")["reports"]
    assert len(report["vote_results"]) == 57


def test_words_without_room_do_not_stop_the_reader():
    drawn = form_set(700027, "mixed", "mixed")  # black and white with specks: a line of words of no width was found
    pages = [cv2.imdecode(np.frombuffer(p, np.uint8), cv2.IMREAD_GRAYSCALE) for p in drawn.pages]
    assert len(read_form_set(pages, "ocr-fused")["reports"][0]["vote_results"]) == 11


def test_a_ballot_line_that_looks_empty_is_not_believed_against_the_sums():
    drawn = form_set(700059, "mixed", "mixed")  # the good ballots are covered: 584 are written
    pages = [cv2.imdecode(np.frombuffer(p, np.uint8), cv2.IMREAD_GRAYSCALE) for p in drawn.pages]
    output = read_form_set(pages, "ocr-sums")
    good = output["reports"][0]["ballot_statistics"]["good_ballots"]
    assert good == 584 or output["confidence"][0]["ballot_statistics.good_ballots"] < 0.9


def test_rules_that_were_traced_into_each_other_leave_an_empty_cell(constituency):
    from vote_experiments.ocr.cells import cut_cell
    from vote_experiments.ocr.sheets import vote_page

    page = vote_page(constituency[0][0])
    page.table.rows[3] = page.table.rows[2]
    assert min(cut_cell(page.page.gray, page.table, 2, -1).image.shape) >= 8


def test_a_party_list_with_rows_of_no_known_edition_is_sure_of_no_vote(party_list):
    pages, _ = party_list
    cut = [pages[0], pages[1][: int(0.6 * pages[1].shape[0])], *pages[2:]]  # rows of the second page are lost
    output = read_form_set(cut, "ocr-digits")
    assert any("fit no known edition" in note for note in output["notes"])
    sure = [c for path, c in output["confidence"][0].items() if path.startswith("vote_results")]
    assert sure and max(sure) <= 0.5
    assert not any("known edition" in note for note in read_form_set(pages, "ocr-digits")["notes"])
