"""The arrays of one image's record, whatever its maker calls them, and the rule for `num_boxes`.

Makers store the same four things under names of their own, as arrays, as lists or as the base64
text of float32 numbers. Where a record has a `num_boxes` (`num_bbox`), one rule holds in every
layout whose arrays tell their own length:

  as many as there are rows   all rows are regions
  fewer                       rows of zeros behind them are padding; rows with features are regions
                              all the same (the extractors of ViLBERT multi-task and MMF count the
                              regions that have a score, and their trainers read all rows)
  0                           the image has no regions
  more                        an error

What is left out or kept beyond the count is told when the import ends. `--num_boxes first` takes
the first `num_boxes` rows whatever the others hold, `--num_boxes ignore` does not read the count.

Boxes of six columns are VinVL's as MMF extracts them: x1, y1, x2, y2, width, height as shares of
the image, which stand behind the features as well and are taken off there.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from core.errors import DataError
from input_pipeline.importers.base import Item
from input_pipeline.importers.formats import fields

FEATURES = ("features", "image_features", "x", "feat")
BOXES = ("boxes", "bbox", "bboxes", "image_bb")
COUNT = ("num_boxes", "num_bbox")
CLASSES = ("cls_prob",)
IDS = ("image_id", "img_id", "feature_path")
NUM_BOXES = ("padding", "first", "ignore")
BOX_FORMATS = ("xyxy", "xywh", "shares")
PLACE = 6  # columns of VinVL's boxes
TOLERANCE = 1e-2  # of shares in half precision
LEFT_OUT = "rows beyond num_boxes were left out"
KEPT = "rows beyond num_boxes have features and are regions; --num_boxes first leaves them out"


class Arrays(NamedTuple):
    """The arrays of an image.

    Attributes:
      boxes: [n, 4] xyxy.
      unit: of the boxes, "pixels" or "shares" of the image's width and height.
      features: [n, F].
      class_probs: [n, C] class scores, None without them.
      notes: see `Item.notes`.
    """

    boxes: np.ndarray
    unit: str
    features: np.ndarray
    class_probs: np.ndarray | None
    notes: tuple[str, ...]

    def item(
        self, image_id: str, size: tuple[int, int], global_feature: np.ndarray | None = None
    ) -> Item:
        """The image, its boxes in pixels; `size` is (height, width)."""
        height, width = size
        boxes = self.boxes
        if self.unit == "shares":
            boxes = boxes * np.asarray([width, height, width, height], np.float64)
        return Item(
            image_id=image_id,
            height=height,
            width=width,
            boxes=boxes,
            features=self.features,
            class_probs=self.class_probs,
            global_feature=global_feature,
            notes=self.notes,
        )


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Adds --num_boxes."""
    parser.add_argument(
        "--num_boxes",
        default="padding",
        choices=NUM_BOXES,
        help="where num_boxes is below the rows: zeros beyond it are padding (default), the first "
        "are the regions, or the number is not read",
    )


def add_box_format(parser: argparse.ArgumentParser) -> None:
    """Adds --box_format."""
    parser.add_argument(
        "--box_format",
        default="xyxy",
        choices=BOX_FORMATS,
        help="xywh: x, y, width, height; shares: xyxy as shares of the image's width and height",
    )


def check_arguments(num_boxes: str, box_format: str = "xyxy") -> None:
    """Raises DataError for an unknown --num_boxes or --box_format."""
    for name, value, known in (
        ("num_boxes", num_boxes, NUM_BOXES),
        ("box_format", box_format, BOX_FORMATS),
    ):
        if value not in known:
            raise DataError(
                f"unknown --{name}", expected=f"one of {list(known)}", found=repr(value)
            )


def count_of(record: Mapping, where: str) -> int | None:
    """`num_boxes` of a record, None without one."""
    name = next((name for name in COUNT if record.get(name) is not None), None)
    return None if name is None else fields.integer(record[name], where, COUNT[0], 0)


def regions(
    features: np.ndarray, count: int | None, where: str, num_boxes: str
) -> tuple[int, tuple[str, ...]]:
    """How many of the first rows of `features` are regions, and what is to be told.

    Args:
      features: [m, F].
      count: `num_boxes` of the record, None without one.
      where: for messages.
      num_boxes: the option.

    Raises:
      DataError: the count is above the rows.
    """
    rows = len(features)
    if count is None or count == rows or num_boxes == "ignore":
        return rows, ()
    if count > rows:
        raise fields.bad_field(
            where,
            COUNT[0],
            f"at most {rows}, as features have rows",
            count,
            "pass --num_boxes ignore if all images are like this (an extractor that writes the "
            "number it was asked for); else leave this image out",
        )
    used = np.flatnonzero(features[count:].any(1))
    if num_boxes == "first" or not count or not used.size:
        return count, (LEFT_OUT,)
    return count + int(used[-1]) + 1, (KEPT,)


_NO_BOXES = (
    "boxes in a folder of their own are named by --box_folder (layout numpy_folder); grids and "
    "patches, which have none, are of the layout `grid`; else leave this image out"
)


def _named(record: Mapping, names: Sequence[str], where: str, **fix: str) -> Any:
    """The first of `names` that a record has with a value.

    Raises:
      DataError: it has none of them.
    """
    return fields.pick({k: v for k, v in record.items() if v is not None}, names, where, **fix)


def arrays_of(
    record: Mapping[str, Any],
    where: str,
    *,
    boxes: Sequence[str] = BOXES,
    num_boxes: str = "padding",
    box_format: str = "xyxy",
    transpose: bool = False,
) -> Arrays:
    """Boxes, features and class scores of a record.

    Args:
      record: {field: value}; arrays, lists, or base64 text of float32.
      where: for messages.
      boxes: names of the boxes, the one to ask for first.
      num_boxes: see the module.
      box_format: one of BOX_FORMATS.
      transpose: features are [F, n].

    Raises:
      DataError: naming field and place: missing, of another shape or type, other numbers of rows.
    """
    count = None if num_boxes == "ignore" else count_of(record, where)
    features = _named(record, FEATURES, where)
    corners = _corners(_named(record, boxes, where, fix=_NO_BOXES), where, boxes[0], count)
    n = len(corners)
    if isinstance(features, str | bytes):
        features = _text_rows(features, where, FEATURES[0], n)
    if len(_shape(features)) > 2:
        raise DataError(
            "the field 'features' is no list of regions",
            where=where,
            expected=f"[{n}, F], a row per box",
            found=_shape(features),
            fix="grids and patches are of the layout `grid`, which needs no boxes",
        )
    features = fields.floats(features, where, FEATURES[0], (None, None))
    features = features.T if transpose else features
    if len(features) != n:
        turned = features.shape[1] == n and not transpose
        raise DataError(
            f"the fields 'features' and {boxes[0]!r} differ in number",
            where=where,
            expected=f"features [{n}, F], as there are boxes",
            found=features.shape,
            fix="pass --transpose: they are [F, n]" if turned else "leave this image out",
        )
    scores = _class_scores(record, where, n)
    if corners.shape[1] == PLACE:
        box_format = "shares"
        if np.allclose(features[:, -PLACE:], corners, atol=TOLERANCE):
            features = features[:, :-PLACE]
    rows, notes = regions(features, count, where, num_boxes)
    corners = corners[:rows, :4]
    if box_format == "xywh":
        corners = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], 1)
    return Arrays(
        boxes=corners,
        unit="shares" if box_format == "shares" else "pixels",
        features=features[:rows],
        class_probs=None if scores is None else scores[:rows],
        notes=notes,
    )


def _shape(value: Any) -> tuple[int, ...]:
    """The shape of an array or of nested lists; () where lists of one level differ in length."""
    try:
        return np.shape(value)
    except ValueError:
        return ()


def _corners(value: Any, where: str, name: str, count: int | None) -> np.ndarray:
    """[n, 4] boxes, or VinVL's [n, 6], from an array or from base64 text."""
    if not isinstance(value, str | bytes):
        if len(_shape(value)) == 2 and _shape(value)[1] == PLACE:
            boxes = fields.floats(value, where, name, (None, PLACE))
            if np.allclose(boxes[:, 2:4] - boxes[:, :2], boxes[:, 4:], atol=TOLERANCE):
                return boxes
        return fields.array(value, where, name, (None, 4))
    # The text tells how many boxes there are, unless it is of float64.
    values = fields.base64_floats(value, where, name, None, "(n, 4)")
    n = len(values) // 4
    if len(values) % 4 or (count is not None and (n < count or n == 2 * count)):
        values = fields.base64_floats(value, where, name, 4 * (count or n), f"({count or n}, 4)")
    return values.reshape(-1, 4)


def _class_scores(record: Mapping, where: str, n: int) -> np.ndarray | None:
    """[n, C], or None without them: one number per box is the best class's score alone."""
    scores = next((record[name] for name in CLASSES if record.get(name) is not None), None)
    if isinstance(scores, str | bytes):
        scores = _text_rows(scores, where, CLASSES[0], n)
    if scores is None or _shape(scores) in ((n,), (n, 1)):
        return None
    return fields.array(scores, where, CLASSES[0], (n, None))


def _text_rows(value: str | bytes, where: str, name: str, n: int) -> np.ndarray:
    """[n, any] from base64 text of float32."""
    values = fields.base64_floats(value, where, name, None, f"({n}, any)")
    if len(values) % n if n else len(values):
        raise DataError(
            f"the field {name!r} has the wrong number of values",
            where=where,
            expected=f"a multiple of num_boxes = {n}",
            found=len(values),
            fix="the row is cut short: leave this image out, or make it again",
        )
    return values.reshape(n, -1) if n else values.reshape(0, 1)
