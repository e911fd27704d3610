"""Intersection over union of boxes."""

import numpy as np
from numpy.typing import ArrayLike

from core.errors import DataError

# The width of a box from x1 to x2 is x2 - x1 + edge. VL-BERT, ViLBERT and the detectors of their
# time count both end pixels, even for boxes made of x + width.
EDGES = {"plus_one": 1.0, "plain": 0.0}


def iou(boxes: ArrayLike, others: ArrayLike, convention: str) -> np.ndarray:
    """Intersection over union of boxes that broadcast against each other: [..., 4] -> [...].

    Args:
      boxes: [..., 4] xyxy.
      others: [..., 4] xyxy.
      convention: "plus_one" (both originals) or "plain".

    Returns:
      float64; 0 where both boxes are empty.

    Raises:
      DataError: an unknown convention.
    """
    if convention not in EDGES:
        raise DataError(
            "unknown convention of box widths",
            expected=f"one of {sorted(EDGES)}",
            found=repr(convention),
        )
    edge = EDGES[convention]
    a, b = np.asarray(boxes, np.float64), np.asarray(others, np.float64)

    def area(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return np.maximum(high - low + edge, 0).prod(-1)

    inner = area(np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:]))
    outer = area(a[..., :2], a[..., 2:]) + area(b[..., :2], b[..., 2:]) - inner
    return np.where(outer > 0, inner / np.where(outer > 0, outer, 1), 0.0)
