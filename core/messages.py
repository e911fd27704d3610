"""Values and names in messages: of bounded length and cost, and harmless to a terminal."""

import re
import reprlib
from typing import Any

# What a terminal obeys or hides, and what no encoding takes: control characters but for line ends
# and tabs, other line ends, marks that are not seen or turn the direction of text around, halves of
# surrogate pairs.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)


def printable(text: str) -> str:
    """A text in which what a terminal would obey, as an escape sequence in a file's name, shows."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


class _Brief(reprlib.Repr):
    """`repr` of bounded work, whatever is inside."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 80, 80
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 8

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write numbers of more than 4,300 digits."""
        return f"a number of {x.bit_length()} bits" if x.bit_length() > 200 else repr(x)

    def repr_bytes(self, x: bytes, level: int) -> str:
        """Only what is shown is written out."""
        return repr(x[: self.maxstring]) + ("..." if len(x) > self.maxstring else "")

    repr_bytearray = repr_bytes


_BRIEF = _Brief()


def brief(value: Any, length: int = 80) -> str:
    """`repr(value)` for messages, cut to a length; its cost does not grow with the value."""
    return clip(_BRIEF.repr(value), length)


def clip(text: str, length: int) -> str:
    """A text cut to a length, in which case it says how long it was."""
    if len(text) <= length:
        return text
    return f"{text[:length]}... ({len(text):,} characters)"
