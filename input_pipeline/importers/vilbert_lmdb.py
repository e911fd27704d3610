"""LMDBs of ViLBERT, 12-in-1, VOLTA, IGLUE and MMF: one pickled dictionary per image.

  python -m input_pipeline.importers vilbert_lmdb COCO_trainval_resnext152.lmdb --out STORE
  python -m input_pipeline.importers vilbert_lmdb trainval_feat.lmdb --out STORE      # VOLTA
  python -m input_pipeline.importers vilbert_lmdb coco.lmdb --out STORE --ids number \
      --class_scores without_background                                               # MMF

A database is a folder with data.mdb. Keys are image ids; the key `keys` holds the pickled list of
them. A value has

  image_id            as the key says it; img_id in VOLTA's, feature_path in MMF's, where it is the
                      path of the .npy file without suffix
  image_w, image_h    size of the image in pixels; img_w and img_h, image_width and image_height
  num_boxes           n, optional
  boxes     [n, 4]    xyxy in pixels of the image; bbox in MMF's
  features  [n, F]
  cls_prob  [n, C]    class distribution of each box, column 0 = background; optional. MMF's have
                      the 1,600 classes alone: say so by --class_scores. One number a box is the
                      best class's score and not read

where 12-in-1, MMF and VOLTA's conversions of HDF5 store numbers and arrays (of any float type),
the first ViLBERT and VOLTA the row of bottom-up attention's TSV file: all text, arrays as base64
of float32; torch tensors are read as arrays. Each value shows which it is. Pickles are read with
`safe_pickle`, which runs nothing. Sizes that the records lack come from `--sizes`.

`--id_from` says what an image is called: `both` demands that record and key agree, or that one is
the number of the other (VOLTA: 9 and COCO_train2014_000000000009; the key is taken); where a
conversion renamed the keys alone, choose `key` (what the readers of ViLBERT, VOLTA and MMF go by)
or `record`.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from core import ids, safe_pickle
from core.errors import DataError
from input_pipeline.importers.base import Item
from input_pipeline.importers.formats import fields, foreign, torch_file
from input_pipeline.importers.formats import record as records
from input_pipeline.importers.formats import sizes as image_sizes
from input_pipeline.importers.formats.lmdb_file import LmdbLayout

ID_FROM = ("both", "key", "record")


class Layout(LmdbLayout):
    """See the module, and `base.Layout`."""

    list_key = b"keys"

    def __init__(
        self,
        files: Sequence[str],
        id_from: str = "both",
        sizes: str = "",
        num_boxes: str = "padding",
    ):
        if id_from not in ID_FROM:
            raise DataError("unknown --id_from", expected=f"one of {ID_FROM}", found=repr(id_from))
        records.check_arguments(num_boxes)
        self.id_from, self.num_boxes = id_from, num_boxes
        self._sizes = image_sizes.read_sizes(sizes) if sizes else None
        super().__init__(files)

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """See `base.Layout`."""
        parser.add_argument(
            "--id_from", default="both", choices=ID_FROM, help="what an image is called by"
        )
        image_sizes.add_argument(parser)
        records.add_argument(parser)

    def listed(self, where: str, raw: bytes) -> list[bytes]:
        """See `LmdbLayout`."""
        keys = safe_pickle.loads(raw, where)
        if not isinstance(keys, list) or not all(isinstance(key, str | bytes) for key in keys):
            raise DataError(
                "the list of keys is no list of texts",
                where=where,
                expected="a pickled list of image ids",
                found=type(keys).__name__,
            )
        return [key if isinstance(key, bytes) else key.encode() for key in keys]

    def parse(self, where: str, raw: tuple[bytes, bytes]) -> Item:
        """See `base.Layout`."""
        key, value = raw
        try:
            load = torch_file.loads if value[:2] == b"PK" else torch_file.unpickle
            record = load(value, where)
        except DataError as error:
            raise foreign.explained(error, value, where, "pickled dictionaries") from error
        if not isinstance(record, dict):
            raise DataError(
                "a record is no dictionary",
                where=where,
                expected="a pickled dictionary",
                found=f"{type(record).__name__} {np.shape(record)}"
                if isinstance(record, np.ndarray)
                else type(record).__name__,
                fix="features alone have no boxes and no size: write a dictionary of all of them",
            )
        # In Python 2's pickles, and in rows read as bytes, the keys can be either.
        record = {k.decode() if isinstance(k, bytes) else k: v for k, v in record.items()}
        image_id = self._image_id(where, key, record)
        found = records.arrays_of(record, where, num_boxes=self.num_boxes)
        size = image_sizes.own_or_given(record, self._sizes, image_id, where)
        return found.item(image_id, size)

    def _image_id(self, where: str, key: bytes, record: dict[str, Any]) -> str:
        if self.id_from == "key":
            return fields.image_id(key, where)
        named = fields.image_id(fields.pick(record, records.IDS, where), where)
        if self.id_from == "record":
            return named
        name = fields.image_id(key, where)
        if named == name or name == ids.number_of(named) or named == ids.number_of(name):
            return name
        raise DataError(
            "a record is of another image than its key",
            where=where,
            expected=f"image_id {name!r}",
            found=repr(named),
            fix="if only the keys were renamed, choose --id_from=key or --id_from=record",
        )
