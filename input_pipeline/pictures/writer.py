"""Writes a picture store: every picture is decoded once, its file appended to flat shards."""

import json
import os

import numpy as np
import xxhash

from core import pictures
from core.errors import DataError
from input_pipeline.regions import index_file
from input_pipeline.regions.shard_writer import MANIFEST, ShardWriter

FORMAT, KIND = 1, "pictures"
FIELDS = {
    "shard": np.int32,
    "offset": np.int64,
    "nbytes": np.int64,
    "height": np.int32,
    "width": np.int32,
    "xxh3": np.uint64,
}
FIX = "copy or convert the picture, or leave it out (--on_bad=skip)"


def fingerprint(index: dict[str, np.ndarray]) -> str:
    """Hex digest of what a store holds, whatever its shards are."""
    digest = xxhash.xxh3_128(KIND.encode())
    for name in ("keys", "key_ends", "height", "width", "xxh3"):
        digest.update(np.ascontiguousarray(index[name]))
    return digest.hexdigest()


def size_of(data: bytes, where: str) -> tuple[int, int]:
    """(height, width) of a picture whose pixels can all be read.

    Raises:
      DataError: no picture, a damaged one, one cut short, or more than 8 bits a channel.
    """
    return pictures.decoded(data, where, FIX).shape[:2]


class PictureWriter(ShardWriter):
    """Context manager that writes a new picture store, whole or not at all.

    Raises:
      DataError: the folder exists, an id occurs twice, or no picture was added.
    """

    def __init__(self, folder: str | os.PathLike, shard_bytes: int = 2**30):
        super().__init__(folder, FIELDS, shard_bytes)

    def add(self, image_id: str, data: bytes, size: tuple[int, int], where: str) -> None:
        """Appends one picture.

        Args:
          image_id: unique name, that of its regions.
          data: of its file.
          size: see `size_of`.
          where: it comes from, for messages.

        Raises:
          DataError: an id added twice.
        """
        if image_id in self._keys:
            raise DataError(
                "two pictures have one id",
                where=where,
                expected="ids that occur once",
                found=f"{image_id!r}, also of {self._keys[image_id]}",
                fix="name folders whose paths differ, or leave one out",
            )
        self._append(data, height=size[0], width=size[1])
        self._keys[image_id] = where

    def _finish(self) -> None:
        if not self._keys:
            raise DataError(
                "a picture store would be empty",
                where=self.folder,
                expected="at least one picture",
                found="none",
                fix="check what it is built from",
            )
        index = self._index()
        digest = index_file.write(self._temporary / index_file.FILE, index)
        manifest = {
            "format": FORMAT,
            "kind": KIND,
            "records": len(self._keys),
            "fingerprint": fingerprint(index),
            "index_xxh3": digest,
            "shards": self._shards,
        }
        (self._temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
