"""Files of torch.save, and pickles with torch tensors in them, read without torch.

A file is a zip (its member data.pkl is a pickle, data/0, data/1, ... are the tensors' numbers), or,
before torch 1.6, pickles one after the other with the numbers behind them. The pickles are run by
`core.safe_pickle`, with stand-ins for tensors added to its list: nothing of a file is executed.
Tensors come as numpy arrays, 16-bit brain floats as float32. Quantised and sparse tensors, and
whole models, are refused.
"""

import io
import math
import os
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from core import safe_pickle
from core.errors import DataError
from core.pickle_values import NAMES, Array, Named, Opaque, Refused
from core.reading import reading

_DTYPES = {
    "Float": "<f4",
    "Double": "<f8",
    "Half": "<f2",
    "BFloat16": ml_dtypes.bfloat16,
    "Long": "<i8",
    "Int": "<i4",
    "Short": "<i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MAX_FILE = 2**34
_WHAT = "not a readable file of torch.save"
_EXPECTED = "tensors, or lists and dictionaries of them, that torch.save has written"
_FIX = "copy the file again, or write it with numpy.save(FILE, tensor.numpy())"


class _Storage(Opaque):
    """The numbers behind tensors, in one row."""

    __slots__ = ("values",)

    def __init__(self, values: np.ndarray):
        self.values = values


def _tensor(
    machine: Any,
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    requires_grad: object = False,
    hooks: object = None,
    metadata: object = None,
) -> Array:
    """A view of a storage, of checked bounds."""
    if not isinstance(storage, _Storage):
        raise Refused("a tensor without a storage of numbers")
    if type(shape) is not tuple or type(strides) is not tuple:
        raise ValueError("a tensor without a shape")
    numbers = [offset, *shape, *strides]
    if len(shape) != len(strides) or len(shape) > 32:
        raise ValueError("a tensor whose shape and strides differ in length")
    if not all(type(number) is int and 0 <= number < 2**62 for number in numbers):
        raise ValueError("a tensor of an impossible shape")
    values, count = storage.values, math.prod(shape)
    last = offset + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    if count > len(values) or (count and last >= len(values)):
        raise ValueError(f"a tensor {shape} in a storage of {len(values)} numbers")
    if not count:
        return Array(np.empty(shape, values.dtype))
    steps = [step * values.itemsize for step in strides]
    return Array(np.lib.stride_tricks.as_strided(values[offset:], shape, steps, writeable=False))


def _parameter(machine: Any, data: Any, *rest: object) -> Array:
    if not isinstance(data, Array):
        raise ValueError("a parameter that is no tensor")
    return data


def _size(machine: Any, items: Any = ()) -> tuple:
    return machine.tuple_of(items)


def _from_bytes(machine: Any, data: Any) -> Any:
    """What pickle.dumps of a tensor holds: a storage as torch.save wrote it."""
    if not isinstance(data, bytes):
        raise ValueError("a storage that is no bytes")
    machine.spend(len(data))
    return _legacy(data, "a tensor's storage")


def _storage_names() -> dict[tuple[str, str], Named]:
    return {("torch", f"{name}Storage"): Named(f"torch.{name}Storage", None) for name in _DTYPES}


_STORAGES = _storage_names()
_KINDS = {id(named): np.dtype(_DTYPES[key[1].removesuffix("Storage")])
          for key, named in _STORAGES.items()}  # fmt: skip
_FUNCTIONS: dict[tuple[str, str], Callable] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): _size,
    ("torch.storage", "_load_from_bytes"): _from_bytes,
}
_NAMES = {
    **NAMES,
    **_STORAGES,
    **{key: Named(".".join(key), function) for key, function in _FUNCTIONS.items()},
}


def load(path: str) -> Any:
    """What torch.save has written to a file.

    Raises:
      DataError: none, cut short, or with something in it that is refused.
    """
    try:
        size = os.path.getsize(path)
        if size > _MAX_FILE:
            raise DataError(
                "a file of torch.save is too large",
                where=path,
                expected=f"at most {_MAX_FILE:,} bytes, which are held in memory",
                found=f"{size:,}",
                fix="save the tensors one a file, or as .safetensors",
            )
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise DataError("a file cannot be read", where=path, found=str(error)) from error
    return loads(data, path)


def loads(data: bytes, where: str) -> Any:
    """The same of a file's bytes; `where` for messages."""
    if data[:2] == b"PK":
        return _floats(_zip(data, where))
    return _floats(_legacy(data, where))


def unpickle(data: bytes, where: str) -> Any:
    """The value of a pickle, in which there may be tensors.

    Raises:
      DataError: see `core.safe_pickle.loads`.
    """
    return _floats(safe_pickle.loads(data, where, names=_NAMES))


def _floats(value: Any) -> Any:
    """A value with float32 in the place of 16-bit brain floats."""
    if isinstance(value, np.ndarray):
        return value.astype(np.float32) if value.dtype == ml_dtypes.bfloat16 else value
    if isinstance(value, dict):
        return {key: _floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_floats(item) for item in value)
    return value


def _storage_id(found: Any) -> tuple[np.dtype, str, int]:
    """(type, key, numbers) of a persistent id."""
    if not isinstance(found, tuple) or len(found) < 5 or found[0] != "storage":
        raise Refused("a persistent id that is no storage")
    kind, key, _, count = found[1:5]
    if id(kind) not in _KINDS or any(item is not None for item in found[5:]):
        raise Refused("a storage of another kind")
    if type(count) is not int or count < 0 or not isinstance(key, str):
        raise ValueError("a storage without a length")
    return _KINDS[id(kind)], key, count


def _broken(where: str, found: str) -> DataError:
    return DataError(_WHAT, where=where, expected=_EXPECTED, found=found, fix=_FIX)


def _zip(data: bytes, where: str) -> Any:
    with (
        reading(where, _WHAT, expected=_EXPECTED, fix=_FIX),
        zipfile.ZipFile(io.BytesIO(data)) as archive,
    ):
        members = {info.filename: info for info in archive.infolist()}
        name = next((name for name in members if name.endswith("/data.pkl")), "")
        folder = name.removesuffix("data.pkl")
        if not name:
            raise _broken(where, "a zip without data.pkl")
        if any(info.compress_type for info in members.values()):
            raise _broken(where, "a zip with packed members, which torch does not write")
        if sum(info.file_size for info in members.values()) > len(data):
            raise _broken(where, "a zip whose members overlap")
        order = members.get(f"{folder}byteorder")
        if order is not None and archive.read(order) != b"little":
            raise _broken(where, "numbers in another byte order")
        read: dict[str, _Storage] = {}

        def storage(found: Any) -> _Storage:
            dtype, key, count = _storage_id(found)
            if key not in read:
                read[key] = _Storage(np.frombuffer(archive.read(f"{folder}data/{key}"), dtype))
            values = read[key].values
            if values.dtype != dtype or len(values) < count:
                raise ValueError(f"storage {key}: {len(values)} of {count} numbers")
            return read[key]

        return safe_pickle.loads(
            archive.read(name), f"{where}@/{name}", names=_NAMES, persistent=storage
        )
    raise AssertionError  # `reading` lets nothing through


def _legacy(data: bytes, where: str) -> Any:
    storages: dict[str, _Storage] = {}

    def storage(found: Any) -> _Storage:
        dtype, key, count = _storage_id(found)
        if key not in storages:
            taken = sum(one.values.nbytes for one in storages.values())
            if taken + count * dtype.itemsize > len(data):
                raise ValueError(f"storage {key} of {count} numbers in {len(data)} bytes")
            storages[key] = _Storage(np.zeros(count, dtype))
        if storages[key].values.dtype != dtype:
            raise ValueError(f"storage {key} of two types")
        return storages[key]

    at, values = 0, []
    for _ in range(5):  # magic number, version, system, the value, the storages' keys
        value, at = safe_pickle.load_at(data, at, where, names=_NAMES, persistent=storage)
        values.append(value)
        if len(values) == 1 and (type(value) is not int or value != _LEGACY_MAGIC):
            raise _broken(where, "a pickle of something else")
    _, _, system, value, keys = values
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _broken(where, "numbers in another byte order")
    named = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not named or sorted(keys) != sorted(storages):
        raise _broken(where, "other storages than its tensors have")
    for key in keys:
        numbers = storages[key].values
        count = struct.unpack_from("<q", data, at)[0] if at + 8 <= len(data) else -1
        at += 8
        if count != len(numbers) or at + numbers.nbytes > len(data):
            raise _broken(where, f"cut short in storage {key}")
        numbers[:] = np.frombuffer(data, numbers.dtype, count, at)
        at += numbers.nbytes
    return value
