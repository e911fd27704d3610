"""Intersection over union, by hand."""

import numpy as np
import pytest

from core.errors import DataError
from input_pipeline.regions.boxes import iou


def test_iou_by_hand():
    a, b = (0, 0, 9, 9), (5, 5, 14, 14)
    assert iou(a, b, "plus_one") == pytest.approx(25 / 175)
    assert iou(a, b, "plain") == pytest.approx(16 / (81 + 81 - 16))
    assert iou(a, a, "plus_one") == iou(a, a, "plain") == 1
    assert iou(a, (20, 0, 29, 9), "plus_one") == 0
    assert iou((3, 3, 3, 3), (3, 3, 3, 3), "plain") == 0  # empty


def test_boxes_broadcast():
    a = np.asarray([[0, 0, 2, 2], [0, 0, 0, 0]])
    b = np.asarray([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6]])
    found = iou(a[:, None], b[None], "plain")
    np.testing.assert_allclose(found, [[1, 1 / 7, 0], [0, 0, 0]])


def test_an_unknown_convention_is_an_error():
    with pytest.raises(DataError, match=r"\['plain', 'plus_one'\]\s+found: 'coco'"):
        iou((0, 0, 1, 1), (0, 0, 1, 1), "coco")
