"""Tokenises texts into the flat columns of a table (read by `tables.TextTable`)."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import xxhash

from core.errors import DataError
from core.progress import Progress, atomic_folder
from input_pipeline.texts.rows import EMPTY, Row, Skipped
from input_pipeline.texts.table_columns import Columns, Files, Spans, has_places, left_out, used_by
from input_pipeline.texts.tokenizer import Tokenizer

FORMAT = 3
CHUNK = 4096  # rows tokenised at a time
META = {"format", "origin", "fingerprint", "columns", "skipped"}  # fields of meta.json


def digest_of(meta: dict) -> str:
    """Hex digest of the fields of meta.json, which is kept with them."""
    return xxhash.xxh3_64_hexdigest(json.dumps(meta, sort_keys=True).encode())


def fingerprint(source: str, tokenizer: Tokenizer) -> str:
    """Hex digest of a table's contents, by what it is made from."""
    return xxhash.xxh3_128_hexdigest(f"{FORMAT} {source} {tokenizer.fingerprint}".encode())


def places_of(rows: Sequence[Row], tokenizer: Tokenizer) -> dict[int, Spans]:
    """What `Columns.add_rows` takes as places."""
    numbers = [i for i, row in enumerate(rows) if has_places(row)]
    encoded = tokenizer.encode_batch([rows[i].text for i in numbers]) if numbers else []
    return {i: item.spans for i, item in zip(numbers, encoded, strict=True)}


def write_table(
    rows: Iterable[Row | Skipped],
    tokenizer: Tokenizer,
    folder: str | os.PathLike,
    *,
    source: str,
    origin: str = "",
    on_missing: str = "error",
    total: int | None = None,
    allow_empty: bool = False,
) -> None:
    """Tokenises rows into a new folder, whole or not at all.

    Args:
      rows: texts; a `Skipped` is noted and left out.
      tokenizer: cuts the texts.
      folder: to write; one that is there already is kept.
      source: fingerprint of what `rows` comes from.
      origin: the files `rows` comes from, for messages.
      on_missing: "skip" leaves out texts without pieces and notes them.
      total: about how many rows there are, for the time that is left; None: unknown.
      allow_empty: whether there may be no texts, as in a part of a table (`table_parts`).

    Raises:
      DataError: a text without pieces, a probe span without a word, a foreign text that is not
        one of another image, no texts at all.
    """
    skipped: list[Skipped] = []
    progress, used = Progress(f"tokenise {origin}", total, unit="texts"), set()
    with atomic_folder(folder, keep_existing=True, last="meta.json") as temporary:
        files = Files(temporary)
        columns = Columns(files, origin)

        def flush(chunk: list[Row]) -> None:
            count = len(chunk)
            used.update(used_by(chunk) - {"foreign"})
            pieces = tokenizer.cut([row.text for row in chunk])
            empty = [chunk[i] for i in np.flatnonzero(pieces.lengths == 0).tolist()]
            # Without one of its rows an example would take those of the next.
            if empty and (on_missing != "skip" or any(row.follows for row in chunk)):
                raise DataError(
                    "a text is empty",
                    where=f"{origin}, text {empty[0].text_id!r}",
                    expected="at least one word",
                    found=repr(empty[0].text),
                    fix="correct or remove it, or set --config.data.on_missing=skip",
                )
            if empty:
                skipped.extend(Skipped(row.text_id, EMPTY) for row in empty)
                kept = np.flatnonzero(pieces.lengths)
                pieces, chunk = pieces.take(kept), [chunk[i] for i in kept.tolist()]
            columns.add_rows(chunk, pieces, places_of(chunk, tokenizer))
            progress.add(count)

        try:
            chunk = []
            for row in rows:
                if isinstance(row, Skipped):
                    skipped.append(row)
                    continue
                chunk.append(row)
                if len(chunk) == CHUNK:
                    flush(chunk)
                    chunk = []
            flush(chunk)
            columns.add_foreign({row.text_id for row in skipped}, origin)
            columns.add_images()
        finally:
            found = files.close()
        if not columns.counts["ids"] and not allow_empty:
            raise no_texts(origin or str(folder), len(skipped))
        if columns.counts["foreign"]:
            used.add("foreign")
        describe(
            temporary,
            {name: {"count": columns.counts[name], "xxh3": xxh3} for name, xxh3 in found.items()},
            used,
            origin=origin,
            fingerprint=fingerprint(source, tokenizer),
            skipped=[dataclasses.astuple(row) for row in skipped],
        )


def no_texts(where: str, skipped: int) -> DataError:
    """The error of a table without texts, of which so many were left out."""
    return DataError(
        "a table would have no texts",
        where=where,
        expected="at least one text",
        found=f"0 texts, {skipped} skipped",
        fix="check data.annotations, data.json_keys and the split",
    )


def describe(
    folder: pathlib.Path, columns: dict[str, dict[str, Any]], used: set[str], **fields: Any
) -> None:
    """Makes a folder of columns a table: removes those that no row uses, and writes meta.json.

    Args:
      folder: of the columns' files.
      columns: {name: its "count" and "xxh3"}.
      used: names of the optional columns that some row has something for.
      **fields: of meta.json, beside the columns and the format.
    """
    for name in left_out(used):
        del columns[name]
        (folder / f"{name}.bin").unlink()
    meta = {
        "format": FORMAT,
        "origin": fields["origin"],
        "fingerprint": fields["fingerprint"],
        "columns": columns,
        "skipped": fields["skipped"],
    }
    text = json.dumps(meta | {"xxh3": digest_of(meta)})
    (folder / "meta.json").write_text(text + "\n")
