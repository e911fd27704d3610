"""Stretches of a file's lines, which are read by themselves: by other processes or machines."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from input_pipeline.datasets.reading import files

SIZE = 8_000_000  # bytes of a file that a worker reads at a time
ALL = 2**62  # bytes after the end of any file


class Stretch(NamedTuple):
    """A piece of a split.

    Attributes:
      start, stop: bytes of its file, where lines start; `stop` is after the last.
      line: number of its first line, from 1.
      record: lines before it that are not blank.
      file: number of the file, or of the part of a joined split, from 0.
      before: {image id: texts that earlier stretches have of it}, where texts are called by such
        numbers (`Prepared.tally`); images without any are left out.
    """

    start: int
    stop: int
    line: int = 1
    record: int = 0
    file: int = 0
    before: Mapping[str, int] = {}


def of_file(path: str, size: int = SIZE, file: int = 0) -> Iterator[Stretch]:
    """Cuts a file at line ends, every `size` bytes or little more.

    A packed file is one stretch: it can be read from its start alone.

    Args:
      path: of the file.
      size: bytes of a stretch.
      file: see `Stretch`.

    Raises:
      DataError: it cannot be read.
    """
    if path.endswith(".gz"):
        yield Stretch(0, ALL, file=file)
        return
    start, line, record = 0, 1, 0
    with files.opened(path) as opened:
        while lines := opened.readlines(size):
            stop = start + sum(map(len, lines))
            yield Stretch(start, stop, line, record, file)
            start, line = stop, line + len(lines)
            record += sum(not text.isspace() for text in lines)
