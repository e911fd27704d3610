"""Overlap of regions with the boxes of a data set: targets of grounding, and matching."""

import numpy as np

from input_pipeline.regions.boxes import EDGES, iou


def region_iou(
    boxes: np.ndarray,
    region_mask: np.ndarray,
    image_size: np.ndarray,
    target: np.ndarray,
    convention: str = "plus_one",
) -> np.ndarray:
    """Overlap of each region with the box a text refers to, the whole image (row 0) included.

    In pixels of the original image: before boxes are scaled, mirrored or clamped. VL-BERT measures
    its training targets after that, which differs only within a pixel of the threshold.

    Args:
      boxes: [B, M, R, 4] xyxy; row 0 is not read.
      region_mask: bool [B, M, R].
      image_size: [B, M, 2] (height, width).
      target: [B, 4] xyxy.
      convention: of box widths, see `boxes.iou`.

    Returns:
      float32 [B, M, R], 0 at padding.
    """
    boxes = np.array(boxes, np.float64)
    last = np.asarray(image_size, np.float64)[..., ::-1] - EDGES.get(convention, 0.0)
    boxes[..., 0, :] = np.concatenate([np.zeros_like(last), last], -1)
    found = iou(boxes, np.asarray(target)[:, None, None], convention)
    return np.where(region_mask, found, 0).astype(np.float32)


def match_apart(
    boxes: np.ndarray, region_mask: np.ndarray, objects: np.ndarray, min_iou: float
) -> np.ndarray:
    """As `match`, but a region shows one object alone: the one that it overlaps most.

    Objects of one and the same box share their region.
    """
    rows = match(boxes, region_mask, objects, min_iou)
    shown = np.take_along_axis(boxes, rows[..., None], 1)
    own = iou(objects, shown, "plus_one")  # [B, O]
    shared = (rows[:, :, None] == rows[:, None]) & (rows > 0)[:, None]  # [B, O, O]
    return np.where((own[:, :, None] >= np.where(shared, own[:, None], 0)).all(-1), rows, 0)


def match(
    boxes: np.ndarray, region_mask: np.ndarray, objects: np.ndarray, min_iou: float
) -> np.ndarray:
    """The region that shows each object: the one that overlaps its box most.

    Args:
      boxes: [B, R, 4] xyxy; row 0, the whole image, shows none.
      region_mask: bool [B, R].
      objects: [B, O, 4] boxes, zeros at padding.
      min_iou: overlap (both end pixels counted) below which a region does not show the object.

    Returns:
      int64 [B, O] rows of `boxes`, the first of equal ones; 0 where no region shows the object.
    """
    found = iou(objects[:, :, None], boxes[:, None], "plus_one")  # [B, O, R]
    found[~np.broadcast_to(region_mask[:, None], found.shape)] = 0
    found[..., 0] = 0
    best = found.argmax(-1)
    there = np.take_along_axis(found, best[..., None], -1)[..., 0] >= min_iou
    return np.where(there & objects.any(-1), best, 0)
