"""Plain text files, one item a non-empty line: VL-BERT's text-only stream.

Lines end as in Python's text files: with a line feed, a carriage return, or both.

Item i is what follows from line i on, over line ends and from the last file into the first, as
much as fills a row; `TextTable.gather(..., cyclic=True)` takes it out of the table.
"""

import functools
import io
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import xxhash

from input_pipeline.datasets.reading import files
from input_pipeline.texts.rows import Row


def lines(path: str | os.PathLike, **stretch: Any) -> Iterator[tuple[int, str]]:
    """(number from 1, stripped text) of each non-empty line of a UTF-8 file.

    Args:
      path: of the file.
      **stretch: where only some are to be read, see `files.lines`.

    Raises:
      DataError: the file cannot be read or a line is not UTF-8.
    """
    for number, text in files.lines(path, **stretch):
        if text := text.strip():
            yield number, text


def rows(paths: Sequence[str]) -> Iterator[Row]:
    """The lines of all files; source = number of the file.

    Raises:
      DataError: as of `lines`.
    """
    for source, path in enumerate(paths):
        name = pathlib.Path(path).name
        with files.opened(path) as file:
            # Bytes in the guise of characters, so that line ends are found before text is decoded.
            wrapper = io.TextIOWrapper(file, "latin-1", newline=None)
            lines = iter(functools.partial(wrapper.readline, files.MAX_LINE), "")
            for number, line in enumerate(lines, 1):
                if len(line) == files.MAX_LINE:
                    raise files.too_long(f"{path}:{number}")
                text = files.decode(line.encode("latin-1"), f"{path}:{number}").strip()
                if text:
                    yield Row(None, text, f"{name}:{number}", source=source)


def corpus_fingerprint(paths: Sequence[str]) -> str:
    """`fingerprint` of the files of a corpus.

    Raises:
      DataError: a file cannot be read.
    """
    alone = [path for path in paths if _has_lone_returns(path)]
    # Their lines were longer once: tables from then are made again.
    return fingerprint(paths) + " lines end with carriage returns" * bool(alone)


def _has_lone_returns(path: str) -> bool:
    with files.opened(path) as file:
        last = b""
        while part := file.read(2**22):
            if last == b"\r" and part[:1] != b"\n":
                return True
            last = part[-1:]
            if part.count(b"\r") - (last == b"\r") > part.count(b"\r\n"):
                return True
    return False


def fingerprint(paths: Sequence[str]) -> str:
    """Hex digest of the contents of files, in order.

    Raises:
      DataError: a file cannot be read.
    """
    digest = xxhash.xxh3_128()
    for path in paths:
        with files.opened(path, packed=True) as file:
            digest.update(b"\0file\0")
            while part := file.read(2**22):
                digest.update(part)
    return digest.hexdigest()
