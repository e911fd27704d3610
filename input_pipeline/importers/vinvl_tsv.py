"""VinVL's and Oscar's region features: .tsv files, one image per line.

  python -m input_pipeline.importers vinvl_tsv features.tsv --sizes hw.tsv --out STORE

The columns of a line, of an image with n regions, are one of:

  id, JSON {"objects": [{"rect": [x1, y1, x2, y2], "feature", ...}, ...], "image_h", "image_w"}
                                                    predictions.tsv of the extractor
  id, n, features                                   features.tsv as published for VinVL
  id, JSON {"num_boxes": n, "features": features}   feature.tsv as Oscar's captioning reads it

A `feature` is base64 of float32 [F] or [F + 6], `features` of float32 [n, F + 6], little-endian; or
of float16, as in the published COCO features for captioning: the length tells which.
The six are x1, y1, x2, y2 as shares of the image's width and height, then the box's width and
height as shares, in either order. F = 2048 appearance values are kept (`--feature_dim`); boxes
come from `rect` in pixels, or from the six. Sizes that the lines lack come from `--sizes`, for
which hw.tsv and the published predictions.tsv (without features) serve.

`x.lineidx` beside `x.tsv` (the first byte of each line) tells whether the file is whole. There are
no class distributions: `class` and `conf` name the best class alone.
"""

import argparse
import os
from collections.abc import Iterator, Sequence

import numpy as np

from core import arguments
from core.errors import DataError
from input_pipeline.importers.base import Item, Part
from input_pipeline.importers.formats import fields, inputs
from input_pipeline.importers.formats import sizes as image_sizes

POSITION = 6  # columns of a region's place behind its appearance


class Layout:
    """See the module, and `base.Layout`."""

    unit = "bytes"
    background_class = None

    def __init__(self, files: Sequence[str], sizes: str = "", feature_dim: int = 2048):
        inputs.require_paths(files, folders=False)
        self.feature_dim = feature_dim
        self._files = list(files)
        for path in files:
            first = inputs.first_line(path)
            columns = 0 if first is None else first[1].count(b"\t") + 1
            if columns not in (2, 3):
                raise _no_columns(path, columns)
            _check_line_index(path)
        self._sizes = image_sizes.read_sizes(sizes) if sizes else None

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """See `base.Layout`."""
        parser.add_argument(
            "--feature_dim",
            type=arguments.whole(1),
            default=2048,
            help="F, without the six columns of the place",
        )
        image_sizes.add_argument(parser)

    def parts(self, size: int) -> list[Part]:
        """See `base.Layout`."""
        return inputs.line_parts(self._files, size)

    def entries(self, part: Part) -> Iterator[tuple[str, bytes | DataError]]:
        """See `base.Layout`; raw is a line."""
        path = self._files[part.file]
        for at, line in inputs.lines(path, part.start, part.stop):
            yield f"{path}, byte {at}", line

    def parse(self, where: str, raw: bytes) -> Item:
        """See `base.Layout`."""
        name, *cells = raw.split(b"\t")
        image_id = fields.image_id(name, where)
        where = f"{where}, image {image_id!r}"
        if len(cells) == 2:
            record = {"num_boxes": cells[0], "features": cells[1]}
        elif len(cells) == 1:
            record = fields.json_value(cells[0], where)
        else:
            raise _no_columns(where, len(cells) + 1)
        height, width = image_sizes.own_or_given(record, self._sizes, image_id, where)
        if "objects" in record:
            boxes, features = self._of_objects(where, record["objects"])
        else:
            boxes, features = self._of_rows(where, record, height, width)
        return Item(image_id, height, width, boxes, features)

    def _of_objects(self, where: str, objects: object) -> tuple[np.ndarray, np.ndarray]:
        """(boxes [n, 4], features [n, F]) of a list of objects."""
        if not isinstance(objects, list) or not all(isinstance(o, dict) for o in objects):
            raise fields.bad_field(where, "objects", "a list of objects", type(objects))
        boxes = np.zeros((len(objects), 4))
        features = np.zeros((len(objects), self.feature_dim), np.float32)
        for i, record in enumerate(objects):
            at = f"{where}, objects[{i}]"
            rect = fields.pick(record, ("rect",), at)
            if not isinstance(rect, list) or len(rect) != 4 or not all(map(_is_number, rect)):
                raise fields.bad_field(at, "rect", "[x1, y1, x2, y2]", repr(rect)[:60])
            if "feature" not in record:
                raise DataError(
                    "an object has no feature: these are labels",
                    where=at,
                    expected="the key 'feature'",
                    found=f"keys {sorted(record)}",
                    fix="import features.tsv, with --sizes and this file",
                )
            boxes[i] = rect
            widths = (self.feature_dim, self.feature_dim + POSITION)
            row = fields.base64_rows(record["feature"], at, "feature", 1, widths)
            features[i] = row[0, : self.feature_dim]
        return boxes, features

    def _of_rows(
        self, where: str, record: dict, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(boxes [n, 4], features [n, F]) of one array of all regions."""
        n, value = (fields.pick(record, (key,), where) for key in ("num_boxes", "features"))
        n = fields.integer(n, where, "num_boxes", 0)
        rows = fields.base64_rows(value, where, "features", n, [self.feature_dim + POSITION])
        shares, extent = np.split(rows[:, self.feature_dim :], [4], axis=1)
        expected = shares[:, 2:] - shares[:, :2]
        if not any(np.allclose(e, extent, atol=1e-2) for e in (expected, expected[:, ::-1])):
            raise DataError(
                "the last six columns of features are no place in the image",
                where=where,
                expected="x1, y1, x2, y2, x2 - x1, y2 - y1, as shares of width and height",
                found=rows[:1, self.feature_dim :].tolist(),
                fix="check --feature_dim",
            )
        return shares * np.asarray([width, height, width, height], np.float64), rows[:, :-POSITION]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _no_columns(where: str, found: int) -> DataError:
    return DataError(
        "a line of another layout",
        where=where,
        expected="id and JSON, or id, num_boxes and features, separated by tabs",
        found=f"{found} columns" if found else "an empty file",
        fix="check the file and the layout's name",
    )


def _check_line_index(path: str) -> None:
    """Raises DataError if the .lineidx beside a file, if there is one, was made of another."""
    index = os.path.splitext(path)[0] + ".lineidx"
    if not os.path.isfile(index):
        return
    with open(index, "rb") as file:
        file.seek(max(0, os.path.getsize(index) - 100))
        last = (file.read().split() or [b"0"])[-1]
    size, start = os.path.getsize(path), int(last) if last.isdigit() else -1
    with open(path, "rb") as file:
        file.seek(max(0, start - 1))
        before = file.read(1)
        file.readline(inputs.MAX_LINE)
        end = file.tell()
    if not 0 <= start < size or (start and before != b"\n") or end < size:
        raise DataError(
            "a file and its line index disagree",
            where=f"{path} and {index}",
            expected=f"the last line to begin at byte {last.decode(errors='replace')}",
            found=f"{size} bytes, and another line there: cut short?",
            fix="copy the file again; if it is whole, remove the index, which is not needed",
        )
