"""Outlines of objects as a grid of cells over their boxes (VCR's instance masks).

A grid is kept as whole numbers, CELLS bits a row and two rows a number, so that a text table holds
it beside the object's box.
"""

from collections.abc import Sequence

import numpy as np

from input_pipeline.datasets.records.base import Box
from input_pipeline.datasets.records.mentions import ObjectBox

CELLS = 14  # rows and columns
_ROWS = 2  # of a number
NUMBERS = CELLS // _ROWS  # of an object

Polygon = Sequence[tuple[float, float]]


def grid(box: Box, polygons: Sequence[Polygon]) -> np.ndarray:
    """bool [CELLS, CELLS]: the cells of a box whose corner lies in a polygon, or on its edge.

    As the original: pixels are scaled by CELLS / (side + 1), and what is outside the box is moved
    to its border.
    """
    out = np.zeros((CELLS, CELLS), bool)
    x1, y1, x2, y2 = box
    for polygon in polygons:
        points = np.asarray(polygon, np.float64)
        if len(points):
            scale = CELLS / np.array([x2 - x1 + 1, y2 - y1 + 1])
            out |= _inside(np.clip((points - [x1, y1]) * scale, 0, CELLS - 1))
    return out


def _inside(points: np.ndarray) -> np.ndarray:
    """bool [CELLS, CELLS]: which whole-numbered places a polygon [n, 2] of (x, y) covers."""
    y, x = np.mgrid[:CELLS, :CELLS].astype(np.float64)
    inside, edge = np.zeros(x.shape, bool), np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, 0), strict=True):
        cross = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
        within = (np.minimum(ax, bx) <= x) & (x <= np.maximum(ax, bx))
        within &= (np.minimum(ay, by) <= y) & (y <= np.maximum(ay, by))
        edge |= within & (np.abs(cross) < 1e-9)
        if ay != by:
            crosses = (ay > y) != (by > y)
            inside ^= crosses & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    return inside | edge


def packed(objects: Sequence[ObjectBox]) -> list[int]:
    """The grids of objects, NUMBERS each, one after the other."""
    weights = 1 << np.arange(_ROWS * CELLS)
    return [
        int(number)
        for item in objects
        for number in (grid(item.box, item.polygons).reshape(NUMBERS, -1) * weights).sum(1)
    ]


def unpacked(numbers: np.ndarray) -> np.ndarray:
    """bool [..., objects, CELLS, CELLS] of int [..., objects · NUMBERS]."""
    bits = numbers[..., None] >> np.arange(_ROWS * CELLS) & 1
    return bits.reshape(*numbers.shape[:-1], -1, CELLS, CELLS).astype(bool)
