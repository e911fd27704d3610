"""Boxes of official annotation files: corner, width and height in, corners out."""

from typing import Any

from core.errors import DataError
from core.messages import brief
from input_pipeline.datasets.reading.entries import is_number, need
from input_pipeline.datasets.records import Box


def from_corner(values: Any, where: str) -> Box:
    """(x, y, width, height) of pixels -> (x, y, x + width, y + height), without a -1.

    Raises:
      DataError: not four finite numbers, or a negative width or height.
    """
    fits = (
        isinstance(values, (list, tuple))
        and len(values) == 4
        and all(map(is_number, values))
        and min(values[2:]) >= 0
    )
    if not fits:
        raise DataError(
            "a box is malformed",
            where=where,
            expected="four finite numbers x, y, width >= 0, height >= 0",
            found=brief(values),
            fix="check that this is the official file, or correct it",
        )
    x, y, width, height = map(float, values)
    return x, y, x + width, y + height


def need_box(item: dict, key: str, where: str) -> Box:
    """The box at a key of an object, [x, y, width, height] in the file, as corners.

    Raises:
      DataError: the key is missing, or as of `from_corner`.
    """
    return from_corner(need(item, key, list, where), f"{where}, {key!r}")
