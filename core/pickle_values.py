"""What a pickle may name: stand-ins that build plain containers and arrays of checked sizes.

numpy's own functions are not called: `dtype.__setstate__` can be made to take bytes for pointers.
A function of the list gets the machine that runs the pickle (`safe_pickle`), which counts what is
copied and checks what is hashed.
"""

import math
import re
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

_DTYPE = re.compile(r"[biufcSU]\d{1,9}|O[48]?|\|?[biufcSUO]")


class Refused(Exception):
    """A name or a value that is not on the list."""


class Machine(Protocol):
    """What the functions here need of the machine that calls them."""

    def spend(self, nbytes: int) -> None:
        """Counts bytes of memory that a value takes."""

    def add(self, container: set | dict, key: Any, value: Any = None) -> None:
        """Puts into a set or dict, whose keys are checked before they are hashed."""

    def tuple_of(self, items: list | tuple) -> tuple:
        """A tuple, weighed."""

    def frozenset_of(self, items: list | tuple) -> frozenset:
        """A frozenset, weighed."""


class Named:
    """What a name in a pickle becomes: it can be called, but not changed (opcode BUILD)."""

    __slots__ = ("function", "name")

    def __init__(self, name: str, function: Callable | None):
        self.name, self.function = name, function


class Dtype:
    """Stand-in of numpy.dtype: the kinds of `_DTYPE`, without fields or flags of its own."""

    __slots__ = ("value",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, name: str | bytes):
        name = _text(name)
        if not _DTYPE.fullmatch(name):
            raise Refused(f"numpy.dtype {name[:40]!r}")
        self.value = np.dtype("O" if "O" in name else name)

    def set_state(self, machine: Machine, state: tuple) -> None:
        """Takes the byte order; all else follows from the name in a dtype without fields."""
        # (version, byte order, subarray, names, fields, item size, alignment, flags)
        order: Any
        order, subarray, names, fields, size = state[1:6]
        if len(state) != 8 or subarray or names or fields:
            raise Refused("a numpy.dtype with fields, subarrays or units")
        if size not in (-1, self.value.itemsize):
            raise ValueError(f"dtype {self.value} of another size")
        order = _text(order)  # numpy refuses what is none
        self.value = self.value.newbyteorder(order)


class Array:
    """Stand-in of an array, replaced by its `value` at the end."""

    __slots__ = ("value",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: np.ndarray | None = None):
        self.value = value

    def set_state(self, machine: Machine, state: tuple) -> None:
        """Fills the array."""
        _, shape, dtype, is_fortran, data = state if len(state) == 5 else (0, *state)
        self.value = _array(machine, data, dtype, shape, "F" if is_fortran else "C")


class Opaque:
    """A value of a reader's own that stands for a persistent id; it passes as it is."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]


def _text(value: str | bytes) -> str:
    if not isinstance(value, str | bytes):
        raise ValueError(f"a text of type {type(value).__name__}")
    return value.decode("ascii") if isinstance(value, bytes) else value


def _bytes(value: object) -> bytes | bytearray:
    """Bytes of an array; where Python 2's string of them was UTF-8, it was taken for text."""
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, bytes | bytearray):
        raise ValueError(f"array data of type {type(value).__name__}")
    return value


def _array(machine: Machine, data: Any, dtype: object, shape: Any, order: Any) -> np.ndarray:
    """A writable array of checked size."""
    if not isinstance(dtype, Dtype) or not isinstance(shape, tuple):
        raise ValueError("an array without dtype or shape")
    if len(shape) > 32 or not all(type(size) is int and 0 <= size < 2**62 for size in shape):
        raise ValueError("an array of an impossible shape")
    count = math.prod(shape)
    if dtype.value.hasobject:
        if not isinstance(data, list) or len(data) != count:
            raise ValueError(f"{shape} objects, but other data")
        machine.spend(8 * count)
        array = np.empty(count, object)
        for i, value in enumerate(data):
            array[i] = value
        return array.reshape(shape, order=order)
    data = _bytes(data)
    if len(data) != count * dtype.value.itemsize or (count and not dtype.value.itemsize):
        raise ValueError(f"{dtype.value} {shape}, but {len(data)} bytes")
    machine.spend(len(data))
    return np.ndarray(shape, dtype.value, bytearray(data), order=order)


_NDARRAY = Named("numpy.ndarray", None)


def _dtype(machine: Machine, name: Any, align: object = False, copy: object = True) -> Dtype:
    return Dtype(name)


def _reconstruct(machine: Machine, kind: object, shape: object, dtype: object) -> Array:
    if kind is not _NDARRAY:
        raise Refused("a subclass of numpy.ndarray")
    return Array()  # empty in a real pickle, too: its state follows


def _frombuffer(
    machine: Machine,
    data: object,
    dtype: object,
    shape: object,
    order: str,
    axis_order: tuple | None = None,
) -> Array:
    array = _array(machine, data, dtype, shape, "C" if order == "K" else order)
    return Array(array if order != "K" or axis_order is None else array.transpose(axis_order))


def _scalar(machine: Machine, dtype: object, data: object) -> Any:
    if isinstance(dtype, Dtype) and dtype.value.hasobject:
        raise Refused("a numpy scalar of an object")
    return _array(machine, data, dtype, (), "C")[()]


def _encode(machine: Machine, text: str, encoding: str = "latin1", errors: str = "strict") -> bytes:
    # What Python 3 writes for bytes in protocol 0 to 2.
    if encoding not in ("latin1", "latin-1"):
        raise Refused(f"_codecs.encode to {str(encoding)[:40]!r}")
    if not isinstance(text, str):
        raise ValueError("an encoding of something else than text")
    machine.spend(len(text))
    return text.encode("latin1")


def _bytearray(machine: Machine, data: Any = b"", encoding: str = "latin1") -> bytearray:
    data = _encode(machine, data, encoding) if isinstance(data, str) else _bytes(data)
    machine.spend(len(data))
    return bytearray(data)


def _plain_bytes(machine: Machine, data: Any = b"") -> bytes:
    machine.spend(len(_bytes(data)))
    return bytes(_bytes(data))


def _complex(machine: Machine, real: Any = 0.0, imaginary: Any = 0.0) -> complex:
    if not {type(real), type(imaginary)} <= {int, float}:
        raise ValueError("a complex number of something else than numbers")
    return complex(real, imaginary)


def _container(kind: type) -> Callable:
    def make(machine: Machine, items: Any = ()) -> object:
        if type(items) not in (list, tuple, dict, set, frozenset):
            raise ValueError(f"{kind.__name__} of {type(items).__name__}")
        machine.spend(64 + 16 * len(items))
        if kind is list:
            return list(items)
        if kind is tuple:
            return machine.tuple_of(tuple(items))
        if kind is frozenset:
            return machine.frozenset_of(list(items))
        made: set | dict = kind()
        if kind is dict:
            pairs = list(items.items()) if isinstance(items, dict) else list(items)
            if not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
                raise ValueError("a dict of other things than pairs")
            for key, value in pairs:
                machine.add(made, key, value)
        else:
            for item in items:
                machine.add(made, item)
        return made

    return make


def _names() -> dict[tuple[str, str], Named]:
    functions: dict[tuple[str, str], Callable] = {
        ("numpy", "dtype"): _dtype,
        ("_codecs", "encode"): _encode,
        ("collections", "OrderedDict"): _container(dict),
    }
    for package in ("numpy.core", "numpy._core"):  # numpy 1 and 2
        functions[f"{package}.multiarray", "_reconstruct"] = _reconstruct
        functions[f"{package}.multiarray", "scalar"] = _scalar
        functions[f"{package}.numeric", "_frombuffer"] = _frombuffer
    for builtins in ("builtins", "__builtin__"):  # Python 3 and 2
        for kind in (list, tuple, dict, set, frozenset):
            functions[builtins, kind.__name__] = _container(kind)
        functions[builtins, "bytearray"] = _bytearray
        functions[builtins, "bytes"] = _plain_bytes
        functions[builtins, "complex"] = _complex
    named = {key: Named(".".join(key), function) for key, function in functions.items()}
    return named | {("numpy", "ndarray"): _NDARRAY}


NAMES = _names()
