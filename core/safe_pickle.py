"""Reads pickles of plain values and numpy arrays, and nothing else.

A pickle is a program: `pickle.load` of a downloaded file runs whatever its author wrote. The
machine here runs the program itself: it calls only stand-ins for the few functions that containers
and arrays need (`pickle_values`), any other name is refused, and it counts what it does. So memory
and time are within a small multiple of the pickle's own size, whatever it says: how deep values
are nested, how often one value stands in another, what is copied and what is hashed have bounds.

What comes back: None, bool, int, float, complex, str, bytes, bytearray, list, tuple, dict (also
for OrderedDict), set, frozenset, numpy arrays and scalars of booleans, numbers, text and, for
arrays, objects of these. A Python 2 string comes back as str where it is UTF-8, as bytes where it
is not.
"""

import codecs
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from core.errors import DataError
from core.messages import clip
from core.pickle_machine import Machine
from core.pickle_values import NAMES, Named, Refused

MAX_NUMBER = 128  # bytes of an integer
_PLAIN = "plain values and numpy arrays"


def _decimal(text: bytes, base: int = 10) -> int:
    if len(text) > 3 * MAX_NUMBER:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text, base)


def _integer(text: bytes) -> int | bool:
    """INT: "00" and "01" are Python 2's booleans."""
    return {b"00": False, b"01": True}[text] if text in (b"00", b"01") else _decimal(text, 0)


def _long(machine: Machine, count: int) -> None:
    if not 0 <= count <= MAX_NUMBER:
        raise ValueError(f"a number of {count} bytes")
    machine.push(int.from_bytes(machine.take(count), "little", signed=True))


def _string(data: bytes) -> str | bytes:
    """A Python 2 string: text, or an array's bytes."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _quoted(text: bytes) -> str | bytes:
    text = text.strip()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in b"'\"":
        raise ValueError("a string without quotes")
    return _string(codecs.escape_decode(text[1:-1])[0])


def _refuse(name: str) -> Callable[[Machine], NoReturn]:
    def refuse(machine: Machine) -> NoReturn:
        raise ValueError(f"opcode {name}")

    return refuse


def _text(machine: Machine, count: int) -> None:
    machine.push(machine.take(count).decode("utf-8", "surrogatepass"))


def _get(machine: Machine, number: int) -> None:
    machine.push(machine.memo[number])


def _names(machine: Machine) -> tuple[str, str]:
    return machine.line().decode(), machine.line().decode()


def _instance(machine: Machine) -> None:
    names, arguments = _names(machine), machine.popped()
    machine.name(*names)
    machine.call(machine.pop(), arguments)


def _object(machine: Machine) -> None:
    function, *arguments = machine.popped()
    machine.call(function, arguments)


def _last(machine: Machine, count: int) -> list:
    """The last values of the stack, taken from it."""
    if len(machine.stack) < count:
        raise ValueError("an empty stack")
    items = machine.stack[len(machine.stack) - count :]
    del machine.stack[len(machine.stack) - count :]
    return items


def _reduce(machine: Machine) -> None:
    function, arguments = _last(machine, 2)
    machine.call(function, arguments)


def _dict(machine: Machine) -> None:
    items = machine.popped()
    machine.make(dict, 64)
    machine.set_items(items)


def _list(machine: Machine) -> None:
    items = machine.popped()
    machine.spend(64)
    machine.push(items)


_OPERATIONS: dict[int, Callable[[Machine], object]] = {
    ord(code): operation
    for code, operation in {
        "\x80": lambda m: m.take(1),  # PROTO
        "\x95": lambda m: m.take(8),  # FRAME
        "0": lambda m: m.pop(),
        "1": lambda m: m.popped(),
        "2": lambda m: m.push(m.stack[-1]),  # DUP
        "(": lambda m: m.mark(),
        "N": lambda m: m.push(None),
        "\x88": lambda m: m.push(True),
        "\x89": lambda m: m.push(False),
        "I": lambda m: m.push(_integer(m.line())),
        "J": lambda m: m.push(m.number("<i")),
        "K": lambda m: m.push(m.take(1)[0]),
        "M": lambda m: m.push(m.number("<H")),
        "L": lambda m: m.push(_decimal(m.line().removesuffix(b"L"), 0)),
        "\x8a": lambda m: _long(m, m.take(1)[0]),
        "\x8b": lambda m: _long(m, m.number("<i")),
        "F": lambda m: m.push(float(m.line())),
        "G": lambda m: m.push(m.number(">d")),
        "S": lambda m: m.push(_quoted(m.line())),
        "T": lambda m: m.push(_string(m.take(m.number("<i")))),
        "U": lambda m: m.push(_string(m.take(m.take(1)[0]))),
        "V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
        "X": lambda m: _text(m, m.number("<I")),
        "\x8c": lambda m: _text(m, m.take(1)[0]),
        "\x8d": lambda m: _text(m, m.number("<Q")),
        "B": lambda m: m.push(m.take(m.number("<I"))),
        "C": lambda m: m.push(m.take(m.take(1)[0])),
        "\x8e": lambda m: m.push(m.take(m.number("<Q"))),
        "\x96": lambda m: m.push(bytearray(m.take(m.number("<Q")))),
        "]": lambda m: m.make(list, 64),
        "}": lambda m: m.make(dict, 64),
        "\x8f": lambda m: m.make(set, 216),
        ")": lambda m: m.push(()),
        "l": _list,
        "d": _dict,
        "t": lambda m: m.push(m.tuple_of(m.popped())),
        "\x85": lambda m: m.push(m.tuple_of(_last(m, 1))),
        "\x86": lambda m: m.push(m.tuple_of(_last(m, 2))),
        "\x87": lambda m: m.push(m.tuple_of(_last(m, 3))),
        "\x91": lambda m: m.push(m.frozenset_of(m.popped())),
        "a": lambda m: m.append(_last(m, 1)),
        "e": lambda m: m.append(m.popped()),
        "s": lambda m: m.set_items(_last(m, 2)),
        "u": lambda m: m.set_items(m.popped()),
        "\x90": lambda m: m.add_items(m.popped()),
        "p": lambda m: m.memoize(_decimal(m.line())),
        "q": lambda m: m.memoize(m.take(1)[0]),
        "r": lambda m: m.memoize(m.number("<I")),
        "\x94": lambda m: m.memoize(len(m.memo)),
        "g": lambda m: _get(m, _decimal(m.line())),
        "h": lambda m: _get(m, m.take(1)[0]),
        "j": lambda m: _get(m, m.number("<I")),
        "c": lambda m: m.name(*_names(m)),
        "\x93": lambda m: m.name(*_last(m, 2)),
        "i": _instance,
        "o": _object,
        "R": _reduce,
        "b": lambda m: m.build(),
        "P": lambda m: m.persistent(m.line().decode(errors="replace")),
        "Q": lambda m: m.persistent(m.pop()),
        "\x81": _refuse("NEWOBJ"),
        "\x92": _refuse("NEWOBJ_EX"),
        "\x82": _refuse("EXT1"),
        "\x83": _refuse("EXT2"),
        "\x84": _refuse("EXT4"),
        "\x97": _refuse("NEXT_BUFFER"),
        "\x98": _refuse("READONLY_BUFFER"),
    }.items()
}


def loads(
    data: bytes,
    where: str,
    *,
    names: Mapping[tuple[str, str], Named] = NAMES,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The value of a pickle of any protocol, from Python 2 or 3.

    Args:
      data: the pickle.
      where: file and key or member, for messages.
      names: stand-ins of what it may name (see `pickle_values`).
      persistent: what stands for a persistent id; None: they are refused.

    Raises:
      DataError: a name, value or dtype that is not on the list (the message names it), data that
        is cut short or damaged, or values that take far more memory or time than the pickle is
        long.
    """
    return load_at(data, 0, where, names=names, persistent=persistent)[0]


def load_at(
    data: bytes,
    at: int,
    where: str,
    *,
    names: Mapping[tuple[str, str], Named] = NAMES,
    persistent: Callable[[Any], Any] | None = None,
) -> tuple[Any, int]:
    """(the value of a pickle that begins at a byte of `data`, the first byte behind it).

    Raises:
      DataError: see `loads`.
    """
    try:
        machine = Machine(data, at, names, persistent)
        return machine.run(_OPERATIONS), machine.end
    except Refused as error:
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
            found=f"{len(data)} bytes, {type(error).__name__}: {clip(str(error), 200)}",
            fix="the file is cut short, damaged or of another kind: copy it again",
        ) from error
