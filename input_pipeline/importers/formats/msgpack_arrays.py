"""msgpack values with numpy arrays as the msgpack-numpy package writes them, without its pickles.

An array is a map of `nd` (true), `type` (dtype), `kind` (empty; "V" or "O" for structured dtypes
and pickled objects, which are refused), `shape` and `data`. Old versions write no `kind`, and
depending on a flag keys and texts are strings or bytes: everything here is read as bytes.
"""

import math
import re
from typing import Any, NoReturn

import msgpack
import numpy as np

from core.reading import reading

MAX_CONTAINERS = 2**17  # lists and maps of one record, each of some 100 bytes
_DTYPE = re.compile(rb"[<>|=]?[biuf][1248]")


def _decode(record: dict) -> Any:
    """The array or scalar that a map stands for, else the map with its keys as text."""
    if b"nd" not in record:
        return {key.decode() if isinstance(key, bytes) else key: v for key, v in record.items()}
    dtype, data = record.get(b"type"), record.get(b"data")
    if record.get(b"kind"):
        raise ValueError("an array of objects or with fields, which is refused")
    if not isinstance(dtype, bytes) or not _DTYPE.fullmatch(dtype):
        raise ValueError(f"an array of dtype {dtype!r}")
    dtype = np.dtype(dtype.decode())
    shape = record.get(b"shape") if record[b"nd"] is True else []
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"an array of shape {shape!r}")
    if not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an array {dtype} {shape} with other data than that takes")
    return np.frombuffer(data, dtype).reshape(shape)


def _refuse(code: int, data: bytes) -> NoReturn:
    raise ValueError(f"an extension of type {code}, which is refused")


def loads(data: bytes, where: str) -> Any:
    """The value of a msgpack dump: texts as bytes, keys of maps as str, arrays as arrays.

    Raises:
      DataError: cut short, damaged, no msgpack, an array of objects, or lists and maps without end.
    """
    left = MAX_CONTAINERS

    def counted(container: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError(f"more than {MAX_CONTAINERS:,} lists and maps")
        return container

    with reading(
        where,
        "not a readable msgpack value",
        expected="msgpack of plain values and numpy arrays",
        fix="the record is damaged or was written by another serializer (pickle, pyarrow): "
        "write it with TENSORPACK_SERIALIZE=msgpack, or as this layout's docstring says",
    ):
        return msgpack.unpackb(
            data,
            raw=True,
            strict_map_key=False,
            object_hook=lambda record: _decode(counted(record)),
            list_hook=counted,
            ext_hook=_refuse,
        )
