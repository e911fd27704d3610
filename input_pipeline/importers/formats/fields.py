"""Typed fields of one image's record, with messages that name them."""

import base64
import binascii
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.errors import DataError
from core.messages import brief, clip

DOUBLE = "these are float64: write float32"


MAX_NUMBER = 2**31 - 1  # of pixels, boxes or rows; a store has 32 bits for it
MAX_ITEMS = 2**21  # values of one image's JSON, each of which takes some 100 bytes in memory


def pick(
    record: Mapping,
    names: Sequence[str],
    where: str,
    fix: str = "check that the file is of this layout, or leave this image out",
) -> Any:
    """The value of the first of `names` that a record has.

    Raises:
      DataError: it has none of them.
    """
    for name in names:
        if name in record:
            return record[name]
    raise DataError(
        f"a record lacks the field {names[0]!r}",
        where=where,
        expected=" or ".join(map(repr, names)),
        found=f"fields {sorted(map(str, record))[:20]}",
        fix=fix,
    )


def bad_field(where: str, field: str, expected: Any, found: Any, fix: str = "") -> DataError:
    """The error of a field that is not what its layout says."""
    return DataError(
        f"the field {field!r} is wrong", where=where, expected=expected, found=found, fix=fix
    )


def integer(value: Any, where: str, field: str, low: int = 1) -> int:
    """A whole number, also as a numpy scalar, an array of one element, or its digits.

    Raises:
      DataError: it is none, below `low`, or above MAX_NUMBER.
    """
    number = value
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:
        number = value.item()
    # int() itself would take "1_000".
    if isinstance(number, bytes | str) and number.isascii() and number.isdigit():
        digits = number.lstrip(b"0" if isinstance(number, bytes) else "0")
        number = int(digits or 0) if len(digits) <= len(str(MAX_NUMBER)) else MAX_NUMBER + 1
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    is_whole = isinstance(number, int) and not isinstance(number, bool)
    if not is_whole or not low <= number <= MAX_NUMBER:
        raise DataError(
            f"the field {field!r} is no fitting number",
            where=where,
            expected=f"a whole number >= {low}, at most {MAX_NUMBER:,}",
            found=brief(value),
        )
    return number


def array(value: Any, where: str, field: str, shape: Sequence[int | None]) -> np.ndarray:
    """A numeric array of a shape in which None stands for any size.

    Raises:
      DataError: another shape, or no real numbers.
    """
    if not isinstance(value, np.ndarray):
        _check_numbers(value, where, field, len(shape))
    try:
        out = np.asarray(value)
    except (ValueError, OverflowError) as error:  # lists of several lengths
        raise bad_field(where, field, f"numbers of shape {tuple(shape)}", error) from error
    if out.size == 0 and out.ndim == 1 and len(shape) > 1:  # an empty list has no second axis
        out = out.reshape([0, *(size or 0 for size in shape[1:])])
    fits = out.ndim == len(shape) and all(
        want in (None, have) for want, have in zip(shape, out.shape, strict=True)
    )
    if not fits or out.dtype.kind not in "fiu":
        raise DataError(
            f"the field {field!r} has the wrong shape or type",
            where=where,
            expected=f"numbers of shape {tuple(shape)} (None = any)",
            found=f"{out.dtype} {out.shape}",
        )
    return out


def _check_numbers(value: Any, where: str, field: str, axes: int) -> None:
    """Raises DataError unless lists hold numbers alone: texts of one length each take much room."""
    kinds = {type(value)} - {list, tuple}
    items = value if not kinds else ()
    for _ in range(axes):
        kinds.update(map(type, items))
        nested = [item for item in items if isinstance(item, list | tuple)]
        items = itertools.chain.from_iterable(nested)
    others = [kind for kind in kinds if not issubclass(kind, int | float | np.generic | np.ndarray)]
    if wrong := [kind.__name__ for kind in others if kind not in (list, tuple)]:
        raise bad_field(where, field, "numbers", f"values of type {', '.join(sorted(wrong))}")


def floats(value: Any, where: str, field: str, shape: Sequence[int | None]) -> np.ndarray:
    """As `array`, of floats: integers as features are the sign of another field."""
    out = array(value, where, field, shape)
    if out.dtype.kind != "f":
        raise bad_field(where, field, "floats", out.dtype)
    return out


def base64_array(value: Any, where: str, field: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array from the base64 text of its little-endian bytes in C order.

    Raises:
      DataError: no base64, or another number of bytes than `shape` takes.
    """
    return base64_floats(value, where, field, math.prod(shape), str(shape)).reshape(shape)


def base64_rows(value: Any, where: str, field: str, rows: int, widths: Sequence[int]) -> np.ndarray:
    """Rows of floats from base64 text, whose length tells their width and type.

    Args:
      value: the text.
      where: for messages.
      field: for messages.
      rows: how many there are.
      widths: numbers that a row may have, the usual one first.

    Returns:
      [rows, one of widths], float32 or, where only that fits, float16.

    Raises:
      DataError: no base64, or a length that fits no width.
    """
    data = _base64(value, where, field, f"float32 ({rows}, {widths[0]})")
    for dtype in ("<f4", "<f2"):
        for width in widths:
            if len(data) == rows * width * np.dtype(dtype).itemsize:
                return np.frombuffer(data, dtype).reshape(rows, width)
    lengths = " or ".join(f"{4 * rows * width} bytes" for width in widths)
    halves = " or ".join(f"{2 * rows * width} bytes" for width in widths)
    raise DataError(
        f"the field {field!r} has the wrong number of bytes",
        where=where,
        expected=f"{lengths} (float32, {rows} x {' or '.join(map(str, widths))}), or {halves} of "
        "float16",
        found=f"{len(data)} bytes",
        fix=DOUBLE
        if len(data) in [8 * rows * width for width in widths]
        else "the file is cut short, or its sizes are others: see the layout's options",
    )


def base64_floats(
    value: Any, where: str, field: str, count: int | None, meaning: str
) -> np.ndarray:
    """float32 [count] from base64 text; count None leaves the number open. See `base64_array`."""
    data = _base64(value, where, field, f"float32 {meaning}")
    if len(data) % 4 or (count is not None and len(data) != 4 * count):
        expected = "whole float32 numbers" if count is None else f"{4 * count} bytes"
        raise DataError(
            f"the field {field!r} has the wrong number of bytes",
            where=where,
            expected=f"{expected} (float32 {meaning})",
            found=f"{len(data)} bytes",
            fix=DOUBLE
            if count and len(data) == 8 * count
            else "the file is cut short, or its sizes are others: see the layout's options",
        )
    return np.frombuffer(data, "<f4")


def _base64(value: Any, where: str, field: str, meaning: str) -> bytes:
    try:
        return base64.b64decode(_unwrapped(value), validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise DataError(
            f"the field {field!r} is no base64 text",
            where=where,
            expected=f"base64 of {meaning}",
            found=f"{type(value).__name__}: {error}",
            fix="copy the file again, or leave this image out",
        ) from error


def _unwrapped(value: Any) -> Any:
    """A text without the b'...' that Python 3's str() of bytes puts around it."""
    start, end = (b"b'", b"'") if isinstance(value, bytes) else ("b'", "'")
    if isinstance(value, bytes | str) and value[:2] == start and value[-1:] == end:
        return value[2:-1]
    return value


def json_value(
    data: bytes | str, where: str, kind: type = dict, limit: int | None = MAX_ITEMS
) -> Any:
    """A JSON value of a kind.

    Args:
      data: the JSON.
      where: for messages.
      kind: of the value.
      limit: most values within it; None for a file of all images.

    Raises:
      DataError: not UTF-8, malformed, too much, or another kind of value.
    """
    try:
        text = data.decode() if isinstance(data, bytes) else data
        if limit is not None and sum(map(text.count, ",[{")) > limit:
            raise ValueError(f"more than {limit:,} values")
        value = json.loads(text)
    except (ValueError, RecursionError, MemoryError) as error:
        raise DataError(
            "not UTF-8" if isinstance(error, UnicodeDecodeError) else "malformed JSON",
            where=where,
            expected=f"JSON in UTF-8, a {kind.__name__}",
            found=f"{type(error).__name__}: {clip(str(error), 300)}",
            fix="copy the file again, or leave this image out",
        ) from error
    if not isinstance(value, kind):
        raise DataError(
            "JSON of another kind", where=where, expected=kind.__name__, found=brief(value)
        )
    return value


def image_id(value: Any, where: str) -> str:
    """An image's id as text.

    Raises:
      DataError: neither text nor a whole number, empty, or not UTF-8.
    """
    if isinstance(value, np.generic):
        value = value.item()
    try:
        text = value.decode() if isinstance(value, bytes) else value
        if isinstance(text, str):
            text.encode()  # file names and JSON can hold halves of surrogate pairs
    except UnicodeError as error:
        raise DataError(
            "an image id is not UTF-8", where=where, expected="UTF-8", found=brief(value)
        ) from error
    text = str(text) if isinstance(text, int) and not isinstance(text, bool) else text
    if not isinstance(text, str) or not text:
        raise DataError(
            "an image id is neither text nor a whole number",
            where=where,
            expected="a non-empty text, or a whole number",
            found=brief(value),
        )
    return text
