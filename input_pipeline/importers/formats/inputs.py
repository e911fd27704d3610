"""Input files: their lines, and cutting them into parts."""

import os
from collections.abc import Iterator, Sequence

from core.errors import DataError
from input_pipeline.importers.base import Part

# What editors and spreadsheets put before a text; UTF-8's says nothing and is passed over.
UTF8_MARK = b"\xef\xbb\xbf"
OTHER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
# Bytes of one image's record, as it is in its file and unpacked. The longest real ones, 100 regions
# with all fields as text, are below 2 MB; 4,096 cells of 2,048 float64 are 64 MiB.
MAX_RECORD = 2**27
MAX_LINE = MAX_RECORD
# Bytes of what is read at once for all images of a file: their names, or a list of their keys.
MAX_LIST = 2**29


def require_paths(paths: Sequence[str], *, folders: bool) -> None:
    """Checks that there are inputs, and that all are files (or all folders).

    Raises:
      DataError: naming the first that is not.
    """
    kind = "folder" if folders else "file"
    if not paths:
        raise DataError("nothing to import", expected=f"one or more {kind}s", found="none")
    for path in paths:
        if not (os.path.isdir(path) if folders else os.path.isfile(path)):
            raise DataError(
                f"an input is no {kind}",
                where=path,
                expected=f"a {kind}",
                found="something else" if os.path.exists(path) else "nothing at this path",
                fix="check the path",
            )


def count_parts(file: int, sizes: Sequence[int], size: int, names: Sequence[str]) -> list[Part]:
    """Parts of whole records, of `size` bytes or little more each.

    Args:
      file: number of the input file.
      sizes: bytes of each record.
      size: wanted bytes per part.
      names: of the records; that of a part's first becomes its key (see `check_key`).
    """
    parts, start, total = [], 0, 0
    for i, nbytes in enumerate(sizes):
        total += nbytes
        if total >= size or i == len(sizes) - 1:
            parts.append(Part(file, start, i + 1, names[start]))
            start, total = i + 1, 0
    return parts


def check_key(path: str, part: Part, names: Sequence[str]) -> None:
    """Checks that a part still means the records it was made from.

    Raises:
      DataError: the input has other records now.
    """
    found = names[part.start] if part.stop <= len(names) else f"{len(names)} records"
    if found != part.key:
        raise DataError(
            "an input has changed since its import began",
            where=path,
            expected=f"{part.key!r} as record {part.start}",
            found=found,
            fix="remove the unfinished import (OUT.partial) and start again",
        )


def unmarked(start: bytes, where: str) -> bytes:
    """The first bytes of a text file without its byte order mark.

    Raises:
      DataError: the mark of an encoding other than UTF-8.
    """
    if encoding := OTHER_MARKS.get(start[:2]):
        raise DataError(
            f"a text file is {encoding}",
            where=where,
            expected="UTF-8",
            found=f"the byte order mark {start[:2]!r}",
            fix=f"write it again as UTF-8: iconv -f {encoding} -t UTF-8 FILE",
        )
    return start.removeprefix(UTF8_MARK)


def line_parts(files: Sequence[str], size: int) -> list[Part]:
    """Parts of text files by bytes; a line belongs to the part that its first byte is in."""
    return [
        Part(file, start, min(start + size, total))
        for file, total in enumerate(map(os.path.getsize, files))
        for start in range(0, total, size)
    ]


def lines(path: str, start: int, stop: int) -> Iterator[tuple[int, bytes | DataError]]:
    """(first byte, line without its end) of each line that begins in [start, stop), none blank.

    A byte order mark at the start of the file is not part of the first line. In place of a line
    that is longer than any of this kind of file is the error.
    """

    def read() -> bytes:
        line = file.readline(MAX_LINE)
        if len(line) == MAX_LINE:  # the rest is passed over; what is there is long enough to tell
            while (rest := file.readline(2**20)) and not rest.endswith(b"\n"):
                pass
        return line

    with open(path, "rb") as file:
        if start:
            file.seek(start - 1)
            read()  # the rest of the line before, or only its end
        while (at := file.tell()) < stop and (line := read()):
            if len(line) == MAX_LINE:
                yield (
                    at,
                    DataError(
                        "a line is too long for a text file of regions",
                        where=f"{path}, byte {at}",
                        expected=f"less than {MAX_LINE:,} bytes",
                        found="more",
                        fix="check that this is the right file, unpacked, or leave this line out",
                    ),
                )
                continue
            if at == 0:
                line = unmarked(line, path)
            if line.strip():
                yield at, line.rstrip(b"\r\n")


def first_line(path: str) -> tuple[int, bytes] | None:
    """(first byte, line) of the first line of a file that is not blank, None without one.

    Raises:
      DataError: it is longer than any of this kind of file.
    """
    for at, line in lines(path, 0, os.path.getsize(path)):
        if isinstance(line, DataError):
            raise line
        return at, line
    return None
