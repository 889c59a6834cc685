"""Finding the form on a page image"""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from vote_experiments.forms import registration
from vote_experiments.forms.layout import ROWS_PER_PAGE
from vote_experiments.forms.synthesis import form_set


def gray(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)


@pytest.fixture(scope="module")
def sheets():
    "First page and table pages of both forms, folded, as a poor copy"
    drawn = form_set(7003, level="poor", options="fold,withdrawn,stamps", kind="both")
    pages, wanted = [gray(p) for p in drawn.pages], []
    for report in drawn.record["ground_truth"]:
        form_type, n = report["form_info"]["form_type"], len(report["vote_results"])
        wanted.append((form_type, 0))
        per = ROWS_PER_PAGE[form_type]
        wanted += [(form_type, min(per, n - k) + (k + per >= n) + 2) for k in range(0, n, per)]
    return list(zip(pages, wanted))


def test_every_page_is_told_and_its_rules_are_counted(sheets):
    for page, wanted in sheets:
        found = registration.find_page(page)
        assert found is not None and (found.form_type, len(found.rules)) == wanted
        assert all(b > a for a, b in zip(found.rules, found.rules[1:]))


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_pages_lying_any_way(sheets, quarter):
    for page, wanted in sheets[:2]:
        found = registration.find_page(np.ascontiguousarray(np.rot90(page, quarter)))
        assert found is not None and (found.form_type, len(found.rules)) == wanted


@pytest.mark.parametrize("share", [0.55, 0.8, 1.7])
def test_other_resolutions(sheets, share):
    for page, wanted in sheets[:2]:
        found = registration.find_page(cv2.resize(page, None, fx=share, fy=share, interpolation=cv2.INTER_AREA))
        assert found is not None and (found.form_type, len(found.rules)) == wanted


def test_points_of_the_image_land_on_the_form(sheets):
    page, _ = sheets[0]
    m = cv2.getRotationMatrix2D((620, 877), 4, 0.93)
    moved = cv2.warpAffine(page, m, page.shape[::-1], borderValue=240)
    a, b = registration.find_first_page(page), registration.find_first_page(moved)
    points = np.array([[[150, 300], [1000, 300], [1000, 900], [150, 900]]], np.float32)
    before = cv2.perspectiveTransform(points, a.to_form)
    after = cv2.perspectiveTransform(cv2.transform(points, m), b.to_form)
    assert np.abs(before - after).max() < 2


def test_strangers_are_not_taken_for_a_page():
    r = np.random.default_rng(1)
    lines = np.full((1754, 1240), 245, np.uint8)
    lines[100:1600:40, 100:1100] = 30  # ruled paper: no columns
    squares = lines.copy()
    squares[100:1600, 100:1100:40] = 30
    for image in (
        np.full((1754, 1240), 255, np.uint8),
        np.zeros((1754, 1240), np.uint8),
        lines,
        squares,
        r.integers(0, 255, (1754, 1240)).astype(np.uint8),
        np.full((40, 40), 200, np.uint8),
    ):
        assert registration.find_page(image) is None


@settings(max_examples=15, deadline=None)
@given(st.integers(32, 300), st.integers(32, 300), st.integers(0, 2**31), st.sampled_from([1, 8, 40]))
def test_any_picture_gives_a_page_or_none(h, w, seed, blocks):
    r = np.random.default_rng(seed)
    small = r.integers(0, 256, (max(1, h // blocks), max(1, w // blocks))).astype(np.uint8)
    found = registration.find_page(cv2.resize(small, (w, h), interpolation=cv2.INTER_NEAREST))
    assert found is None or np.isfinite(found.to_form).all()
