"""Checks an image in full before it enters a region store."""

import operator
from collections.abc import Callable

import numpy as np

from core.errors import DataError
from core.messages import brief
from input_pipeline.regions.boxes import another_scale
from input_pipeline.regions.spec import FeatureSpec

BOX_TOLERANCE = 1.0  # pixels a box may stick out of its image (rounding) before it is an error
SUM_TOLERANCE = 1e-2  # of class probabilities, wide enough for half precision
MAX_SIDE = 2**31 - 1  # pixels; the index has 32 bits for it
MAX_ID = 4096  # bytes of an image's id: as long as a path may be

# fail(what, expected, found[, fix]) makes the error of a bad value.
Fail = Callable[..., DataError]


def check_id(image_id: object, fail: Fail) -> None:
    """Raises `fail` unless an id is text that a file's name could be."""
    if not isinstance(image_id, str) or not image_id:
        raise fail("an image id is no text", "a non-empty string", brief(image_id))
    try:
        nbytes = len(image_id.encode())
    except UnicodeEncodeError as error:
        raise fail("an image id is no Unicode text", "UTF-8", brief(image_id)) from error
    if nbytes > MAX_ID:
        raise fail("an image id is too long", f"at most {MAX_ID:,} bytes", f"{nbytes:,}")


def check_boxes(boxes: np.ndarray, height: int, width: int, fail: Fail) -> np.ndarray:
    """Checks xyxy pixel boxes against their image and clips the tolerated overhang.

    Args:
      boxes: [n, 4].
      height: of the image.
      width: of the image.
      fail: makes the error.

    Returns:
      float32 [n, 4] within [0, width] x [0, height].
    """
    boxes = np.asarray(boxes, np.float32)
    bad = np.flatnonzero(~np.isfinite(boxes).all(1))
    if bad.size:
        raise fail(f"box {bad[0]} is not finite", "four finite numbers", boxes[bad[0]].tolist())
    bad = np.flatnonzero((boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1]))
    if bad.size:
        raise fail(
            f"box {bad[0]} has its corners swapped", "x1 <= x2 and y1 <= y2", boxes[bad[0]].tolist()
        )
    limit = np.asarray([width, height, width, height], np.float32)
    outside = (boxes < -BOX_TOLERANCE) | (boxes > limit + BOX_TOLERANCE)
    bad = np.flatnonzero(outside.any(1))
    if bad.size:
        raise fail(
            f"box {bad[0]} lies outside its image",
            f"xyxy within 0 <= x <= {width}, 0 <= y <= {height} (tolerance {BOX_TOLERANCE} px)",
            boxes[bad[0]].tolist(),
            *([fix] if (fix := another_scale(boxes, height, width)) else []),
        )
    return np.clip(boxes, 0, limit)


def check_probs(probs: np.ndarray, fail: Fail) -> np.ndarray:
    """Checks class distributions [n, C] and returns them as float32 rows that sum to 1."""
    probs = np.asarray(probs, np.float32)
    sums = probs.sum(1, dtype=np.float64)
    # Negated, so that NaN fails as well.
    bad = np.flatnonzero(~((np.abs(sums - 1) <= SUM_TOLERANCE) & (probs >= -1e-6).all(1)))
    if bad.size:
        row = probs[bad[0]]
        raise fail(
            f"class probabilities of region {bad[0]} are no distribution",
            f"values >= 0 that sum to 1 (+-{SUM_TOLERANCE})",
            f"sum {sums[bad[0]]:.4f}, smallest value {row.min():.4g}",
        )
    probs = np.maximum(probs, 0)
    return probs / probs.sum(1, keepdims=True)


def keep_top(probs: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """The k largest probabilities of each row, largest first, and the sum of the rest.

    Args:
      probs: float32 [n, C], rows sum to 1.
      k: classes kept, at most C.

    Returns:
      {"class_ids" [n, k] int32, "probs" [n, k] float32, "rest" [n] float32}; rest is exactly 0
      for k = C.
    """
    # Two steps: sorting 1601 classes of each region would be most of an import's time.
    ids = np.arange(probs.shape[1])[None].repeat(len(probs), 0)
    if k < probs.shape[1]:
        ids = np.sort(np.argpartition(-probs, k - 1, axis=1)[:, :k], axis=1)
    best = np.argsort(-np.take_along_axis(probs, ids, 1), axis=1, kind="stable")
    ids = np.take_along_axis(ids, best, 1).astype(np.int32)
    kept = np.take_along_axis(probs, ids, 1)
    rest = np.maximum(0, 1 - kept.sum(1)) if k < probs.shape[1] else np.zeros(len(probs))
    return {"class_ids": ids, "probs": kept, "rest": rest.astype(np.float32)}


def checked(
    spec: FeatureSpec,
    image_id: str,
    boxes: np.ndarray,
    features: np.ndarray,
    size: tuple[int, int],
    class_probs: np.ndarray | None,
    global_feature: np.ndarray | None,
    fail: Fail,
) -> tuple[dict[str, np.ndarray], int, int]:
    """(arrays of `RegionWriter.add_checked`, height, width) of an image.

    Arguments and errors are those of `RegionWriter.add`; `fail` makes the errors.
    """
    check_id(image_id, fail)
    height, width = (operator.index(side) for side in size)
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise fail(
            "the image size is out of range",
            f"height and width from 1 to {MAX_SIDE:,} pixels",
            brief((height, width)),
        )
    features, boxes = np.asarray(features), np.asarray(boxes)
    if features.ndim != 2:
        raise fail("features have the wrong shape", f"(n, {spec.feature_dim})", features.shape)
    n = len(features)
    if not 1 <= n <= spec.max_regions:
        more = f"import with --max_regions {n} or more, or leave out this image"
        raise fail(
            "the number of regions is out of range",
            f"1 to {spec.max_regions}",
            n,
            *([more] if n else []),
        )
    given = {"features": (features, (n, spec.feature_dim)), "boxes": (boxes, (n, 4))}
    for name, value, size, wanted in (
        ("class_probs", class_probs, (n, spec.num_classes), spec.num_classes > 0),
        (
            "global_feature",
            global_feature,
            (spec.feature_dim,),
            spec.global_feature == "stored",
        ),
    ):
        if (value is not None) != wanted:
            raise fail(
                f"{name} and the feature spec disagree",
                f"{name} {'given' if wanted else 'absent'} (num_classes={spec.num_classes}, "
                f"global_feature={spec.global_feature!r})",
                "absent" if value is None else "given",
            )
        if wanted:
            given[name] = (np.asarray(value), size)
    for name, (value, shape) in given.items():
        if value.shape != shape:
            raise fail(f"{name} have the wrong shape", shape, value.shape)

    views = {"boxes": check_boxes(boxes, height, width, fail)}
    if spec.num_classes:
        views.update(keep_top(check_probs(class_probs, fail), spec.kept_classes))
    with np.errstate(over="ignore", invalid="ignore"):  # infinite ones are refused
        features = features.astype(np.float32)
        # The mean is of the features as given, before they are rounded to the store's dtype.
        top = features.mean(0) if global_feature is None else global_feature
        views["rows"] = np.concatenate([np.asarray(top, np.float32)[None], features])
    if spec.feature_dim and not features.any():
        raise fail(
            "all features of the image are zero",
            "features of a detector",
            f"{n} regions of zeros, as a file that was not written to its end has them",
            "leave out this image, or extract it again",
        )
    return views, height, width
