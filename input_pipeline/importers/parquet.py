"""Parquet and Arrow tables with a row per image, as the Hugging Face hub has them.

  python -m input_pipeline.importers parquet data/train-*.parquet --ids number --out STORE \
      --columns image_id=file_name,features=embeddings,boxes=objects.bbox --box_format xywh
  python -m input_pipeline.importers parquet clip.parquet --grid 7x7 --prefix 1 --out STORE \
      --sizes instances_val2014.json

Input: .parquet files, .arrow, .feather or .ipc files (datasets' own too), or folders of such files.

`--columns NAME=COLUMN,...` says which column holds what; a dot leads into a structure. What is not
named is looked for under these names:

  image_id     image_id, img_id, id, key, file_name, filename: text or whole numbers
  features     features, image_features, x, feat: lists of lists [n, F] or of numbers [n x F] (also
               of fixed size, and Array2D), base64 text of float32, or bytes: a .npy file, or plain
               numbers of --float_dtype
  boxes        boxes, bbox, bboxes, image_bb: [n, 4] in the same ways; `--box_format`
  height, width    height, image_h, image_height, img_h, and so on; else from `--sizes`
  num_boxes    num_boxes, num_bbox; see `--num_boxes`
  cls_prob     class scores [n, C], column 0 = background; see `--class_scores`
  global_feature   of the whole image, for `--global_feature stored`

Without boxes, `--grid` makes features those of a grid's cells or patches (see the layout `grid`).
"""

import argparse
import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from core.errors import DataError
from core.reading import reading
from input_pipeline.importers.base import Item, Part
from input_pipeline.importers.formats import columns as named
from input_pipeline.importers.formats.members import expanded

PARQUET, ARROW = (".parquet", ".pq"), (".arrow", ".feather", ".ipc")
MAX_NESTED = 8  # lists in lists
_WHAT = "not a readable Parquet or Arrow file"
_EXPECTED = "a whole Parquet file, or an Arrow file or stream"
_FIX = "check the path, or copy the file again"
MAX_GROUP = 2**34  # bytes of a group of rows, unpacked


class _Table:
    """One file: its columns, and how many rows its groups have.

    Attributes:
      path: of the file.
      columns: names, parts of structures with a dot.
      rows: of each group of rows.
    """

    def __init__(self, path: str):
        self.path = path
        self._is_parquet = path.lower().endswith(PARQUET)
        with reading(path, _WHAT, expected=_EXPECTED, fix=_FIX):
            if self._is_parquet:
                with pa.parquet.ParquetFile(path) as file:
                    schema, meta = file.schema_arrow, file.metadata
                    groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
                    self.rows = [group.num_rows for group in groups]
                    if (most := max((g.total_byte_size for g in groups), default=0)) > MAX_GROUP:
                        raise ValueError(f"a group of rows of {most:,} bytes")
            else:
                with self._arrow() as (schema, batches):
                    self.rows = [batch.num_rows for batch in batches]
            self.columns = [name for field in schema for name in _names(field, "")]
        if not sum(self.rows):
            raise DataError("a table is empty", where=path, expected="rows", found="none")

    @contextlib.contextmanager
    def _arrow(self) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
        """The schema and batches of an Arrow file or stream."""
        with pa.OSFile(self.path) as source:
            is_file = source.read(6) == b"ARROW1"
            source.seek(0)
            if is_file:
                reader = pa.ipc.open_file(source)
                yield (
                    reader.schema,
                    (reader.get_batch(i) for i in range(reader.num_record_batches)),
                )
            else:
                stream = pa.ipc.open_stream(source)
                yield stream.schema, iter(stream)

    def read(
        self, start: int, stop: int, wanted: Sequence[str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """(row, {column: value}) of rows start : stop."""
        tops = sorted({name.partition(".")[0] for name in wanted})
        with reading(self.path, _WHAT, expected=_EXPECTED, fix=_FIX):
            if self._is_parquet:
                with pa.parquet.ParquetFile(self.path) as file:
                    groups = (
                        (lambda i=i: file.read_row_group(i, columns=tops))
                        for i in range(len(self.rows))
                    )
                    yield from self._of_groups(groups, start, stop, wanted)
            else:
                with self._arrow() as (_, batches):
                    groups = ((lambda b=b: pa.Table.from_batches([b])) for b in batches)
                    yield from self._of_groups(groups, start, stop, wanted)

    def _of_groups(
        self, groups: Iterator, start: int, stop: int, wanted: Sequence[str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        first = 0
        for rows, read in zip(self.rows, groups, strict=True):
            if first < stop and first + rows > start:
                table = read()
                table.validate(
                    full=True
                )  # Arrow trusts offsets, and ends the process at wrong ones
                for row in range(max(start - first, 0), min(stop - first, rows)):
                    yield first + row, {name: _cell(table, name, row) for name in wanted}
            first += rows


class _Bad(NamedTuple):
    """A value that cannot be read: its column, and why."""

    column: str
    found: str


def _names(field: pa.Field, before: str) -> Iterator[str]:
    yield before + field.name
    if pa.types.is_struct(field.type):
        for i in range(field.type.num_fields):
            yield from _names(field.type.field(i), f"{before}{field.name}.")


def _cell(table: pa.Table, name: str, row: int) -> Any:
    """A value, lists as arrays; None where there is none, `_Bad` where it cannot be read."""
    top, *parts = name.split(".") if name not in table.column_names else [name]
    scalar = table.column(top)[row]
    try:
        for part in parts:
            scalar = scalar[part] if scalar.is_valid else scalar
        if not scalar.is_valid:
            return None
        if isinstance(scalar, pa.ExtensionScalar):
            scalar = scalar.value
        if isinstance(scalar, pa.ListScalar | pa.LargeListScalar | pa.FixedSizeListScalar):
            return _nested(scalar.values)
        return scalar.as_py()
    except Exception as error:
        return _Bad(name, f"{type(error).__name__}: {str(error)[:200]}")


def _nested(values: pa.Array) -> np.ndarray:
    """Lists in lists as one array; raises ValueError where lengths differ or values are missing."""
    shape = [len(values)]
    for _ in range(MAX_NESTED):
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
        if values.null_count:
            raise ValueError("values are missing")
        if pa.types.is_fixed_size_list(values.type):
            lengths = {values.type.list_size}
        elif pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
            lengths = set(values.value_lengths().unique().to_pylist()) or {0}
        else:
            break
        if len(lengths) > 1:
            raise ValueError(f"lists of several lengths: {sorted(lengths)[:5]}")
        shape.append(lengths.pop())
        values = values.flatten()
    return values.to_numpy(zero_copy_only=False).reshape(shape)


class Layout:
    """See the module, and `base.Layout`."""

    unit = "images"
    background_class = 0

    def __init__(self, files: Sequence[str], **options: Any):
        self._columns = named.Columns.parse(**options)
        self._tables = [_Table(path) for path in expanded(files, (*PARQUET, *ARROW), "table")]
        self._wanted = [self._wanted_of(table) for table in self._tables]

    def _wanted_of(self, table: _Table) -> list[str]:
        found = {
            name: self._columns.column(name, table.columns, table.path) for name in named.NAMES
        }
        needed = ["image_id", "features"] + ["boxes"] * (self._columns.grid is None)
        for name in needed:
            if found[name] is None:
                raise DataError(
                    f"no column of {name!r}",
                    where=table.path,
                    expected=" or ".join(map(repr, named.NAMES[name])),
                    found=f"columns {table.columns[:20]}",
                    fix=f"--columns {name}=COLUMN" + ", or --grid 7x7" * (name == "boxes"),
                )
        return [column for column in found.values() if column is not None]

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """See `base.Layout`."""
        named.add_arguments(parser)

    def parts(self, size: int) -> list[Part]:
        """Groups of rows; a group is read whole, so a part has at least one."""
        parts = []
        for number, table in enumerate(self._tables):
            each = max(1, os.path.getsize(table.path) // sum(table.rows))
            start = stop = 0
            for rows in table.rows:
                stop += rows
                if (stop - start) * each >= size and stop > start:
                    parts.append(Part(number, start, stop))
                    start = stop
            if stop > start:
                parts.append(Part(number, start, stop))
        return parts

    def entries(self, part: Part) -> Iterator[tuple[str, dict[str, Any]]]:
        """See `base.Layout`; raw is {column: value}."""
        table, wanted = self._tables[part.file], self._wanted[part.file]
        for row, values in table.read(part.start, part.stop, wanted):
            yield f"{table.path}, row {row}", values

    def parse(self, where: str, raw: dict[str, Any]) -> Item:
        """See `base.Layout`."""
        for value in raw.values():
            if isinstance(value, _Bad):
                raise DataError(
                    f"the column {value.column!r} cannot be read",
                    where=where,
                    expected="a number, a text, bytes, or lists of numbers of one length",
                    found=value.found,
                    fix="correct or leave out this image",
                )
        return self._columns.item(raw, where)
