"""Records appended to the flat shards of a new store: of regions, or of pictures."""

import array
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
import xxhash

from core import progress
from core.strings import pack_strings

MANIFEST = "manifest.json"  # written last: a folder with it is a whole store


class ShardWriter:
    """Context manager that writes a new folder of shards; a subclass says what a record is.

    Everything goes to a temporary folder beside `folder`, which is renamed at the end: after an
    error nothing is left. A store on gs:// is written to this machine first (`remote.cache()`).
    """

    def __init__(
        self, folder: str | os.PathLike, fields: Mapping[str, type[np.generic]], shard_bytes: int
    ):
        """Opens nothing yet.

        Args:
          folder: new.
          fields: dtypes of the index, "shard", "offset", "nbytes" and "xxh3" among them.
          shard_bytes: most bytes of a shard, but for a record that is longer by itself.
        """
        self.folder, self._fields, self._shard_bytes = str(folder), fields, shard_bytes
        self._columns = {name: array.array(np.dtype(t).char) for name, t in fields.items()}
        self._keys: dict[str, Any] = {}  # {image id: what a subclass remembers of it}
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

    def _append(self, record: bytes, **values: int) -> None:
        """Appends a record, with the fields of the index that its bytes do not tell."""
        if not self._shards or self._shards[-1]["bytes"] + len(record) > self._shard_bytes:
            if self._file:
                self._file.close()
            name = f"shard-{len(self._shards):05d}.bin"
            self._shards.append({"file": name, "records": 0, "bytes": 0})
            self._file = (self._temporary / name).open("wb")
        shard = self._shards[-1]
        values["shard"], values["offset"] = len(self._shards) - 1, shard["bytes"]
        values["nbytes"], values["xxh3"] = len(record), xxhash.xxh3_64_intdigest(record)
        for name, column in self._columns.items():
            column.append(values[name])
        self._file.write(record)
        shard["bytes"] += len(record)
        shard["records"] += 1

    def _index(self) -> dict[str, np.ndarray]:
        """The fields of all records, and their packed ids."""
        index = {name: np.asarray(self._columns[name], t) for name, t in self._fields.items()}
        index["keys"], index["key_ends"] = pack_strings(self._keys)
        return index

    def _finish(self) -> None:
        """Writes what stands beside the shards, MANIFEST last."""
        raise NotImplementedError
