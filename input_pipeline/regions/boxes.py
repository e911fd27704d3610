"""Intersection over union of boxes, and boxes of a resized picture."""

import dataclasses
import math

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


@dataclasses.dataclass(frozen=True)
class Resized:
    """How a detector resizes pictures: the shorter side to `short`, the longer to `long` at most.

    Boxes that were not scaled back are of the resized picture.
    """

    short: float
    long: float

    @classmethod
    def parse(cls, text: str) -> "Resized":
        """From "800,1333".

        Raises:
          DataError: other than two numbers, the longer side last.
        """
        try:
            short, long = map(float, text.split(","))
            if not 0 < short <= long < math.inf:
                raise ValueError(text)
        except ValueError as error:
            raise DataError(
                "--resized does not say how pictures were resized",
                expected="SHORT,LONG: pixels of the shorter side, most of the longer (800,1333)",
                found=repr(text),
            ) from error
        return cls(short, long)

    def scale(self, height: int, width: int) -> float:
        """Pixels of the resized picture per pixel of the picture."""
        return min(self.short / min(height, width), self.long / max(height, width))


# What detectors are known to resize to: bottom-up attention; Detectron, MMF and VinVL.
RESIZED = (Resized(600, 1000), Resized(800, 1333))


def another_scale(boxes: np.ndarray, height: int, width: int) -> str:
    """What to do about boxes far outside their image; empty where they are not.

    Args:
      boxes: [n, 4] xyxy.
      height: of the image.
      width: of the image.
    """
    across, down = (float(boxes[:, i].max(initial=0)) for i in (2, 3))
    reach = max(across / width, down / height)
    if not 1.02 < reach < math.inf:
        return ""
    scales = {f"{kind.short:g},{kind.long:g}": kind.scale(height, width) for kind in RESIZED}
    fitting = {name: s for name, s in scales.items() if 0.85 * s <= reach <= 1.01 * s}
    options = " or ".join(f"--resized {name} (scale {s:.3f})" for name, s in fitting.items())
    return (
        f"if all images are like this, boxes are of the picture resized by {reach:.3f} or more "
        f"(they reach x = {across:.0f} and y = {down:.0f} of {width} x {height} pixels): divide "
        f"them by the scale, which is {options or '--resized SHORT,LONG in an import'}; else "
        "correct or leave out this image"
    )
