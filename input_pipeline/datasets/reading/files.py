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
from core.messages import brief

MAX_LINE = 2**26  # bytes; the longest real lines have some thousands
# What a .gz file may unpack to where it is read whole: so many bytes, or so many times its own.
MAX_UNPACKED, MAX_RATIO = 2**28, 100
_PART = 2**20  # bytes read at a time
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
