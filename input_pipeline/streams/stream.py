"""A stream of examples: batch(draw) is a pure function of (seed, stream name, draw)."""

import dataclasses
import functools
import json
import threading
from collections.abc import Callable

import numpy as np
import xxhash

from core.console import warn
from core.errors import DataError
from input_pipeline.regions.store import RegionStore, check_order
from input_pipeline.schema import SpecialIds, check_batch
from input_pipeline.streams import distractors, grounding, limits, sampling
from input_pipeline.texts.tables import TextTable

# What of a stream's options changes the content of its batches, and so its fingerprint.
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
_CHUNK = 4096  # examples whose sizes are found at a time


@dataclasses.dataclass(frozen=True)
class Source:
    """The examples a stream draws from.

    Attributes:
      table: tokenised texts.
      rows: int64 [n] usable rows of the table.
      store: regions, None for plain text.
      store_rows: int64 [images of the table], row in the store, -1 = none.
    """

    table: TextTable
    rows: np.ndarray
    store: RegionStore | None = None
    store_rows: np.ndarray | None = None


class Stream:
    """Batches of one kind of example.

    Attributes:
      name: of the stream.
      batch_size: examples of the global batch, over all hosts.
      num_examples: usable examples.
      steps_per_epoch: batches that hold every example once (the last one may be padded).
      special: SpecialIds of the vocabulary.
      spec: FeatureSpec of the regions, None for plain text.
      fingerprint: hex digest of data, vocabulary and the options that change a batch's content;
        a run may only go on with the same one.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        options,
        assemble: Callable[..., dict[str, np.ndarray]],
        vocab: dict[str, int],
        special: SpecialIds,
        *,
        seed: int,
        batch_size: int,
        training: bool,
        weights: tuple[float, ...] = (),
        overfit: int = 0,
        other_image: bool = False,
    ):
        """Checks the options and plans the stream.

        Args:
          name: of the stream.
          source: its examples.
          options: the stream's block of the config.
          assemble: assemble(table, rows, special, max_text) -> text_ids, text_mask, segment_ids,
            word_starts and, where the table marks words, probe_mask; all [B, 1, T].
          vocab: {piece: id}.
          special: ids of the special tokens.
          seed: of the run.
          batch_size: global.
          training: True: shuffled, endless, flipped; False: in order, each example once, the
            last batch padded with rows of weight 0.
          weights: shares of the table's sources in training; empty: by size.
          overfit: > 0: train on the first so many examples only.
          other_image: bring a second image (M = 2), another example's, for the visual gain.

        Raises:
          DataError: an option that is unknown or does not fit the data.
        """
        limits.check_options(name, options)
        self.name, self.special, self.batch_size = name, special, batch_size
        self.training, self.seed = training, seed
        self._source, self._options, self._assemble = source, options, assemble
        self._table, self._store = source.table, source.store
        self._rows = source.rows[:overfit] if overfit and training else source.rows
        self._where = f"stream {name!r}"
        self._weights = tuple(weights) if training else ()
        self._checked = False
        self._groups = self._other = self._left_right = self._distractors = None
        self._prepare(vocab, other_image)
        if training and options.block > 1 and self._store is not None:
            # Blocks are of neighbours on disk; texts may come in another order than images.
            places = self._images_of(self._rows)[:, 0]
            self._rows = self._rows[np.argsort(places, kind="stable")]
        self._parts = self._split_by_source()
        self._sizes = limits.sizes(options)
        self._lock = threading.Lock()
        # Two, since reading threads may be on both sides of a window's end.
        self._window = functools.lru_cache(maxsize=2)(self._plan_window)
        self.fingerprint = self._fingerprint()

    @property
    def spec(self):
        """FeatureSpec of the regions, None for plain text."""
        return self._store.spec if self._store else None

    @property
    def num_examples(self) -> int:
        """Usable examples."""
        return len(self._rows)

    @property
    def steps_per_epoch(self) -> int:
        """Batches that hold every example at least once."""
        return -(-self.num_examples // self.batch_size)

    def _prepare(self, vocab: dict[str, int], other_image: bool) -> None:
        """What examples get beside their own text and image, checked against the data."""
        options, name = self._options, f"config.streams.{self.name}"
        if not len(self._rows) or self.batch_size < 1:
            raise DataError(
                "a stream without examples",
                where=self._where,
                expected="at least one example, and batch_size >= 1",
                found=f"{len(self._rows)} examples, batch_size {self.batch_size}",
                fix="check the data, or leave the stream out with batch_size=0",
            )
        if self._store is None:
            limits.check_without_images(name, options, other_image)
            return
        check_order(options.order, self._store.spec)
        image_rows = self._images_of(self._rows)
        if options.negatives and self._table.foreign is not None:
            self._table.check_foreign(self._rows)
        elif options.negatives:
            self._groups = sampling.Groups(self._rows, image_rows[:, 0])
            if len(self._groups) < 2:
                raise DataError(
                    "no caption of another image to choose",
                    where=f"{name}.negatives",
                    expected="at least 2 images",
                    found=len(self._groups),
                )
        if options.distractors:
            self._distractors = distractors.Distractors(
                options.distractors,
                self._rows,
                image_rows[:, 0],
                self._store,
                seed=self.seed,
                name=self.name,
                hard=self.training,
            )
        if other_image:
            images = np.unique(image_rows[:, 0])
            self._other = np.full(len(self._store), -1, np.int64)
            self._other[images] = images[sampling.derangement(self.seed, len(images))]
        if options.flip == "boxes_and_words":
            missing = [word for word in ("left", "right") if word not in vocab]
            if missing:
                raise DataError(
                    "left and right cannot be exchanged: the vocabulary cuts them up",
                    where=f"{name}.flip",
                    expected="'left' and 'right' as whole pieces",
                    found=f"no {missing}",
                    fix="flip='boxes' or 'off', or a vocabulary that has them",
                )
            self._left_right = (vocab["left"], vocab["right"])

    def _split_by_source(self) -> list[np.ndarray]:
        if not self._weights:
            return [self._rows]
        source = self._table.source[self._rows]
        parts = [self._rows[source == s] for s in range(len(self._weights))]
        empty = [s for s, part in enumerate(parts) if not len(part)]
        if empty or source.max() >= len(self._weights):
            raise DataError(
                "mixture weights and corpora disagree",
                where=f"{self._where}, {self._table.origin}",
                expected=f"a weight for each of {int(source.max()) + 1} files with examples",
                found=f"{len(self._weights)} weights; no examples for files {empty}",
                fix="one weight for each file of data.annotations or data.corpus",
            )
        sampling.shares(self._weights)
        return parts

    def _fingerprint(self) -> str:
        options = {key: getattr(self._options, key) for key in CONTENT}
        if self._options.buckets:
            options |= dict(buckets=self._sizes, window=sampling.WINDOW)
        text = json.dumps(
            [
                self.name,
                self._table.fingerprint,
                self._store.fingerprint if self._store else "",
                xxhash.xxh3_128_hexdigest(np.ascontiguousarray(self._rows)),
                dataclasses.asdict(self.special),
                options,
                self._weights,
                self.training,
                self._distractors.fingerprint if self._distractors else "",
            ],
            default=list,
        )
        return xxhash.xxh3_128_hexdigest(text.encode())

    @property
    def store(self) -> RegionStore | None:
        """Regions, None for plain text."""
        return self._store

    def text_id(self, example_index: int) -> str:
        """Name of an example."""
        return self._table.text_id(int(example_index))

    def _rows_at(self, positions: np.ndarray) -> np.ndarray:
        """int64 [B] rows of the table at endless positions of the training."""
        if len(self._parts) == 1:
            at = sampling.rows_at(
                self.seed, self.name, positions, self.num_examples, self._options.block
            )
            return self._parts[0][at]
        rows = np.empty_like(positions)
        source, within = sampling.mixture(self.seed, self.name, positions, self._weights)
        for s in np.unique(source).tolist():
            part, here = self._parts[s], source == s
            at = sampling.rows_at(
                self.seed, f"{self.name}/{s}", within[here], len(part), self._options.block
            )
            rows[here] = part[at]
        return rows

    def _plan_window(self, first: int, draws: int) -> tuple[np.ndarray, np.ndarray]:
        """(positions int64 [draws, batch], number of the size int64 [draws]) of a window."""
        positions = np.arange(first * self.batch_size, (first + draws) * self.batch_size)
        bucket = np.empty_like(positions)
        for start in range(0, len(positions), _CHUNK):
            counters = positions[start : start + _CHUNK]
            rows = self._rows_at(counters)
            others = self._distractors.draw(rows, counters) if self._distractors else None
            text_mask = self._texts(rows, counters, others)["text_mask"]
            text, regions = self._kept(self._images(rows, others), text_mask)
            bucket[start : start + _CHUNK] = limits.smallest(self._sizes, text, regions.max(1))
        places, buckets = sampling.alike(self.seed, self.name, first, self.batch_size, bucket)
        return positions[places], buckets

    def _plan(self, draw: int, shard: tuple[int, int]):
        """(rows of the table, counters of the host-side randomness, weight), each [B]; size."""
        part, size = sampling.host_slice(self.batch_size, *shard), self._sizes[-1]
        positions = sampling.positions_of(draw, self.batch_size)[part]
        weight = np.ones(len(positions), np.float32)
        if not self.training:
            weight[positions >= self.num_examples] = 0
            rows = self._rows[np.minimum(positions, self.num_examples - 1)]
            return rows, rows, weight, size
        if self._options.buckets:
            # The sources of a mixture have epochs of their own.
            epoch = sampling.WINDOW * self.batch_size if self._weights else self.num_examples
            first, draws = sampling.window_of(draw, self.batch_size, epoch)
            with self._lock:  # else each reading thread would plan the same window
                planned, buckets = self._window(first, draws)
            positions, size = planned[draw - first, part], self._sizes[buckets[draw - first]]
        return self._rows_at(positions), positions, weight, size

    def batch(self, draw: int, shard: tuple[int, int] = (0, 1)) -> dict[str, np.ndarray]:
        """The part of draw `draw` that host shard[0] of shard[1] reads.

        Args:
          draw: number of the batch, from 0. In evaluation below steps_per_epoch.
          shard: (index, count) of hosts.

        Returns:
          A stream batch as in `schema.FIELDS`.

        Raises:
          DataError: a record that cannot be read, naming the example; a draw that is not there.
        """
        if draw < 0 or not (self.training or draw < self.steps_per_epoch):
            raise DataError(
                "no such batch",
                where=self._where,
                expected=f"0 <= draw < {self.steps_per_epoch}",
                found=draw,
            )
        return self._read(*self._plan(draw, shard))

    def example(self, shard: tuple[int, int] = (0, 1)) -> dict[str, np.ndarray]:
        """A batch at the stream's full size, whatever its buckets: for shapes."""
        return self._read(*self._plan(0, shard)[:3], self._sizes[-1])

    def _read(self, rows, counters, weight, size: tuple[int, int, int]) -> dict[str, np.ndarray]:
        others = self._distractors.draw(rows, counters) if self._distractors else None
        batch = self._texts(rows, counters, others) | self._table.values_of(rows)
        if self._store is not None:
            images = self._images(rows, others)
            lengths, keep = self._kept(images, batch["text_mask"])
            limits.cut_text(batch, lengths, self.special.pad)
            limits.narrow(batch, size[0])
            batch.update(self._regions(rows, images, keep, size[1]))
            grounding.ground(batch, self._options.iou, lambda i: self.text_id(rows[i]))
            flip = None
            if self.training and self._options.flip != "off":
                flip = sampling.random_bits(self.seed, f"{self.name}/flip", counters) % 2 == 1
            if self._options.resize or self._options.flip != "off":
                limits.transform_boxes(batch, self._options.resize, flip)
            if self._left_right and flip is not None:
                limits.swap_words(batch, flip, *self._left_right)
        batch["example_index"] = rows.astype(np.int32)
        batch["_weight"] = weight
        if not self._checked:
            check_batch(batch, where=self._where)
            self._checked = True
        return batch

    def _images_of(self, rows: np.ndarray) -> np.ndarray:
        """int64 [B, M] rows of the store."""
        return self._source.store_rows[self._table.images_of(rows)]

    def _texts(self, rows: np.ndarray, counters: np.ndarray, others) -> dict[str, np.ndarray]:
        args = (self.special, self._options.max_text)
        texts = self._assemble(self._table, rows, *args)
        if others is not None:
            more = [self._assemble(self._table, other, *args) for other in others.texts]
            return {key: np.concatenate([texts[key], *(m[key] for m in more)], 1) for key in texts}
        if not self._options.negatives:
            return texts
        # A foreign text needs no regions, so it may be of an image that is left out itself.
        how = (self.seed, self.name, counters)
        if self._table.foreign is not None:
            other = sampling.foreign_rows(*how, self._table.foreign[rows])
        else:
            other = sampling.other_image_rows(*how, rows, self._groups)
        wrong = self._assemble(self._table, other, *args)
        return {key: np.concatenate([texts[key], wrong[key]], 1) for key in texts}

    def _images(self, rows: np.ndarray, others) -> np.ndarray:
        """int64 [B, M] rows of the store, with one more image that is not the example's."""
        images = self._images_of(rows)
        if self._other is not None:
            images = np.concatenate([images, self._other[images[:, :1]]], 1)
        if others is not None:
            images = np.concatenate([images, self._images_of(others.image)[:, :1]], 1)
        return images

    def _kept(self, images: np.ndarray, text_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(tokens that fit int [B], regions that do int [B, M]) of texts and images."""
        # The longest text and the example's own image settle what is kept; another image gets
        # the room that leaves, so that its presence does not change the example.
        limit = self._options.max_length
        regions = np.minimum(self._store.counts[images] + 1, self._options.max_regions)
        longest = text_mask.sum(-1).max(1)
        text, _ = limits.joint_lengths(longest, regions[:, 0], limit)
        return text, np.minimum(regions, limit - text[:, None])

    def _regions(self, rows, images: np.ndarray, keep: np.ndarray, width: int) -> dict:
        """Arrays of the regions, R = width."""
        out = self._store.allocate(len(rows), images.shape[1], width)
        try:
            self._store.read_into(out, images, self._options.order, keep)
        except (DataError, OSError) as error:
            self._reread(out, rows, images, keep, error)
        return out

    def _reread(self, out, rows, images, keep, error) -> None:
        """Reads example by example, so that the one that fails can be named."""
        for i, row in enumerate(rows):
            one = {key: value[i : i + 1] for key, value in out.items()}
            try:
                self._store.read_into(one, images[i : i + 1], self._options.order, keep[i : i + 1])
            except (DataError, OSError) as single:
                raise DataError(
                    "an example cannot be read",
                    where=f"{self._where}, {self._table.origin}, example {self.text_id(row)!r}",
                    found=str(single),
                ) from single
        warn(f"{self._where}: a batch was read at the second try after: {error}")
