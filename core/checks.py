"""What a setting may be, said beside its default: `require` turns a wrong one into a ConfigError.

A module that declares settings has OPTIONS, {name: default}, and CHECKS, {name: Check}, with an
entry for each of OPTIONS.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from core.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Check:
    """One condition.

    Attributes:
      expected: what a value must be, for the message.
      holds: holds(value) → whether it is.
    """

    expected: str
    holds: Callable[[Any], bool]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def one_of(*known: Any) -> Check:
    """One of the known values."""
    return Check(f"one of {known}", lambda value: value in known)


def flag() -> Check:
    """True or False."""
    return Check("True or False", lambda value: isinstance(value, bool))


def text(*, empty: bool = True) -> Check:
    """Any text: a path, a name or a key, checked where it is used."""
    return Check(
        "text" if empty else "text that is not empty",
        lambda value: isinstance(value, str) and (empty or bool(value)),
    )


def pattern(regex: str, expected: str) -> Check:
    """Text of a form.

    Args:
      regex: that the whole text matches.
      expected: the form in words.
    """
    return Check(
        expected, lambda value: isinstance(value, str) and re.fullmatch(regex, value) is not None
    )


def whole(least: int | None = None, most: int | None = None) -> Check:
    """A whole number within inclusive bounds."""
    return Check(
        f"a whole number{_within(least, most)}",
        lambda value: _is_whole(value) and _inside(value, least, most),
    )


def number(
    least: float | None = None,
    most: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
) -> Check:
    """A finite number within bounds: `least` and `most` count, `above` and `below` do not."""
    bounds = _within(least, most)
    bounds += f" above {above}" if above is not None else ""
    bounds += f" below {below}" if below is not None else ""
    return Check(
        f"a finite number{bounds}",
        lambda value: (
            _is_number(value)
            and _inside(value, least, most)
            and (above is None or value > above)
            and (below is None or value < below)
        ),
    )


def share() -> Check:
    """A number from 0 to 1."""
    return number(0, 1)


def regex() -> Check:
    """Text that is a regular expression."""
    return Check("a regular expression", _compiles)


def each(item: Check, *, lengths: tuple[int, ...] = (), ascending: bool = False) -> Check:
    """A tuple or list.

    Args:
      item: what each of its items must be.
      lengths: numbers of items that it may have; (): any.
      ascending: whether each item must be greater than the one before.
    """
    count = f"{' or '.join(map(str, lengths))} of these: " if lengths else "a sequence, of each: "

    def holds(value: Any) -> bool:
        return (
            isinstance(value, tuple | list)
            and (not lengths or len(value) in lengths)
            and all(item.holds(one) for one in value)
            and (not ascending or all(a < b for a, b in itertools.pairwise(value)))
        )

    return Check(count + item.expected + (", ascending" if ascending else ""), holds)


def pair_of(first: Check, second: Check) -> Check:
    """A tuple or list of two."""
    return Check(
        f"({first.expected}, {second.expected})",
        lambda value: (
            isinstance(value, tuple | list)
            and len(value) == 2
            and first.holds(value[0])
            and second.holds(value[1])
        ),
    )


def require(where: str, values: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    """Checks a block of settings; a nested block goes by dotted names.

    Args:
      where: the block, such as "config.optimizer".
      values: the block.
      checks: {name or dotted name within the block: Check}.

    Raises:
      ConfigError: the first setting that is not what it must be.
    """
    for name, check in checks.items():
        value: Any = values
        for part in name.split("."):
            value = value[part]
        if not check.holds(value):
            raise ConfigError(
                "a setting has a wrong value",
                where=f"{where}.{name}",
                expected=check.expected,
                found=repr(value),
                fix=f"--{where}.{name}=...",
            )


def _inside(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


def _within(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f" from {least} to {most}"
    if least is not None:
        return f" of at least {least}"
    return f" of at most {most}" if most is not None else ""


def _compiles(value: Any) -> bool:
    try:
        re.compile(value)
    except (re.error, TypeError):
        return False
    return isinstance(value, str)
