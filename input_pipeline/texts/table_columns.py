"""The flat columns of a table of tokenised texts, and how rows become them."""

import operator
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import xxhash

from core.errors import DataError
from core.strings import unpack_strings
from input_pipeline.schema import FIELDS
from input_pipeline.texts.plain_words import Pieces
from input_pipeline.texts.rows import Row

COLUMNS = {  # file name: dtype, one entry per ...
    "ids": np.int32,  # piece
    "word_starts": np.bool_,  # piece
    "probe": np.int8,  # piece: kind of the marked word, from 1; absent where no row marks words
    "mentions": np.int16,  # piece: number of the object it names, from 1; absent where none does
    "second": np.int32,  # row: pieces before its second part; absent where no row has two
    "offsets": np.int64,  # row, plus one: where its pieces start
    "image_index": np.int32,  # row: into `images`, -1 without image
    "more_images": np.int32,  # row, times images after the first; absent where no row has any
    "follows": np.bool_,  # row: belongs to one before it; absent where none does
    "source": np.int16,  # row: which corpus of a mixture
    "foreign": np.int32,  # row, times width: rows, padded with -1; absent where no row has any
    "text_ids": np.uint8,  # byte
    "text_id_ends": np.int64,  # row
    "images": np.uint8,  # byte
    "image_ends": np.int64,  # image
}
# Fields of a row whose column is left out where no row has any.
OPTIONAL = ("probe", "mentions", "more_images", "follows", "second")
# Columns that stay in their files when a table is open, beside those of values.
LONG = ("ids", "word_starts", "probe", "mentions", "text_ids", "text_id_ends")
# Of each of a row's `values`: its entries, and where they end.
VALUE, VALUE_ENDS = "value.", "value_ends."

Spans = Sequence[tuple[int, int]]


def has_places(row: Row) -> bool:
    """Whether something of a row is said of characters of its text."""
    return bool(row.probe or row.mentions or row.second)


def used_by(rows: Sequence[Row]) -> set[str]:
    """The columns of OPTIONAL, and "foreign", that some rows have something for."""
    fields = (*OPTIONAL, "foreign")
    return {name for name in fields if any(map(operator.attrgetter(name), rows))}


def left_out(used: set[str]) -> set[str]:
    """The columns that no row uses."""
    return {*OPTIONAL, "foreign"} - used


def column_dtype(name: str) -> np.dtype:
    """dtype of a column's file."""
    if name.startswith(VALUE):
        return np.dtype(FIELDS[name.removeprefix(VALUE)].dtype)
    return np.dtype(np.int64 if name.startswith(VALUE_ENDS) else COLUMNS[name])


class Sink(Protocol):
    """Where columns go, piece by piece."""

    def open(self, name: str) -> None: ...
    def append(self, name: str, data: bytes) -> None: ...
    def read(self, name: str) -> bytes: ...


class Files:
    """A file per column in a folder; hashes what passes, so that memory stays small."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._files, self._hashes = {}, {}

    def open(self, name: str) -> None:
        self._files[name] = (self._folder / f"{name}.bin").open("wb")
        self._hashes[name] = xxhash.xxh3_64()

    def append(self, name: str, data: bytes) -> None:
        self._files[name].write(data)
        self._hashes[name].update(data)

    def read(self, name: str) -> bytes:
        """A column as far as it is written."""
        self._files[name].flush()
        return pathlib.Path(self._files[name].name).read_bytes()

    def close(self) -> dict[str, str]:
        """Closes the files; returns the hash of each column."""
        for file in self._files.values():
            file.close()
        return {name: found.hexdigest() for name, found in self._hashes.items()}


class Memory:
    """Columns in memory."""

    def __init__(self):
        self._columns: dict[str, bytearray] = {}

    def open(self, name: str) -> None:
        self._columns[name] = bytearray()

    def append(self, name: str, data: bytes) -> None:
        self._columns[name] += data

    def read(self, name: str) -> bytes:
        """A column as far as it is written."""
        return bytes(self._columns[name])

    def arrays(self) -> dict[str, np.ndarray]:
        """{column: array}."""
        return {name: np.frombuffer(self.read(name), column_dtype(name)) for name in self._columns}


def _mark(
    ids: np.ndarray,
    row: Row,
    pieces: Sequence[tuple[int, int]],
    spans: Iterable[tuple[int, int, int]],
    what: str,
) -> None:
    """Writes the id of its span to each piece that is in one.

    Args:
      ids: [pieces], changed in place.
      row: of the text.
      pieces: (start, end) of its pieces, in characters.
      spans: (start, end, id) in characters.
      what: spans are called in messages.

    Raises:
      DataError: a span without a piece.
    """
    for start, end, span_id in spans:
        hits = [i for i, (a, b) in enumerate(pieces) if a < end and b > start]
        if not hits:
            raise DataError(
                f"a {what} covers no word",
                where=f"text {row.text_id!r}",
                expected=f"(start, end) in characters of {row.text!r}",
                found=(start, end),
            )
        ids[hits] = span_id


class Columns:
    """Turns rows and their pieces into columns, which it appends to a sink.

    Attributes:
      counts: {column: entries so far}.
    """

    def __init__(self, sink: Sink, origin: str):
        self._sink, self._origin = sink, origin
        self.counts: dict[str, int] = {}
        for name in COLUMNS:
            self._open(name)
        self._ends = {"text_id_ends": 0, "image_ends": 0}
        self._images: dict[str, int] = {}
        self._foreign: dict[int, tuple[str, ...]] = {}  # kept: they may name later texts
        self._values: list[str] | None = None  # keys of the first row's values
        self._more: int | None = None  # images of the first row beside the first
        self._add("offsets", [0])

    def _open(self, name: str) -> None:
        self._sink.open(name)
        self.counts[name] = 0

    def _add(self, name: str, values: Sequence | np.ndarray) -> None:
        self._sink.append(name, np.asarray(values, column_dtype(name)).tobytes())
        self.counts[name] += len(values)

    def _add_strings(self, data: str, end: str, strings: Iterable[str]) -> None:
        encoded = [string.encode() for string in strings]
        ends = self._ends[end] + np.cumsum([len(e) for e in encoded], dtype=np.int64)
        self._add(data, np.frombuffer(b"".join(encoded), np.uint8))
        self._add(end, ends)
        if encoded:
            self._ends[end] = int(ends[-1])

    def add_rows(self, rows: Sequence[Row], pieces: Pieces, places: Mapping[int, Spans]) -> None:
        """Appends rows.

        Args:
          rows: texts.
          pieces: of all of them.
          places: {number of a row: (start, end) of its pieces, in characters}, of the rows for
            which `has_places` is true.

        Raises:
          DataError: a probe span or a mention without a word; rows that do not fit each other.
        """
        before, images = self.counts["ids"], self._images
        stops = np.cumsum(pieces.lengths)
        self._add("ids", pieces.ids)
        self._add("word_starts", pieces.word_starts)
        probe, mentions = (
            np.zeros(len(pieces.ids), column_dtype(name)) for name in ("probe", "mentions")
        )
        second = np.zeros(len(rows), column_dtype("second"))
        for i, spans in places.items():
            row, at = rows[i], slice(int(stops[i] - pieces.lengths[i]), int(stops[i]))
            kinds = [(start, end, kind + 1) for start, end, kind in row.probe]
            _mark(probe[at], row, spans, kinds, "probe span")
            objects = [(start, end, n + 1) for start, end, n in row.mentions]
            _mark(mentions[at], row, spans, objects, "mention")
            second[i] = sum(start < row.second for start, _ in spans)
        self._add("probe", probe)
        self._add("mentions", mentions)
        self._add("offsets", before + stops)
        first = self.counts["source"]
        self._foreign.update((first + i, row.foreign) for i, row in enumerate(rows) if row.foreign)
        self._add("source", [row.source for row in rows])
        self._add(
            "image_index",
            [
                -1 if row.image_id is None else images.setdefault(row.image_id, len(images))
                for row in rows
            ],
        )
        self._add_more_images(rows)
        self._add("follows", [row.follows for row in rows])
        self._add("second", second)
        self._add_strings("text_ids", "text_id_ends", [row.text_id for row in rows])
        self._add_values(rows)

    def _add_more_images(self, rows: Sequence[Row]) -> None:
        images, found = self._images, list[int]()
        for row in rows:
            if self._more is None:
                self._more = len(row.more_images)
            if len(row.more_images) != self._more:
                raise DataError(
                    "texts of one table have different numbers of images",
                    where=f"{self._origin}, text {row.text_id!r}",
                    expected=self._more + 1,
                    found=len(row.more_images) + 1,
                )
            found += [images.setdefault(image, len(images)) for image in row.more_images]
        self._add("more_images", found)

    def _add_values(self, rows: Sequence[Row]) -> None:
        if self._values is None and rows:
            self._values = sorted(rows[0].values)
            for key in self._values:
                self._open(VALUE + key)
                self._open(VALUE_ENDS + key)
        for row in rows:
            if sorted(row.values) != self._values and not row.follows:
                raise DataError(
                    "texts of one table carry different values",
                    where=f"{self._origin}, text {row.text_id!r}",
                    expected=self._values,
                    found=sorted(row.values),
                )
        for key in self._values or ():
            before = self.counts[VALUE + key]
            values = [() if row.follows else row.values[key] for row in rows]
            self._add(VALUE + key, [x for own in values for x in own])
            self._add(VALUE_ENDS + key, before + np.cumsum(list(map(len, values)), dtype=np.int64))

    def _read(self, name: str) -> np.ndarray:
        """A column as far as it is written."""
        return np.frombuffer(self._sink.read(name), COLUMNS[name])

    def add_foreign(self, skipped: set[str], origin: str) -> None:
        """Finds the rows that foreign texts are in, once all rows are there.

        Args:
          skipped: names of texts that were left out; they are no foreign texts either.
          origin: for messages.

        Raises:
          DataError: a name of no text, or of a caption of the same image.
        """
        if not self._foreign:
            return
        names = unpack_strings(self._read("text_ids"), self._read("text_id_ends"))
        row_of, images = {name: i for i, name in enumerate(names)}, self._read("image_index")
        follows = self._read("follows")  # a false text that is no caption of its image
        width = max(map(len, self._foreign.values()))
        found = np.full((len(names), width), -1, np.int32)
        for i, foreign in self._foreign.items():
            for k, name in enumerate(name for name in foreign if name not in skipped):
                found[i, k] = other = row_of.get(name, -1)
                if other < 0 or (images[other] == images[i] and not follows[other]):
                    raise DataError(
                        "a foreign text is not one of another image",
                        where=f"{origin}, text {names[i]!r}",
                        expected="the name of a text of another image",
                        found=repr(name) + (" (no such text)" if other < 0 else ""),
                        fix="correct or remove it",
                    )
        self._add("foreign", found.ravel())

    def add_images(self) -> None:
        """Writes the images, once all rows are there."""
        self._add_strings("images", "image_ends", self._images)
