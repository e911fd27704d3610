"""Records of tables and archives whose makers chose the names: `--columns` says which is which.

`--columns features=emb,boxes=objects.bbox,image_id=file_name` names, for what an image has, the
column (the key, the member) that holds it; a dot leads into a structure. What is not named is
looked for under the names that layouts know.

  features     [n, F] or [n x F] numbers in lists, base64 text of float32, or bytes: a .npy file, or
               plain numbers of --float_dtype
  boxes        [n, 4], the same; without boxes, `--grid` makes features those of a grid's cells
  image_id     text or whole number
  height, width   of the picture, else from --sizes
  num_boxes, cls_prob, global_feature   optional
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core import npy
from core.errors import DataError
from input_pipeline.importers.base import Item
from input_pipeline.importers.formats import fields, grids
from input_pipeline.importers.formats import record as records
from input_pipeline.importers.formats import sizes as image_sizes

FLOATS = {"float32": "<f4", "float16": "<f2", "float64": "<f8"}
NAMES: dict[str, Sequence[str]] = {
    "image_id": (*records.IDS, "id", "__key__", "key", "file_name", "filename"),
    "features": records.FEATURES,
    "boxes": records.BOXES,
    "height": image_sizes.HEIGHT,
    "width": image_sizes.WIDTH,
    "num_boxes": records.COUNT,
    "cls_prob": records.CLASSES,
    "global_feature": ("global_feature",),
}
ARRAYS = ("features", "boxes", "cls_prob", "global_feature")


@dataclasses.dataclass(frozen=True)
class Columns:
    """The options of a layout of records, see the module.

    Attributes:
      named: {what an image has: column} of --columns.
      grid: of --grid and --prefix; None where records have boxes.
      float_dtype: of plain bytes.
      num_boxes: see `record`.
      box_format: see `record`.
      sizes: of --sizes, None without it.
    """

    named: Mapping[str, str]
    grid: grids.Grid | None
    float_dtype: str
    num_boxes: str
    box_format: str
    sizes: image_sizes.Sizes | None

    @classmethod
    def parse(
        cls,
        columns: str = "",
        grid: str = "",
        prefix: int = 0,
        float_dtype: str = "float32",
        num_boxes: str = "padding",
        box_format: str = "xyxy",
        sizes: str = "",
    ) -> "Columns":
        """From the options' texts.

        Raises:
          DataError: one of them is wrong.
        """
        named = {}
        for part in filter(None, map(str.strip, columns.split(","))):
            name, equals, column = part.partition("=")
            if not (equals and column) or name not in NAMES or name in named:
                raise DataError(
                    "--columns cannot be read",
                    expected=f"NAME=COLUMN,... with names among {list(NAMES)}",
                    found=repr(part),
                )
            named[name] = column
        if float_dtype not in FLOATS:
            raise DataError(
                "unknown --float_dtype", expected=f"one of {list(FLOATS)}", found=repr(float_dtype)
            )
        records.check_arguments(num_boxes, box_format)
        made = grids.parse(grid, prefix)
        return cls(
            named=named,
            grid=made if grid or prefix else None,
            float_dtype=FLOATS[float_dtype],
            num_boxes=num_boxes,
            box_format=box_format,
            sizes=image_sizes.read_sizes(sizes) if sizes else None,
        )

    def column(self, name: str, columns: Sequence[str], where: str) -> str | None:
        """The column that holds something.

        Args:
          name: of NAMES.
          columns: of a table or record, structures' parts with a dot.
          where: for messages.

        Returns:
          Its name; None where there is none, and none was named.

        Raises:
          DataError: the column that --columns names is not there.
        """
        if name in self.named:
            if self.named[name] not in columns:
                raise DataError(
                    f"the column of {name!r} is not there",
                    where=where,
                    expected=f"{self.named[name]!r}, as --columns says",
                    found=f"columns {list(columns)[:20]}",
                )
            return self.named[name]
        return next((known for known in NAMES[name] if known in columns), None)

    def item(self, values: Mapping[str, Any], where: str) -> Item:
        """The image of a record.

        Args:
          values: {column: value}; arrays, numbers, texts or bytes.
          where: for messages.

        Raises:
          DataError: naming what is missing or wrong.
        """
        record = {
            name: values[column]
            for name in NAMES
            if (column := self.column(name, list(values), where)) is not None
            and values[column] is not None
        }
        if "boxes" not in record and self.grid is None:
            raise DataError(
                "a record has no boxes",
                where=where,
                expected=" or ".join(map(repr, NAMES["boxes"])),
                found=f"columns {list(values)[:20]}",
                fix="name them, --columns boxes=NAME; or say the grid that features are of, "
                "--grid 7x7",
            )
        image_id = fields.image_id(fields.pick(record, ["image_id"], where), where)
        where = f"{where}, image {image_id!r}"
        for name in ARRAYS:
            if name in record:
                record[name] = self._array(record[name], where, name)
        size = image_sizes.own_or_given(record, self.sizes, image_id, where)
        if self.grid is not None:
            features = fields.pick(record, ["features"], where)
            return grids.item(image_id, where, features, size, self.grid)
        _shape_rows(record, where, self.num_boxes)
        found = records.arrays_of(
            record, where, num_boxes=self.num_boxes, box_format=self.box_format
        )
        whole = record.get("global_feature")
        if whole is not None:
            whole = fields.floats(np.ravel(whole), where, "global_feature", (None,))
        return found.item(image_id, size, whole)

    def _array(self, value: Any, where: str, name: str) -> Any:
        """Bytes as the array that they are; other values as they are."""
        if not isinstance(value, bytes | bytearray | memoryview):
            return value
        data = bytes(value)
        if data.startswith(b"\x93NUMPY"):
            return npy.load(data, f"{where}, {name}")
        dtype = np.dtype(self.float_dtype)
        if len(data) % dtype.itemsize:
            raise fields.bad_field(
                where, name, f"a .npy file or numbers of {dtype.name}", f"{len(data)} bytes"
            )
        return np.frombuffer(data, dtype)


def _shape_rows(record: dict[str, Any], where: str, num_boxes: str) -> None:
    """Gives numbers in one row the rows that boxes, or num_boxes, say."""
    boxes = record.get("boxes")
    if isinstance(boxes, np.ndarray) and boxes.ndim == 1 and boxes.size % 4 == 0:
        record["boxes"] = boxes = boxes.reshape(-1, 4)
    n = len(boxes) if isinstance(boxes, np.ndarray | list) else None
    for name in ("features", "cls_prob"):
        value = record.get(name)
        if isinstance(value, np.ndarray) and value.ndim == 1 and n:
            if value.size % n == 0 and value.size > n:
                record[name] = value.reshape(n, -1)
            elif name == "features":
                raise DataError(
                    "features do not divide among the boxes",
                    where=where,
                    expected=f"a multiple of {n} numbers, as there are boxes",
                    found=value.size,
                    fix="check --columns and --float_dtype",
                )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `Columns.parse` takes."""
    parser.add_argument(
        "--columns",
        default="",
        metavar="NAME=COLUMN,...",
        help=f"which columns hold {', '.join(NAMES)}; others under the names that layouts know",
    )
    parser.add_argument(
        "--float_dtype", default="float32", choices=list(FLOATS), help="of plain bytes"
    )
    grids.add_arguments(parser)
    records.add_box_format(parser)
    records.add_argument(parser)
    image_sizes.add_argument(parser)
