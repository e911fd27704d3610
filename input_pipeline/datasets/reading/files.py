"""Reads official files (JSON, JSON lines, TSV; each also as .gz); errors name file and line."""

import contextlib
import functools
import gzip
import os
import pathlib
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from core import remote, strict_json
from core.errors import DataError
from input_pipeline.datasets.reading.entries import check

MAX_LINE = 2**26  # bytes; the longest real lines have some thousands
# What a .gz file may unpack to where it is read whole: so many bytes, or so many times its own.
MAX_UNPACKED, MAX_RATIO = 2**28, 100
_PART = 2**20  # bytes read at a time


class NoSuchSplit(DataError):
    """Official files that have no records of a split: a subset, or another division."""


def locate(folder: str | os.PathLike, *names: str, fix: str = "") -> str:
    """Path of the first of `names` (or the same with .gz) that is in a folder.

    Args:
      folder: where the official files are (data.manual_dir).
      names: paths below it, the same file under different names.
      fix: where to get it.

    Raises:
      DataError: none of them is there.
    """
    for name in names:
        for path in (pathlib.Path(folder, name), pathlib.Path(folder, f"{name}.gz")):
            if os.path.isfile(path):  # of a name that no file can have, too
                return str(path)
    there = sorted(os.listdir(folder)) if os.path.isdir(folder) else None
    raise DataError(
        "an official file is missing",
        where=str(folder) or "--config.data.manual_dir",
        expected=" or ".join(names) + " (or the same with .gz)",
        found="no such folder" if there is None else f"{there[:10]}" + " ..." * (len(there) > 10),
        fix=fix or "download it there, or correct the folder (data.manual_dir)",
    )


class _Unpacked(gzip.GzipFile):
    """A .gz file that does not unpack without end where its lines, or all of it, are asked for."""

    def __init__(self, path: str | os.PathLike, local: str | os.PathLike):
        """Opens the copy `local` of a file that is called `path` in messages."""
        super().__init__(local, "rb")
        self._path = path
        self._limit = max(MAX_UNPACKED, MAX_RATIO * os.path.getsize(local))

    def readline(self, size: int | None = -1) -> bytes:
        """See `io.IOBase`; raises DataError for a line of MAX_LINE bytes."""
        line = super().readline(MAX_LINE if size is None or size < 0 else size)
        if len(line) == MAX_LINE:
            raise too_long(str(self._path))
        return line

    def read(self, size: int | None = -1) -> bytes:
        """See `io.IOBase`; raises DataError where all of it is far larger than the file."""
        if size is not None and size >= 0:
            return super().read(size)
        parts, nbytes = [], 0
        while part := super().read(2**22):
            parts.append(part)
            nbytes += len(part)
            if nbytes > self._limit:
                raise DataError(
                    "a packed file is far larger than it looks",
                    where=str(self._path),
                    expected=f"at most {self._limit:,} bytes unpacked",
                    found="more",
                    fix="unpack it (gunzip) if it is what it should be",
                )
        return b"".join(parts)


def too_long(where: str) -> DataError:
    """The error of a line without end."""
    return DataError(
        "a line is too long",
        where=where,
        expected=f"fewer than {MAX_LINE:,} bytes",
        found="more",
        fix="check that this is the right file",
    )


@contextlib.contextmanager
def opened(path: str | os.PathLike, *, packed: bool = False) -> Iterator[BinaryIO]:
    """A file for reading, unpacked where its name ends in .gz unless `packed`; gs://: its copy.

    Raises:
      DataError: it cannot be opened, or reading it fails (cut short, damaged).
    """
    try:
        local, is_packed = remote.local(path), str(path).endswith(".gz") and not packed
        with _Unpacked(path, local) if is_packed else open(local, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            "a file cannot be read",
            where=str(path),
            expected="a readable file",
            found=getattr(error, "strerror", None) or str(error),
            fix="check the path, or get the file again",
        ) from error


def decode(raw: bytes, where: str) -> str:
    """UTF-8 text of bytes; a byte order mark at the start is dropped.

    Raises:
      DataError: not UTF-8.
    """
    try:
        return raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise not_utf8(error, where) from error


def not_utf8(error: UnicodeDecodeError, where: str, before: int = 0) -> DataError:
    """The error of bytes, of which so many came before those that were decoded."""
    raw, start = error.object, max(0, error.start - 20)
    at = before + error.start
    return DataError(
        "a text is not UTF-8",
        where=where,
        expected="UTF-8 text",
        found=f"{error.reason} at byte {at}: {raw[start : error.start + 20]!r}",
        fix="download the file again, or convert it, for example with iconv -t UTF-8",
    )


def parse(text: str, where: str) -> Any:
    """The value of a JSON text.

    Raises:
      DataError: it is no JSON (`strict_json.parse`).
    """
    try:
        return strict_json.parse(text)
    except strict_json.JSONError as error:
        raise no_json(error, where) from error


def no_json(error: strict_json.JSONError, where: str, expected: str = "JSON") -> DataError:
    """The error of a text that is no JSON."""
    return DataError(
        "malformed JSON",
        where=where,
        expected=expected,
        found=error,
        fix="download the file again, or correct it",
    )


def read_json(path: str | os.PathLike) -> Any:
    """The contents of a JSON file.

    Raises:
      DataError: not readable, not UTF-8, not JSON.
    """
    with opened(path) as file:
        raw = file.read()
    return parse(decode(raw, str(path)), str(path))


def blank(raw: bytes) -> bool:
    """Whether a line is left out: it has nothing but spaces (a tab has columns beside it)."""
    return not raw.strip(b" \r\n")


def lines(
    path: str | os.PathLike, *, start: int = 0, stop: int | None = None, first: int = 1
) -> Iterator[tuple[int, str]]:
    """(number, text without line end) of each line of a UTF-8 file that is not blank.

    Args:
      path: of the file.
      start, stop: bytes between which to read; both are where lines start, None is the end.
      first: number of the first line there.

    Raises:
      DataError: not readable, or a line is not UTF-8.
    """
    with opened(path) as file:
        file.seek(start)
        for number, raw in enumerate(iter(functools.partial(file.readline, MAX_LINE), b""), first):
            if len(raw) == MAX_LINE:
                raise too_long(f"{path}:{number}")
            if stop is not None and start >= stop:
                return
            start += len(raw)
            if not blank(raw):
                try:
                    text = raw.decode()
                except UnicodeDecodeError as error:
                    raise not_utf8(error, f"{path}:{number}") from error
                yield number, text.removeprefix("\ufeff").rstrip("\r\n")


def count_lines(path: str | os.PathLike) -> int:
    """How many lines a file has, blank ones included.

    Raises:
      DataError: not readable.
    """
    count, last = 0, b"\n"
    with opened(path) as file:
        while part := file.read(_PART):
            count, last = count + part.count(b"\n"), part[-1:]
    return count + (last != b"\n")


def json_lines(path: str | os.PathLike) -> Iterator[tuple[int, dict]]:
    """(line number from 1, object) of each line of a JSON-lines file.

    Raises:
      DataError: not readable, not UTF-8, malformed JSON, a line that is no object.
    """
    for number, text in lines(path):
        yield number, check(parse(text, f"{path}:{number}"), dict, f"{path}:{number}")


def tsv(path: str | os.PathLike, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """(line number from 1, cells) of each line of a tab-separated file without quoting.

    Args:
      path: of the file.
      columns: names of the columns; every line has as many.

    Raises:
      DataError: not readable, not UTF-8, a line with another number of columns.
    """
    for number, text in lines(path):
        yield number, split_columns(text, columns, f"{path}:{number}")


def split_columns(text: str, columns: Sequence[str], where: str) -> list[str]:
    """The cells of a tab-separated line.

    Raises:
      DataError: another number of cells than of `columns`.
    """
    cells = text.split("\t")
    if len(cells) != len(columns):
        raise DataError(
            "a line has the wrong number of columns",
            where=where,
            expected=f"{len(columns)} columns between tabs: {', '.join(columns)}",
            found=f"{len(cells)}: {text[:80]!r}",
            fix="download the file again, or correct the line",
        )
    return cells
