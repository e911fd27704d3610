"""Values and names in messages: of bounded length and cost, and harmless to a terminal."""

import reprlib
import unicodedata
from typing import Any


def printable(text: str) -> str:
    """A text in which what a terminal would obey or hide shows as its escape sequence.

    That is everything but characters with a picture, spaces, line ends and tabs: control
    characters, marks that turn the direction of text around or have no width, Unicode's own line
    ends, halves of surrogate pairs (which no encoding takes), code points without a character.
    """
    if text.isprintable():
        return text
    return "".join(c if _shows(c) else ascii(c)[1:-1] for c in text)


def _shows(character: str) -> bool:
    return character.isprintable() or character in "\n\t" or unicodedata.category(character) == "Zs"


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
