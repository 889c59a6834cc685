"""Handwritten numbers, digit by digit"""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from vote_experiments.ocr import digit_shapes, digits
from vote_experiments.ocr.numbers import number_pictures, vote_slot
from vote_experiments.ocr.reading import _digit_cell
from vote_experiments.ocr.sheets import vote_page
from vote_experiments.synthesis.drawn import form_set

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import train_digits  # noqa: E402


def count_cells(seed, level="flatbed", options="plain"):
    "The pictures of the votes of a drawn 5/18, and the truth of the rows where something is written"
    drawn = form_set(seed, level, options, kind="5/18")
    page = vote_page(cv2.imdecode(np.frombuffer(drawn.pages[0], np.uint8), cv2.IMREAD_GRAYSCALE))
    cells, written = [], []
    for cell, row in zip(page.votes, drawn.record["ground_truth"]["vote_results"]):
        for picture in number_pictures(vote_slot(cell, page.bracket))[:1]:
            cells.append(_digit_cell(picture.images[-1]))
            written.append(row["vote_count"])
    return cells, written


def accuracy(seeds, **options):
    right = []
    for seed in seeds:
        cells, truth = count_cells(seed, **options)
        right += [r[0][0] == n for r, n in zip(digits.read_numbers(cells).readings, truth)]
    return np.mean(right)


@pytest.mark.parametrize(
    "options, least", [("plain", 0.93), ("touching_digits", 0.5), ("strike_outs", 0.75), ("stamps", 0.7)]
)
def test_numbers_are_read_on_seeds_that_were_not_developed_on(options, least):
    assert accuracy((7010, 7011), level="scan", options=options) >= least


def test_thai_digits_do_not_break_anything():
    cells, _ = count_cells(7012, level="scan", options="thai_digits")
    for r in digits.read_numbers(cells).readings:
        assert r[0][0] is None or r[0][0] >= 0


def test_probabilities_are_probabilities():
    cells, _ = count_cells(7013, level="poor", options="strike_outs,stamps,touching_digits")
    for r in digits.read_numbers(cells).readings:
        assert [p for _, p in r] == sorted((p for _, p in r), reverse=True)
        assert sum(np.exp(p) for _, p in r) < 1 + 1e-6
        assert len({v for v, _ in r}) == len(r)


def test_blank_cells_have_no_picture():
    drawn = form_set(7014, "flatbed", "zero_blanks", kind="5/18")
    page = vote_page(cv2.imdecode(np.frombuffer(drawn.pages[0], np.uint8), cv2.IMREAD_GRAYSCALE))
    truth = [row["vote_count"] for row in drawn.record["ground_truth"]["vote_results"]]
    written = [bool(number_pictures(vote_slot(cell, page.bracket))) for cell in page.votes]
    assert None in truth and written[: len(truth)] == [n is not None for n in truth]


def test_the_writers_hand_is_the_same_for_all_cells():
    cells, _ = count_cells(7010, level="clean")
    hand = digit_shapes.estimate_hand(cells)
    lean = [digit_shapes.shear(c, -0.2) for c in cells]  # lean them further to the right
    assert digit_shapes.estimate_hand(lean).slant > hand.slant
    tall = [cv2.resize(c, None, fx=1.3, fy=1.3) for c in cells]
    assert 1.1 < digit_shapes.estimate_hand(tall).height / hand.height < 1.5


def test_reading_does_not_depend_on_other_cells_once_the_hand_is_known():
    cells, _ = count_cells(7011, level="scan")
    hand = digit_shapes.estimate_hand(cells)
    together = digits.read_numbers(cells, hand, thai=False).readings
    alone = [digits.read_numbers([c], hand, thai=False).readings[0] for c in cells]
    assert [r[0][0] for r in together] == [r[0][0] for r in alone]


@settings(max_examples=60, deadline=None)
@example(1, 1, 0, "noise")
@example(4, 1, 0, "noise")  # OpenCV takes a column of four for a scalar
@example(1, 4, 0, "noise")
@given(
    st.integers(1, 120),
    st.integers(1, 200),
    st.integers(0, 2**31),
    st.sampled_from(["noise", "blobs", "lines", "flat"]),
)
def test_any_cell_reads_as_something(h, w, seed, kind):
    r = np.random.default_rng(seed)
    cell = np.full((h, w), int(r.integers(0, 256)), np.uint8)
    if kind == "noise":
        cell = r.integers(0, 256, (h, w)).astype(np.uint8)
    elif kind != "flat":
        for _ in range(int(r.integers(1, 30))):
            a, b = ((int(r.integers(-20, w + 20)), int(r.integers(-20, h + 20))) for _ in range(2))
            cv2.line(cell, a, b, int(r.integers(0, 256)), 1 if kind == "lines" else int(r.integers(1, 20)))
    (reading,) = digits.read_numbers([cell]).readings
    assert reading and reading[0][1] <= 1e-9


# --- where the network comes from --------------------------------------------------------------------------------


def test_the_training_knows_nothing_of_the_generator():
    import ast
    import inspect

    for module in (train_digits, digits):
        tree = ast.parse(inspect.getsource(module))
        named = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        named += [a.name for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom)) for a in n.names]
        assert not [n for n in named if "handwriting" in n or "synthesis" in n or "draw" in n]


def test_our_strokes_are_not_the_generators():
    from vote_experiments.synthesis.handwriting import DIGIT_STROKES, smooth

    def path(strokes, curve):
        points = np.concatenate([curve(np.array(s)) for s in strokes])
        steps = np.linspace(0, len(points) - 1, 40).round().astype(int)
        return points[steps]

    for digit, shapes in train_digits._OWN_ARABIC.items():
        for ours in shapes:
            for theirs in DIGIT_STROKES[str(digit)]:
                if len(ours) == len(theirs) and sum(map(len, ours)) == sum(map(len, theirs)):
                    assert not all(np.allclose(a, b, atol=0.03) for a, b in zip(ours, theirs))
                assert np.abs(path(ours, train_digits.spline) - path(theirs, smooth)).max() > 0.04


def test_the_same_seed_makes_the_same_examples():
    a, b = train_digits.training_set(12, 5), train_digits.training_set(12, 5)
    assert (a[0] == b[0]).all() and (a[1] == b[1]).all()
    assert len(a[0]) == len(a[1]) and a[1].max() < digits.CLASSES
    assert not np.array_equal(a[0][:5], train_digits.training_set(12, 6)[0][:5])


def test_real_digits_that_were_kept_out_are_read():
    pytest.importorskip("sklearn")
    _, pictures, labels = train_digits.real_digits()
    assert len(pictures) == 359
    read = [
        digits.read_numbers([train_digits.on_paper(p)], digits.Hand(26.0, 0.0), thai=False).readings[0][0][0]
        for p in pictures[:80]
    ]
    assert np.mean([a == b for a, b in zip(read, labels)]) > 0.8


def test_the_shipped_network_is_whole():
    model = digits.digit_model()
    inputs = train_digits.training_set(5, 9)[0]
    assert [w.shape for w in model.weights] == [
        (inputs.shape[1], 128),
        (128,),
        (128, digits.CLASSES),
        (digits.CLASSES,),
    ]
    assert all(np.isfinite(w).all() for w in model.weights)
    assert np.allclose(np.exp(model.log_probabilities(inputs)).sum(1), 1, atol=1e-4)
