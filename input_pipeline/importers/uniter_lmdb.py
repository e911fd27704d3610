"""UNITER's image LMDBs: bottom-up attention features with boxes as fractions of the image.

  python -m input_pipeline.importers uniter_lmdb coco_train2014/feat_th0.2_max100_min10 \
      --sizes instances_train2014.json --ids number --out STORE
  python -m input_pipeline.importers uniter_lmdb nlvr2_dev/all_compressed \
      --sizes nlvr2_sizes.jsonl --out STORE

A database is a folder with data.mdb. Keys are names of .npz files; the key `__keys__` lists them
in JSON. A value is msgpack with arrays as msgpack-numpy writes them, or, in folders that end in
`_compressed`, a whole .npz file; both are distinguished value by value. Keys of a value:

  features     [n, F]
  norm_bb      [n, 6]  x1 y1 x2 y2 w h, divided by the width and height of the image; more columns
                       (the area) are not read
  soft_labels  [n, C]  class distribution of each box, column 0 = background; optional
  conf         [n]     best class's score; not read

An image's id is its key without `.npz` and, for NLVR2, without `nlvr2_`, which leaves the
identifier that NLVR2's own files refer by (dev-850-0-img0). `--ids number` makes coco, vg and
flickr30k names numbers: coco_train2014_000000000009 becomes 9.

The files do not say how large an image is: `--sizes` names a file that does (see
`formats.sizes`).
"""

import argparse
from collections.abc import Sequence

import numpy as np

from core import strict_json
from core.errors import DataError
from input_pipeline.importers.base import Item
from input_pipeline.importers.formats import fields, foreign, msgpack_arrays, npz_file
from input_pipeline.importers.formats.lmdb_file import LmdbLayout
from input_pipeline.importers.formats.sizes import add_argument, lookup, read_sizes

READ = ("features", "norm_bb", "soft_labels")
TOLERANCE = 5e-3  # of a fraction: half precision has steps of 5e-4 below 1


class Layout(LmdbLayout):
    """See the module, and `base.Layout`."""

    list_key = b"__keys__"

    def __init__(self, files: Sequence[str], sizes: str = ""):
        if not sizes:
            raise DataError(
                "the sizes of the images are not known",
                where="--sizes",
                expected="a file of image sizes: UNITER's boxes are fractions of the image",
                found="none",
                fix="--sizes=instances_train2014.json (COCO style), or a .jsonl or .tsv of id, "
                "height, width",
            )
        super().__init__(files)
        self._sizes = read_sizes(sizes)

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """See `base.Layout`."""
        add_argument(parser)

    def listed(self, where: str, raw: bytes) -> list[bytes]:
        """See `LmdbLayout`."""
        try:
            return [key.encode() for key in strict_json.parse(raw)]
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(
                "the list of keys cannot be read",
                where=where,
                expected="a JSON list of texts",
                found=f"{type(error).__name__}: {error}",
            ) from error

    def parse(self, where: str, raw: tuple[bytes, bytes]) -> Item:
        """See `base.Layout`."""
        key, value = raw
        is_npz = value[:2] == b"PK"
        try:
            if is_npz:
                record = npz_file.load(value, READ, where)
            else:
                record = msgpack_arrays.loads(value, where)
        except DataError as error:
            if is_npz:
                raise
            expected = "msgpack maps, or .npz files"
            raise foreign.explained(error, value, where, expected) from error
        if not isinstance(record, dict):
            raise DataError(
                "a record is no map of arrays",
                where=where,
                expected=f"msgpack or .npz of {list(READ)}",
                found=f"a msgpack {type(record).__name__}",
            )
        image_id = fields.image_id(key, where).removesuffix(".npz").removeprefix("nlvr2_")
        height, width = lookup(self._sizes, image_id, where)
        features = fields.pick(record, ["features"], where)
        features = fields.floats(features, where, "features", (None, None))
        n = len(features)
        fractions = _fractions(where, fields.pick(record, ["norm_bb"], where), n)
        labels = record.get("soft_labels")
        return Item(
            image_id=image_id,
            height=height,
            width=width,
            boxes=fractions * np.asarray([width, height, width, height], np.float32),
            features=features,
            class_probs=None
            if labels is None
            else fields.floats(labels, where, "soft_labels", (n, None)),
        )


def _fractions(where: str, value: object, n: int) -> np.ndarray:
    """x1 y1 x2 y2 of `norm_bb` as float32 [n, 4], after a check of what the columns mean."""
    columns = fields.floats(value, where, "norm_bb", (n, None)).astype(np.float32)
    wrong = None
    if columns.shape[1] < 6:
        wrong = f"{columns.shape[1]} columns"
    elif not ((columns[:, :6] >= -TOLERANCE) & (columns[:, :6] <= 1 + TOLERANCE)).all():
        wrong = f"values from {columns[:, :6].min():g} to {columns[:, :6].max():g}"
    elif (np.abs(columns[:, 2:4] - columns[:, :2] - columns[:, 4:6]) > TOLERANCE).any():
        wrong = "w, h that are not x2 - x1, y2 - y1"
    if wrong:
        raise DataError(
            "the field 'norm_bb' holds other numbers",
            where=where,
            expected="x1 y1 x2 y2 w h as fractions of the image, 0 to 1",
            found=wrong,
            fix="make the record again with UNITER's box order",
        )
    return columns[:, :4]
