"""Thai text as ink: every font has its glyphs and its licence, and all ink is inside the box"""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vote_experiments.forms.data_files import asset_path
from vote_experiments.synthesis.ink import (
    HANDWRITING_FONTS,
    PRINT,
    PRINT_BOLD,
    Pose,
    draw_text,
    shape,
    stamp,
    text_width,
)

FONTS = (PRINT, PRINT_BOLD, *HANDWRITING_FONTS)


@pytest.mark.parametrize("font", FONTS)
def test_every_font_has_thai_digits_and_its_licence(font):
    assert shape("กฎหมายผู้มีสิทธิ์ น้ำ ๐๑๒๓๔๕๖๗๘๙ 0123456789 ,-./()", font)
    licence = asset_path(f"fonts/LICENSE-{font.rsplit('-', 1)[0]}.txt").read_text(encoding="utf-8")
    assert "SIL Open Font License" in licence


def test_a_missing_data_file_is_named():
    with pytest.raises(FileNotFoundError, match="comic-sans.*reinstall"):
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


def test_marks_are_above_and_below_their_consonant_and_take_no_room():
    assert text_width("ที่", 30) == text_width("ท", 30)
    assert text_width("สู", 30) == text_width("ส", 30)


def test_stamp_cuts_off_what_falls_outside():
    layer = np.zeros((10, 10), np.uint8)
    for x, y in ((-3, -3), (8, 8), (-9, 0), (30, 30)):
        stamp(layer, np.full((5, 5), 200, np.uint8), x, y)
    assert layer[:2, :2].min() == 200 and layer[8:, 8:].min() == 200 and layer[4, 4] == 0


def test_every_data_file_is_package_data():
    root = Path(__file__).parent.parent
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    suffixes = {Path(p).suffix for p in patterns["vote_experiments"]}
    assets = [p for p in (root / "vote_experiments/forms/assets").rglob("*") if p.is_file()]
    assert len(assets) >= 13 and {p.suffix for p in assets} <= suffixes
