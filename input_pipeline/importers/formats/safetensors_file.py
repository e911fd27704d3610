"""safetensors: named tensors in one file, after a JSON header that says where each one is.

A file is 8 bytes of the header's length, the header, and the tensors' bytes without gaps; nothing
in it is run. 16-bit brain floats come as float32; 8-bit floats and text are refused.
"""

import io
import json
import math
import os
import struct
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from core.errors import DataError

MAX_HEADER = 10**8  # bytes, the format's own limit
DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


class Tensors:
    """The tensors of a file, each read when it is asked for.

    Attributes:
      path: of the file.
      names: of the tensors, in the order of their bytes.
      sizes: bytes of each.
    """

    def __init__(self, path: str, data: bytes | None = None):
        """Reads the header.

        Args:
          path: of the file, or a name for messages.
          data: the file's bytes, where they are not at that path.

        Raises:
          DataError: no safetensors file, cut short, or a header that contradicts itself.
        """
        self.path, self._data = path, data
        try:
            with self._opened() as file:
                length = struct.unpack("<Q", file.read(8))[0]
                total = file.seek(0, os.SEEK_END)
                file.seek(8)
                if length > min(MAX_HEADER, total - 8):
                    raise ValueError(f"a header of {length} bytes in a file of {total}")
                header = json.loads(file.read(length))
            self._start = 8 + length
            self._entries = {
                name: _entry(name, entry, total - self._start)
                for name, entry in header.items()
                if name != "__metadata__"
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError, struct.error,
                RecursionError) as error:  # fmt: skip
            raise self._broken(f"{type(error).__name__}: {error}") from error
        self.names = sorted(self._entries, key=lambda name: self._entries[name][2])
        self.sizes = [self._entries[name][3] for name in self.names]

    def read(self, name: str) -> np.ndarray:
        """A tensor.

        Raises:
          DataError: its type is refused, or its bytes cannot be read.
        """
        kind, shape, start, nbytes = self._entries[name]
        if kind not in DTYPES:
            raise DataError(
                "a tensor of a type that is not read",
                where=f"{self.path}, tensor {name!r}",
                expected=f"one of {list(DTYPES)}",
                found=repr(kind),
                fix="write it as F32 or F16",
            )
        try:
            with self._opened() as file:
                file.seek(self._start + start)
                data = file.read(nbytes)
        except OSError as error:
            raise self._broken(str(error)) from error
        if len(data) != nbytes:
            raise self._broken(f"{len(data)} of {nbytes} bytes of tensor {name!r}")
        array = np.frombuffer(data, DTYPES[kind]).reshape(shape)
        return array.astype(np.float32) if kind == "BF16" else array

    def _opened(self) -> BinaryIO:
        return open(self.path, "rb") if self._data is None else io.BytesIO(self._data)

    def _broken(self, found: str) -> DataError:
        return DataError(
            "not a readable safetensors file",
            where=self.path,
            expected="a whole safetensors file",
            found=found,
            fix="check the path, or copy the file again",
        )


def _entry(name: str, entry: Any, total: int) -> tuple[str, tuple[int, ...], int, int]:
    """(type, shape, first byte, bytes) of a tensor; raises ValueError where they do not fit."""
    kind, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, start, stop)):
        raise ValueError(f"tensor {name!r} of shape {shape} at {start}:{stop}")
    if not start <= stop <= total:
        raise ValueError(f"tensor {name!r} ends at byte {stop} of {total}")
    if kind in DTYPES and math.prod(shape) * DTYPES[kind].itemsize != stop - start:
        raise ValueError(f"tensor {name!r}: {kind} {shape} in {stop - start} bytes")
    return str(kind), tuple(shape), start, stop - start
