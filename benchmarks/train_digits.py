"""Where the network of `ocr.digits` comes from: handwriting of real people, strokes of our own, and nothing from the dataset"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vote_experiments.ocr.digits import (
    NO_DIGIT,
    THAI_ONE,
    WRONG_CUT,
    DigitModel,
    digit_model,
    features,
    glyph,
    place,
    read_numbers,
)
from vote_experiments.ocr.digit_shapes import Hand, find_lines, shear

ARABIC_SHAPES: Mapping[int, tuple[str, ...]] = {
    0: (
        "62,3 20,-4 -8,50 18,104 78,108 108,52 84,-4 46,2",
        "50,0 8,4 0,40 4,96 52,104 98,92 98,20 70,-4 40,10",
        "74,12 40,-8 0,22 -2,84 40,110 92,90 104,30 72,-6 48,6 58,22",
        "50,2 22,0 14,50 22,102 78,102 88,48 76,-2 46,2",
    ),
    1: (
        "52,0 52,50 50,100",
        "56,0 50,30 46,70 44,100",
        "22,24 40,14 58,-4 58,-2 56,50 56,100",
        "8,34 34,20 56,0 56,0 54,48 54,100",
        "44,0 50,40 50,80 62,100 72,92",
        "30,18 54,0 54,0 52,60 52,100 | 26,100 50,99 82,100",
    ),
    2: (
        "10,26 16,-6 70,-12 92,20 70,56 30,78 6,98 6,98 40,96 94,98",
        "14,18 34,-6 86,-4 84,34 46,70 8,102 4,84 30,82 60,100 96,94",
        "6,8 40,2 84,6 84,6 50,54 8,96 8,96 50,96 92,94",
        "16,30 8,4 50,-12 92,8 88,40 40,76 10,92 10,96 50,90 74,104 98,88",
    ),
    3: (
        "12,14 34,-8 88,-6 84,34 44,46 44,46 96,48 104,92 44,112 4,90",
        "10,4 50,4 86,4 86,4 44,42 44,42 98,44 100,98 44,110 6,92",
        "18,10 50,-10 88,8 70,40 40,46 34,52 60,50 100,60 88,104 40,106 10,96",
        "8,18 26,0 74,-6 78,28 56,44 30,46 30,46 84,46 110,76 66,108 20,102 6,88",
    ),
    4: (
        "34,0 22,30 4,62 4,62 50,62 98,60 | 70,28 68,60 66,100",
        "64,0 30,38 0,68 0,68 50,68 100,66 | 64,0 64,0 62,50 62,100",
        "12,2 10,30 14,54 40,58 80,50 | 78,0 76,40 70,100",
        "20,6 8,40 8,60 50,62 86,54 | 82,4 70,50 60,104",
        "58,100 62,60 70,0 70,0 36,36 2,70 2,70 50,70 98,70",
    ),
    5: (
        "84,2 50,4 26,4 26,4 22,24 18,46 18,46 50,32 98,46 96,90 56,110 6,94",
        "90,0 54,-2 36,10 24,30 44,44 86,56 88,92 48,108 8,96",
        "28,4 24,24 22,46 22,46 60,30 104,60 84,106 36,106 6,92 | 28,4 60,4 94,2",
        "20,8 20,30 14,48 14,48 60,40 94,60 84,98 40,104 4,98 | 24,6 50,0 92,-4",
    ),
    6: (
        "66,0 36,16 6,52 4,92 46,112 94,96 88,56 46,50 10,76",
        "84,6 50,-6 10,30 2,72 18,108 72,108 98,82 74,54 36,56 12,80",
        "38,0 22,30 10,60 12,98 54,108 92,94 84,62 46,58 14,78",
        "74,-2 52,20 18,46 6,80 34,108 82,104 90,74 58,60 24,70 12,88",
    ),
    7: (
        "6,8 40,6 92,4 92,4 66,40 46,70 36,100",
        "10,26 12,4 12,4 50,8 92,4 92,4 70,44 50,100",
        "4,4 46,2 94,6 94,6 74,36 56,60 52,100 | 30,50 56,48 86,46",
        "8,14 30,-2 50,12 88,4 88,4 78,40 44,64 34,102",
        "2,8 50,4 96,8 96,8 60,30 40,60 46,100",
    ),
    8: (
        "76,10 40,-10 2,16 24,42 62,54 108,72 84,110 30,112 -4,86 22,60 64,42 96,22 72,4",
        "50,46 14,36 20,-4 52,-4 84,-4 84,36 50,46 50,46 2,54 0,106 50,106 100,106 98,54 50,46",
        "60,44 92,32 84,-6 50,-4 12,-4 8,36 46,48 98,64 94,110 48,106 0,106 6,64 40,52 64,40",
        "84,4 40,-8 6,20 44,44 96,70 80,108 32,110 2,84 40,52 82,26 88,6",
    ),
    9: (
        "84,22 62,-10 6,-2 4,42 44,62 82,38 86,14 86,14 84,50 78,100",
        "90,10 40,-14 -6,24 18,56 66,58 90,28 92,8 88,50 60,102",
        "80,16 40,-12 0,20 16,54 58,56 84,26 84,20 88,70 66,108 16,98",
        "88,2 50,0 8,14 14,50 56,54 86,30 88,4 88,4 82,40 72,102",
        "78,30 70,-6 16,-2 10,34 36,54 74,44 80,20 80,20 84,60 92,100",
    ),
}

THAI_SHAPES: Mapping[int, tuple[str, ...]] = {
    1: (
        "56,50 44,58 52,72 66,66 60,50 66,74 52,96 20,94 -2,62 8,20 46,-4 88,10 102,60 88,106",
        "52,54 42,64 54,74 62,60 50,52 30,66 40,98 14,84 0,50 20,4 64,-4 98,26 98,80 84,104",
    ),
    2: (
        "2,2 14,4 14,30 12,70 18,98 50,102 84,98 96,80 94,44 84,32 70,36 64,48 58,36 44,32 34,46 32,58 40,66 48,58 40,50 32,58",
        "6,-2 10,30 8,80 22,102 62,104 96,92 98,48 82,30 68,44 52,30 38,44 36,62 46,64 46,54",
    ),
    3: (
        "30,66 40,76 30,88 18,78 26,66 10,56 8,22 30,2 48,14 52,40 52,40 56,12 76,0 92,16 94,56 94,102",
        "34,70 24,62 18,76 30,84 38,70 14,60 4,30 24,2 46,12 50,44 56,10 80,-2 96,20 96,100",
    ),
    4: (
        "98,0 88,18 50,26 18,34 2,62 8,96 36,104 62,90 80,92 98,106 | 52,66 42,74 50,84 62,78 58,66 50,68",
        "94,2 76,24 36,24 2,44 2,84 24,104 58,92 96,102 | 48,60 40,70 52,78 60,66 50,58",
    ),
    5: (
        "96,10 84,24 50,30 18,38 2,64 8,98 36,104 62,92 80,94 98,106 | 52,68 42,76 50,86 62,80 58,68 50,70 | 52,4 40,12 50,22 62,14 56,2 48,8",
        "98,6 80,28 36,30 2,48 2,86 24,104 58,94 96,104 | 48,62 40,72 52,80 60,68 50,60 | 60,0 46,8 58,20 68,10 58,0",
    ),
    6: (
        "4,0 16,10 22,34 24,46 56,34 92,42 100,76 80,102 34,104 8,90 8,74 22,66 34,76 24,88 12,80",
        "2,2 20,20 26,48 60,36 98,50 96,96 50,106 10,96 8,74 26,68 30,84 16,84",
    ),
    7: (
        "24,68 34,78 24,90 12,80 20,66 6,52 12,32 32,30 46,42 50,60 50,60 54,40 70,30 80,50 76,90 58,102 76,96 92,70 92,20 98,0",
        "26,70 16,74 24,88 34,78 24,66 4,50 18,28 40,34 48,62 56,34 76,36 78,84 66,100 90,88 92,40 96,0",
    ),
    8: (
        "92,0 88,22 60,28 22,34 2,58 6,90 20,104 30,84 52,70 74,72 | 78,70 66,80 76,94 88,84 80,70",
        "96,2 84,26 44,26 6,40 0,78 18,104 32,80 66,68 82,78 78,92 66,84 76,72",
    ),
    9: (
        "22,100 2,80 6,44 28,32 48,46 52,64 52,64 60,38 80,34 92,20 98,0 | 78,34 64,60 80,84 100,104 | 34,62 24,72 34,84 46,74 38,62",
        "36,66 26,74 36,84 46,72 34,62 18,96 2,70 12,38 36,34 50,58 62,36 84,34 96,4 | 74,36 64,56 98,104",
    ),
}

THAI_SIZE = {
    0: (0.83, 0.9),
    1: (0.83, 0.9),
    2: (1.15, 0.72),
    3: (0.83, 0.9),
    4: (1.15, 0.77),
    5: (1.15, 0.81),  # height in
    6: (1.15, 0.77),
    7: (1.15, 0.86),
    8: (1.15, 0.77),
    9: (1.15, 0.81),
}  # digit heights, width over height


def control_points(
    shape: str,
) -> list[np.ndarray]:  # float[n, 2] for each stroke, in the unit box
    "The strokes of a shape"
    return [
        np.array([[float(v) for v in point.split(",")] for point in stroke.split()]) / 100
        for stroke in shape.split("|")
    ]


def spline(
    points: np.ndarray,  # float[n, 2]
    steps: int = 5,  # points for each gap
) -> np.ndarray:  # float[m, 2]
    "The uniform cubic B-spline of a control polygon, held at both ends"
    q = np.concatenate([points[:1], points[:1], points, points[-1:], points[-1:]])
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    a, b, c, d = (q[i : len(q) - 3 + i][:, None] for i in range(4))
    curve = ((1 - t) ** 3 * a + (3 * t**3 - 6 * t**2 + 4) * b + (-3 * t**3 + 3 * t**2 + 3 * t + 1) * c + t**3 * d) / 6
    return np.concatenate([curve.reshape(-1, 2), points[-1:]])


_OWN_ARABIC = {d: [control_points(s) for s in shapes] for d, shapes in ARABIC_SHAPES.items()}
_OWN_THAI = {0: _OWN_ARABIC[0], **{d: [control_points(s) for s in shapes] for d, shapes in THAI_SHAPES.items()}}

KEPT_OUT = 0.2  # share of the real digits, at the end of the set, that is never trained on


def _removable(step: int) -> np.ndarray:
    "Which of the 256 neighbourhoods of a pixel allow it to be removed, in each of the two alternating steps"
    p = (np.arange(256)[:, None] >> np.arange(8)) & 1  # neighbours clockwise from above
    neighbours, turns = p.sum(1), ((p == 0) & (np.roll(p, -1, 1) == 1)).sum(1)
    north, east, south, west = p[:, 0], p[:, 2], p[:, 4], p[:, 6]
    sides = north * east * south + east * south * west if step == 0 else north * east * west + north * south * west
    return (neighbours >= 2) & (neighbours <= 6) & (turns == 1) & (sides == 0)


_BITS = np.array([[128, 1, 2], [64, 0, 4], [32, 16, 8]], np.float32)
_REMOVABLE = (_removable(0), _removable(1))


def thinned(
    shape: np.ndarray,  # bool or 0/1 [h, w]
) -> np.ndarray:  # uint8[h, w], 0 or 1
    "A shape's centre lines, one pixel wide (Zhang and Suen, Communications of the ACM 27, 1984)"
    m, changed = shape.astype(np.uint8), True
    while changed:
        changed = False
        for removable in _REMOVABLE:
            gone = (m == 1) & removable[cv2.filter2D(m, -1, _BITS, borderType=cv2.BORDER_CONSTANT)]
            if gone.any():
                m[gone], changed = 0, True
    return m


def centre_lines(
    counts: np.ndarray,  # [8, 8], 0 to 16
) -> np.ndarray | None:  # float[n, 2, 2], pieces of strokes in the unit box; None when nothing is left
    "A digit of `load_digits` as strokes"
    large = cv2.resize((counts / 16 * 255).astype(np.float32), (64, 64), interpolation=cv2.INTER_CUBIC) > 105
    n, label, box, _ = cv2.connectedComponentsWithStats(large.astype(np.uint8))
    line = thinned(np.isin(label, [i for i in range(1, n) if box[i, 4] > 60]))
    ys, xs = np.nonzero(line)
    if len(ys) < 8:
        return None
    there = set(zip(xs.tolist(), ys.tolist()))
    pieces = [
        ((x, y), (x + dx, y + dy))
        for x, y in sorted(there)
        for dx, dy in ((1, 0), (0, 1), (1, 1), (-1, 1))
        if (x + dx, y + dy) in there
    ]
    width, height = max(np.ptp(xs), 12), max(np.ptp(ys), 12)
    box_width = max(width, 0.35 * height)
    return (np.array(pieces, float) - (xs.min() - (box_width - width) / 2, ys.min())) / (box_width, height)


@lru_cache(maxsize=1)
def real_digits() -> tuple[dict[int, list[np.ndarray]], np.ndarray, np.ndarray]:
    "Strokes to train on by digit; pictures [n, 8, 8] and labels of the digits kept out"
    from sklearn.datasets import load_digits

    bundled = load_digits()
    n = round(len(bundled.images) * (1 - KEPT_OUT))
    strokes: dict[int, list[np.ndarray]] = {d: [] for d in range(10)}
    for picture, digit in zip(bundled.images[:n], bundled.target[:n]):
        lines = centre_lines(picture)
        if lines is not None and len(lines):
            strokes[int(digit)].append(lines)
    return strokes, bundled.images[n:], bundled.target[n:]


Layer = tuple[np.ndarray, int]  # uint8[h, w] of ink, and the class it belongs to
_STRUCK = -1  # a digit that was struck out: no digit where the line goes through it, else no one can tell
_FINE = 16  # sub-pixels of OpenCV's line drawing


@dataclass
class Scribe:
    "A writer whose handwriting the network learns"

    chance: np.random.Generator
    thai: bool
    slant: float
    aspect: float
    pen: float
    height: float
    gap: float
    unsteady: float
    uneven: float
    real: bool  # writes digits of real people
    favourite: dict[int, int]

    @classmethod
    def by_lot(cls, r: np.random.Generator, thai: bool) -> "Scribe":
        gap = r.uniform(-0.16, 0.08) if r.random() < 0.45 else r.uniform(0.08, 0.4)
        shapes = _OWN_THAI if thai else _OWN_ARABIC
        return cls(
            r,
            thai,
            r.normal(0.08, 0.16),
            r.uniform(0.42, 0.85),
            r.uniform(1.1, 3.2),
            r.uniform(17, 30),
            gap,
            r.uniform(0.01, 0.055),
            1.0 if gap > 0.08 else r.uniform(1, 2.4),
            not thai and r.random() < 0.35,
            {d: int(r.integers(len(v))) for d, v in shapes.items()},
        )

    def strokes(self, digit: int) -> list[np.ndarray] | np.ndarray:
        "Curves of one digit in the unit box, never twice the same"
        r = self.chance
        if self.real:
            known = real_digits()[0][digit]
            return known[int(r.integers(len(known)))]
        shapes = (_OWN_THAI if self.thai else _OWN_ARABIC)[digit]
        shape = shapes[self.favourite[digit] if r.random() < 0.8 else int(r.integers(len(shapes)))]
        return [spline(points + r.normal(0, self.unsteady, points.shape)) for points in shape]


def _posed(scribe: Scribe, digit: int, width: float, height: float, x: float, baseline: float) -> Any:
    "The strokes of a digit where they stand on the paper, in sub-pixels: bent, slanted and turned a little"
    r, strokes = scribe.chance, scribe.strokes(digit)
    points = np.concatenate(list(strokes)).reshape(-1, 2)
    q = points - 0.5
    q = q + r.normal(0, 0.03, 2) * np.sin(q[:, ::-1] * r.uniform(1, 4) + r.uniform(0, 6, 2))
    u, v = q[:, 0] * width - scribe.slant * q[:, 1] * height, q[:, 1] * height
    turn, dy = r.normal(0, 0.06 * scribe.uneven), r.normal(0, 1.3 * scribe.uneven)
    placed = np.stack(
        [
            u * np.cos(turn) - v * np.sin(turn) + x + width / 2,
            u * np.sin(turn) + v * np.cos(turn) + baseline - height / 2 + dy,
        ],
        1,
    )
    fixed = np.int32(placed * _FINE)
    if isinstance(strokes, np.ndarray):
        return fixed.reshape(-1, 2, 2)
    return np.split(fixed, np.cumsum([len(s) for s in strokes])[:-1])


def write(
    scribe: Scribe,
    text: str,  # digits and commas
    size: tuple[int, int],  # of the cell: height, width
    x: float,
    baseline: float,
    scale: float = 1.0,
    kind: int | None = None,  # class of all of it; None: of each digit
) -> tuple[list[Layer], float]:  # one layer for each character, and where the writing ends
    "Write a number"
    r, h, layers = scribe.chance, scribe.height * scale, []
    for c in text:
        ink, pen = np.zeros(size, np.uint8), max(1, round(scribe.pen * r.uniform(0.85, 1.2)))
        if c == ",":
            tail = np.array([[0.5, 0], [0.55, 0.15], [0.3, 0.35]]) * h * 0.5 * r.uniform(0.6, 1.2) + (x, baseline - 3)
            cv2.polylines(ink, [np.int32(tail * _FINE)], False, 255, pen, cv2.LINE_AA, 4)
            x += 0.2 * h
        else:
            digit, taller = int(c), h * r.uniform(1 - 0.09 * scribe.uneven, 1 + 0.09 * scribe.uneven)
            wide = scribe.aspect * r.uniform(0.82, 1.18) * (0.55 if digit == 1 else 1)
            if scribe.thai:
                taller, wide = taller * THAI_SIZE[digit][0], THAI_SIZE[digit][1] * r.uniform(0.75, 1.2)
            curves = _posed(scribe, digit, taller * wide, taller, x, baseline)
            cv2.polylines(ink, curves, False, int(r.integers(190, 256)), pen, cv2.LINE_AA, 4)
            x += taller * wide + h * scribe.gap * r.uniform(0.6, 1.3)
        own = NO_DIGIT if c == "," else int(c) if not scribe.thai or c == "0" else THAI_ONE + int(c) - 1
        layers.append((ink, own if kind is None else kind))
    return layers, x


def strike(
    scribe: Scribe,
    ink: np.ndarray,  # uint8[h, w], changed in place
    x0: float,
    x1: float,
    y: float,  # middle of the number
    h: float,  # its height
) -> None:
    "Strike a number out"
    r, way = scribe.chance, int(scribe.chance.integers(4))
    if way < 2:
        curves = [
            spline(
                np.array(
                    [
                        [x0 - 4, y + dy + r.normal(0, 1.5)],
                        [(x0 + x1) / 2, y + dy + r.normal(0, 2)],
                        [x1 + 4, y + dy + r.normal(0, 1.5)],
                    ]
                )
            )
            for dy in ((0,) if way == 0 else (-0.14 * h, 0.16 * h))
        ]
    elif way == 2:
        n, tall = max(4, int((x1 - x0) / r.uniform(6, 11))), h * r.uniform(0.2, 0.45)
        curves = [
            spline(np.array([[x0 - 3 + (x1 - x0 + 6) * i / n, y + (tall if i % 2 else -tall)] for i in range(n + 1)]))
        ]
    else:
        curves = [
            np.array([[x0 - 2, y + s * h / 2], [x1 + 2, y - s * h / 2]])
            for s in ((-1,) if r.random() < 0.4 else (-1, 1))
        ]
    pen = max(1, round(scribe.pen * r.uniform(0.7, 1.1)))
    cv2.polylines(ink, [np.int32(c * _FINE) for c in curves], False, 255, pen, cv2.LINE_AA, 4)


def dirt(r: np.random.Generator, size: tuple[int, int], baseline: float) -> np.ndarray:  # uint8[h, w]
    "Ink that is on the paper without being writing"
    h, w = size
    ink = np.zeros(size, np.uint8)
    if r.random() < 0.3:
        for _ in range(int(r.integers(1, 5))):
            at, radius = (int(r.integers(w * 8)), int(r.integers(h * 8))), int(r.integers(3, 16))
            cv2.circle(ink, at, radius, int(r.integers(60, 255)), -1, cv2.LINE_AA, 3)
    if r.random() < 0.1:
        y, v = int(min(h - 4, baseline + r.integers(0, 6))), int(r.integers(20, 130))
        for x in range(0, w, 6):
            ink[y : y + 2, x : x + 2] = v
    if r.random() < 0.06:
        y = r.uniform(0, h)
        cv2.line(
            ink,
            (0, int(y * 8)),
            (w * 8, int((y + r.normal(0, 3)) * 8)),
            int(r.integers(60, 255)),
            int(r.integers(1, 3)),
            cv2.LINE_AA,
            3,
        )
    return ink


def rubber(r: np.random.Generator, size: tuple[int, int]) -> np.ndarray:  # uint8[h, w]
    "A part of a rubber stamp"
    h, w = size
    ink, v, radius = np.zeros(size, np.uint8), int(r.integers(50, 190)), r.uniform(25, 110)
    centre = (int(r.uniform(-40, w + 40) * 8), int(r.uniform(-60, h + 60) * 8))
    for share in (1.0, r.uniform(0.55, 0.9)):
        cv2.circle(ink, centre, int(radius * share * 8), v, int(r.integers(1, 4)), cv2.LINE_AA, 3)
    for _ in range(int(r.integers(0, 14))):
        walk = np.cumsum(np.concatenate([[r.uniform(0, [w, h])], r.normal(0, 5, (4, 2))]), 0)
        cv2.polylines(ink, [np.int32(spline(walk) * _FINE)], False, v, int(r.integers(1, 3)), cv2.LINE_AA, 4)
    if r.random() < 0.5:
        ink = cv2.multiply(ink, cv2.resize(r.uniform(0.3, 1.1, (4, 6)).astype(np.float32), (w, h)), dtype=cv2.CV_8U)
    return ink


@dataclass
class Cell:
    "A cell with a number, and what each bit of its ink is"

    gray: np.ndarray  # uint8[h, w]
    ink: np.ndarray  # uint8[layers, h, w]
    kinds: list[int]  # class of each layer
    hand: Hand


def _number(r: np.random.Generator, n: int | None = None) -> str:
    n = int(r.choice([1, 2, 3, 4], p=[0.22, 0.3, 0.36, 0.12])) if n is None else n
    digits = "".join(str(r.integers(10)) for _ in range(n))
    return f"{digits[0]},{digits[1:]}" if n == 4 and r.random() < 0.5 else digits


def _corrected(scribe: Scribe, size: tuple[int, int], x: float, baseline: float, above: bool) -> list[Layer]:
    "A number struck out, and the right one next to it or above it"
    r, (wrong, right) = scribe.chance, (_number(scribe.chance, int(scribe.chance.integers(1, 4))) for _ in range(2))
    scale = r.uniform(0.62, 0.8) if above else r.uniform(0.75, 1.0)
    x0, y = (x + r.uniform(0, 20), size[0] * 0.86 + r.normal(0, 2)) if above else (x, baseline)
    struck, end = write(scribe, wrong, size, x0, y, scale, _STRUCK)
    line = np.zeros(size, np.uint8)
    strike(scribe, line, x0, end - scribe.gap * scribe.height, y - scribe.height * scale / 2, scribe.height * scale)
    at = (x + r.uniform(0, 20), size[0] / 2 - 2 + r.normal(0, 1.5)) if above else (end + r.uniform(5, 16), baseline)
    return [*struck, (line, NO_DIGIT), *write(scribe, right, size, *at, scale)[0]]


def make_cell(
    r: np.random.Generator,
) -> Cell:
    "A cell drawn by lot"
    scribe, size = Scribe.by_lot(r, r.random() < 0.16), (58 if r.random() < 0.5 else 68, int(r.integers(100, 150)))
    baseline, x, way = size[0] / 2 + scribe.height / 2 + r.normal(0, 4), r.uniform(4, 24), r.random()
    if way < 0.87:
        layers = write(scribe, _number(r), size, x, baseline)[0]
    else:
        scribe.height = min(scribe.height, 27.0) if way > 0.95 else scribe.height
        layers = _corrected(scribe, size, x, baseline, above=way > 0.95)
    layers.append((dirt(r, size, baseline), NO_DIGIT))
    if r.random() < 0.12:
        layers.append((rubber(r, size), NO_DIGIT))
    ink = np.stack([layer for layer, _ in layers])
    covered = 1 - np.prod(1 - ink.astype(np.float32) / 255 * 0.97, axis=0)
    gray = _scanned(r, np.clip(r.uniform(190, 250) - covered * r.uniform(60, 205), 0, 255))
    return Cell(gray, ink, [kind for _, kind in layers], Hand(scribe.height, scribe.slant))


def _scanned(r: np.random.Generator, image: np.ndarray) -> np.ndarray:
    "Shadow, low resolution, blur, noise and JPEG, each by lot"
    h, w = image.shape
    if r.random() < 0.2:
        image = image * (
            np.linspace(1, r.uniform(0.75, 1), h)[:, None]
            if r.random() < 0.5
            else np.linspace(r.uniform(0.75, 1), 1, w)[None]
        )
    if r.random() < 0.06:
        image[int(r.uniform(0, h)) :] *= r.uniform(0.7, 0.95)
    if r.random() < 0.4:
        k = r.uniform(0.6, 1)
        image = cv2.resize(cv2.resize(image.astype(np.uint8), None, fx=k, fy=k, interpolation=cv2.INTER_AREA), (w, h))
    image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), r.uniform(0.25, 1.3))
    coarse = cv2.resize(r.standard_normal((h // 2 + 1, w // 2 + 1)).astype(np.float32), (w, h))
    noisy = np.clip(image + coarse * r.uniform(1, 14) + r.standard_normal((h, w)) * 2, 0, 255).astype(np.uint8)
    if r.random() < 0.7:
        noisy = cv2.imdecode(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, int(r.integers(30, 92))])[1], 0)
    return noisy


def _kind(amounts: np.ndarray, whole: np.ndarray, kinds: Sequence[int]) -> int | None:
    "The class of a guess with `amounts` of each layer's ink (the last is bare paper), of which `whole` there is in the cell"
    written, ink = amounts[:-1], float(amounts[:-1].sum())
    struck, other = (sum(a for a, k in zip(written, kinds) if k == kind) for kind in (_STRUCK, NO_DIGIT))
    if ink <= 0.25 * amounts.sum() or struck + other > 0.8 * ink:
        return None if struck > 0.5 * ink and other < 0.06 * ink else NO_DIGIT
    most = int(written.argmax())
    pure, complete = written[most] / ink, written[most] / max(whole[most], 1)
    if kinds[most] < 0 or kinds[most] == NO_DIGIT:
        return WRONG_CUT
    if min(pure, complete) > 0.84:
        return kinds[most]
    return None if min(pure, complete) > 0.72 else WRONG_CUT


def examples(
    cell: Cell,
    r: np.random.Generator,
) -> list[tuple[np.ndarray, list[float], int]]:  # glyph, place, class
    "What a cell teaches; its writer's hand is known about as well as `estimate_hand` knows it"
    hand = Hand(cell.hand.height * r.uniform(0.9, 1.1), cell.hand.slant + r.normal(0, 0.06))
    upright = np.stack([shear(layer, hand.slant) for layer in cell.ink])
    owner = np.where(upright.max(0) > 60, upright.argmax(0), len(upright))
    count = lambda pixels: np.bincount(pixels, minlength=len(upright) + 1)  # noqa: E731
    whole, found = count(owner.ravel()), []
    for line in find_lines(cell.gray, hand, strict=r.random() < 0.1):
        own = [count(owner[a.y0 : a.y1, a.x0 : a.x1][a.ink > 0]) for a in line.atoms]
        for g in line.guesses:
            kind = _kind(np.sum(own[g.start : g.stop], axis=0), whole, cell.kinds)
            if kind is not None:
                found.append((glyph(line, g), place(line, g), kind))
    return found


def training_set(
    n: int,  # cells
    seed: int,
    wrong_cuts: float = 0.3,  # share of the wrong cuts that is kept: there are too many
) -> tuple[np.ndarray, np.ndarray]:  # float32[examples, 359], int[examples]
    "Examples from `n` cells drawn by lot; the same seed gives the same examples"
    r, inputs, kinds = np.random.default_rng(seed), [], []
    for start in range(0, n, 500):
        found = [e for _ in range(min(500, n - start)) for e in examples(make_cell(r), r)]
        found = [e for e in found if e[2] != WRONG_CUT or r.random() < wrong_cuts]
        inputs.append(features(np.stack([g for g, _, _ in found]), np.array([p for _, p, _ in found])))
        kinds += [k for _, _, k in found]
    return np.concatenate(inputs), np.array(kinds)


def train(
    inputs: np.ndarray,  # float32[examples, 359]
    kinds: np.ndarray,  # int[examples]
    hidden: int = 128,  # units
    rounds: tuple[int, int] = (24, 8),  # passes over the examples with the large and with the small step
    seed: int = 0,
) -> DigitModel:
    "Train the network. Needs scikit-learn."
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    network = MLPClassifier(
        (hidden,), alpha=1e-3, batch_size=256, random_state=seed, warm_start=True, n_iter_no_change=10**6
    )
    for passes, step in zip(rounds, (2e-3, 2e-4)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            network.set_params(max_iter=passes, learning_rate_init=step).fit(inputs, kinds)
    (w1, w2), (b1, b2) = network.coefs_, network.intercepts_
    return DigitModel(tuple(w.astype(np.float16).astype(np.float32) for w in (w1, b1, w2, b2)))


def on_paper(
    counts: np.ndarray,  # [8, 8], 0 to 16
    height: int = 26,  # pixels
) -> np.ndarray:  # uint8[66, 110]
    "A real digit in a cell of the form"
    cell = np.full((66, 110), 240.0, np.float32)
    digit = cv2.resize(counts.astype(np.float32) / 16, (height, height), interpolation=cv2.INTER_CUBIC)
    cell[20 : 20 + height, 42 : 42 + height] -= 170 * np.clip(digit, 0, 1)
    return cell.astype(np.uint8)


def held_out_scores(
    model: DigitModel | None = None,  # None: the one that is shipped
    cells: int = 500,  # drawn cells of a seed that is never trained on
) -> dict[str, float]:
    "Shares of real digits read right, and of drawn examples classified right"
    _, pictures, labels = real_digits()
    read = [read_numbers([on_paper(p)], Hand(26.0, 0.0), thai=False, model=model).readings[0][0][0] for p in pictures]
    inputs, kinds = training_set(cells, seed=2)
    told = (model or digit_model()).log_probabilities(inputs).argmax(1)
    digits = kinds < NO_DIGIT
    return {
        "real digits read right": float(np.mean([a == b for a, b in zip(read, labels)])),
        "drawn digits classified right": float((told == kinds)[digits].mean()),
        "drawn digits taken for another": float(((told != kinds) & (told < NO_DIGIT))[digits].mean()),
        "drawn guesses classified right": float((told == kinds).mean()),
    }


def main(
    argv: Sequence[str] | None = None,  # None: the command line
) -> dict[str, float]:  # the scores on what was kept out
    "Train the network that is shipped"
    parser = argparse.ArgumentParser(prog="python benchmarks/train_digits.py", description="Train the digit reader.")
    parser.add_argument("--cells", type=int, default=60_000, help="numbers to draw and learn from")
    parser.add_argument("--seed", type=int, default=1, help="of the numbers")
    parser.add_argument("--out", type=Path, default=Path("digits.npz"), help="where the network is written")
    chosen = parser.parse_args(argv)
    cv2.setNumThreads(1)
    model = train(*training_set(chosen.cells, chosen.seed))
    np.savez_compressed(
        chosen.out, **{k: w.astype(np.float16) for k, w in zip(("w1", "b1", "w2", "b2"), model.weights)}
    )  # type: ignore[arg-type]
    scores = held_out_scores(model)
    sys.stdout.write("".join(f"{name}: {value:.4f}\n" for name, value in scores.items()))
    return scores


if __name__ == "__main__":
    main()
