"""CSV files: quoted cells may hold commas, quotes and line ends."""

import csv
import os
from collections.abc import Iterator, Sequence

from core.errors import DataError
from input_pipeline.datasets.reading import files


def rows(path: str | os.PathLike, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """("file:line" where it starts, {column: text}) of each row that is not blank.

    Args:
      path: of a UTF-8 file whose first line names its columns.
      columns: those that are needed, in any order; others are left out.

    Raises:
      DataError: not readable, not UTF-8, a column that is not there, a row that is longer or
        shorter than the first line, a quote that is not closed.
    """
    with files.opened(path) as file:
        lines = (files.decode(raw, f"{path}:{number}") for number, raw in enumerate(file, 1))
        reader = csv.reader(lines, strict=True)
        header, start = None, 1
        try:
            for cells in reader:
                where, start = f"{path}:{start}", reader.line_num + 1
                if not cells:
                    continue
                if header is None:
                    header = _header(cells, columns, where)
                elif len(cells) != len(header):
                    raise DataError(
                        "a row has another number of columns than the first line",
                        where=where,
                        expected=f"{len(header)}: {','.join(header)}",
                        found=f"{len(cells)}: {str(cells)[:80]}",
                        fix='a text with a comma or a quote is written "in ""quotes"""',
                    )
                else:
                    row = dict(zip(header, cells, strict=True))
                    yield where, {column: row[column] for column in columns}
        except csv.Error as error:
            raise DataError(
                "malformed CSV",
                where=f"{path}:{start}",
                expected="cells with commas between them, quotes that are closed",
                found=str(error),
                fix='correct the row that starts there; a quote within quotes is written twice: ""',
            ) from error
    if header is None:
        _header([], columns, f"{path}:1")


def _header(cells: list[str], columns: Sequence[str], where: str) -> list[str]:
    """The names of all columns, if those that are needed are among them, once."""
    names = [cell.strip() for cell in cells]
    if any(names.count(column) != 1 for column in columns):
        raise DataError(
            "a CSV file lacks a column",
            where=where,
            expected=f"a first line that names {','.join(columns)}",
            found=",".join(names)[:80] or "an empty file",
        )
    return names
