"""How well regions fit the box that a text means: intersection over union."""

import numpy as np

from core.errors import DataError

# The width of a box from x1 to x2 is x2 - x1 + edge. VL-BERT, ViLBERT and the detectors of their
# time count both end pixels, even for boxes made of x + width.
EDGES = {"plus_one": 1.0, "plain": 0.0}


def iou(boxes: np.ndarray, others: np.ndarray, convention: str) -> np.ndarray:
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

    def area(low, high):
        return np.maximum(high - low + edge, 0).prod(-1)

    inner = area(np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:]))
    outer = area(a[..., :2], a[..., 2:]) + area(b[..., :2], b[..., 2:]) - inner
    return np.where(outer > 0, inner / np.where(outer > 0, outer, 1), 0.0)


def region_iou(
    boxes: np.ndarray,
    region_mask: np.ndarray,
    image_size: np.ndarray,
    target: np.ndarray,
    convention: str = "plus_one",
) -> np.ndarray:
    """Overlap of each region with the box a text means, the whole image (row 0) included.

    In pixels of the original image: before boxes are scaled, mirrored or clamped. VL-BERT measures
    its training targets after that, which can tell apart only what is a pixel away from a half.

    Args:
      boxes: [B, M, R, 4] xyxy; row 0 is not read.
      region_mask: bool [B, M, R].
      image_size: [B, M, 2] (height, width).
      target: [B, 4] xyxy.
      convention: see `iou`.

    Returns:
      float32 [B, M, R], 0 at padding.
    """
    boxes = np.array(boxes, np.float64)
    last = np.asarray(image_size, np.float64)[..., ::-1] - EDGES.get(convention, 0.0)
    boxes[..., 0, :] = np.concatenate([np.zeros_like(last), last], -1)
    found = iou(boxes, np.asarray(target)[:, None, None], convention)
    return np.where(region_mask, found, 0).astype(np.float32)


def match(
    boxes: np.ndarray, region_mask: np.ndarray, objects: np.ndarray, least: float
) -> np.ndarray:
    """The region that shows each object: the one that overlaps its box most.

    Args:
      boxes: [B, R, 4] xyxy; row 0, the whole image, shows none.
      region_mask: bool [B, R].
      objects: [B, O, 4] boxes, zeros at padding.
      least: overlap (both end pixels counted) below which a region does not show the object.

    Returns:
      int64 [B, O] rows of `boxes`, the first of several alike; 0 where no region shows the object.
    """
    found = iou(objects[:, :, None], boxes[:, None], "plus_one")  # [B, O, R]
    found[~np.broadcast_to(region_mask[:, None], found.shape)] = 0
    found[..., 0] = 0
    best = found.argmax(-1)
    there = np.take_along_axis(found, best[..., None], -1)[..., 0] >= least
    return np.where(there & objects.any(-1), best, 0)
