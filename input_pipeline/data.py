"""What a run reads, opened once: data set, vocabulary, region store, tokenised tables.

What is missing is settled here, before the first step: an error, or with data.on_missing=skip a
list of what is left out, printed in one line and saved.
"""

import json
import pathlib
import uuid

import numpy as np
import xxhash

from input_pipeline import datasets
from input_pipeline.datasets import text_corpus
from input_pipeline.regions import RegionStore
from input_pipeline.schema import DataError
from input_pipeline.stream import Source
from input_pipeline.tables import Skipped, TextTable, cached_table
from input_pipeline.tokenizer import Tokenizer

ON_MISSING = ("error", "skip")


class Data:
    """Everything the streams of a run share, opened once.

    Attributes:
      prepared: datasets.Prepared.
      tokenizer: Tokenizer.
      store: RegionStore.
      special, spec: SpecialIds of the vocabulary, FeatureSpec of the regions.
    """

    def __init__(self, data_config):
        """Opens what `config.data` names.

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
        self._config = data_config
        self.prepared = datasets.prepare(data_config)
        self.tokenizer = Tokenizer.load(self.prepared.vocab)
        self.store = RegionStore.open(self.prepared.stores)
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
                text_corpus.fingerprint(files),
                ", ".join(map(str, files)),
            )
            self._sources["corpus"] = Source(table, np.arange(len(table)))
        return self._sources["corpus"]

    def captions(self, split: str) -> Source:
        """Texts of a split joined with their regions.

        Args:
          split: "train", "eval", or a name of the data set's own.

        Raises:
          DataError: no such split; with on_missing="error" also the first text without regions.
        """
        own = self.split_name(split)
        if own not in self.prepared.splits:
            raise DataError(
                "unknown split",
                where=f"data set {self._config.dataset!r}",
                expected=f"one of {sorted(self.prepared.splits)}",
                found=repr(own),
                fix="set --config.data.train_split and --config.data.eval_split"
                + (
                    ", or name the validation texts: --config.data.eval_annotations"
                    if self._config.dataset == "jsonl"
                    else ""
                ),
            )
        if own not in self._sources:
            table = self._table(
                own,
                lambda: self.prepared.rows(own),
                self.prepared.fingerprint(own),
                self.prepared.origin(own),
            )
            store_rows = self.store.rows_of(table.images)
            has_regions = store_rows[table.image_index] >= 0
            if not has_regions.all():
                self._missing(table, np.flatnonzero(~has_regions))
            skipped = table.skipped + [
                Skipped(
                    table.text_id(row), f"no regions of {table.images[table.image_index[row]]!r}"
                )
                for row in np.flatnonzero(~has_regions).tolist()
            ]
            if skipped:
                self._report(own, table, skipped, int(has_regions.sum()))
            self._sources[own] = Source(table, np.flatnonzero(has_regions), self.store, store_rows)
        return self._sources[own]

    def _missing(self, table: TextTable, rows: np.ndarray) -> None:
        if self._config.on_missing == "skip" and len(rows) < len(table):
            return
        images = np.unique(table.image_index[rows])
        row = int(rows[0])
        raise DataError(
            "an image has no regions",
            where=f"{table.origin}, text {table.text_id(row)!r}",
            expected=f"image {table.images[table.image_index[row]]!r} in region store "
            f"{', '.join(map(str, self.prepared.stores))} ({len(self.store)} images, such as "
            f"{self.store.keys[0]!r})",
            found=f"no such image; {len(images)} of {len(table.images)} images are missing",
            fix="import their regions, or leave them out with --config.data.on_missing=skip",
        )

    def _report(self, split: str, table: TextTable, skipped: list[Skipped], kept: int) -> None:
        """One line for people, and the whole list in a file."""
        lines = "".join(
            json.dumps({"text_id": row.text_id, "reason": row.reason}) + "\n" for row in skipped
        )
        digest = xxhash.xxh3_64_hexdigest(f"{table.origin}\n{lines}".encode())
        path = pathlib.Path(self._config.dir) / f"skipped-{split}-{digest}.jsonl"
        temporary = path.with_name(f".{path.name}.tmp-{uuid.uuid4().hex[:8]}")
        temporary.write_text(lines)
        temporary.replace(path)
        without_text = len(table.skipped)
        print(
            f"data: split {split!r} of {table.origin}: {kept} texts kept, {len(skipped)} skipped "
            f"({without_text} rows without text, {len(skipped) - without_text} texts without "
            f"regions); list: {path}"
        )
