"""What is told of texts that are left out, and of images for which none may be."""

import collections
import json
import os
from collections.abc import Iterable, Sequence

import numpy as np
import xxhash

from core import remote
from core.console import say
from core.errors import DataError
from core.progress import atomic_file
from input_pipeline.datasets.reading import coverage
from input_pipeline.pictures.store import PictureStore
from input_pipeline.regions.source import RegionSource
from input_pipeline.texts.rows import EMPTY, Skipped
from input_pipeline.texts.tables import TextTable

SHOWN = 10  # images without pictures that are named
HELD_OUT = "image held out"  # reason of a text left out, data.leaks=drop


def no_regions(
    split: str,
    table: TextTable,
    rows: np.ndarray,
    images: np.ndarray,
    store: RegionSource,
    stores: Iterable[str | os.PathLike],
) -> DataError:
    """The error of images that the region store lacks.

    Args:
      split: name of it.
      table: its texts.
      rows: int [n], texts of such images.
      images: numbers of these images in the table.
      store: the regions.
      stores: where they are.
    """
    count = len(np.unique(images))
    fix = "import their regions, or leave them out with --config.data.on_missing=skip"
    if count == len(table.images):  # leaving out would leave nothing
        fix = coverage.same_numbers(store.keys, table.images) or (
            f"name another split than {split!r}, whose images the store has "
            "(--config.data.train_split, --config.data.eval_split), or import their regions"
        )
    return DataError(
        "an image has no regions",
        where=f"{table.origin}, text {table.text_id(int(rows[0]))!r}",
        expected=f"image {table.images[images[0]]!r} in region store "
        f"{', '.join(map(str, stores))} ({len(store)} images, such as {store.keys[0]!r})",
        found=f"no such image; {count} of {len(table.images)} images are missing",
        fix=fix,
    )


def no_pictures(
    split: str, table: TextTable, names: Sequence[str], pictures: PictureStore, where: str
) -> DataError:
    """The error of images that have regions and no picture.

    Args:
      split: name of it.
      table: its texts.
      names: of the images.
      pictures: those that there are.
      where: they are.
    """
    return DataError(
        "images have no picture",
        where=f"split {split!r} of {table.origin}",
        expected=f"a picture of each in {where} "
        f"({len(pictures)} pictures, such as {pictures.keys[0]!r})",
        found=f"none of {len(names):,} of {len(table.images):,}: "
        f"{', '.join(map(repr, names[:SHOWN]))}{', ...' * (len(names) > SHOWN)}",
        fix="build a store of all of them, under the ids that their regions have "
        "(--ids=number), or leave these out: --config.data.on_missing=skip",
    )


def report(
    folder: str | os.PathLike, split: str, table: TextTable, skipped: Sequence[Skipped], kept: int
) -> None:
    """One line for people, and the whole list in a file.

    Args:
      folder: of the file.
      split: name of it.
      table: its texts.
      skipped: all that is left out.
      kept: texts that are not.
    """
    lines = "".join(
        json.dumps({"text_id": row.text_id, "reason": row.reason}) + "\n" for row in skipped
    )
    digest = xxhash.xxh3_64_hexdigest(f"{table.origin}\n{lines}".encode())
    path = remote.path(folder) / f"skipped-{split}-{digest}.jsonl"
    with atomic_file(path) as temporary:
        temporary.write_text(lines)
    reasons = collections.Counter(row.reason for row in table.skipped)
    without_text = reasons.pop(EMPTY, 0)
    excluded = sum(row.reason.startswith(HELD_OUT) for row in skipped)
    without_regions = len(skipped) - len(table.skipped) - excluded
    say(
        f"data: split {split!r} of {table.origin}: {kept} texts kept, {len(skipped)} skipped "
        f"({without_text} rows without text, {without_regions} texts without regions"
        + "".join(f", {count} rows: {reason}" for reason, count in sorted(reasons.items()))
        + f", {excluded} texts of images held out" * bool(excluded)
        + f"); list: {path}"
    )
