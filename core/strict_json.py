"""JSON as its standard has it, read in one place: what it cannot mean is an error of one type.

Python's own reader goes further (NaN, Infinity, halves of surrogate pairs, which no file and no
terminal takes) and ends in several types of errors (numbers of thousands of digits, brackets within
brackets until its stack is full).
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from core.messages import brief, clip

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
# Strings, and what is in none of them: NaN and infinity.
_SPACE = re.compile(r"[ \t\r\n]*")
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
    with _errors(lambda position: _at(text, position)):
        value = json.loads(text, parse_constant=_refuse)
        _check_characters(text, value)
    return value


def parse_items(read: Callable[[], str], most: int) -> Iterator[Any]:
    """The items of a JSON text that is one list, read one after the other.

    Args:
      read: read() → the next piece of the text, "" after the last.
      most: characters of one item; one of more than twice as many is an error, whatever it is.

    Raises:
      JSONError: as of `parse`, in the item after those that were given; no list.
    """
    window = _Window(read)
    if window.next() != "[":
        raise JSONError(f"no list: {window.near()}")
    window.skip()
    if window.next() == "]":
        window.skip()
    else:
        while True:
            with _errors(window.near):
                item = window.item(most)
            yield item
            end = window.next()
            if end not in (",", "]"):
                raise JSONError(f"no comma and no end of the list after an item: {window.near()}")
            window.skip()
            if end == "]":
                break
    if window.next():
        raise JSONError(f"more after the end of the list: {window.near()}")


class _Window:
    """The part of a long JSON text that is looked at."""

    def __init__(self, read: Callable[[], str]):
        self._read, self._text, self._at, self._ended = read, "", 0, False
        self._decoder = json.JSONDecoder(parse_constant=_refuse)

    def _extend(self) -> None:
        """Doubles what is there, so that an item is tried a few times, however long it is."""
        parts = [self._text[self._at :]]
        wanted, self._at = 2 * len(parts[0]), 0
        size = len(parts[0])
        while not self._ended and size <= wanted:
            parts.append(self._read())
            size += len(parts[-1])
            self._ended = not parts[-1]
        self._text = "".join(parts)

    def next(self) -> str:
        """The next character that is no white space, "" at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._extend()

    def skip(self) -> None:
        """Goes on after the next character."""
        self._at += 1

    def near(self, position: int | None = None) -> str:
        """What is there, for messages."""
        start = self._at if position is None else max(0, position - 20)
        return repr(self._text[start : start + 60])

    def item(self, most: int) -> Any:
        """The next item; errors are of many types."""
        self.next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                # 12 at the end of what is there may go on as 123, and 1. as 1.5.
                complete = self._text[end : end + 1] not in ("", *".eE")
            except json.JSONDecodeError:
                if self._ended:
                    raise
                complete = False
            if complete or self._ended:
                _check_characters(self._text[self._at : end], value)
                self._at = end
                return value
            if len(self._text) - self._at > most:
                raise ValueError(f"malformed, or an item of more than {most:,} characters")
            self._extend()


@contextlib.contextmanager
def _errors(near: Callable[[int | None], str]) -> Iterator[None]:
    """Whatever reading a JSON text raises is a JSONError.

    Args:
      near: near(position) → what is there; of None: where reading is.
    """
    try:
        yield
    except _ConstantError as error:
        raise JSONError(f"{error} is no number of JSON, {near(None)}") from error
    except json.JSONDecodeError as error:
        raise JSONError(f"{error.msg} {near(error.pos)}") from error
    except UnicodeEncodeError as error:
        around = error.object[max(0, error.start - 20) : error.start + 20]
        raise JSONError(f"half of a surrogate pair is no character: {brief(around)}") from error
    except RecursionError as error:
        raise JSONError("nested too deeply") from error
    except MemoryError as error:
        raise JSONError("more than fits into memory") from error
    except ValueError as error:
        raise JSONError(clip(str(error), 300)) from error


def _check_characters(text: str, value: Any) -> None:
    if _SURROGATE.search(text):  # a pair of them is one character, half a pair is none
        json.dumps(value, ensure_ascii=False).encode()


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        near = data[max(0, error.start - 20) : error.start + 20]
        raise JSONError(f"no UTF-8 at byte {error.start}: {near!r}") from error


def _refuse(name: str) -> NoReturn:
    raise _ConstantError(name)


def _at(text: str, position: int | None) -> str:
    """A place in a text, and what is there; of None: where NaN or infinity is."""
    if position is None:
        position = next(m.start(1) for m in _CONSTANTS.finditer(text) if m[1])
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return f"at line {line} column {column}: {text[max(0, position - 20) : position + 40]!r}"
