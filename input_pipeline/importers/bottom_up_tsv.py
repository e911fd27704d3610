"""Bottom-up-attention's .tsv files, LXMERT's, ViLBERT's and VOLTA's too: one image per line.

Columns are separated by tabs, arrays are base64; there is no header. The order of the columns
follows from their number and from which of them is the whole number `num_boxes`:

   6  image_id image_w image_h num_boxes boxes features
   7  the same and cls_prob (ViLBERT's Conceptual Captions)
  10  image_id image_w image_h num_boxes boxes cls_prob attr_prob cls_idx attr_idx features
  10  img_id img_h img_w objects_id objects_conf attrs_id attrs_conf num_boxes boxes features
      (LXMERT)
  11  the same and cls_prob
  13  the same, cls_prob, attrs, classes (VOLTA)

boxes [n, 4] are xyxy in pixels, features [n, F], cls_prob [n, 1601] a distribution with the
background in column 0; all little-endian floats. LXMERT's objects_id and objects_conf are the best
class and its score alone, no distribution: such a store has no classes. VOLTA's attrs and classes
(scores of attributes and classes) are not read. A blob does not tell its own width, so its length
must be what --feature_dim and --float_dtype say.

Files: https://github.com/peteanderson80/bottom-up-attention, https://github.com/airsplay/lxmert.
"""

import argparse
import base64
import binascii
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from core import arguments
from core.errors import DataError
from core.messages import brief
from input_pipeline.importers.base import Item, Part
from input_pipeline.importers.formats import fields, inputs

_SHORT = ("image_id", "image_w", "image_h", "num_boxes", "boxes")
_LXMERT = ("image_id", "image_h", "image_w", "objects_id", "objects_conf", "attrs_id",
           "attrs_conf", "num_boxes", "boxes", "features")  # fmt: skip
ORDERS = (
    (*_SHORT, "features"),
    (*_SHORT, "features", "cls_prob"),
    (*_SHORT, "cls_prob", "attr_prob", "cls_idx", "attr_idx", "features"),
    _LXMERT,
    (*_LXMERT, "cls_prob"),
)
VOLTA = (*_LXMERT, "cls_prob", "attrs", "classes")
FLOATS = {"float32": "<f4", "float16": "<f2", "float64": "<f8"}


def _unwrap(cell: bytes) -> bytes:
    """What str() of bytes made of a cell when Python 3 wrote the file: b'...' around it."""
    return cell[2:-1] if cell.startswith(b"b'") and cell.endswith(b"'") else cell


def column_order(line: bytes, where: str) -> tuple[str, ...]:
    """Names of the columns of a line.

    Raises:
      DataError: no layout of this kind.
    """
    cells = line.split(b"\t")
    for order in (*ORDERS, VOLTA):
        if len(order) == len(cells) and cells[order.index("num_boxes")].strip().isdigit():
            return order
    raise DataError(
        "not a bottom-up-attention TSV",
        where=where,
        expected="tab-separated columns in one of the orders "
        + "; ".join(f"{len(order)}: {' '.join(order)}" for order in (*ORDERS, VOLTA)),
        found=f"{len(cells)} columns: {line[:80]!r}",
        fix="check the file; a compressed one must be unpacked, a header line removed",
    )


class Layout:
    """See `importers.base.Layout`."""

    unit = "bytes"
    background_class = 0

    def __init__(
        self, files: Sequence[str], *, feature_dim: int, num_classes: int, float_dtype: str
    ):
        inputs.require_paths(files, folders=False)
        if float_dtype not in FLOATS:
            raise DataError(
                "unknown --float_dtype", expected=f"one of {list(FLOATS)}", found=repr(float_dtype)
            )
        self._files, self._dtype = files, np.dtype(FLOATS[float_dtype])
        self._widths = {"boxes": 4, "features": feature_dim, "cls_prob": num_classes}
        self._orders = []
        for path in files:
            at, line = inputs.first_line(path) or (0, b"")
            self._orders.append(column_order(line, f"{path}, byte {at}"))

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Options of this layout."""
        parser.add_argument(
            "--feature_dim", type=arguments.whole(1), default=2048, help="numbers per region"
        )
        parser.add_argument(
            "--num_classes", type=arguments.whole(0), default=1601, help="columns of cls_prob"
        )
        parser.add_argument(
            "--float_dtype", default="float32", choices=list(FLOATS), help="of the base64 arrays"
        )

    def parts(self, size: int) -> list[Part]:
        """Stretches of bytes; a line belongs to the part its first byte is in."""
        return inputs.line_parts(self._files, size)

    def entries(self, part: Part) -> Iterator[tuple[str, Any]]:
        """(where, (column names, line)) of each image."""
        path = self._files[part.file]
        for at, line in inputs.lines(path, part.start, part.stop):
            is_line = not isinstance(line, DataError)
            yield f"{path}, byte {at}", (self._orders[part.file], line) if is_line else line

    def parse(self, where: str, raw: tuple[tuple[str, ...], bytes]) -> Item:
        """Decodes a line."""
        order, line = raw
        cells = line.split(b"\t")
        if len(cells) != len(order):
            raise DataError(
                "a line has the wrong number of columns",
                where=where,
                expected=f"{len(order)}: {' '.join(order)}, as in the file's first line",
                found=f"{len(cells)}: {line[:80]!r}",
                fix="the file may be cut short: copy it again, or leave this line out",
            )
        row = dict(zip(order, cells, strict=True))
        image_id = fields.image_id(_unwrap(row["image_id"]), where)
        where = f"{where}, image {image_id!r}"
        height, width, n = (
            self._number(row, name, where) for name in ("image_h", "image_w", "num_boxes")
        )
        return Item(
            image_id=image_id,
            height=height,
            width=width,
            boxes=self._array(row, "boxes", n, where),
            features=self._array(row, "features", n, where),
            class_probs=self._array(row, "cls_prob", n, where) if "cls_prob" in row else None,
        )

    def _number(self, row: dict[str, bytes], name: str, where: str) -> int:
        # A float's "640.0" is not worth an error.
        text = row[name].strip().removesuffix(b".0")
        if not text.isdigit():
            raise DataError(
                f"the column {name!r} is no whole number",
                where=where,
                expected="digits",
                found=brief(row[name]),
                fix="check the order of the columns, or leave this line out",
            )
        return fields.integer(text, where, name, 0)

    def _array(self, row: dict[str, bytes], name: str, n: int, where: str) -> np.ndarray:
        """[n, width] of a base64 column."""
        try:
            data = base64.b64decode(_unwrap(row[name]), validate=True)
        except binascii.Error as error:
            raise DataError(
                f"the column {name!r} is no base64 text",
                where=where,
                expected="A-Z a-z 0-9 + / and = at the end",
                found=f"{error}: {len(row[name])} characters, {row[name][-12:]!r} at the end",
                fix="the file is damaged or cut short: copy it again, or leave this line out",
            ) from error
        width, itemsize = self._widths[name], self._dtype.itemsize
        if len(data) != n * width * itemsize:
            raise DataError(
                f"the column {name!r} has the wrong length",
                where=where,
                expected=f"{n * width * itemsize} bytes = {n} boxes x {width} x {self._dtype.name}",
                found=f"{len(data)} bytes" + self._guess(name, len(data), n),
                fix={
                    "features": "set --feature_dim or --float_dtype if all lines are like this",
                    "cls_prob": f"set --num_classes {width - 1} and --class_scores "
                    "without_background if all lines are like this"
                    if len(data) == n * (width - 1) * itemsize
                    else "set --num_classes or --float_dtype if all lines are like this",
                    "boxes": "set --float_dtype if all lines are like this",
                }[name]
                + "; else the line is damaged: copy the file again, or leave it out",
            )
        return np.frombuffer(data, self._dtype).reshape(n, width)

    def _guess(self, name: str, nbytes: int, n: int) -> str:
        fits = [
            f"{n} x {nbytes // n // size} {dtype}"
            for dtype, size in (("float32", 4), ("float16", 2), ("float64", 8))
            if n
            and nbytes
            and nbytes % (n * size) == 0
            and (name != "boxes" or nbytes == n * size * 4)
        ]
        return f", which would be {' or '.join(fits)}" if fits else ""
