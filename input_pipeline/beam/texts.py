"""The table of a split's texts, made on an engine, where a run on the same data looks for it."""

import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from core import progress, remote, remote_folders
from core.console import say
from core.errors import ConfigError, DataError
from input_pipeline import datasets
from input_pipeline.datasets.reading import stretches
from input_pipeline.datasets.reading.prepared import Prepared
from input_pipeline.datasets.reading.stretches import Stretch
from input_pipeline.importers.elsewhere import Engine
from input_pipeline.texts.table_parts import join_tables
from input_pipeline.texts.table_writer import fingerprint, write_table
from input_pipeline.texts.tables import place_of
from input_pipeline.texts.tokenizer import Tokenizer


class _Work:
    """What is done to stretches of a split; prepares the data set once per worker."""

    def __init__(self, block: Mapping[str, Any], split: str):
        """Args: block: the `data` block, as plain values; split: of the data set."""
        self._block, self._split = block, split
        self._opened: tuple[Prepared, Tokenizer] | None = None

    def _open(self) -> tuple[Prepared, Tokenizer]:
        if self._opened is None:
            prepared = datasets.prepare(ConfigDict(self._block))
            self._opened = prepared, Tokenizer.load(prepared.vocab)
        return self._opened


class TallyWork(_Work):
    """Counts the texts of each image in a stretch."""

    def __call__(self, item: tuple[Stretch, str]) -> None:
        """Writes {image id: texts} of a stretch to a file."""
        stretch, target = item
        if remote.path(target).is_file():
            return
        texts = dict(self._open()[0].tally(self._split, stretch))
        remote.replace(target, json.dumps(texts).encode())


class TableWork(_Work):
    """Tokenises a stretch."""

    def __call__(self, item: tuple[Stretch, str]) -> None:
        """Writes the table of a stretch to a folder, whole or not at all, unless it is there."""
        stretch, target = item
        if remote.complete(target, "meta.json"):
            return
        prepared, tokenizer = self._open()
        write_table(
            prepared.rows_in(self._split, stretch),
            tokenizer,
            target,
            source="part",
            origin=prepared.origin(self._split),
            on_missing=self._block["on_missing"],
            allow_empty=True,
        )


def build(
    block: ConfigDict, split: str, engine: Engine, size: int = stretches.SIZE
) -> tuple[remote.Path, int]:
    """Builds the table of a split under `block.dir`, unless it is there.

    The same command resumes: stretches that are tokenised are in the folder's `.partial`.

    Args:
      block: the `data` block of the run that is to find it.
      split: one of the data set, or several joined.
      engine: that tokenises.
      size: bytes of annotations per stretch.

    Returns:
      (folder of the table, stretches that it was made of: 0 where it was there).

    Raises:
      ConfigError: no vocabulary is named.
      DataError: a data set that is not cut into stretches, or what is wrong with its texts.
    """
    if not block.vocab:
        raise ConfigError(
            "no vocabulary is named",
            where="config.data.vocab",
            expected="a vocab.txt that all workers can read, or the name of a model on the hub",
            found="none",
        )
    prepared = datasets.prepare(block)
    if prepared.stretches is None:
        raise DataError(
            "texts of this data set are tokenised on one machine",
            where=f"data set {block.dataset!r}",
            expected="official files of conceptual_captions, or captions of jsonl",
            found=block.dataset,
            fix="start the run: it makes the table itself",
        )
    if split not in prepared.splits:
        raise DataError(
            "unknown split",
            where=f"data set {block.dataset!r}",
            expected=f"one of {sorted(prepared.splits)}",
            found=repr(split),
        )
    tokenizer = Tokenizer.load(prepared.vocab)
    source = f"{prepared.fingerprint(split)} {block.on_missing}"
    folder = remote.absolute(place_of(tokenizer, block.dir, split, source))
    if remote.complete(folder, "meta.json"):
        return folder, 0
    remote.require(folder, "config.data.dir", write=True)
    with progress.alone(folder):
        partial = folder.with_name(f"{folder.name}.partial")
        partial.mkdir(parents=True, exist_ok=True)
        found = _numbered(prepared, block, split, engine, size, partial)
        parts = [partial / f"part-{s.file}-{s.start}-{s.stop}" for s in found]
        say(f"tokenise {prepared.origin(split)}: {len(found):,} stretches")
        work = TableWork(block.to_dict(), split)
        items = [(s, str(part)) for s, part in zip(found, parts, strict=True)]
        engine.each(work, items, partial, "tokenise")
        here = remote.mirror(partial)
        join_tables(
            [here / part.name for part in parts],
            folder,
            fingerprint=fingerprint(source, tokenizer),
            origin=prepared.origin(split),
        )
        remote_folders.remove(partial)
    return folder, len(found)


def _numbered(
    prepared: Prepared,
    block: ConfigDict,
    split: str,
    engine: Engine,
    size: int,
    partial: remote.Path,
) -> list[Stretch]:
    """The stretches of a split, with the texts that come before them where names need it."""
    found = prepared.stretches(split, size)
    if prepared.tally is None:
        return found
    targets = [partial / f"texts-{s.file}-{s.start}-{s.stop}.json" for s in found]
    items = [(s, str(target)) for s, target in zip(found, targets, strict=True)]
    engine.each(TallyWork(block.to_dict(), split), items, partial, "count")
    seen: dict[str, int] = {}
    numbered = []
    for stretch, target in zip(found, targets, strict=True):
        texts = json.loads(target.read_text())
        before = {image: seen[image] for image in texts if image in seen}
        numbered.append(stretch._replace(before=before))
        for image, count in texts.items():
            seen[image] = seen.get(image, 0) + count
    return numbered
