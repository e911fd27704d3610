"""Writes a picture store: every picture is decoded once, its file appended to flat shards."""

import json
import os
from types import TracebackType
from typing import Self

import numpy as np
import xxhash

from core import pictures, progress
from core.errors import DataError
from core.strings import pack_strings

FORMAT, KIND = 1, "pictures"
MANIFEST, INDEX = "manifest.json", "index.npz"  # the manifest is written last
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
        digest.update(np.ascontiguousarray(index[name]).tobytes())
    return digest.hexdigest()


def size_of(data: bytes, where: str) -> tuple[int, int]:
    """(height, width) of a picture whose pixels can all be read.

    Raises:
      DataError: no picture, a damaged one, one cut short, or more than 8 bits a channel.
    """
    return pictures.decoded(data, where, FIX).shape[:2]


class PictureWriter:
    """Context manager that writes a new picture store, whole or not at all.

    Raises:
      DataError: the folder exists, an id occurs twice, or no picture was added.
    """

    def __init__(self, folder: str | os.PathLike, shard_bytes: int = 2**30):
        self.folder, self._shard_bytes = str(folder), shard_bytes
        self._columns: dict[str, list[int]] = {name: [] for name in FIELDS}
        self._keys: dict[str, str] = {}
        self._shards: list[dict] = []
        self._file = None

    def __enter__(self) -> Self:
        self._stack = progress.atomic_folder(self.folder, last=MANIFEST)
        self._temporary = self._stack.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        try:
            if self._file:
                self._file.close()
            if kind is None:
                self._finish()
        except BaseException as late:
            self._stack.__exit__(type(late), late, late.__traceback__)
            raise
        return self._stack.__exit__(kind, error, trace)

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
        if not self._shards or self._shards[-1]["bytes"] + len(data) > self._shard_bytes:
            if self._file:
                self._file.close()
            name = f"shard-{len(self._shards):05d}.bin"
            self._shards.append({"file": name, "records": 0, "bytes": 0})
            self._file = (self._temporary / name).open("wb")
        shard = self._shards[-1]
        row = (len(self._shards) - 1, shard["bytes"], len(data), *size)
        for name, value in zip(FIELDS, (*row, xxhash.xxh3_64_intdigest(data)), strict=True):
            self._columns[name].append(value)
        self._file.write(data)
        shard["bytes"] += len(data)
        shard["records"] += 1
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
        index = {name: np.asarray(self._columns[name], t) for name, t in FIELDS.items()}
        index["keys"], index["key_ends"] = pack_strings(list(self._keys))
        np.savez(self._temporary / INDEX, **index)
        manifest = {
            "format": FORMAT,
            "kind": KIND,
            "records": len(self._keys),
            "fingerprint": fingerprint(index),
            "index_xxh3": xxhash.xxh3_64_hexdigest((self._temporary / INDEX).read_bytes()),
            "shards": self._shards,
        }
        (self._temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
