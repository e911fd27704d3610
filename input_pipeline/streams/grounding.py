"""Matches boxes of a data set to regions of the store: mentions, labels and candidates.

Data sets refer to objects by boxes (VCR's objects, RefCOCO's candidates, Visual7W's choices). A
store may hold exactly these, others from a detector, or both one after the other: each box is
matched to the region that overlaps it most, so nothing depends on the order of the regions or on
how many were kept.
"""

from collections.abc import Callable

import numpy as np

from core.errors import DataError
from input_pipeline.streams import overlap

NameOf = Callable[[int], str]

MIN_OBJECT_IOU = 0.5  # a region with less does not show the object
MIN_CANDIDATE_IOU = 0.8  # below 1, since files round their boxes


def ground(batch: dict[str, np.ndarray], convention: str, name_of: NameOf) -> None:
    """Replaces boxes of the data set by arrays over regions, in place.

    In pixels of the original image, so before boxes are scaled, mirrored or clamped. Takes
    `target_box`, `object_boxes`, `object_classes`, `candidate_boxes` and `option_boxes`; gives
    `region_iou`, `region_label` and `candidate_mask`, and turns the object numbers in
    `token_region` into rows of the regions: 0, the whole image, for an object that no region shows.

    Args:
      batch: stream batch with its regions; boxes are on the first image.
      convention: of `region_iou`, see `boxes.EDGES`.
      name_of: name_of(i), name of the batch's row i, for messages.

    Raises:
      DataError: no candidate of an example is among its regions.
    """
    boxes, mask = batch["boxes"], batch["region_mask"]
    if "target_box" in batch:
        target = batch.pop("target_box")
        batch["region_iou"] = overlap.region_iou(
            boxes, mask, batch["image_size"], target, convention
        )
    # Both originals let the whole image compete with candidates, not with an exercise's options.
    for key, with_image in (("candidate_boxes", True), ("option_boxes", False)):
        if key in batch:
            found = _candidates(batch, key, name_of)
            found[..., 0] = with_image
            batch["candidate_mask"] = found
    if "object_boxes" not in batch:
        return
    rows = overlap.match(boxes[:, 0], mask[:, 0], _boxes(batch, "object_boxes"), MIN_OBJECT_IOU)
    if "token_region" in batch:
        # Number 0 stands for the whole image.
        of_number = np.concatenate([np.zeros_like(rows[:, :1]), rows], 1)
        numbers = batch["token_region"]
        taken = np.take_along_axis(of_number[:, None], numbers.astype(np.int64), 2)
        batch["token_region"] = taken.astype(np.int32)
    if "object_classes" in batch:
        batch["region_label"] = _labels(mask, rows, batch.pop("object_classes"))


def _boxes(batch: dict[str, np.ndarray], key: str) -> np.ndarray:
    """[B, O, 4] of a flat array."""
    flat = batch.pop(key)
    return flat[:, : flat.shape[1] // 4 * 4].reshape(len(flat), -1, 4)


def _candidates(batch: dict[str, np.ndarray], key: str, name_of: NameOf) -> np.ndarray:
    """bool [B, M, R]: regions that are candidates, of the boxes at a key of the batch."""
    mask, candidates = batch["region_mask"], _boxes(batch, key)
    rows = overlap.match(batch["boxes"][:, 0], mask[:, 0], candidates, MIN_CANDIDATE_IOU)
    lost = np.flatnonzero(candidates.any((1, 2)) & ~rows.any(1))
    if lost.size:
        i = int(lost[0])
        raise DataError(
            "no candidate box is among the regions of its image",
            where=f"example {name_of(i)!r}",
            expected=f"regions with boxes such as {candidates[i][0].round(1).tolist()}",
            found=f"boxes such as {batch['boxes'][i, 0, 1].round(1).tolist()}",
            fix="import features of the candidate boxes"
            + (
                ", or choose among the regions there are: --config.data.candidates=regions"
                if key == "candidate_boxes"
                else ""
            ),
        )
    out = np.zeros_like(mask)
    np.put_along_axis(out[:, 0], rows, True, axis=1)
    return out


def _labels(mask: np.ndarray, rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """int32 [B, M, R]: class of the object a region shows, 0 for the whole image, else -1."""
    out = np.full(mask.shape, -1, np.int32)
    # In descending order, so that the first of several objects of one region sets its class.
    for n in range(rows.shape[1] - 1, -1, -1):
        np.put_along_axis(out[:, 0], rows[:, n : n + 1], classes[:, n : n + 1], axis=1)
    out[..., 0] = 0
    return out
