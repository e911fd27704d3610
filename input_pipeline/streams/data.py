"""What a run reads, opened once: data set, vocabulary, region store, tokenised tables.

What is missing is settled here, before the first step: an error, or with data.on_missing=skip a
list of what is left out, printed in one line and saved.
"""

import collections
import itertools
import json
from collections.abc import Callable, Collection

import numpy as np
import xxhash

from core import remote
from core.console import say
from core.errors import DataError
from core.progress import atomic_file
from input_pipeline import datasets
from input_pipeline.datasets.options.shared import ON_MISSING
from input_pipeline.datasets.reading import coverage, text_corpus
from input_pipeline.regions.store import RegionStore
from input_pipeline.streams import leaks
from input_pipeline.streams.source import Source
from input_pipeline.texts.rows import EMPTY
from input_pipeline.texts.tables import Skipped, TextTable, cached_table
from input_pipeline.texts.tokenizer import Tokenizer

HELD_OUT = "image held out"  # reason of a text left out, data.leaks=drop


class Data:
    """Everything that streams of one `data` block share, opened once.

    Attributes:
      prepared: what the data set hands over.
      tokenizer: Tokenizer.
      store: RegionStore.
      special, spec: SpecialIds of the vocabulary, FeatureSpec of the regions.
    """

    def __init__(
        self,
        data_config,
        evaluated: Collection[str] = ("eval",),
        *,
        open_store: Callable[[Collection[str]], RegionStore] = RegionStore.open,
        held_out: Callable[[], list[leaks.HeldOut]] = list,
    ):
        """Opens what a `data` block names.

        Args:
          data_config: the block, of a stream or `config.data`.
          evaluated: splits whose images must not be trained on, beside data.held_out.
          open_store: open_store(folders) → their regions.
          held_out: held_out() → more images that must not be trained on.

        Raises:
          DataError: an unknown option, or whatever the data set, store or vocabulary finds.
        """
        if data_config.on_missing not in ON_MISSING:
            raise DataError(
                "unknown on_missing",
                where="--config.data.on_missing",
                expected=f"one of {ON_MISSING}",
                found=repr(data_config.on_missing),
            )
        leaks.check_mode(data_config.leaks)
        remote.require(data_config.dir, "--config.data.dir")
        self._config, self._evaluated = data_config, evaluated
        self.prepared = datasets.prepare(data_config)
        self.tokenizer = Tokenizer.load(self.prepared.vocab)
        self.store = open_store(self.prepared.stores)
        self._held_out_elsewhere = held_out
        self.special, self.spec = self.tokenizer.special, self.store.spec
        self._sources: dict[str, Source] = {}

    def _table(self, name: str, rows, source: str, origin: str) -> TextTable:
        config = self._config
        return cached_table(
            rows,
            self.tokenizer,
            config.dir,
            name,
            source=source,
            origin=origin,
            on_missing=config.on_missing,
        )

    def split_name(self, split: str) -> str:
        """The data set's own name of "train" or "eval"; other names as they are."""
        names = {"train": self._config.train_split, "eval": self._config.eval_split}
        return names.get(split, split)

    def corpus(self) -> Source:
        """Lines of the plain text corpus.

        Raises:
          DataError: no corpus is named, or a file is not readable text.
        """
        if "corpus" not in self._sources:
            files = list(self.prepared.corpus)
            if not files:
                raise DataError(
                    "the text-only stream has no corpus",
                    where="--config.data.corpus",
                    expected="one or more plain text files",
                    found="none",
                    fix="name them, or set the batch_size of the stream with images=False to 0",
                )
            table = self._table(
                "corpus",
                lambda: text_corpus.rows(files),
                text_corpus.corpus_fingerprint(files),
                ", ".join(map(str, files)),
            )
            self._sources["corpus"] = Source(table, np.arange(len(table)))
        return self._sources["corpus"]

    def captions(self, split: str) -> Source:
        """Texts of a split joined with their regions.

        Args:
          split: "train", "eval", or a name of the data set's own.

        Raises:
          DataError: no such split; with on_missing="error" also the first text without regions;
            with leaks="error" images of the training split that are evaluated on.
        """
        own = self.split_name(split)
        if own not in self._sources:
            table = self._captions_table(own)
            if self.prepared.check_store:
                self.prepared.check_store(own, table.images, self.store.keys)
            store_rows = self.store.rows_of(table.images)
            held_out = {}
            if own == self._config.train_split:
                held_out = self._held_out(table, np.flatnonzero(store_rows >= 0))
            # An example goes whole or not at all: with all of its images, and its further texts.
            images, examples = table.images_of(np.arange(len(table))), table.examples()
            held, absent = np.isin(images, list(held_out)), store_rows[images] < 0
            leaves_out = held.any(1) & examples
            without = np.flatnonzero(absent.any(1) & ~leaves_out & examples)
            if without.size:
                self._missing(own, table, without, images[without][absent[without]])
            skipped = list(table.skipped)
            for row in without.tolist():
                image = table.images[images[row][absent[row]][0]]
                skipped.append(Skipped(table.text_id(row), f"no regions of {image!r}"))
            for row in np.flatnonzero(leaves_out).tolist():
                image = int(images[row][held[row]][0])
                reason = f"{HELD_OUT} by {held_out[image]}: {table.images[image]!r}"
                skipped.append(Skipped(table.text_id(row), reason))
            kept = np.flatnonzero(examples & ~absent.any(1) & ~leaves_out)
            if skipped:
                self._report(own, table, skipped, len(kept))
            if self.prepared.review:
                self.prepared.review(own, table, kept)
            kinds = tuple(self.prepared.sources)
            self._sources[own] = Source(table, kept, self.store, store_rows, kinds)
        return self._sources[own]

    def _captions_table(self, own: str) -> TextTable:
        if own not in self.prepared.splits:
            raise DataError(
                "unknown split",
                where=f"data set {self._config.dataset!r}",
                expected=f"one of {sorted(self.prepared.splits)}",
                found=repr(own),
                fix="set --config.data.train_split and --config.data.eval_split"
                + (
                    ", or name the validation texts: --config.data.eval_annotations"
                    if "eval_annotations" in self._config
                    else ""
                ),
            )
        return self._table(
            own,
            lambda: self.prepared.rows(own),
            self.prepared.fingerprint(own),
            self.prepared.origin(own),
        )

    def evaluated_images(self, *, by_id: bool = True) -> list[leaks.HeldOut]:
        """The images of the splits that are evaluated, by their names over data sets.

        Args:
          by_id: whether those without such a name are told by their ids, which mean something in
            their region store alone.
        """
        held, name = [], self.prepared.image_name
        for split in sorted({self.split_name(split) for split in self._evaluated}):
            if split in self.prepared.splits:
                table = self._captions_table(split)
                names = frozenset(name(i) for i in table.images if by_id or name(i) != i)
                source = f"split {split!r} of {table.origin}"
                held.append(leaks.HeldOut(names, source, by_id=by_id))
        return held

    def _held_out(self, table: TextTable, with_regions: np.ndarray) -> dict[int, str]:
        """{index of a training image to leave out: what holds it out}."""
        config, name = self._config, self.prepared.image_name
        evaluated = self.evaluated_images() + self._held_out_elsewhere()
        held = leaks.listed(config) + evaluated
        same = leaks.coco_names(config.image_data) if config.image_data else None
        found = leaks.find(
            table.images,
            name,
            held,
            same,
            strict=config.leaks != "report",
            known=lambda: itertools.chain(
                *(item.names for item in evaluated), map(name, self.store.keys)
            ),
        )
        if config.leaks != "drop":  # images without regions are never trained on
            used = set(with_regions.tolist())
            found = {i: source for i, source in found.items() if i in used}
        if found and config.leaks == "error":
            raise leaks.refuse(found, table.images, table.origin)
        if found and config.leaks == "report":
            text = leaks.describe(found, table.images)
            say(f"data: training images are evaluated on (data.leaks=report): {text}")
        return found if config.leaks == "drop" else {}

    def _missing(self, own: str, table: TextTable, rows: np.ndarray, images: np.ndarray) -> None:
        if self._config.on_missing == "skip" and len(rows) < np.count_nonzero(table.examples()):
            return
        row, count = int(rows[0]), len(np.unique(images))
        fix = "import their regions, or leave them out with --config.data.on_missing=skip"
        if count == len(table.images):  # leaving out would leave nothing
            fix = coverage.same_numbers(self.store.keys, table.images) or (
                f"name another split than {own!r}, whose images the store has "
                "(--config.data.train_split, --config.data.eval_split), or import their regions"
            )
        raise DataError(
            "an image has no regions",
            where=f"{table.origin}, text {table.text_id(row)!r}",
            expected=f"image {table.images[images[0]]!r} in region store "
            f"{', '.join(map(str, self.prepared.stores))} ({len(self.store)} images, such as "
            f"{self.store.keys[0]!r})",
            found=f"no such image; {count} of {len(table.images)} images are missing",
            fix=fix,
        )

    def _report(self, split: str, table: TextTable, skipped: list[Skipped], kept: int) -> None:
        """One line for people, and the whole list in a file."""
        lines = "".join(
            json.dumps({"text_id": row.text_id, "reason": row.reason}) + "\n" for row in skipped
        )
        digest = xxhash.xxh3_64_hexdigest(f"{table.origin}\n{lines}".encode())
        path = remote.path(self._config.dir) / f"skipped-{split}-{digest}.jsonl"
        with atomic_file(path) as temporary:
            temporary.write_text(lines)
        reasons = collections.Counter(row.reason for row in table.skipped)
        without_text = reasons.pop(EMPTY, 0)
        held_out = sum(row.reason.startswith(HELD_OUT) for row in skipped)
        without_regions = len(skipped) - len(table.skipped) - held_out
        say(
            f"data: split {split!r} of {table.origin}: {kept} texts kept, {len(skipped)} skipped "
            f"({without_text} rows without text, {without_regions} texts without regions"
            + "".join(f", {count} rows: {reason}" for reason, count in sorted(reasons.items()))
            + f", {held_out} texts of images held out" * bool(held_out)
            + f"); list: {path}"
        )
