"""Plain text files, one item a non-empty line: VL-BERT's text-only stream.

Item i is what follows from line i on, over line ends and from the last file into the first, as
much as fills a row; `TextTable.gather(..., cyclic=True)` takes it out of the table.
"""

import os
import pathlib
from collections.abc import Iterator, Sequence

import xxhash

from input_pipeline.datasets.reading import files
from input_pipeline.texts.rows import Row


def lines(path: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """(number from 1, stripped text) of each non-empty line of a UTF-8 file.

    Raises:
      DataError: the file cannot be read or a line is not UTF-8.
    """
    for number, text in files.lines(path):
        if text := text.strip():
            yield number, text


def rows(paths: Sequence[str]) -> Iterator[Row]:
    """The lines of all files; source = number of the file."""
    for source, path in enumerate(paths):
        name = pathlib.Path(path).name
        for number, text in lines(path):
            yield Row(None, text, f"{name}:{number}", source=source)


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
