"""JSON as its standard has it, read in one place: what it cannot mean is an error of one type.

Python's own reader goes further (NaN, Infinity, halves of surrogate pairs, which no file and no
terminal takes) and ends in several types of errors (numbers of thousands of digits, brackets within
brackets until its stack is full).
"""

import json
import re
from typing import Any, NoReturn

from core.messages import brief, clip

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
# Strings, and what is in none of them: NaN and infinity.
_CONSTANTS = re.compile(r'"(?:[^"\\]|\\.)*"|(-?Infinity|NaN)')


class _ConstantError(Exception):
    """NaN or infinity, where a value is."""


class JSONError(ValueError):
    """A text that is no JSON; the message is short and says where."""


def parse(text: str | bytes) -> Any:
    """The value of a JSON text.

    Args:
      text: bytes are UTF-8, with or without a byte order mark.

    Raises:
      JSONError: no JSON, no UTF-8, NaN or infinity, half a character, a number of more than 4,300
        digits, nested more deeply than Python reads.
    """
    if isinstance(text, bytes):
        text = _decoded(text)
    try:
        value = json.loads(text, parse_constant=_refuse)
        if _SURROGATE.search(text):  # a pair of them is one character, half a pair is none
            json.dumps(value, ensure_ascii=False).encode()
    except _ConstantError as error:
        position = next(m.start(1) for m in _CONSTANTS.finditer(text) if m[1])
        raise JSONError(f"{error} is no number of JSON, {_at(text, position)}") from error
    except json.JSONDecodeError as error:
        raise JSONError(f"{error.msg} {_at(text, error.pos)}") from error
    except UnicodeEncodeError as error:
        near = error.object[max(0, error.start - 20) : error.start + 20]
        raise JSONError(f"half of a surrogate pair is no character: {brief(near)}") from error
    except RecursionError as error:
        raise JSONError("nested too deeply") from error
    except MemoryError as error:
        raise JSONError("more than fits into memory") from error
    except ValueError as error:
        raise JSONError(clip(str(error), 300)) from error
    return value


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        near = data[max(0, error.start - 20) : error.start + 20]
        raise JSONError(f"no UTF-8 at byte {error.start}: {near!r}") from error


def _refuse(name: str) -> NoReturn:
    raise _ConstantError(name)


def _at(text: str, position: int) -> str:
    """A place in a text, and what is there."""
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return f"at line {line} column {column}: {text[max(0, position - 20) : position + 40]!r}"
