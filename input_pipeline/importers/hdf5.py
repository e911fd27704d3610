"""Region features in HDF5 files. Which of these kinds a file is follows from its datasets.

  python -m input_pipeline.importers hdf5 train36.hdf5 val36.hdf5 --out STORE \
      --id_map train36_imgid2idx.pkl,val36_imgid2idx.pkl --sizes image_sizes.tsv

stacked: N images with up to m boxes each

  features or image_features [N, m, F]
  boxes or image_bb [N, m, 4]   xyxy in pixels; or spatial_features [N, m, 4 or more]: x1, y1, x2,
                                y2 as shares of width and height
  num_boxes [N]                 optional, see `--num_boxes`. Without it, `--trim_zeros` takes rows
                                of zeros at an image's end for padding
  image_ids, image_id or img_id [N]   where absent, `--id_map`
  image_h, image_w [N]          sizes of the images in pixels, optional
  cls_prob [N, m, C]            class distributions, column 0 = background, optional

joined: n boxes in all, those of image i in rows pos_boxes[i, 0] : pos_boxes[i, 1]

  pos_boxes [N, 2], image_features [n, F], image_bb [n, 4] or spatial_features [n, 4 or more],
  cls_prob [n, C]; ids and sizes as above

groups: a group per image, named by its id, with

  features [n, F], boxes (bboxes, bbox) [n, 4] xyxy in pixels, and optional img_h and img_w
  (image_h, image_w), num_boxes, cls_prob [n, C]

keys: the same without groups, in datasets ID_features, ID_boxes, ID_cls_prob; and ID_size, height
and width of the picture that the boxes are of (DLCT)

An image's size comes from the file where it has it, else from `--sizes`, else, where the file has
boxes both in pixels and as shares, from the two. `--id_map` names one file an input, in their
order, with {id: row} or the ids in the order of rows: .pkl (read without running it) or .json.

HDF5 keeps no checksums unless asked to: changed bytes that leave finite numbers, and boxes within
their image, go unnoticed; cut files and a damaged structure do not.
"""

import argparse
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np

from core.errors import DataError
from core.reading import attempt
from input_pipeline.importers.base import Item, Part
from input_pipeline.importers.formats import fields, hdf5_file, inputs
from input_pipeline.importers.formats import record as records
from input_pipeline.importers.formats import sizes as image_sizes
from input_pipeline.regions.store import split_paths


class Layout:
    """See the module, and `base.Layout`."""

    unit = "images"
    background_class = 0

    def __init__(
        self,
        files: Sequence[str],
        id_map: str = "",
        sizes: str = "",
        trim_zeros: bool = False,
        num_boxes: str = "padding",
    ):
        inputs.require_paths(files, folders=False)
        records.check_arguments(num_boxes)
        maps = split_paths(id_map)
        if maps and len(maps) != len(files):
            raise DataError(
                "--id_map does not fit the inputs",
                expected=f"{len(files)} files, one an input in their order",
                found=f"{len(maps)} files",
            )
        self.trim_zeros, self.num_boxes = trim_zeros, num_boxes
        self._sizes = image_sizes.read_sizes(sizes) if sizes else None
        self._files = list(files)
        self._kinds, self._names, self._nbytes = [], [], []
        for path, id_file in zip(files, maps or [""] * len(files), strict=True):
            with hdf5_file.opened(path) as file:
                self._kinds.append(hdf5_file.kind_of(file, path))
                self._names.append(hdf5_file.names_of(file, path, self._kinds[-1], id_file))
                self._nbytes.append(
                    hdf5_file.bytes_an_image(file, self._kinds[-1], self._names[-1])
                )

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """See `base.Layout`."""
        parser.add_argument(
            "--id_map", default="", help="comma-separated .pkl or .json of {id: row}, one an input"
        )
        parser.add_argument(
            "--trim_zeros", action="store_true", help="rows of zeros at an image's end are padding"
        )
        image_sizes.add_argument(parser)
        records.add_argument(parser)

    def parts(self, size: int) -> list[Part]:
        """See `base.Layout`."""
        return [
            part
            for file, names in enumerate(self._names)
            for part in inputs.count_parts(file, [self._nbytes[file]] * len(names), size, names)
        ]

    def entries(self, part: Part) -> Iterator[tuple[str, tuple[str, dict[str, Any]] | DataError]]:
        """See `base.Layout`; raw is (image id, {dataset: its piece for the image})."""
        path, kind = self._files[part.file], self._kinds[part.file]
        names = self._names[part.file]
        inputs.check_key(path, part, names)
        with hdf5_file.opened(path) as file:
            for row in range(part.start, part.stop):
                where = f"{path}, record {row}"
                yield where, attempt(where, functools.partial(_raw, file, path, kind, row, names))

    def parse(self, where: str, raw: tuple[str, dict[str, Any]]) -> Item:
        """See `base.Layout`."""
        name, record = raw
        where = f"{where}, image {name!r}"
        features = fields.pick(record, ("features",), where)
        features = fields.floats(features, where, "features", (None, None))
        rows, notes = self._rows(where, record, features)
        fields.pick(record, ("boxes", "spatial_features"), where)
        arrays = {}
        for key in ("boxes", "spatial_features", "cls_prob"):
            if key in record:
                if key == "cls_prob" and np.shape(record[key]) == (len(features),):
                    continue  # of the best class alone: no distribution
                shape = (len(features), 4 if key == "boxes" else None)
                arrays[key] = fields.array(record[key], where, key, shape)[:rows]
        shares = arrays.get("spatial_features", np.zeros((rows, 4)))[:, :4].astype(np.float64)
        if shares.shape[1] < 4:
            raise fields.bad_field(where, "spatial_features", "4 columns", shares.shape)
        has_size = any(key in record for key in (*image_sizes.HEIGHT, *image_sizes.WIDTH))
        if self._sizes is None and not has_size and {"boxes", "spatial_features"} <= set(arrays):
            height, width = _derived_size(where, arrays["boxes"].astype(np.float64), shares)
        else:
            height, width = image_sizes.own_or_given(record, self._sizes, name, where)
        boxes = arrays.get("boxes", shares * [width, height, width, height])
        return Item(
            name, height, width, boxes, features[:rows], arrays.get("cls_prob"), notes=notes
        )

    def _rows(
        self, where: str, record: dict[str, Any], features: np.ndarray
    ) -> tuple[int, tuple[str, ...]]:
        """How many rows of `features` are regions, and what is to be told of the others."""
        if "num_boxes" in record:
            count = records.count_of(record, where)
            return records.regions(features, count, where, self.num_boxes)
        used = np.flatnonzero(features.any(1))
        rows = int(used[-1]) + 1 if used.size else 0
        if rows < len(features) and not self.trim_zeros:
            raise DataError(
                "the last rows of features are zeros: padding, or regions without features?",
                where=where,
                expected="num_boxes, or no rows of zeros at the end",
                found=f"{len(features)} rows, zeros from row {rows} on",
                fix="pass --trim_zeros if they are padding",
            )
        return rows, ()


def _raw(
    file: h5py.File, path: str, kind: str, row: int, names: Sequence[str]
) -> tuple[str, dict[str, Any]]:
    return names[row], hdf5_file.pieces(file, path, kind, row, names[row])


def _derived_size(where: str, pixels: np.ndarray, shares: np.ndarray) -> tuple[int, int]:
    """(height, width) from the same boxes [n, 4] in pixels and as shares of the image."""
    ends = shares[:, 2:].sum(0)
    size = np.rint(pixels[:, 2:].sum(0) / ends) if (ends > 0).all() else np.zeros(2)
    if not (size.all() and np.allclose(shares * [*size, *size], pixels, atol=0.5)):
        raise DataError(
            "boxes in pixels and as shares of the image disagree",
            where=where,
            expected="boxes = spatial_features x (width, height, width, height)",
            found=f"{pixels[:1].tolist()} and {shares[:1].tolist()}",
            fix="pass --sizes FILE if the boxes in pixels are right",
        )
    width, height = size.tolist()
    return int(height), int(width)
