"""What the options that all layouts share make of an image: class scores, boxes of another scale.

Class scores are distributions whose background column the layout knows (`background_class`). Where
a detector's maker stored the classes of objects alone (MMF's extractor: softmax over 1,601 columns,
the first left out), rows sum to less than one, and what is missing is the background's:
`--class_scores without_background` puts it back as column 0. `drop` leaves class scores out, for
scores of another kind (sigmoids, logits).
"""

import dataclasses

import numpy as np

from core.errors import DataError
from input_pipeline.importers.base import Item
from input_pipeline.regions.boxes import Resized
from input_pipeline.regions.image_checks import SUM_TOLERANCE

CLASS_SCORES = ("", "with_background", "without_background", "drop")
# Detectors' classes of objects; with a background there is one column more.
OBJECT_CLASSES = {
    80: "COCO's",
    365: "Objects365's",
    1203: "LVIS's",
    1600: "Visual Genome's",
}
SHARES = (
    "all boxes lie within one pixel: shares of the image, taken for pixels? --box_format shares "
    "reads them where a layout has it"
)
FIX = (
    "--class_scores without_background if the background's column was left out (what rows lack of "
    "1 becomes column 0), with_background if one of the columns is it, drop to leave class scores "
    "out"
)


def background_of(background: int | None, class_scores: str) -> int | None:
    """Column of the background after `arranged`.

    Args:
      background: the layout's, None without one.
      class_scores: the option.
    """
    return 0 if class_scores == "without_background" else background


def arranged(
    item: Item, where: str, background: int | None, class_scores: str, resized: str
) -> Item:
    """An image as it goes to the store.

    Args:
      item: as its file has it.
      where: for messages.
      background: column that the layout assumes to be the background; None where there is none, or
        where what it reads says so itself.
      class_scores: one of CLASS_SCORES; empty: distributions as the layout says.
      resized: see `regions.boxes.Resized`; empty: boxes are of the picture itself.

    Raises:
      DataError: class scores that do not fit the option.
    """
    if resized:
        scale = Resized.parse(resized).scale(item.height, item.width)
        item = dataclasses.replace(item, boxes=np.asarray(item.boxes, np.float64) / scale)
    if _within_first_pixel(item):
        item = dataclasses.replace(item, notes=(*item.notes, SHARES))
    if item.class_probs is None or class_scores == "with_background":
        return item
    if class_scores == "drop":
        return dataclasses.replace(item, class_probs=None)
    probs = np.asarray(item.class_probs)
    if probs.ndim != 2 or not probs.size or probs.dtype.kind not in "fiu":
        return item  # the writer says what is wrong
    sums = probs.sum(1, dtype=np.float64)
    if class_scores == "without_background":
        return dataclasses.replace(item, class_probs=_with_rest(probs, sums, item, where))
    columns = probs.shape[1]
    if background is not None and (owner := OBJECT_CLASSES.get(columns)):
        raise DataError(
            "class scores seem to lack the background",
            where=f"{where}, image {item.image_id!r}",
            expected=f"{columns + 1:,} columns: {owner} {columns:,} classes and the background",
            found=f"{columns:,} columns, rows sum to {sums.min():.4f} to {sums.max():.4f}",
            fix=FIX,
        )
    first = int(np.argmin(sums))
    if (probs >= 0).all() and sums[first] < 1 - SUM_TOLERANCE and sums.max() <= 1 + SUM_TOLERANCE:
        raise DataError(
            f"class probabilities of region {first} are no distribution",
            where=f"{where}, image {item.image_id!r}",
            expected=f"values >= 0 that sum to 1 (+-{SUM_TOLERANCE})",
            found=f"sum {sums[first]:.4f}, less than 1",
            fix=FIX,
        )
    return item


def _within_first_pixel(item: Item) -> bool:
    """Whether boxes look like shares of an image of more than a few pixels."""
    boxes = np.asarray(item.boxes)
    if not boxes.size or boxes.dtype.kind not in "fiu" or min(item.height, item.width) < 16:
        return False
    return bool((boxes >= 0).all() and 0 < boxes.max() <= 1)


def _with_rest(probs: np.ndarray, sums: np.ndarray, item: Item, where: str) -> np.ndarray:
    """[n, 1 + C] with what rows lack of 1 as column 0."""
    first = int(np.argmax(sums))
    if not (sums <= 1 + SUM_TOLERANCE).all() or not (probs >= 0).all():
        raise DataError(
            f"class scores of region {first} are no probabilities",
            where=f"{where}, image {item.image_id!r}",
            expected="values >= 0 that sum to 1 at most (--class_scores without_background)",
            found=f"sum {sums[first]:.4f}, smallest value {probs.min():.4g}",
            fix="--class_scores drop leaves class scores out",
        )
    rest = np.maximum(0, 1 - sums)[:, None]
    return np.concatenate([rest, probs], 1).astype(np.float32)
