"""Hands: what they write stays in its place, and the same chance writes the same ink."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vote_experiments.synthesis.handwriting import (
    DIGIT_STROKES,
    arc,
    draw_writer,
    smooth,
    write_number,
    write_words,
)
from vote_experiments.synthesis.ink import HANDWRITING_FONTS
from vote_experiments.synthesis.marks import draw_stamp, write_corrected
from vote_experiments.forms.thai import number_words

ROOM = (100, 225)  # a cell of 125 pixels


def ink_columns(layer):
    return np.flatnonzero(layer.max(0) > 40)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 1999), st.booleans(), st.booleans())
def test_numbers_stay_in_their_cell(seed, number, touching, thai_digits):
    r, layer = random.Random(seed), np.zeros((90, 330), np.uint8)
    writer = draw_writer(r, touching=touching, thai_digits=thai_digits)
    box = write_number(layer, ROOM[0] + 8, ROOM[1] - 7, 55, number, writer, r)
    xs = ink_columns(layer)
    assert ROOM[0] < xs.min() and xs.max() < ROOM[1]
    assert box[0] - 2 <= xs.min() and xs.max() <= box[2] + 2


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 1999))
def test_words_stay_in_their_cell(seed, number):
    r, layer = random.Random(seed), np.zeros((110, 460), np.uint8)
    box = write_words(layer, 108, 347, 65, number_words(number), draw_writer(r), r)
    xs = ink_columns(layer)
    assert 100 < xs.min() and xs.max() < 347 + 16  # an unsteady last letter may lean over the end
    assert box[0] - 4 <= xs.min() and xs.max() <= box[2] + 4


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 1999), st.integers(1, 1999))
def test_corrections_stay_in_their_cell(seed, wrong, right):
    r, layer = random.Random(seed), np.zeros((90, 330), np.uint8)
    write_corrected(layer, ROOM[0] + 8, ROOM[1] - 7, 55, wrong, right, draw_writer(r), r)
    xs = ink_columns(layer)
    assert ROOM[0] - 4 < xs.min() and xs.max() < ROOM[1] + 4


def test_every_digit_has_variants_inside_the_unit_square():
    assert set("0123456789,") == set(DIGIT_STROKES)
    for digit in "0123456789":
        assert len(DIGIT_STROKES[digit]) >= 2
        points = np.array([p for variant in DIGIT_STROKES[digit] for stroke in variant for p in stroke])
        assert points.min() > -0.05 and points.max() < 1.05


def test_templates_can_be_replaced():
    bars = {d: ((((0.5, 0.0), (0.5, 0.5), (0.5, 1.0)),),) for d in DIGIT_STROKES}
    layers = [np.zeros((60, 120), np.uint8) for _ in "ab"]
    for layer, digits in zip(layers, ("808", "111")):
        write_number(layer, 5, 115, 45, digits, draw_writer(random.Random(3), bars), random.Random(4))
    widths = [len(ink_columns(layer)) for layer in layers]
    assert widths[0] < 40  # an eight of these templates is a bar


def test_the_same_chance_writes_the_same_ink():
    def page():
        layer, r = np.zeros((80, 400), np.uint8), random.Random(11)
        writer = draw_writer(r, touching=True)
        write_number(layer, 10, 120, 50, 1048, writer, r)
        write_words(layer, 140, 390, 50, number_words(1048), writer, r)
        return layer

    assert np.array_equal(page(), page())


def test_pen_width_is_wider_with_a_wider_pen():
    def ink(width):
        layer = np.zeros((60, 120), np.uint8)
        write_number(
            layer, 5, 115, 45, "888", draw_writer(random.Random(3), pen_width=(width, width)), random.Random(4)
        )
        return int((layer > 127).sum())

    assert ink(1.0) < ink(2.0) < ink(4.0)


def test_writers_use_every_face():
    assert {draw_writer(random.Random(i)).font for i in range(60)} == set(HANDWRITING_FONTS)


def test_smooth_goes_through_its_points():
    points = arc(0, 0, 10, 5, 0, 180, 7)
    curve = smooth(points, 4)
    assert np.allclose(curve[::4], points) and len(smooth(points[:2])) == 2


@pytest.mark.parametrize("seed", range(4))
def test_stamps_are_round_or_boxes_with_bare_corners(seed):
    face = draw_stamp(random.Random(seed))
    assert face.dtype == np.uint8 and face.max() > 150
    assert max(face[:20, :20].max(), face[-20:, -20:].max(), face[:20, -20:].max(), face[-20:, :20].max()) == 0
