"""Thai words and the numbers they say"""

import sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from vote_experiments.ocr import words
from vote_experiments.forms.thai import number_words


@settings(max_examples=150, deadline=None)
@given(st.integers(0, words.LARGEST_READ))
def test_words_without_error_are_that_number(n):
    read = words.number_candidates(number_words(n))
    assert read[0][0] == n
    assert sum(np.exp(p) for _, p in read) <= 1 + 1e-6


@settings(max_examples=100, deadline=None)
@given(st.integers(10, words.LARGEST_READ), st.data())
def test_one_lost_mark_changes_little(n, data):
    text = number_words(n)
    marks = [i for i, c in enumerate(text) if c in words._MARKS]
    if not marks:
        return
    i = data.draw(st.sampled_from(marks))
    assert n in [v for v, _ in words.number_candidates(text[:i] + text[i + 1 :])]


@given(st.text(max_size=60))
def test_any_text_gives_candidates_or_nothing(text):
    read = words.number_candidates(text)
    assert all(isinstance(v, int) and v >= 0 and p <= 1e-9 for v, p in read)
    assert [p for _, p in read] == sorted((p for _, p in read), reverse=True)


@pytest.mark.parametrize(
    "read, n", [("สี่งบสอง", 42), ("ศูนย", 0), ("หน็ง", 1), ("เจ็ดจิบแปด", 78), ("๒กสิบ", 60), ("สิบเอ็ด", 11), ("ยีสิบเอด", 21)]
)
def test_common_misreadings(read, n):
    assert words.number_candidates(read)[0][0] == n


def test_large_numbers_are_taken_only_when_spelt_right():
    assert words.number_candidates("หนึ่งหมื่นสองพัน") == [(12_000, -0.1)]


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (60, 3), (60, 200)])
def test_empty_cells_have_no_picture_and_no_text(shape):
    cell = np.full(shape, 230, np.uint8)
    assert words.line_picture(cell) is None
    assert words.read_text(cell) == ""


def test_noise_is_read_as_something_without_an_error():
    noise = np.random.default_rng(0).integers(0, 255, (60, 220)).astype(np.uint8)
    assert isinstance(words.read_text(noise), str)


def test_without_tesseract_it_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "tesserocr", None)  # as Python does for a package that cannot be imported
    words._engines.cache_clear()
    assert "tesserocr" in words.words_unavailable()
    with pytest.raises(ModuleNotFoundError, match="pip install tesserocr.*ocr-digits"):
        words.read_text(np.full((60, 200), 230, np.uint8))


def test_the_thai_model_has_its_licence_beside_it():
    folder = words.asset_path("tessdata/tha.traineddata").parent
    assert "Apache License" in (folder / "LICENSE-tha.txt").read_text()
