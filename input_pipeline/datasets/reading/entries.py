"""What the entries of official files must be; errors name the file, the place and the key."""

from collections.abc import Sequence
from typing import Any

from core.errors import DataError
from core.messages import brief

MAX_DIGITS = 30  # of a number in a name
LARGEST = 2**63  # numbers are smaller: ids, and pixels
_KINDS = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def is_number(value: Any) -> bool:
    """Whether a value is a finite number (no bool) of at most 63 bits."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and -LARGEST < value < LARGEST  # NaN is not


def check(value: Any, kind: type, where: str, name: str = "") -> Any:
    """`value` if it is of a kind: str, int (no bool), float (or int), bool, list, dict.

    Raises:
      DataError: naming `where`, the field `name`, what was expected and found.
    """
    wanted = (int, float) if kind is float else kind
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        raise DataError(
            f"the value of {name!r} is of the wrong kind" if name else "an item is no such thing",
            where=where,
            expected=_KINDS[kind],
            found=f"{type(value).__name__} {brief(value, 60)}",
            fix="check that this is the official file, or correct it",
        )
    if kind in (int, float) and not is_number(value):
        raise DataError(
            f"a number is out of range: {name!r}" if name else "a number is out of range",
            where=where,
            expected="a finite number of at most 63 bits",
            found=brief(value, 60),
            fix="check that this is the official file, or correct it",
        )
    return value


def need(item: dict, key: str, kind: type, where: str) -> Any:
    """The value of a key of an object.

    Args:
      item: the object.
      key: of it.
      kind: as of `check`.
      where: file, and line or index, for messages.

    Raises:
      DataError: `item` is no object, has no such key, or its value is of another kind.
    """
    check(item, dict, where)
    if key not in item:
        raise DataError(
            f"the key {key!r} is missing",
            where=where,
            expected=f"{key!r}: {_KINDS[kind]}",
            found=f"keys {sorted(item)[:20]}",
            fix="check that this is the official file, or correct it",
        )
    return check(item[key], kind, where, key)


def need_id(item: dict, key: str, where: str) -> str:
    """An id, a string or a whole number in the file, as text; a number never has leading zeros.

    Raises:
      DataError: as of `need`; an empty id.
    """
    value = item.get(key) if isinstance(item, dict) else None
    kind = str if isinstance(value, str) else int
    value = str(need(item, key, kind, where))
    return need_text(value, where, key)


def need_text(text: str, where: str, name: str = "text") -> str:
    """A text with runs of white space made one space.

    Line ends and tabs inside official captions are leftovers of annotation tools.

    Raises:
      DataError: nothing is left.
    """
    clean = " ".join(text.split())
    if not clean:
        raise DataError(
            f"the {name} is empty",
            where=where,
            expected="at least one word",
            found=repr(text),
            fix="correct or remove the entry",
        )
    return clean


def number(text: str, where: str, name: str) -> str:
    """Decimal digits without leading zeros: COCO writes 139 as 000000000139 in file names.

    Raises:
      DataError: something else than digits, or more of them than an id has.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS):
        raise DataError(
            f"the value of {name!r} is no number",
            where=where,
            expected=f"digits, {MAX_DIGITS} at most",
            found=brief(text, 60),
            fix="check that this is the official file, or correct it",
        )
    return text.lstrip("0") or "0"


def need_number(item: dict, key: str, where: str) -> str:
    """A numeric id, a whole number or digits in the file, as digits without leading zeros.

    Raises:
      DataError: as of `need`; something else than digits.
    """
    return number(need_id(item, key, where), where, key)


def unknown(what: str, known: Sequence[str], found: str, where: str) -> DataError:
    """The error of a name that is not among the known ones."""
    return DataError(
        f"unknown {what}", where=where, expected=f"one of {list(known)}", found=repr(found)
    )


def twice(what: str, name: str, where: str, first: str = "") -> DataError:
    """The error of an id that occurs twice."""
    return DataError(
        f"the same {what} occurs twice",
        where=where,
        expected=f"each {what} once",
        found=repr(name) + (f", first at {first}" if first else ""),
        fix="remove one of the two; a file as published: download it again",
    )


class Unique:
    """Refuses an id that came before."""

    def __init__(self, what: str):
        """`what` the ids are of, for messages."""
        self._what, self._places = what, {}

    def add(self, name: str, where: str) -> str:
        """Returns `name`.

        Raises:
          DataError: it came before; both places are named.
        """
        if name in self._places:
            raise twice(self._what, name, where, self._places[name])
        self._places[name] = where
        return name
