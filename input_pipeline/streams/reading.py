"""The arrays of a batch: texts, regions, and what happens to boxes."""

from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from core.console import warn
from core.errors import DataError
from input_pipeline.regions.source import Rank
from input_pipeline.schema import SpecialIds
from input_pipeline.streams import limits, named, sampling
from input_pipeline.streams.plan import DrawSettings
from input_pipeline.streams.source import Source
from input_pipeline.texts.tables import TextTable

# assemble(table, rows [B], special, max_text) -> text_ids, text_mask, segment_ids, word_starts and,
# where the table has them, probe_kind and phrase_region; all [B, K, T].
Assemble = Callable[[TextTable, np.ndarray, SpecialIds, int], dict[str, np.ndarray]]
Batch = dict[str, np.ndarray]


class TextReader:
    """Token arrays of examples and of the wrong texts beside them."""

    def __init__(self, table: TextTable, assemble: Assemble, special: SpecialIds, max_text: int):
        self._table, self._assemble = table, assemble
        self._special, self._max_text = special, max_text

    def read(self, rows: np.ndarray, more: tuple[np.ndarray, ...]) -> Batch:
        """Text arrays [B, K, T] of rows [B] of the table, those of `more` following along K."""
        texts = [
            self._assemble(self._table, part, self._special, self._max_text)
            for part in (rows, *more)
        ]
        if len(texts) == 1:
            return texts[0]
        for text in texts[1:]:  # of other images, whose objects are not in this one
            if "phrase_region" in text:
                text["phrase_region"][:] = 0
        return {key: np.concatenate([text[key] for text in texts], 1) for key in texts[0]}


class RegionReader:
    """Region arrays of images."""

    def __init__(self, name: str, source: Source, options: ConfigDict, image_margin: int):
        self._source, self._store = source, source.store
        self._where, self._block = f"stream {name!r}", f"config.streams.{name}"
        self._options, self._image_margin = options, image_margin

    def images(self, rows: np.ndarray, more: tuple[np.ndarray, ...]) -> np.ndarray:
        """int64 [B, M] rows of the store: images of the examples, then [B, 1] each of `more`."""
        own = self._source.images_of(rows)
        return np.concatenate([own, *more], 1) if more else own

    def kept(self, images: np.ndarray, text_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(tokens that fit int [B], regions that fit int [B, M]) of texts and images."""
        # The longest text and the example's own image settle what is kept; another image gets
        # the room that leaves, so that its presence does not change the example.
        limit = self._options.max_length
        regions = np.minimum(self._store.counts[images] + 1, self._options.max_regions)
        longest = text_mask.sum(-1).max(1)
        text, _ = limits.joint_lengths(longest, regions[:, 0], limit)
        return text, np.minimum(regions, limit - text[:, None])

    def always_kept(self) -> int:
        """Regions of an image that are kept whatever the length of the text."""
        options = self._options
        beside = max(options.max_length - options.max_text, (options.max_length + 1) // 2)
        return min(options.max_regions, beside)

    def read(
        self,
        rows: np.ndarray,
        images: np.ndarray,
        keep: np.ndarray,
        width: int,
        texts: Batch | None = None,
    ) -> Batch:
        """Region arrays [B, M, R = width].

        Args:
          rows: int64 [B] of the table, to name an example.
          images: int64 [B, M] rows of the store.
          keep: int [B, M] regions of an image, the whole image included.
          width: R.
          texts: of the examples, with the boxes that name regions (`named.KEYS`).

        Raises:
          DataError: a record that cannot be read, naming the example.
          ConfigError: an example names more regions than are kept.
        """
        rank = self._rank(rows, texts or {})
        out = self._store.allocate(
            len(rows), images.shape[1], width, features=self._source.pictures is None
        )
        try:
            self._store.read_into(out, images, self._options.order, keep, rank)
        except (DataError, OSError) as error:
            self._read_one_by_one(out, rows, images, keep, texts or {})
            warn(f"{self._where}: a batch was read at the second try after: {error}")
        # The whole image's, of the picture as it is: resized and mirrored with the others.
        out["boxes"][:, :, 0, 2:] = out["image_size"][..., ::-1] - self._image_margin
        return out

    def _rank(self, rows: np.ndarray, texts: Batch) -> Rank | None:
        """What settles which regions stay; None where examples name none."""
        if texts.keys().isdisjoint(named.KEYS):
            return None
        table = self._source.table
        return named.Named(texts, lambda i: table.text_id(int(rows[i])), self._block).rank

    def _read_one_by_one(
        self, out: Batch, rows: np.ndarray, images: np.ndarray, keep: np.ndarray, texts: Batch
    ) -> None:
        """Reads example by example, so that the one that fails can be named."""
        table = self._source.table
        for i, row in enumerate(rows):
            at = slice(i, i + 1)
            one = {key: value[at] for key, value in out.items()}
            rank = self._rank(rows[at], {key: value[at] for key, value in texts.items()})
            try:
                self._store.read_into(one, images[at], self._options.order, keep[at], rank)
            except (DataError, OSError) as error:
                name = table.text_id(int(row))
                raise DataError(
                    "an example cannot be read",
                    where=f"{self._where}, {table.origin}, example {name!r}",
                    found=str(error),
                ) from error


class BoxTransform:
    """Resizes boxes, and mirrors those of half of the training examples."""

    def __init__(
        self, name: str, options: ConfigDict, vocab: dict[str, int], settings: DrawSettings
    ):
        """Checks the options against the vocabulary.

        Args:
          name: of the stream.
          options: the stream's block of the config.
          vocab: {piece: id}.
          settings: of the stream; outside training nothing is mirrored.

        Raises:
          DataError: "left" and "right" are to be exchanged, and are no whole pieces.
        """
        self._name, self._settings = f"{name}/flip", settings
        self._resize, self._transforms = options.resize, options.resize or options.flip != "off"
        self._mirrors = settings.training and options.flip != "off"
        self._left_right = None
        self._inside_words = options.flip == "boxes_and_pieces"
        if options.flip not in ("boxes_and_words", "boxes_and_pieces"):
            return
        missing = [word for word in ("left", "right") if word not in vocab]
        if missing:
            raise DataError(
                "left and right cannot be exchanged: the vocabulary cuts them up",
                where=f"config.streams.{name}.flip",
                expected="'left' and 'right' as whole pieces",
                found=f"no {missing}",
                fix="flip='boxes' or 'off', or a vocabulary that has them",
            )
        self._left_right = (vocab["left"], vocab["right"])

    def apply(self, batch: Batch, counters: np.ndarray) -> np.ndarray | None:
        """Transforms a batch with its regions in place; counters [B] as in `plan.Draw`.

        Returns:
          bool [B], the examples that are mirrored; None: none.
        """
        flip = None
        if self._mirrors:
            flip = sampling.random_bits(self._settings.seed, self._name, counters) % 2 == 1
        if self._transforms:
            limits.transform_boxes(batch, self._resize, flip, self._settings.image_margin)
        if self._left_right and flip is not None:
            limits.swap_words(batch, flip, *self._left_right, inside_words=self._inside_words)
        return flip
