"""Columns of a table, read so that nothing but what was hashed when it was opened is ever used.

A memory map would take changed bytes for texts, and end the process where a file was cut. So
columns are held in memory, all but the long ones: these are read in blocks, each compared with its
hash at every read, which takes some ten times as long.
"""

import array
import os
import pathlib
import weakref
from collections.abc import Iterator

import numpy as np
import xxhash

from core.errors import DataError

BLOCK = 2**12  # bytes that are read and compared together; rows are shorter
HELD = 2**28  # bytes of a column of pieces that is held in memory: some 60 million pieces
_PART = 2**22  # bytes that are read at once where all are


class HeldColumn:
    """A column of pieces in memory; as `Column`."""

    def __init__(self, values: np.ndarray):
        self.dtype, self._values = values.dtype, values

    def __len__(self) -> int:
        return len(self._values)

    def rows(self, starts: np.ndarray, width: int) -> np.ndarray:
        """[B, width] values from each of the starts [B] on, and from the first after the last."""
        at = np.asarray(starts)[:, None] + np.arange(width)
        return np.take(self._values, at, mode="wrap")

    def __getitem__(self, at: slice) -> np.ndarray:
        return self._values[at]

    def parts(self) -> Iterator[tuple[int, np.ndarray]]:
        """(number of the first value, values) of the whole column."""
        yield 0, self._values


class Column:
    """A column of pieces: held in memory, or in its file where it is longer than HELD.

    Attributes:
      dtype: of its values.
      xxh3: hex digest of all bytes.
    """

    def __init__(self, path: pathlib.Path, dtype: np.dtype):
        """Reads it once, for the hashes.

        Raises:
          OSError: it cannot be read.
        """
        self.dtype, self._path = dtype, path
        self._block = BLOCK // dtype.itemsize  # values
        file = open(path, "rb")  # noqa: SIM115  # stays open
        weakref.finalize(self, file.close)
        self._file, self._nbytes = file.fileno(), 0
        hashes, whole = [], xxhash.xxh3_64()
        while data := file.read(_PART):
            whole.update(data)
            view = memoryview(data)
            hashes += [
                xxhash.xxh3_64_intdigest(view[i : i + BLOCK]) for i in range(0, len(data), BLOCK)
            ]
            self._nbytes += len(data)
        self.xxh3 = whole.hexdigest()
        self._hashes = array.array("Q", hashes)
        self._held: np.ndarray | None = None
        if self._nbytes <= HELD:
            self._held = self[0 : len(self)]

    def __len__(self) -> int:
        return self._nbytes // self.dtype.itemsize

    def rows(self, starts: np.ndarray, width: int) -> np.ndarray:
        """[B, width] values from each of the starts [B] on, and from the first after the last.

        Raises:
          DataError: the file has changed.
        """
        if self._held is not None:
            at = np.asarray(starts)[:, None] + np.arange(width)
            return np.take(self._held, at, mode="wrap")
        out = np.empty((len(starts), width), self.dtype)
        for row, start in zip(out, starts.tolist(), strict=True):
            done = 0
            while done < width:
                values = self[start : min(start + width - done, len(self))]
                row[done : done + len(values)] = values
                done, start = done + len(values), 0
        return out

    def __getitem__(self, at: slice) -> np.ndarray:
        """The values from at.start to at.stop; raises as `rows`."""
        if at.start >= at.stop:
            return np.empty(0, self.dtype)
        if self._held is not None:
            return self._held[at]
        first, last = at.start // self._block, (at.stop - 1) // self._block
        size = min((last + 1) * BLOCK, self._nbytes) - first * BLOCK
        data = os.pread(self._file, size, first * BLOCK)
        view = memoryview(data)
        for block in range(first, last + 1):
            start = (block - first) * BLOCK
            if xxhash.xxh3_64_intdigest(view[start : start + BLOCK]) != self._hashes[block]:
                raise DataError(
                    "a tokenised table has changed while it was in use",
                    where=f"{self._path}, byte {block * BLOCK}",
                    expected="the bytes that were there when it was opened",
                    found="others" if len(data) == size else f"{len(data)} of {size} bytes",
                    fix=f"remove {self._path.parent} and start again: it is made again from the "
                    "texts",
                )
        skipped = first * self._block
        return np.frombuffer(data, self.dtype)[at.start - skipped : at.stop - skipped]

    def parts(self) -> Iterator[tuple[int, np.ndarray]]:
        """(number of the first value, values) of the whole column, in order."""
        step = _PART // self.dtype.itemsize
        for start in range(0, len(self), step):
            yield start, self[start : min(start + step, len(self))]


def in_memory(path: pathlib.Path, dtype: np.dtype) -> tuple[np.ndarray, str]:
    """(a whole column, hex digest of its bytes).

    Raises:
      OSError: it cannot be read.
    """
    data = path.read_bytes()
    whole = len(data) - len(data) % dtype.itemsize
    return np.frombuffer(data[:whole], dtype), xxhash.xxh3_64_hexdigest(data)
