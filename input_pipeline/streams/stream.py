"""A stream of examples: batch(draw) is a pure function of (seed, stream name, draw)."""

import dataclasses
import json

import numpy as np
import xxhash
from ml_collections import ConfigDict

from core.console import warn
from core.errors import DataError
from input_pipeline.regions.source import RegionSource, check_order
from input_pipeline.regions.spec import FeatureSpec
from input_pipeline.schema import check_batch
from input_pipeline.streams import grounding, limits, named, pixels, sampling
from input_pipeline.streams.canvases import Canvas
from input_pipeline.streams.companions import CompanionPicker, Companions
from input_pipeline.streams.plan import (
    Draw,
    DrawSettings,
    EvaluationPlan,
    TrainingPlan,
    split_by_source,
)
from input_pipeline.streams.reading import Assemble, Batch, BoxTransform, RegionReader, TextReader
from input_pipeline.streams.source import Source
from input_pipeline.texts.tokenizer import Tokenizer

CHUNK = 4096  # examples whose texts are looked through at a time
# The options of a stream that change the content of its batches, and so its fingerprint.
CONTENT = (
    "max_text",
    "max_regions",
    "max_length",
    "order",
    "resize",
    "flip",
    "block",
    "negatives",
    "iou",
)


class Stream:
    """Batches of one kind of example.

    A draw is planned (`plan`), its companions are picked (`companions`), and its texts, regions and
    boxes are read (`reading`).

    Attributes:
      name: of the stream.
      batch_size: examples of the global batch, over all hosts.
      num_examples: usable examples.
      steps_per_epoch: batches that hold every example once (the last one may be padded).
      tokenizer: of its texts.
      special: SpecialIds of the vocabulary.
      source: what its examples are drawn from.
      store: regions, None for plain text.
      spec: FeatureSpec of the regions, None for plain text.
      fingerprint: hex digest of data, vocabulary and the options that change a batch's content;
        a run may only go on with the same one.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        options: ConfigDict,
        assemble: Assemble,
        tokenizer: Tokenizer,
        settings: DrawSettings,
        *,
        other_image: bool = False,
    ):
        """Checks the options and plans the stream.

        Args:
          name: of the stream.
          source: its examples.
          options: the stream's block of the config.
          assemble: makes the text arrays of examples.
          tokenizer: of the source's table.
          settings: how the stream goes through its examples.
          other_image: add a second image (M = 2), another example's, for the visual gain.

        Raises:
          DataError: an option that is unknown or does not fit the data.
        """
        limits.check_options(name, options)
        if not settings.training:
            settings = dataclasses.replace(settings, weights=(), overfit=0)
        elif settings.overfit:  # so few examples are no mixture
            settings = dataclasses.replace(settings, weights=())
        self.name, self.source = name, source
        self.tokenizer, self.special = tokenizer, tokenizer.special
        self.batch_size = settings.batch_size
        self._options, self._settings = options, settings
        self._where, self._checked = f"stream {name!r}", False
        rows = source.rows[: settings.overfit or None]
        self._check(rows, other_image)
        if not settings.training:
            options = self._with_whole_texts(assemble, rows)
            self._options = options
        self._companions = CompanionPicker(name, source, rows, options, settings, other_image)
        self._texts = TextReader(source.table, assemble, self.special, options.max_text)
        if source.store is not None:
            self._regions = RegionReader(name, source, options, settings.image_margin)
            self._boxes = BoxTransform(name, options, tokenizer.vocab, settings)
            if source.pictures is not None:
                self._pictures = pixels.PictureReader(name, source, options, rows)
            if settings.training and options.block > 1:
                # Blocks are of neighbours on disk; texts may come in another order than images.
                rows = rows[np.argsort(source.images_of(rows)[:, 0], kind="stable")]
        self.num_examples, self._buckets = len(rows), limits.sizes(options)
        if source.store is not None:
            self._check_named(rows)
        if settings.training:
            parts, weights = split_by_source(source, rows, settings.weights, self._where)
            settings = self._settings = dataclasses.replace(settings, weights=weights)
            self._plan = TrainingPlan(
                name, settings, parts, options.block, self._groups(), self._group_of
            )
        else:
            self._plan = EvaluationPlan(rows, settings.batch_size, self._buckets[-1])
        self.fingerprint = self._fingerprint(rows)

    @property
    def store(self) -> RegionSource | None:
        """Regions, None for plain text."""
        return self.source.store

    @property
    def spec(self) -> FeatureSpec | None:
        """FeatureSpec of the regions, None for plain text."""
        return self.store.spec if self.store else None

    @property
    def steps_per_epoch(self) -> int:
        """Batches that hold every example at least once."""
        return -(-self.num_examples // self.batch_size)

    def _check(self, rows: np.ndarray, other_image: bool) -> None:
        """Raises DataError where there is no example, or options do not fit the regions."""
        if not len(rows) or self.batch_size < 1:
            raise DataError(
                "a stream without examples",
                where=self._where,
                expected="at least one example, and batch_size >= 1",
                found=f"{len(rows)} examples, batch_size {self.batch_size}",
                fix="check the data, or leave the stream out with batch_size=0",
            )
        if self.store is None:
            where = f"config.streams.{self.name}"
            limits.check_without_images(where, self._options, other_image)
        else:
            check_order(self._options.order, self.store.spec, f"config.streams.{self.name}")

    def _with_whole_texts(self, assemble: Assemble, rows: np.ndarray) -> ConfigDict:
        """The options, with room for the texts of a split that an assembler wants whole.

        Args:
          assemble: may have a method `width(table, rows, max_text)`: T that the split needs.
          rows: int64 [n] examples in the table.
        """
        options, width = self._options, getattr(assemble, "width", None)
        if width is None:
            return options
        needed, limit = (
            width(self.source.table, rows, options.max_text),
            self._settings.longest_text,
        )
        if limit and needed > limit:
            warn(
                f"data: {self._where}: texts of up to {needed} pieces, which are not to be cut, "
                f"are cut to {limit}: config.model.positions has no more"
            )
            needed = max(limit, options.max_text)
        more = needed - options.max_text
        if more > 0:
            options = options.copy_and_resolve_references()
            options.update(max_text=options.max_text + more, max_length=options.max_length + more)
        return options

    def _check_named(self, rows: np.ndarray) -> None:
        """Raises ConfigError where an example names more regions than its row has room for.

        Regions are read only of those that may: told by the numbers of regions and boxes.
        """
        room, values = self._regions.always_kept(), self.source.table.values_of(rows[:1])
        if values.keys().isdisjoint(named.KEYS):
            return
        crowded = rows[self.store.counts[self.source.images_of(rows)[:, 0]] + 1 > room]
        for start in range(0, len(crowded), CHUNK):
            part = crowded[start : start + CHUNK]
            batch = self._texts.read(part, ()) | self.source.table.values_of(part)
            for row in part[named.most(batch) + 1 > room]:
                one = row[None]
                self._read(Draw(one, one, np.ones(1, np.float32), self._buckets[-1]))

    def _fingerprint(self, rows: np.ndarray) -> str:
        options = {key: getattr(self._options, key) for key in CONTENT}
        if self._has_pictures:
            options |= dict(
                pictures=self.source.pictures.fingerprint, canvases=self._pictures.canvases
            )
        if self._options.couples:
            options |= dict(couples=self._options.couples)
        if self._options.buckets:
            options |= dict(buckets=self._buckets, window=sampling.WINDOW)
        text = json.dumps(
            [
                self.name,
                self.source.table.fingerprint,
                self.store.fingerprint if self.store else "",
                xxhash.xxh3_128_hexdigest(np.ascontiguousarray(rows)),
                dataclasses.asdict(self.special),
                options,
                self._settings.weights,
                self._settings.training,
                self._companions.fingerprint,
            ],
            default=list,
        )
        return xxhash.xxh3_128_hexdigest(text.encode())

    def text_id(self, example_index: int) -> str:
        """Name of an example."""
        return self.source.table.text_id(int(example_index))

    def batch(self, draw: int, shard: tuple[int, int] = (0, 1)) -> Batch:
        """The part of draw `draw` that host shard[0] of shard[1] reads.

        Args:
          draw: number of the batch, from 0. In evaluation below steps_per_epoch.
          shard: (index, count) of hosts.

        Returns:
          A stream batch as in `schema.FIELDS`.

        Raises:
          DataError: a record that cannot be read, naming the example; a draw that is not there.
        """
        if draw < 0 or not (self._settings.training or draw < self.steps_per_epoch):
            raise DataError(
                "no such batch",
                where=self._where,
                expected=f"0 <= draw < {self.steps_per_epoch}",
                found=draw,
            )
        return self._read(self._plan.draw(draw, shard), self._canvas(draw))

    def example(self, shard: tuple[int, int] = (0, 1)) -> Batch:
        """A batch at the stream's full size, whatever its buckets: for shapes."""
        first = dataclasses.replace(self._plan.draw(0, shard), bucket=self._buckets[-1])
        return self._read(first, self._canvas(0))

    def _groups(self) -> tuple[limits.Bucket, ...]:
        """Sizes of the batches of each group: a bucket's examples of one canvas."""
        canvases = len(self._pictures.canvases) if self._has_pictures else 1
        return tuple(bucket for bucket in self._buckets for _ in range(canvases))

    @property
    def _has_pictures(self) -> bool:
        return self.source.pictures is not None

    def _group_of(self, rows: np.ndarray, counters: np.ndarray) -> np.ndarray:
        """int64 [B]: number of the group of each example, among `_groups`."""
        group = np.zeros(len(rows), np.int64)
        if len(self._buckets) > 1:
            group = limits.smallest(self._buckets, *self._lengths(rows, counters))
        if self._has_pictures:
            canvas = self._pictures.canvas_of(self._images(rows, counters))
            group = group * len(self._pictures.canvases) + canvas
        return group

    def _images(self, rows: np.ndarray, counters: np.ndarray) -> np.ndarray:
        """int64 [B, M] rows of the store: all images of examples."""
        return self._regions.images(rows, self._companions.pick(rows, counters).images)

    def _canvas(self, number: int) -> Canvas | None:
        """The canvas of a draw, which all hosts that read parts of it find; None: no pictures."""
        if not self._has_pictures:
            return None
        whole = self._plan.draw(number, (0, 1))
        return self._pictures.canvas_for(self._images(whole.rows, whole.counters))

    def _lengths(self, rows: np.ndarray, counters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(tokens of the longest text, regions of the image with most) that examples keep, [B]."""
        companions = self._companions.pick(rows, counters)
        text_mask = self._texts.read(rows, companions.texts)["text_mask"]
        images = self._regions.images(rows, companions.images)
        tokens, regions = self._regions.kept(images, text_mask)
        return tokens, regions.max(1)

    def _read(self, draw: Draw, canvas: Canvas | None = None) -> Batch:
        companions = self._companions.pick(draw.rows, draw.counters)
        batch = self._texts.read(draw.rows, companions.texts)
        batch |= self.source.table.values_of(draw.rows)
        if self.store is not None:
            self._add_regions(batch, draw, companions, canvas)
        batch["example_index"] = draw.rows.astype(np.int32)
        batch["_weight"] = draw.weight
        if not self._checked:
            check_batch(batch, where=self._where)
            self._checked = True
        return batch

    def _add_regions(
        self, batch: Batch, draw: Draw, companions: Companions, canvas: Canvas | None
    ) -> None:
        """Adds regions to texts, which are cut to what fits beside them."""
        images = self._regions.images(draw.rows, companions.images)
        tokens, keep = self._regions.kept(images, batch["text_mask"])
        limits.cut_text(batch, tokens, self.special.pad)
        limits.narrow(batch, draw.bucket.max_text)
        width = draw.bucket.max_regions
        batch.update(self._regions.read(draw.rows, images, keep, width, batch))
        grounding.ground(batch, self._options.iou, lambda i: self.text_id(draw.rows[i]))
        flip = self._boxes.apply(batch, draw.counters)
        if canvas is None:
            batch.pop("region_instance_mask", None)  # of cells that stored features do not have
        else:
            if flip is not None and "region_instance_mask" in batch:
                cells = batch["region_instance_mask"]
                cells[flip] = cells[flip][..., ::-1]
            batch["images"] = self._pictures.read(images, batch["image_size"], flip, canvas)
