"""Mean average precision of boxes: how detectors are compared."""

from collections.abc import Mapping, Sequence

import numpy as np

from input_pipeline.regions.boxes import iou


def average_precision(scores: np.ndarray, right: np.ndarray, objects: int) -> float:
    """Area under precision over recall, precision being the best at that recall or above.

    Args:
      scores: [n] of the boxes found.
      right: [n] whether each is an object.
      objects: that there are.
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best * right[order]).sum() / objects)


def matched(
    boxes: np.ndarray, scores: np.ndarray, objects: np.ndarray, overlap: float
) -> np.ndarray:
    """Which boxes of a picture and a class are objects: each object is found once, by the box of
    the highest score whose overlap with it is the largest of all objects and at least `overlap`.

    Args:
      boxes: [n, 4] xyxy.
      scores: [n].
      objects: [g, 4].
      overlap: intersection over union.
    """
    right, taken = np.zeros(len(boxes), bool), np.zeros(len(objects), bool)
    if not len(objects):
        return right
    found = iou(boxes[:, None], objects[None], "plain")
    for box in np.argsort(-scores, kind="stable"):
        best = int(found[box].argmax())
        if found[box, best] >= overlap and not taken[best]:
            right[box] = taken[best] = True
    return right


def mean_average_precision(
    found: Sequence[Mapping[str, np.ndarray]],
    truth: Sequence[Mapping[str, np.ndarray]],
    overlap: float = 0.5,
) -> float:
    """The mean over classes that have objects.

    Args:
      found: of each picture "boxes" [n, 4], "class_ids" and "class_scores" [n].
      truth: of each picture "boxes" [g, 4] and "class_ids" [g].
      overlap: from which on a box is right.

    Raises:
      ValueError: there are no objects.
    """
    values = []
    for kind in np.unique(np.concatenate([picture["class_ids"] for picture in truth])):
        scores, right, objects = [], [], 0
        for mine, theirs in zip(found, truth, strict=True):
            here = mine["class_ids"] == kind
            there = theirs["boxes"][theirs["class_ids"] == kind]
            objects += len(there)
            scores.append(mine["class_scores"][here])
            right.append(matched(mine["boxes"][here], scores[-1], there, overlap))
        values.append(average_precision(np.concatenate(scores), np.concatenate(right), objects))
    if not values:
        raise ValueError("no objects in any picture")
    return float(np.mean(values))
