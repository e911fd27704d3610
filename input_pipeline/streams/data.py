"""What a run reads, opened once: data set, vocabulary, region store, tokenised tables.

What is missing is settled here, before the first step: an error, or with data.on_missing=skip a
list of what is left out, printed in one line and saved.
"""

import collections
import functools
from collections.abc import Callable, Collection, Iterable

import numpy as np

from core import remote
from core.console import say
from core.errors import DataError
from input_pipeline import datasets
from input_pipeline.datasets.options.shared import ON_MISSING
from input_pipeline.datasets.reading import text_corpus
from input_pipeline.pictures.store import PictureStore
from input_pipeline.regions.store import RegionStore
from input_pipeline.streams import clean_splits, held_out, leaks, left_out, pixels
from input_pipeline.streams.collisions import UrlCheck
from input_pipeline.streams.source import Source
from input_pipeline.texts.rows import Row
from input_pipeline.texts.tables import Skipped, TextTable, cached_table, is_cached
from input_pipeline.texts.tokenizer import Tokenizer


class Data:
    """Everything that streams of one `data` block share, opened once.

    Attributes:
      prepared: what the data set hands over.
      tokenizer: Tokenizer.
      store: RegionStore.
      special, spec: SpecialIds of the vocabulary, FeatureSpec of the regions.
      pictures: PictureStore, None where the model reads stored features.
      cleaned: what became of the training split's texts, once it is read.
    """

    def __init__(
        self,
        data_config,
        evaluated: Collection[str] = ("eval",),
        *,
        open_store: Callable[[Collection[str]], RegionStore] = RegionStore.open,
        elsewhere: Callable[[], list[leaks.HeldOut]] = list,
        pixels: bool = False,
    ):
        """Opens what a `data` block names.

        Args:
          data_config: the block, of a stream or `config.data`.
          evaluated: splits whose images must not be trained on, beside data.held_out.
          open_store: open_store(folders) → their regions.
          elsewhere: elsewhere() → more images that must not be trained on.
          pixels: whether the model sees the pictures themselves.

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
        self._held_out_elsewhere = elsewhere
        self.special, self.spec = self.tokenizer.special, self.store.spec
        if not pixels and not self.spec.feature_dim:
            raise DataError(
                "the region store has boxes alone, and the model reads stored features",
                where=", ".join(map(str, self.prepared.stores)),
                expected="a store with the features of a detector",
                found=f"{self.spec.detector!r}, features 0 wide",
                fix="import features (python -m input_pipeline.importers), or have VL-BERT make "
                "its own of pictures: --config.model.features=pixels",
            )
        self.pictures = self._open_pictures() if pixels else None
        self._sources: dict[str, Source] = {}
        self.cleaned: clean_splits.Cleaned | None = None
        self._by_url = UrlCheck(self.prepared, data_config.train_split)

    def _open_pictures(self) -> PictureStore:
        """The pictures that a model sees itself: data.pictures, else the data set's own."""
        named = self._config.pictures
        if not named and self.prepared.picture_store:
            named = self.prepared.picture_store()
        return PictureStore.open(named)

    @functools.cached_property
    def _picture_rows(self) -> np.ndarray | None:
        """int64 [images of the region store]: row of each one's picture, -1 = none."""
        return None if self.pictures is None else self.pictures.rows_of(self.store.keys)

    def _table(
        self,
        name: str,
        rows: Callable[[], Iterable[Row | Skipped]],
        source: str,
        origin: str,
        count: Callable[[], int | None] = lambda: None,
    ) -> TextTable:
        config = self._config
        return cached_table(
            rows,
            self.tokenizer,
            config.dir,
            name,
            source=source,
            origin=origin,
            on_missing=config.on_missing,
            count=count,
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
            training = own == self._config.train_split
            if training and self.prepared.urls and not self._has_table(own):
                splits = {self.split_name(split) for split in self._evaluated}
                self._by_url.before(
                    {*splits, self._config.test_split}, self.store, self._config.leaks
                )
            table = self._captions_table(own)
            if self.prepared.check_store:
                self.prepared.check_store(own, table.images, self.store.keys)
            store_rows = self.store.rows_of(table.images)
            excluded: dict[int, str] = {}
            if training:
                excluded = self._held_out(table, np.flatnonzero(store_rows >= 0))
            # An example goes whole or not at all: with all of its images, and its further texts.
            images, examples = table.images_of(np.arange(len(table))), table.examples()
            held, absent = np.isin(images, list(excluded)), store_rows[images] < 0
            leaves_out = held.any(1) & examples
            without = np.flatnonzero(absent.any(1) & ~leaves_out & examples)
            if without.size:
                some_left = len(without) < np.count_nonzero(table.examples())
                if self._config.on_missing != "skip" or not some_left:
                    lacking = images[without][absent[without]]
                    stores = self.prepared.stores
                    raise left_out.no_regions(own, table, without, lacking, self.store, stores)
            skipped = list(table.skipped)
            for row in without.tolist():
                image = table.images[images[row][absent[row]][0]]
                skipped.append(Skipped(table.text_id(row), f"no regions of {image!r}"))
            absent |= self._unseen(own, table, store_rows, images, examples & ~leaves_out, skipped)
            reasons: collections.Counter[str] = collections.Counter()
            for row in np.flatnonzero(leaves_out).tolist():
                image = int(images[row][held[row]][0])
                reason = f"{left_out.HELD_OUT} by {excluded[image]}: {table.images[image]!r}"
                skipped.append(Skipped(table.text_id(row), reason))
                reasons[excluded[image]] += 1
            kept = np.flatnonzero(examples & ~absent.any(1) & ~leaves_out)
            if skipped:
                left_out.report(self._config.dir, own, table, skipped, len(kept))
            if training:
                self.cleaned = clean_splits.Cleaned(own, len(kept), reasons)
            if self.prepared.review:
                self.prepared.review(own, table, kept)
            kinds = tuple(self.prepared.sources)
            source = Source(
                table, kept, self.store, store_rows, kinds, self.pictures, self._picture_rows
            )
            if self.pictures is not None:
                pixels.require_sizes(
                    source, np.unique(source.images_of(kept)), self._config.pictures or own
                )
            self._sources[own] = source
        return self._sources[own]

    def _unseen(
        self,
        own: str,
        table: TextTable,
        store_rows: np.ndarray,
        images: np.ndarray,
        wanted: np.ndarray,
        skipped: list[Skipped],
    ) -> np.ndarray:
        """Which images of examples have regions and no picture.

        Args:
          own: name of the split.
          table: its texts.
          store_rows: row in the region store of each image of the table.
          images: int [rows, M] images of each row.
          wanted: bool [rows], examples that are not left out for other reasons.
          skipped: what is left out, to which texts are added.

        Returns:
          bool [rows, M].

        Raises:
          DataError: some have none, and data.on_missing says that this is an error.
        """
        rows = store_rows[images]
        if self._picture_rows is None:
            return np.zeros(rows.shape, bool)
        unseen = (rows >= 0) & (self._picture_rows[rows] < 0)
        texts = np.flatnonzero(unseen.any(1) & wanted)
        names = sorted({table.images[i] for i in np.unique(images[texts][unseen[texts]])})
        if names and (self._config.on_missing != "skip" or len(texts) == wanted.sum()):
            where = self._config.pictures or "the picture store"
            raise left_out.no_pictures(own, table, names, self.pictures, where)
        for row in texts.tolist():
            image = table.images[images[row][unseen[row]][0]]
            skipped.append(Skipped(table.text_id(row), f"no picture of {image!r}"))
        return unseen

    def _has_table(self, own: str) -> bool:
        """Whether the texts of a split are tokenised already; also where there is no such split."""
        if own not in self.prepared.splits:
            return True
        config, source = self._config, self.prepared.fingerprint(own)
        return is_cached(self.tokenizer, config.dir, own, source, config.on_missing)

    def _captions_table(self, own: str) -> TextTable:
        if own not in self.prepared.splits:
            raise self._unknown_split(own)
        return self._table(
            own,
            lambda: self.prepared.rows(own),
            self.prepared.fingerprint(own),
            self.prepared.origin(own),
            lambda: self.prepared.count(own),
        )

    def _unknown_split(self, split: str) -> DataError:
        return DataError(
            "unknown split",
            where=f"data set {self._config.dataset!r}",
            expected=f"one of {sorted(self.prepared.splits)}",
            found=repr(split),
            fix="set --config.data.train_split, --config.data.eval_split and "
            "--config.data.test_split"
            + (
                ", or name the validation texts: --config.data.eval_annotations"
                if "eval_annotations" in self._config
                else ""
            ),
        )

    def evaluated_images(self, *, by_id: bool = True) -> list[leaks.HeldOut]:
        """The images of the splits that are evaluated, by their names over data sets.

        Args:
          by_id: whether those without such a name are told by their ids, which mean something in
            their region store alone.

        Raises:
          DataError: what is wrong with the splits of data.test_split.
        """
        held, name = [], self.prepared.image_name
        for split in sorted({self.split_name(split) for split in self._evaluated}):
            if split in self.prepared.splits:
                table = self._captions_table(split)
                names = frozenset(name(i) for i in table.images if by_id or name(i) != i)
                source = f"split {split!r} of {table.origin}"
                held.append(
                    leaks.HeldOut(names, source, by_id=by_id, urls=self._by_url.urls(split))
                )
        if split := self._config.test_split:
            names = frozenset(name(i) for i in self._tested if by_id or name(i) != i)
            source = f"split {split!r} of {self.prepared.origin(split)}"
            held.append(leaks.HeldOut(names, source, by_id=by_id, urls=self._by_url.urls(split)))
        return held

    @functools.cached_property
    def _tested(self) -> frozenset[str]:
        """Images of data.test_split, whose texts are not tokenised."""
        split = self._config.test_split
        if split not in self.prepared.splits:
            raise self._unknown_split(split)
        rows = (row for row in self.prepared.rows(split) if not isinstance(row, Skipped))
        images = (image for row in rows for image in (row.image_id, *row.more_images))
        try:
            return frozenset(image for image in images if image is not None)
        except DataError as error:
            error.add_note(
                "  It is read for its images, which are kept out of training; without the file, "
                "go on with --config.streams.<name>.data.test_split=''"
            )
            raise

    @functools.cached_property
    def lists(self) -> list[leaks.HeldOut]:
        """The images of data.held_out."""
        return held_out.read(self._config)

    def known(self) -> held_out.Known:
        """What its training and evaluated splits and its store show of images."""
        name, same = self.prepared.image_name, self._same()
        table = self._captions_table(self._config.train_split)
        evaluated = (image for item in self.evaluated_images() for image in item.names)
        others = [*evaluated, *map(name, self.store.keys)]
        return held_out.Known(self.lists, [*map(name, table.images)], others, same)

    def _same(self) -> dict[str, str] | None:
        path = self._config.image_data
        return leaks.coco_names(path) if path else None

    def _held_out(self, table: TextTable, with_regions: np.ndarray) -> dict[int, str]:
        """{index of a training image to leave out: what holds it out}."""
        config, name = self._config, self.prepared.image_name
        held = [*self.lists, *self.evaluated_images(), *self._held_out_elsewhere()]
        found = leaks.find(table.images, name, held, self._same(), strict=config.leaks != "report")
        found = self._by_url.without(found, table.images, held, self._same())
        if config.leaks != "drop":  # images without regions are never trained on
            used = set(with_regions.tolist())
            found = {i: source for i, source in found.items() if i in used}
        if found and config.leaks == "error":
            raise leaks.refuse(found, table.images, table.origin)
        if found and config.leaks == "report":
            text = leaks.describe(found, table.images)
            say(f"data: training images are evaluated on (data.leaks=report): {text}")
        return found if config.leaks == "drop" else {}
