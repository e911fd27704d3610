"""Texts are tokenised once into flat columns; batches are gathered out of them."""

import functools
import json
import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from core import remote
from core.errors import DataError
from core.reading import reading
from core.strings import PackedStrings
from input_pipeline.texts.columns import Column, HeldColumn, in_memory
from input_pipeline.texts.rows import Row, Skipped
from input_pipeline.texts.table_checks import check_columns
from input_pipeline.texts.table_columns import (
    LONG,
    VALUE,
    VALUE_ENDS,
    Columns,
    Memory,
    column_dtype,
    left_out,
    used_by,
)
from input_pipeline.texts.table_writer import (
    FORMAT,
    META,
    digest_of,
    fingerprint,
    places_of,
    write_table,
)
from input_pipeline.texts.tokenizer import Tokenizer

__all__ = ["Row", "Skipped", "TextTable", "build_table", "cached_table", "is_cached"]


def build_table(
    rows: Iterable[Row | Skipped],
    tokenizer: Tokenizer,
    folder: str | os.PathLike,
    *,
    source: str,
    origin: str = "",
    on_missing: str = "error",
) -> "TextTable":
    """Tokenises rows into a new table and opens it; arguments and errors as `write_table`."""
    write_table(rows, tokenizer, folder, source=source, origin=origin, on_missing=on_missing)
    return TextTable.open(folder)


def cached_table(
    rows: Callable[[], Iterable[Row | Skipped]],
    tokenizer: Tokenizer,
    parent: str | os.PathLike,
    name: str,
    *,
    source: str,
    origin: str = "",
    on_missing: str = "error",
    count: Callable[[], int | None] = lambda: None,
) -> "TextTable":
    """The table of `rows()` under `parent`, built if its source or vocabulary is new.

    Args:
      rows: rows() → texts, see `write_table`, which has the other arguments and the errors.
      tokenizer: cuts the texts.
      parent: folder of tables.
      name: of this one.
      source: fingerprint of what `rows` comes from.
      origin: the files, for messages.
      on_missing: what is done about texts without pieces.
      count: count() → about how many rows there are.
    """
    source = f"{source} {on_missing}"
    folder = place_of(tokenizer, parent, name, source)
    if not remote.complete(folder, "meta.json"):
        write_table(
            rows(),
            tokenizer,
            folder,
            source=source,
            origin=origin,
            on_missing=on_missing,
            total=count(),
        )
    table = TextTable.open(folder)
    table.origin = origin  # the same texts may have moved since
    return table


def is_cached(
    tokenizer: Tokenizer, parent: str | os.PathLike, name: str, source: str, on_missing: str
) -> bool:
    """Whether `cached_table` need not build its table; arguments as there."""
    folder = place_of(tokenizer, parent, name, f"{source} {on_missing}")
    return remote.complete(folder, "meta.json")


def place_of(
    tokenizer: Tokenizer, parent: str | os.PathLike, name: str, source: str
) -> remote.Path:
    """Where `cached_table` has a table; `source` with what is done about texts without pieces."""
    return remote.path(parent) / f"table-{name}-{fingerprint(source, tokenizer)[:16]}"


class TextTable:
    """Columns of tokenised texts; those of pieces stay in their files (see `columns`).

    Attributes:
      ids, word_starts, probe, mentions: flat [pieces], each a `Column`; probe (kinds of words,
        from 1) is None where no text marks words, mentions (numbers of objects, from 1) where none
        names an object.
      offsets: int64 [N + 1], pieces of row i are offsets[i]:offsets[i + 1].
      image_index: int32 [N] into `images`, -1 for plain text.
      images: image ids, each once.
      more_images: int32 [N, M - 1] into `images`; None where texts have one image.
      second: int32 [N], pieces before a row's second part, 0 where it has one part; None: no row
        has two.
      follows: bool [N], rows that belong to the example of a row before them; None: no row does.
      source: int16 [N], number of the corpus in a mixture.
      foreign: int32 [N, width], rows with texts of other images that are false of this one's,
        padded with -1; None where no text has any.
      origin: files the texts come from, for messages.
      skipped: rows left out when it was built.
      fingerprint: of the source and the vocabulary.
    """

    def __init__(self, folder: remote.Path | None, meta: dict, columns: dict[str, np.ndarray]):
        self.folder, self.fingerprint = folder, meta["fingerprint"]
        self.origin = meta["origin"]
        self.skipped = [Skipped(*row) for row in meta["skipped"]]
        self.ids, self.word_starts = columns["ids"], columns["word_starts"]
        self.probe, self.mentions = columns.get("probe"), columns.get("mentions")
        self.follows, self.second = columns.get("follows"), columns.get("second")
        self.offsets, self.image_index = columns["offsets"], columns["image_index"]
        self.source = columns["source"]
        self.foreign, self.more_images = (
            columns[name].reshape(len(self.source), -1) if name in columns else None
            for name in ("foreign", "more_images")
        )
        self.images = PackedStrings((columns["images"], columns["image_ends"]))
        self.images.check()
        self._values = {}
        for name in columns:
            if name.startswith(VALUE):
                key = name.removeprefix(VALUE)
                stops = columns[VALUE_ENDS + key]
                starts = np.concatenate([[0], stops[:-1]])
                width = int((stops - starts).max(initial=1))
                self._values[key] = (columns[name], starts, stops, width)
        self._text_ids, self._text_id_ends = columns["text_ids"], columns["text_id_ends"]

    @classmethod
    def open(cls, folder: str | os.PathLike) -> "TextTable":
        """Opens a table and checks the hash of each column; one on gs:// is copied to this machine.

        Raises:
          DataError: it is missing or damaged.
        """
        place, folder = remote.path(folder), remote.mirror(folder)

        def broken(file: str, expected: object, found: object) -> DataError:
            return DataError(
                "a tokenised table is damaged",
                where=str(place / file),
                expected=expected,
                found=found,
                fix=f"remove {place}; it is made again from the texts",
            )

        with reading(
            str(place),
            "a tokenised table is damaged",
            fix=f"remove {place}; it is made again from the texts",
        ):
            try:
                meta = json.loads((folder / "meta.json").read_bytes().decode("utf-8"))
                if meta.get("format") != FORMAT:
                    raise broken("meta.json", f"format {FORMAT}", meta.get("format"))
                if "xxh3" in meta and meta.pop("xxh3") != digest_of(meta):
                    raise broken("meta.json", "what was written", "changed bytes")
                if set(meta) != META:
                    raise broken("meta.json", sorted(META), sorted(meta))
                described = {
                    name: (column_dtype(name), int(info["count"]), info["xxh3"])
                    for name, info in meta["columns"].items()
                }
            except (
                OSError,
                ValueError,
                KeyError,
                TypeError,
                AttributeError,
                RecursionError,
            ) as error:
                if isinstance(error, DataError):
                    raise
                found = f"{type(error).__name__}: {error}"
                raise broken("meta.json", "the description of a table", found) from error
            columns = {}
            for name, (dtype, count, xxh3) in described.items():
                path = folder / f"{name}.bin"
                size = path.stat().st_size if path.is_file() else "no file"
                if size != count * dtype.itemsize:
                    raise broken(path.name, f"{count * dtype.itemsize} bytes", size)
                try:
                    if name in LONG or name.startswith(VALUE):
                        columns[name] = Column(path, dtype)
                        found = columns[name].xxh3
                    else:
                        columns[name], found = in_memory(path, dtype)
                except OSError as error:
                    raise broken(path.name, "a readable file", str(error)) from error
                if found != xxh3 or len(columns[name]) != count:
                    raise broken(path.name, f"hash {xxh3}", f"hash {found}")
            check_columns(columns, broken)
            return cls(place, meta, columns)
        raise AssertionError  # `reading` lets nothing through

    @classmethod
    def of_rows(cls, rows: Sequence[Row], tokenizer: Tokenizer) -> "TextTable":
        """A table in memory, of a few rows.

        Raises:
          DataError: a text without pieces, a probe span or a mention without a word, rows that do
            not fit each other.
        """
        pieces = tokenizer.cut([row.text for row in rows])
        for row, length in zip(rows, pieces.lengths.tolist(), strict=True):
            if not length:
                raise DataError(
                    "a text is empty",
                    where=row.text_id,
                    expected="at least one word",
                    found=repr(row.text),
                )
        memory = Memory()
        columns = Columns(memory, "texts")
        columns.add_rows(rows, pieces, places_of(rows, tokenizer))
        columns.add_foreign(set(), "texts")
        columns.add_images()
        found = memory.arrays()
        for name in left_out(used_by(rows)):
            del found[name]
        for name in found:
            if name in LONG or name.startswith(VALUE):
                found[name] = HeldColumn(found[name])
        return cls(None, {"fingerprint": "", "origin": "texts", "skipped": []}, found)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def text_id(self, row: int) -> str:
        """Name of a row."""
        stop = int(self._text_id_ends[row : row + 1][0])
        start = int(self._text_id_ends[row - 1 : row][0]) if row else 0
        return self._text_ids[start:stop].tobytes().decode()

    def gather(self, rows: np.ndarray, width: int, cyclic: bool = False) -> dict:
        """Pieces of rows side by side.

        Args:
          rows: int [B].
          width: longer rows are cut to it, shorter ones are padded with 0 (False).
          cyclic: go on into the following rows, from the last into the first, until `width` is
            full. This is VL-BERT's text corpus: it adds following lines until it has 64 basic
            tokens and cuts to 64 pieces; a basic token has one piece or more, so the first 64
            pieces from here on are the same.

        Returns:
          ids int32 [B, width], word_starts [B, width], lengths int32 [B] and, where texts mark
          words, probe int8 [B, width], their kinds from 1; where they name objects, token_region
          int16 [B, width], their numbers from 1; where some have two parts, second int32 [B],
          pieces before the second.
        """
        starts = self.offsets[rows]
        lengths = np.minimum(self.offsets[np.asarray(rows) + 1] - starts, width)
        if cyclic:
            lengths = np.full_like(starts, width)
        valid = np.arange(width) < lengths[:, None]
        out = {
            "ids": np.where(valid, self.ids.rows(starts, width), 0),
            "word_starts": self.word_starts.rows(starts, width) & valid,
            "lengths": lengths.astype(np.int32),
        }
        if self.probe is not None:
            out["probe"] = np.where(valid, self.probe.rows(starts, width), 0)
        if self.mentions is not None:
            out["token_region"] = np.where(valid, self.mentions.rows(starts, width), 0)
        if self.second is not None:
            out["second"] = self.second[rows]
        return {name: np.asarray(array) for name, array in out.items()}

    def longest(self, rows: np.ndarray) -> int:
        """Pieces of the longest of some rows."""
        return int((self.offsets[np.asarray(rows) + 1] - self.offsets[rows]).max(initial=0))

    def examples(self) -> np.ndarray:
        """bool [N]: rows that are examples, and not further texts of one."""
        if self.follows is None:
            return np.ones(len(self), bool)
        return ~self.follows

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        """Rows that are examples, and the end."""
        return np.append(np.flatnonzero(self.examples()), len(self))

    def followers(self, rows: np.ndarray) -> np.ndarray:
        """int [B]: how many rows follow each of the rows before the next example."""
        after = np.searchsorted(self._starts, rows, side="right")
        return self._starts[after] - rows - 1

    def images_of(self, rows: np.ndarray) -> np.ndarray:
        """int32 [B, M] into `images`, the images of rows."""
        first = self.image_index[rows][:, None]
        if self.more_images is None:
            return first
        return np.concatenate([first, self.more_images[rows]], 1)

    def values_of(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What tasks are to learn from rows: {key: [B, longest of the table]}, padded with 0."""
        out = {}
        for key, (flat, starts, stops, width) in self._values.items():
            valid = np.arange(width) < (stops[rows] - starts[rows])[:, None]
            taken = flat.rows(starts[rows], width) if len(flat) else 0
            out[key] = np.where(valid, taken, 0).astype(flat.dtype)
        return out

    def check_foreign(self, rows: np.ndarray) -> None:
        """Checks that each of the rows has a foreign text; for a table that has some at all.

        Raises:
          DataError: naming the first text without one.
        """
        without = np.asarray(rows)[self.foreign[rows, 0] < 0]
        if without.size:
            raise DataError(
                "a text has no foreign text",
                where=f"{self.origin or self.folder}, text {self.text_id(int(without[0]))!r}",
                expected="at least one for each text, or none for all",
                found=f"none for {without.size} of {len(rows)} texts",
                fix="name some (a data set may be too small to have any), or set "
                "--config.streams.<name>.negatives=False",
            )

    def check_vocabulary(self, vocab_size: int) -> None:
        """Checks that every id is below the size of the model's vocabulary.

        Raises:
          DataError: naming the first text with an id beyond it.
        """
        for start, part in self.ids.parts():
            bad = np.flatnonzero((part < 0) | (part >= vocab_size))
            if bad.size:
                piece = start + int(bad[0])
                row = int(np.searchsorted(self.offsets, piece, "right")) - 1
                raise DataError(
                    "a word-piece id is beyond the vocabulary",
                    where=f"{self.origin or self.folder}, text {self.text_id(row)!r}",
                    expected=f"0 <= id < {vocab_size}",
                    found=int(part[bad[0]]),
                    fix="use the vocabulary that the model was built with (--config.data.vocab)",
                )
