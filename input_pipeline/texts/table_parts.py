"""Joins tables of the parts of a split into the table of the split, with the bytes that it has
where `table_writer` writes it in one go.

For texts of one image each, or none: rows of several images number these by the rows that are
written together.
"""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import xxhash

from core.errors import DataError
from core.progress import atomic_folder
from core.reading import reading
from core.strings import unpack_strings
from input_pipeline.texts.table_columns import COLUMNS, OPTIONAL, Columns, Files, column_dtype
from input_pipeline.texts.table_writer import describe, no_texts

NOT_JOINED = ("more_images", "foreign")


def join_tables(
    parts: Sequence[pathlib.Path], folder: str | os.PathLike, *, fingerprint: str, origin: str
) -> None:
    """Writes a table into a new folder, whole or not at all.

    Args:
      parts: tables of this machine, in order; some may be without texts.
      folder: to write; one that is there already is kept.
      fingerprint: of the table.
      origin: the files its texts come from, for messages.

    Raises:
      DataError: a damaged part, one whose rows have several images, or no texts at all.
    """
    used, skipped = set[str](), list[Any]()
    with atomic_folder(folder, keep_existing=True, last="meta.json") as temporary:
        files = Files(temporary)
        joined = _Joined(files, origin)
        try:
            for part in parts:
                meta, columns = _read(part)
                used |= {*OPTIONAL} & {*columns}
                skipped += meta["skipped"]
                joined.add_table(columns)
            joined.add_images()
        finally:
            found = files.close()
        if not joined.counts["ids"]:
            raise no_texts(origin or str(folder), len(skipped))
        describe(
            temporary,
            {name: {"count": joined.counts[name], "xxh3": xxh3} for name, xxh3 in found.items()},
            used,
            origin=origin,
            fingerprint=fingerprint,
            skipped=skipped,
        )


def _read(part: pathlib.Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """meta.json of a part, and its columns."""
    fix = f"remove {part} and give the command again"
    with reading(str(part), "a part of a table is damaged", fix=fix):
        meta = json.loads((part / "meta.json").read_text())
        if other := sorted({*meta["columns"]} & {*NOT_JOINED} | {*meta["columns"]} - {*COLUMNS}):
            raise DataError(
                "texts of this kind are tokenised on one machine",
                where=str(part),
                expected="texts of one image each, or none, without targets of a task",
                found=f"columns {other}",
                fix="start the run: it makes the table itself",
            )
        columns = {}
        for name, told in meta["columns"].items():
            data = (part / f"{name}.bin").read_bytes()
            if xxhash.xxh3_64_hexdigest(data) != told["xxh3"]:
                raise ValueError(f"{name}.bin has other bytes than were written")
            columns[name] = np.frombuffer(data, column_dtype(name))
    return meta, columns


class _Joined(Columns):
    """The columns of tables, one after the other."""

    def add_table(self, part: dict[str, np.ndarray]) -> None:
        """Appends the rows of a table; `add_images` ends it, as after `add_rows`."""
        rows, pieces, before = len(part["source"]), len(part["ids"]), self.counts["ids"]
        named = unpack_strings(part["images"], part["image_ends"])
        # As `add_rows` numbers them: by where they occur first.
        numbers = [self._images.setdefault(image, len(self._images)) for image in named]
        index = part["image_index"]
        # One more number, that of no image: -1 is the last place.
        part = part | {
            "offsets": before + part["offsets"][1:],
            "image_index": np.asarray([*numbers, -1], index.dtype)[index],
            "text_id_ends": self._ends["text_id_ends"] + part["text_id_ends"],
        }
        if rows:
            self._ends["text_id_ends"] = int(part["text_id_ends"][-1])
        lengths = {"probe": pieces, "mentions": pieces, "second": rows, "follows": rows}
        for name in COLUMNS:
            if name in part and name not in ("images", "image_ends"):
                self._add(name, part[name])
            elif name in lengths:
                self._add(name, np.zeros(lengths[name], column_dtype(name)))
