"""Vocabulary files: one word piece per line, the line's number its id. Read and written here alone.

A line ends at "\\n" and nowhere else: pieces may be characters that Python's own line splitting
takes for line ends (U+2028, U+0085, a lone "\\r"), and each of them would shift every id after it.
"""

import os
from collections.abc import Iterable

from core import remote
from core.errors import DataError
from core.progress import atomic_file

FILE = "vocab.txt"


def read(path: str | os.PathLike) -> list[str]:
    """Pieces of a vocab.txt by id.

    A byte order mark, Windows' line ends ("\\r\\n" on every line) and empty lines at the end are
    taken off.

    Raises:
      DataError: it cannot be read, or is not UTF-8.
    """
    try:
        text = remote.path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(
            "a vocabulary is not UTF-8",
            where=f"{path}, line {line}",
            expected="UTF-8",
            found=str(error),
            fix="copy it again",
        ) from error
    except OSError as error:
        raise DataError(
            "a vocabulary cannot be read",
            where=str(path),
            expected="a vocab.txt, one piece per line",
            found=error.strerror or str(error),
        ) from error
    lines = text.split("\n")
    complete = lines[:-1] if len(lines) > 1 else lines
    if all(line.endswith("\r") for line in complete):
        lines = [line.removesuffix("\r") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def write(path: str | os.PathLike, pieces: Iterable[str]) -> None:
    """Writes pieces by id, whole or not at all.

    Raises:
      ValueError: a piece that is no line.
    """
    pieces = list(pieces)
    for number, piece in enumerate(pieces):
        if "\n" in piece:
            raise ValueError(f"piece {number}, {piece!r}, holds a line end")
    with atomic_file(path) as temporary:
        temporary.write_bytes("".join(f"{piece}\n" for piece in pieces).encode())
