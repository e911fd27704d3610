"""Matches boxes of a data set to regions of the store: mentions, labels and candidates.

Data sets refer to objects by boxes (VCR's objects, RefCOCO's candidates, Visual7W's choices). A
store may hold exactly these, others from a detector, or both one after the other: each box is
matched to the region that overlaps it most, so nothing depends on the order of the regions. Where
an image has more regions than fit, `named` says which ones stay.
"""

from collections.abc import Callable

import numpy as np

from core.errors import DataError
from input_pipeline.datasets.records import outlines
from input_pipeline.streams import overlap
from input_pipeline.streams.named import MIN_CANDIDATE_IOU, MIN_OBJECT_IOU, boxes_of

NameOf = Callable[[int], str]
OBJECT_KEYS = {"token_region", "phrase_region"}  # numbers of objects, until they are matched
Match = Callable[[np.ndarray, np.ndarray, np.ndarray, float], np.ndarray]  # `overlap.match`


def ground(batch: dict[str, np.ndarray], convention: str, name_of: NameOf) -> None:
    """Replaces boxes of the data set by arrays over regions, in place.

    In pixels of the original image, so before boxes are scaled, mirrored or clamped. Takes
    `target_box`, `object_boxes`, `object_classes`, `object_masks`, `candidate_boxes` and
    `option_boxes`; gives `region_iou` (0 where no box is known), `region_label`,
    `region_instance_mask`, `candidate_mask` and `option_region`, and turns the object numbers in
    `token_region` and `phrase_region` into rows of the regions: 0, the whole image, for an object
    that no region shows.

    Args:
      batch: stream batch with its regions; boxes are on the first image.
      convention: of `region_iou`, see `boxes.EDGES`.
      name_of: name_of(i), name of the batch's row i, for messages.

    An example of which no option is among the regions, as a detector may miss them all, is wrong
    whatever is chosen, and teaches nothing.

    Raises:
      DataError: no candidate of an example is among its regions, no option of any of several
        examples is, or objects have no boxes.
    """
    boxes, mask = batch["boxes"], batch["region_mask"]
    if "target_box" in batch:
        target = batch.pop("target_box")
        batch["region_iou"] = overlap.region_iou(
            boxes, mask, batch["image_size"], target, convention
        )
        batch["region_iou"][~target.any(-1)] = 0
    # Both originals let the whole image compete with candidates, not with an exercise's options.
    if "candidate_boxes" in batch:
        rows = _rows(batch, "candidate_boxes", overlap.match, name_of)
        batch["candidate_mask"] = _mask_of(rows, mask, whole_image=True)
    if "option_boxes" in batch:
        rows = _rows(batch, "option_boxes", overlap.match_apart, name_of)
        batch["option_region"] = rows.astype(np.int32)
        batch["candidate_mask"] = _mask_of(rows, mask, whole_image=False)
    numbered = OBJECT_KEYS & batch.keys()
    if "object_boxes" not in batch:
        if numbered:
            raise DataError(
                "texts speak of objects by number, and the data set gives no boxes of these",
                where=f"example {name_of(0)!r}",
                expected="values['object_boxes'] of each row that has mentions",
                found=f"{sorted(numbered)} without boxes",
            )
        return
    rows = overlap.match(boxes[:, 0], mask[:, 0], boxes_of(batch, "object_boxes"), MIN_OBJECT_IOU)
    del batch["object_boxes"]
    if "object_masks" in batch:
        batch["region_instance_mask"] = _cells(mask, rows, batch.pop("object_masks"))
    # Number 0 stands for the whole image.
    of_number = np.concatenate([np.zeros_like(rows[:, :1]), rows], 1)
    for key in numbered:
        taken = np.take_along_axis(of_number[:, None], batch[key].astype(np.int64), 2)
        batch[key] = taken.astype(np.int32)
    if "object_classes" in batch:
        batch["region_label"] = _labels(mask, rows, batch.pop("object_classes"))


def _rows(batch: dict[str, np.ndarray], key: str, match: Match, name_of: NameOf) -> np.ndarray:
    """int64 [B, O]: regions that show the boxes at a key of the batch, 0 for none."""
    candidates = boxes_of(batch, key)
    del batch[key]
    rows = match(batch["boxes"][:, 0], batch["region_mask"][:, 0], candidates, MIN_CANDIDATE_IOU)
    offered = candidates.any((1, 2))
    lost = np.flatnonzero(offered & ~rows.any(1))
    if lost.size and (key == "candidate_boxes" or lost.size == offered.sum() > 1):
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
    return rows


def _mask_of(rows: np.ndarray, mask: np.ndarray, *, whole_image: bool) -> np.ndarray:
    """bool like the mask [B, M, R], True at rows [B, O], and at row 0 if `whole_image`."""
    out = np.zeros_like(mask)
    np.put_along_axis(out[:, 0], rows, True, axis=1)
    out[..., 0] = whole_image
    return out


def _labels(mask: np.ndarray, rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """int32 [B, M, R]: class of the object a region shows, 0 for the whole image, else -1."""
    out = np.full(mask.shape, -1, np.int32)
    # In descending order, so that the first of several objects of one region sets its class.
    for n in range(rows.shape[1] - 1, -1, -1):
        np.put_along_axis(out[:, 0], rows[:, n : n + 1], classes[:, n : n + 1], axis=1)
    out[..., 0] = 0
    return out


def _cells(mask: np.ndarray, rows: np.ndarray, packed: np.ndarray) -> np.ndarray:
    """bool [B, M, R, S, S]: cells of a region that show its object; all where it has none."""
    objects = outlines.unpacked(packed)
    out = np.ones((*mask.shape, outlines.CELLS, outlines.CELLS), bool)
    # In descending order, so that the first of several objects of one region sets its cells.
    for n in range(rows.shape[1] - 1, -1, -1):
        at = np.flatnonzero(rows[:, n] > 0)
        out[at, 0, rows[at, n]] = objects[at, n]
    return out
