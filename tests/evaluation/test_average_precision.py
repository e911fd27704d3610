"""Average precision, by hand."""

import numpy as np
import pytest

from evaluation.average_precision import average_precision, matched, mean_average_precision


def test_area_by_hand():
    scores = np.float64([0.9, 0.8, 0.7, 0.6])
    right = np.array([True, False, True, False])
    # Recall 1/3 at precision 1, 2/3 at 2/3; the third object is never found.
    assert average_precision(scores, right, 3) == pytest.approx((1 + 2 / 3) / 3)
    # Precision counts as the best at that recall or above: 2/3, not 1/2, for the first.
    late = average_precision(np.float64([0.9, 0.8, 0.7]), np.array([False, True, True]), 2)
    assert late == pytest.approx(2 / 3)
    assert average_precision(np.zeros(0), np.zeros(0, bool), 2) == 0


def test_an_object_is_found_once():
    objects = np.float32([[0, 0, 10, 10], [20, 0, 30, 10]])
    boxes = np.float32([[0, 0, 10, 9], [0, 0, 10, 10], [20, 0, 30, 4], [20, 0, 30, 5]])
    scores = np.float32([0.5, 0.9, 0.8, 0.1])
    # The second is surer than the first; 0.4 is too little, 0.5 is enough.
    assert matched(boxes, scores, objects, 0.5).tolist() == [False, True, False, True]
    assert matched(boxes, scores, objects[:0], 0.5).tolist() == [False] * 4


def test_the_mean_is_over_classes_that_there_are():
    truth = [
        dict(boxes=np.float32([[0, 0, 10, 10]]), class_ids=np.array([1])),
        dict(boxes=np.float32([[0, 0, 10, 10], [20, 0, 30, 10]]), class_ids=np.array([1, 2])),
    ]
    found = [
        dict(boxes=np.float32([[0, 0, 10, 10]]), class_ids=np.array([1]), class_scores=np.ones(1)),
        dict(
            boxes=np.float32([[0, 0, 10, 10], [0, 0, 10, 10]]),
            class_ids=np.array([3, 1]),
            class_scores=np.float32([0.9, 0.8]),
        ),
    ]
    # Class 1: both found; class 2: not; class 3 is nowhere.
    assert mean_average_precision(found, truth) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no objects"):
        mean_average_precision(found, [dict(boxes=np.zeros((0, 4)), class_ids=np.zeros(0))] * 2)
