"""Reads pickles of plain values and numpy arrays, and nothing else.

A pickle is a program: `pickle.load` of a downloaded file runs whatever its author wrote. The
reader here calls only its own stand-ins for the few functions that dictionaries, sets and arrays
need; any other name in a pickle is refused. The stand-ins build arrays themselves, from checked
sizes, since numpy's own (`dtype.__setstate__`) can be made to take bytes for pointers.

What comes back: None, bool, int, float, complex, str, bytes, bytearray, list, tuple, dict (also
for OrderedDict), set, frozenset, numpy arrays and scalars of booleans, numbers, text and, for
arrays, objects of these. A Python 2 string comes back as str where it is UTF-8, as bytes where it
is not.
"""

import io
import itertools
import math
import os
import pickle
import pickletools
import re
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from core.errors import DataError

_DTYPE = re.compile(r"[biufcSU]\d{1,9}|O[48]?|\|?[biufcSUO]")
_ATOMS = (type(None), bool, int, float, complex, bytes, bytearray)
_OPCODES = {opcode.code.encode("latin1"): opcode for opcode in pickletools.opcodes}
_PLAIN = "plain values and numpy arrays"


class _Refused(Exception):
    """A name or a value that is not on the list."""


class _Call:
    """What a name in a pickle becomes: it can be called, but not changed (opcode BUILD)."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable | None):
        self._function = function

    def __call__(self, *args: object) -> object:
        if self._function is None:
            raise _Refused("a call of numpy.ndarray")
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        raise _Refused("a change of a function")


class _Dtype:
    """Stand-in of numpy.dtype: the kinds of `_DTYPE`, without fields or flags of its own."""

    __slots__ = ("value",)

    def __init__(self, name: str | bytes, align: object = False, copy: object = True):
        name = _text(name)
        if not _DTYPE.fullmatch(name):
            raise _Refused(f"numpy.dtype {name!r}")
        self.value = np.dtype("O" if "O" in name else name)

    def __setstate__(self, state: tuple) -> None:
        # (version, byte order, subarray, names, fields, item size, alignment, flags): all but the
        # byte order follows from the name in a dtype without fields.
        order: Any
        order, subarray, names, fields, size = state[1:6]
        if len(state) != 8 or subarray or names or fields:
            raise _Refused("a numpy.dtype with fields, subarrays or units")
        if size not in (-1, self.value.itemsize):
            raise ValueError(f"dtype {self.value} of {size} bytes")
        order = _text(order)  # numpy refuses what is none
        self.value = self.value.newbyteorder(order)


class _Value:
    """Stand-in of an array or a numpy scalar, replaced by its `value` at the end."""

    __slots__ = ("value",)

    def __init__(self, value: np.ndarray | np.generic | None = None):
        self.value = value

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, data = state if len(state) == 5 else (0, *state)
        self.value = _array(data, dtype, shape, "F" if is_fortran else "C")


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value


def _bytes(value: object = b"") -> bytes | bytearray:
    """Bytes of an array; Python 2 wrote them as a string (see `_Unpickler`)."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if not isinstance(value, bytes | bytearray):
        raise ValueError(f"array data of type {type(value).__name__}")
    return value


def _array(data: object, dtype: object, shape: object, order: Any) -> np.ndarray:
    """A writable array of checked size."""
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
        raise ValueError("an array without dtype or shape")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"an array of shape {shape}")
    count = math.prod(shape)
    if dtype.value.hasobject:
        if not isinstance(data, list) or len(data) != count:
            raise ValueError(f"{shape} objects, but other data")
        array = np.empty(count, object)
        for i, value in enumerate(data):
            array[i] = value
        return array.reshape(shape, order=order)
    data = _bytes(data)
    if len(data) != count * dtype.value.itemsize:
        raise ValueError(f"{dtype.value} {shape}, but {len(data)} bytes")
    return np.ndarray(shape, dtype.value, bytearray(data), order=order)


_NDARRAY = _Call(None)


def _reconstruct(kind: object, shape: object, dtype: object) -> _Value:
    if kind is not _NDARRAY:
        raise _Refused("a subclass of numpy.ndarray")
    return _Value()  # empty in a real pickle, too: its state follows


def _frombuffer(
    data: object, dtype: object, shape: object, order: str, axis_order: tuple | None = None
) -> _Value:
    array = _array(data, dtype, shape, "C" if order == "K" else order)
    return _Value(array if order != "K" or axis_order is None else array.transpose(axis_order))


def _scalar(dtype: object, data: object) -> _Value:
    if isinstance(dtype, _Dtype) and dtype.value.hasobject:
        raise _Refused("a numpy scalar of an object")
    return _Value(_array(data, dtype, (), "C")[()])


def _encode(text: str, encoding: str = "latin1", errors: str = "strict") -> bytes:
    if encoding not in ("latin1", "latin-1"):  # what Python 3 writes for bytes in protocol 0 to 2
        raise _Refused(f"_codecs.encode to {encoding!r}")
    return text.encode("latin1")


def _bytearray(data: str | bytes = b"", encoding: str = "latin1") -> bytearray:
    return bytearray(_encode(data, encoding) if isinstance(data, str) else _bytes(data))


def _container(kind: type) -> Callable:
    def make(items: object = ()) -> object:
        if type(items) not in (list, tuple, dict, set, frozenset):
            raise ValueError(f"{kind.__name__} of {type(items).__name__}")
        return kind(items)

    return make


_NAMES: dict[tuple[str, str], _Call] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Call(_Dtype),
    ("_codecs", "encode"): _Call(_encode),
    ("collections", "OrderedDict"): _Call(_container(dict)),
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    _NAMES[f"{_core}.multiarray", "_reconstruct"] = _Call(_reconstruct)
    _NAMES[f"{_core}.multiarray", "scalar"] = _Call(_scalar)
    _NAMES[f"{_core}.numeric", "_frombuffer"] = _Call(_frombuffer)
for _builtins in ("builtins", "__builtin__"):  # Python 3 and 2
    for _kind in (list, tuple, dict, set, frozenset):
        _NAMES[_builtins, _kind.__name__] = _Call(_container(_kind))
    _NAMES[_builtins, "bytearray"] = _Call(_bytearray)
    _NAMES[_builtins, "bytes"] = _Call(_bytes)
    _NAMES[_builtins, "complex"] = _Call(complex)


def _check_sizes(data: bytes) -> None:
    """Refuses what would take much memory: lengths beyond the data, and numbers of the memo.

    One flipped bit can make a memo number of some 10^9, for which `pickle` fills tens of GB.
    """
    file, opcode = io.BytesIO(data), None
    while opcode is None or opcode.name != "STOP":
        opcode = _OPCODES[file.read(1)]
        if opcode.name == "STRING":  # its reader wants ASCII, Python 2 wrote any byte
            file.readline()
        elif opcode.arg is not None:
            argument = opcode.arg.reader(file)  # raises where the data is shorter than it says
            if opcode.name in ("PUT", "LONG_BINPUT") and argument > len(data):
                raise ValueError(f"{opcode.name} {argument}")


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes):
        # Python 2 strings hold text or an array's bytes; this decoding loses neither.
        super().__init__(io.BytesIO(data), encoding="utf-8", errors="surrogateescape")

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _NAMES:
            raise _Refused(f"{module}.{name}")
        return _NAMES[module, name]

    def persistent_load(self, pid: object) -> NoReturn:
        raise _Refused(f"the persistent id {pid!r}")


def _plain(value: Any, seen: dict[int, tuple[Any, Any]]) -> Any:
    """`value` with its stand-ins replaced, in place where it can be.

    Args:
      value: from the unpickler.
      seen: id: (object, its replacement); the object is kept, so that no other gets its id.
    """
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is str:
        if value.isascii() or not any("\udc80" <= c <= "\udcff" for c in value):
            return value
        return value.encode("utf-8", "surrogateescape")
    if id(value) in seen:
        return seen[id(value)][1]
    if kind is list:
        seen[id(value)] = value, value
        value[:] = [_plain(item, seen) for item in value]
        return value
    if kind is dict:
        seen[id(value)] = value, value
        items = [(_plain(key, seen), _plain(item, seen)) for key, item in value.items()]
        value.clear()
        value.update(items)
        return value
    if kind in (tuple, set, frozenset):
        new = kind(_plain(item, seen) for item in value)
    elif kind is _Value and value.value is not None:
        new = value.value
        if isinstance(new, np.ndarray) and new.dtype.hasobject:
            seen[id(value)] = value, new
            for i in itertools.product(*map(range, new.shape)):
                new[i] = _plain(new[i], seen)
    else:
        raise _Refused(f"a value of type {kind.__name__.strip('_')}")
    seen[id(value)] = value, new
    return new


def loads(data: bytes, where: str) -> Any:
    """The value of a pickle of any protocol, from Python 2 or 3.

    Args:
      data: the pickle.
      where: file and key or member, for messages.

    Raises:
      DataError: a name, value or dtype that is not on the list (the message names it), or data
        that is cut short or damaged.
    """
    try:
        _check_sizes(data)
        return _plain(_Unpickler(data).load(), {})
    except _Refused as error:
        raise DataError(
            "a pickle asks for something that is refused",
            where=where,
            expected=f"{_PLAIN} only",
            found=str(error),
            fix="do not trust this file; if you made it, write it again without such objects",
        ) from error
    except Exception as error:  # damaged opcodes end in nearly any exception
        raise DataError(
            "not a readable pickle",
            where=where,
            expected=f"a whole pickle of {_PLAIN}",
            found=f"{len(data)} bytes, {type(error).__name__}: {error}",
            fix="the file is cut short, damaged or of another kind: copy it again",
        ) from error


def load_npy(source: str | os.PathLike | io.BufferedIOBase, where: str) -> Any:
    """The array of a .npy file, or the object where the file holds a single one (shape ()).

    Args:
      source: path, or a file open for reading at the array's start; it is read to its end.
      where: for messages.

    Raises:
      DataError: unreadable, cut short, a structured dtype, or what `loads` refuses.
    """

    def fail(found: object) -> DataError:
        return DataError(
            "not a readable .npy file",
            where=where,
            expected=f"a whole .npy file of {_PLAIN}",
            found=found,
            fix="check the path, or copy the file again",
        )

    try:
        if isinstance(source, str | os.PathLike):
            with open(source, "rb") as file:
                data = io.BytesIO(file.read())
        else:
            data = io.BytesIO(source.read())
        version = np.lib.format.read_magic(data)
        if version not in ((1, 0), (2, 0)):  # later ones are for structured arrays
            raise ValueError(f"format version {version}")
        read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
        shape, is_fortran, dtype = read(data)
    except (OSError, ValueError, EOFError, TypeError, SyntaxError) as error:
        raise fail(f"{type(error).__name__}: {error}") from error
    rest = data.read()
    if dtype.kind == "O":
        value = loads(rest, where)
        if not isinstance(value, np.ndarray) or value.shape != shape:
            raise fail(f"a header of objects {shape}, but a {type(value).__name__}")
        return value[()] if shape == () else value
    if dtype.kind not in "biufcSU":
        raise fail(f"dtype {dtype}")
    if len(rest) != math.prod(shape) * dtype.itemsize:
        raise fail(f"a header of {dtype} {shape}, but {len(rest)} bytes of data")
    return np.ndarray(shape, dtype, bytearray(rest), order="F" if is_fortran else "C")
