"""LMDBs of ViLBERT and of 12-in-1: one pickled dictionary per image.

  python -m input_pipeline.importers vilbert_lmdb COCO_trainval_resnext152.lmdb --out STORE

A database is a folder with data.mdb. Keys are image ids; the key `keys` holds the pickled list of
them. A value has

  image_id            as the key says it
  image_w, image_h    size of the image in pixels
  num_boxes           n
  boxes     [n, 4]    xyxy in pixels of the image
  features  [n, F]
  cls_prob  [n, C]    class distribution of each box, column 0 = background; optional (12-in-1
                      never has it)

where 12-in-1 stores numbers and arrays (of any float type), and the first ViLBERT the row of
bottom-up attention's TSV file: all text, arrays as base64 of float32. Each value
shows which it is. Pickles are read with `safe_pickle`, which runs nothing.

`--id_from` says what an image is called: `both` demands that record and key agree; where a
conversion renamed the keys alone, choose `key` (what ViLBERT's own reader goes by) or `record`.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from core import safe_pickle
from core.errors import DataError
from input_pipeline.importers.base import Item
from input_pipeline.importers.formats import fields
from input_pipeline.importers.formats.lmdb_file import LmdbLayout

ID_FROM = ("both", "key", "record")


class Layout(LmdbLayout):
    """See the module, and `base.Layout`."""

    list_key = b"keys"

    def __init__(self, files: Sequence[str], id_from: str = "both"):
        if id_from not in ID_FROM:
            raise DataError("unknown --id_from", expected=f"one of {ID_FROM}", found=repr(id_from))
        self.id_from = id_from
        super().__init__(files)

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """See `base.Layout`."""
        parser.add_argument(
            "--id_from", default="both", choices=ID_FROM, help="what an image is called by"
        )

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
        record = safe_pickle.loads(value, where)
        if not isinstance(record, dict):
            raise DataError(
                "a record is no dictionary",
                where=where,
                expected="a pickled dictionary",
                found=type(record).__name__,
            )
        # In Python 2's pickles, and in rows read as bytes, the keys can be either.
        record = {k.decode() if isinstance(k, bytes) else k: v for k, v in record.items()}
        n = fields.integer(fields.pick(record, ["num_boxes"], where), where, "num_boxes")
        return Item(
            image_id=self._image_id(where, key, record),
            height=fields.integer(fields.pick(record, ["image_h"], where), where, "image_h"),
            width=fields.integer(fields.pick(record, ["image_w"], where), where, "image_w"),
            boxes=_rows(record, where, "boxes", n, 4),
            features=_rows(record, where, "features", n),
            class_probs=_rows(record, where, "cls_prob", n) if "cls_prob" in record else None,
        )

    def _image_id(self, where: str, key: bytes, record: dict[str, Any]) -> str:
        if self.id_from == "key":
            return fields.image_id(key, where)
        named = fields.image_id(fields.pick(record, ["image_id"], where), where)
        if self.id_from == "both" and named.encode() != key:
            raise DataError(
                "a record is of another image than its key",
                where=where,
                expected=f"image_id {fields.image_id(key, where)!r}",
                found=repr(named),
                fix="if only the keys were renamed, choose --id_from=key or --id_from=record",
            )
        return named


def _rows(record: dict, where: str, name: str, n: int, width: int | None = None) -> np.ndarray:
    """Field `name` with one row a box, from an array or from base64 text."""
    value = fields.pick(record, [name], where)
    if isinstance(value, str | bytes):
        value = fields.base64_floats(value, where, name, width and n * width, f"({n}, {width})")
        if len(value) % n:
            raise DataError(
                f"the field {name!r} has the wrong number of values",
                where=where,
                expected=f"a multiple of num_boxes = {n}",
                found=len(value),
                fix="the row is cut short: leave this image out, or make it again",
            )
        value = value.reshape(n, -1)
    check = fields.floats if width is None else fields.array  # boxes may be integers
    return check(value, where, name, (n, width))
