"""Reads .npy files of plain values and numpy arrays, whose sizes are checked before the reading."""

import dataclasses
import io
import math
import os
from typing import Any, BinaryIO

import numpy as np

from core import safe_pickle
from core.errors import DataError
from core.reading import reading

MAX_HEADER = 10_000  # bytes; a header has some 100
_KINDS = "biufcSU"


@dataclasses.dataclass(frozen=True)
class Header:
    """What a .npy file says of its array.

    Attributes:
      shape: of the array.
      dtype: of its elements; objects are pickled.
      is_fortran: whether the first axis is the fastest.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    is_fortran: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the data behind the header."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row_nbytes(self) -> int:
        """Bytes of one row along the first axis."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


def read_header(stream: BinaryIO | io.BufferedIOBase) -> Header:
    """The header of a .npy file, after which `stream` stands at the data.

    Raises:
      Exception: of any type, where there is none.
    """
    start = stream.read(8)
    major, minor = np.lib.format.read_magic(io.BytesIO(start))
    if (major, minor) not in ((1, 0), (2, 0)):  # later ones are for structured arrays
        raise ValueError(f"format version {(major, minor)}")
    size = stream.read(2 if major == 1 else 4)
    length = int.from_bytes(size, "little")
    if length > MAX_HEADER:
        raise ValueError(f"a header of {length} bytes")
    text = io.BytesIO(size + stream.read(length))
    read = getattr(np.lib.format, f"read_array_header_{major}_0")
    shape, is_fortran, dtype = read(text, max_header_size=MAX_HEADER)
    if len(shape) > 32 or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("an array of an impossible shape")
    header = Header(shape, dtype, is_fortran)
    if dtype.kind not in (*_KINDS, "O"):
        raise ValueError(f"dtype {dtype}")
    if math.prod(shape) >= 2**48 or (math.prod(shape) and not dtype.itemsize):
        raise ValueError(f"an array of {dtype} {shape}")
    return header


def load(source: str | os.PathLike | bytes | BinaryIO | io.BufferedIOBase, where: str) -> Any:
    """The array of a .npy file, or the object where the file holds a single one (shape ()).

    Args:
      source: path, bytes, or a file open for reading at the array's start; it is read to its end.
      where: for messages.

    Raises:
      DataError: unreadable, cut short, a structured dtype, or what `safe_pickle.loads` refuses.
    """
    expected = "a whole .npy file of plain values and numpy arrays"
    what, fix = "not a readable .npy file", "check the path, or copy the file again"
    with reading(where, what, expected=expected, fix=fix):
        if isinstance(source, str | os.PathLike):
            with open(source, "rb") as file:
                data = file.read()
        else:
            data = source if isinstance(source, bytes) else source.read()
        stream = io.BytesIO(data)
        header = read_header(stream)
        rest = memoryview(data)[stream.tell() :]
        shape, dtype = header.shape, header.dtype
        if dtype.kind == "O":
            value = safe_pickle.loads(bytes(rest), where)
            if not isinstance(value, np.ndarray) or value.shape != shape:
                raise ValueError(f"a header of objects {shape}, but a {type(value).__name__}")
            return value[()] if shape == () else value
        if len(rest) != header.nbytes:
            raise ValueError(f"a header of {dtype} {shape}, but {len(rest)} bytes of data")
        return np.ndarray(shape, dtype, bytearray(rest), order="F" if header.is_fortran else "C")
    raise DataError(what, where=where)  # not reached: `reading` lets nothing through
