"""Plain text files, one item a non-empty line: VL-BERT's text-only stream.

Item i is what follows from line i on, over line ends and from the last file into the first, as
much as fills a row; `TextTable.gather(..., cyclic=True)` takes it out of the table.
"""

import os
import pathlib
from collections.abc import Iterator, Sequence

import xxhash

from input_pipeline.schema import DataError
from input_pipeline.table_writer import Row


def lines(path: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """(number from 1, stripped text) of each non-empty line of a UTF-8 file.

    Raises:
      DataError: the file cannot be read or a line is not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            for number, raw in enumerate(file, 1):
                try:
                    text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                except UnicodeDecodeError as error:
                    raise DataError(
                        "a line is not UTF-8",
                        where=f"{path}:{number}",
                        expected="UTF-8 text",
                        found=f"{error.reason} at byte {error.start} of {raw[:40]!r}",
                        fix="convert the file, for example with iconv -t UTF-8",
                    ) from error
                if text:
                    yield number, text
    except OSError as error:
        raise DataError(
            "a text file cannot be read",
            where=str(path),
            expected="a readable file",
            found=error.strerror,
            fix="check the path (data.annotations, data.eval_annotations, data.corpus)",
        ) from error


def rows(files: Sequence[str]) -> Iterator[Row]:
    """The lines of all files; source = number of the file."""
    for source, path in enumerate(files):
        name = pathlib.Path(path).name
        for number, text in lines(path):
            yield Row(None, text, f"{name}:{number}", source=source)


def fingerprint(files: Sequence[str]) -> str:
    """Hex digest of the contents of files, in order.

    Raises:
      DataError: a file cannot be read.
    """
    digest = xxhash.xxh3_128()
    for path in files:
        try:
            with open(path, "rb") as file:
                digest.update(b"\0file\0")
                while part := file.read(2**22):
                    digest.update(part)
        except OSError as error:
            raise DataError(
                "a file cannot be read",
                where=str(path),
                expected="a readable file",
                found=error.strerror,
                fix="check the path (data.annotations, data.eval_annotations, data.corpus)",
            ) from error
    return digest.hexdigest()
