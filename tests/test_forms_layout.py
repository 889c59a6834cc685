"""The printed form: slots stand where the print says, and every text can be drawn."""

import hashlib
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vote_experiments.forms import layout
from vote_experiments.forms.layout import (
    COLUMN_EDGES,
    COLUMNS,
    FORM_TYPES,
    HANDWRITING_FONTS,
    NUMBER_FIELDS,
    PAGE_HEIGHT,
    PAGE_WIDTH,
    PRINT,
    PRINT_BOLD,
    ROWS_PER_PAGE,
    Pose,
    asset_path,
    blank_first_page,
    blank_table_page,
    draw_text,
    shape,
    stamp,
    table_pages,
    text_width,
)

FONTS = (PRINT, PRINT_BOLD, *HANDWRITING_FONTS)


@pytest.mark.parametrize("font", FONTS)
def test_every_font_has_thai_digits_and_its_licence(font):
    assert shape("กฎหมายผู้มีสิทธิ์ น้ำ ๐๑๒๓๔๕๖๗๘๙ 0123456789 ,-./()", font)
    licence = asset_path(f"fonts/LICENSE-{font.rsplit('-', 1)[0]}.txt").read_text(encoding="utf-8")
    assert "SIL Open Font License" in licence


def test_a_missing_asset_is_named():
    with pytest.raises(FileNotFoundError, match="comic-sans"):
        asset_path("fonts/comic-sans.ttf")


def test_a_character_without_glyph_is_refused_not_drawn_as_a_box():
    with pytest.raises(ValueError, match="'漢'.*another font"):
        shape("ก漢", "mali-400")


@settings(max_examples=50, deadline=None)
@given(st.text("กขคงนมรลวสหอ่้ิีุูเแโาำะ๐๑๙0199 ", min_size=1, max_size=20), st.sampled_from(FONTS), st.integers(-6, 6))
def test_the_box_holds_all_the_ink(text, font, rotation):
    layer = np.zeros((120, 900), np.uint8)
    box = draw_text(layer, 40, 70, text, font, 30, iter([Pose(0.5, 0.5, rotation, 97, 8)] * len(text)))
    inside = layer[max(0, box[1]) : box[3], box[0] : box[2]].astype(int).sum()
    assert inside == layer.astype(int).sum()


def test_marks_stand_above_and_below_their_consonant_and_take_no_room():
    assert text_width("ที่", 30) == text_width("ท", 30)
    assert text_width("สู", 30) == text_width("ส", 30)


def test_stamp_cuts_off_what_falls_outside():
    layer = np.zeros((10, 10), np.uint8)
    for x, y in ((-3, -3), (8, 8), (-9, 0), (30, 30)):
        stamp(layer, np.full((5, 5), 200, np.uint8), x, y)
    assert layer[:2, :2].min() == 200 and layer[8:, 8:].min() == 200 and layer[4, 4] == 0


@pytest.mark.parametrize("form_type", FORM_TYPES)
def test_first_page_slots_are_bare_dotted_lines(form_type):
    page = blank_first_page(form_type)
    for field in NUMBER_FIELDS:
        for name in (field, f"{field}_text"):
            s = page.slots[name]
            assert page.ink[s.baseline - 25 : s.baseline, s.x0 : s.x1].max() == 0, f"print inside {name}"
            assert page.ink[s.baseline + 3 : s.baseline + 5, s.x0 : s.x1].max() > 0, f"no dots under {name}"


@pytest.mark.parametrize("form_type", FORM_TYPES)
@pytest.mark.parametrize("last", [True, False])
def test_table_cells_are_bare_and_ruled(form_type, last):
    n = ROWS_PER_PAGE[form_type]
    page = blank_table_page(form_type, n, last)
    assert len(page.rows) == n and (page.total is not None) == last
    for row in page.rows:
        assert tuple(row) == COLUMNS[form_type]
        for cell in row.values():
            assert page.ink[cell.y0 + 2 : cell.y1, cell.x0 + 2 : cell.x1].max() == 0
            assert page.ink[cell.y0, cell.x0 : cell.x1].min() == page.ink[cell.y0 : cell.y1, cell.x0].min() == 255
    assert page.ink.shape == (PAGE_HEIGHT, PAGE_WIDTH) and page.rows[-1]["number"].y1 < PAGE_HEIGHT - 20
    assert len(COLUMN_EDGES[form_type]) == len(COLUMNS[form_type]) + 1


def test_headings_stay_inside_their_columns():
    for form_type in FORM_TYPES:
        ink = blank_table_page(form_type, 1).ink
        for x in COLUMN_EDGES[form_type]:
            assert ink[layout.TABLE_TOP + 4 : layout.TABLE_TOP + 90, [x - 1, x + 2]].max() == 0


@given(st.sampled_from(FORM_TYPES), st.integers(1, 300))
def test_table_pages_cover_every_row_once(form_type, n):
    pages = table_pages(form_type, n)
    assert [i for page in pages for i in page] == list(range(n))
    assert all(1 <= len(page) <= ROWS_PER_PAGE[form_type] for page in pages)


def test_bad_arguments_say_what_is_possible():
    with pytest.raises(ValueError, match="form_type='Senate' is not one of Constituency, PartyList"):
        blank_table_page("Senate", 3)
    with pytest.raises(ValueError, match="n_rows=19: a Constituency page has 1 to 18 rows"):
        blank_table_page("Constituency", 19)
    with pytest.raises(ValueError, match="n_rows=0"):
        table_pages("PartyList", 0)


def test_blank_pages_are_shared_and_cannot_be_drawn_on():
    page = blank_first_page("Constituency")
    assert blank_first_page("Constituency") is page
    with pytest.raises(ValueError, match="read-only"):
        page.ink[0, 0] = 1


def test_another_process_draws_the_same_page():
    code = (
        "import hashlib\nfrom vote_experiments.forms.layout import *\n"
        "print(hashlib.sha256(blank_first_page('PartyList').ink.tobytes()"
        " + blank_table_page('PartyList', 7).ink.tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    here = blank_first_page("PartyList").ink.tobytes() + blank_table_page("PartyList", 7).ink.tobytes()
    assert hashlib.sha256(here).hexdigest() == there


def test_every_asset_is_package_data():
    root = Path(__file__).parent.parent
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    suffixes = {Path(p).suffix for p in patterns["vote_experiments"]}
    assets = [p for p in (root / "vote_experiments/forms/assets").rglob("*") if p.is_file()]
    assert len(assets) >= 13 and {p.suffix for p in assets} <= suffixes
