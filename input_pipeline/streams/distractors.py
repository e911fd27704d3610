"""Negatives for retrieval: four ways (ViLBERT section 3.2), or groups of couples.

Four ways: each pair gets a caption of a random other image, a random other image, and a caption of
a similar image. The latter, a hard negative, is drawn from a pool of the nearest images
(`python -m input_pipeline.streams.hard_negatives`) while training; in evaluation and without a pool
it is another random image's.

Couples: each pair gets N - 1 pairs of other images, a caption with its own image each, all of the
pool's similar images or, in evaluation and without a pool, of random ones; no image comes twice.
"""

import dataclasses

import numpy as np

from core.errors import DataError
from input_pipeline.regions.store import RegionStore
from input_pipeline.streams import hard_negatives, sampling

RANDOM = "random"


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Rows of the table, int64 [B] each: of wrong texts, and of texts whose images are wrong."""

    texts: tuple[np.ndarray, ...]
    images: tuple[np.ndarray, ...]


class Distractors:
    """Draws the distractors of a stream's examples.

    Attributes:
      fingerprint: of the pool's content, wherever its file is; "random" without one.
    """

    def __init__(
        self,
        kind: str,
        rows: np.ndarray,
        images: np.ndarray,
        store: RegionStore,
        *,
        seed: int,
        name: str,
        hard: bool,
        couples: int = 0,
    ):
        """Joins a pool with the stream's images.

        Args:
          kind: "random", or the path of a pool.
          rows: int [n], the stream's examples in the table.
          images: int [n], their images in the store.
          store: of the regions, whose ids the pool uses.
          seed: of the run.
          name: of the stream.
          hard: whether to draw from the pool.
          couples: N of a group; 0: four ways.

        Raises:
          DataError: fewer images than a group has, or a pool in which an image of the stream has
            too few neighbours that the stream has a text of.
        """
        self._seed, self._name, self._others = seed, name, max(couples - 1, 0)
        self._groups = sampling.Groups(rows, images)
        if len(self._groups) < max(couples, 2):
            raise DataError(
                "no other image to choose",
                where=f"config.streams.{name}.distractors",
                expected=f"at least {max(couples, 2)} images",
                found=len(self._groups),
            )
        self.fingerprint, self._near = RANDOM, None
        if kind != RANDOM and hard:
            pool = hard_negatives.load(kind)
            self.fingerprint = pool.fingerprint
            self._near = self._join(pool, kind, np.unique(images), store)

    def _join(
        self, pool: hard_negatives.Pool, path: str, images: np.ndarray, store: RegionStore
    ) -> np.ndarray:
        """int64 [groups, k]: the groups of texts of each group's neighbours, padded with -1."""
        group_of = np.full(len(store) + 1, -1, np.int64)  # the last one: no such image
        group_of[images] = np.arange(len(images))
        groups = group_of[store.rows_of(pool.images)]  # of the pool's images
        near = np.full((len(images), pool.neighbours.shape[1]), -1, np.int64)
        near[groups[groups >= 0]] = groups[pool.neighbours[groups >= 0]]
        # Neighbours without a text go to the end.
        near = np.take_along_axis(near, np.argsort(near < 0, axis=1, kind="stable"), 1)
        needed, found = max(self._others, 1), (near >= 0).sum(1)
        alone = np.flatnonzero(found < needed)
        if alone.size:
            raise DataError(
                "an image has no hard negative" if needed == 1 else "too few hard negatives",
                where=f"{path}, image {store.keys[images[alone[0]]]!r}",
                expected="a pool made for the images that are trained on, at least "
                f"{needed} neighbours of each",
                found=f"{found[alone[0]]}; too few for {len(alone)} of {len(images)} images",
                fix="make the pool from this store and split: "
                "python -m input_pipeline.streams.hard_negatives",
            )
        return near

    def draw(self, rows: np.ndarray, counters: np.ndarray) -> Drawn:
        """Distractors of examples: a function of (seed, stream, counter).

        Args:
          rows: int [B].
          counters: int [B], position in training, example index in evaluation.
        """

        if self._others:
            return self._couples(rows, counters)

        def other(what: str) -> np.ndarray:
            name = f"{self._name}/{what}"
            return sampling.other_image_rows(self._seed, name, counters, rows, self._groups)

        if self._near is None:
            hard = other("hard text")
        else:
            near = self._near[self._groups.group_of[rows]]
            groups = sampling.foreign_rows(self._seed, f"{self._name}/hard", counters, near)
            bits = sampling.random_bits(self._seed, f"{self._name}/hard text", counters)
            hard = self._text_of(groups, bits)
        return Drawn((other("text"), hard), (other("image"),))

    def _text_of(self, groups: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """int64 [B]: rows of one of the texts of each group."""
        pick = (bits % self._groups.size[groups].astype(np.uint64)).astype(np.int64)
        return self._groups.sorted_rows[self._groups.start[groups] + pick]

    def _couples(self, rows: np.ndarray, counters: np.ndarray) -> Drawn:
        """Texts of other images, each with its own, no image twice."""
        own, near = self._groups.group_of[rows], None
        count = np.full(len(rows), len(self._groups) - 1)
        if self._near is not None:
            near = self._near[own]
            count = (near >= 0).sum(1)
        numbers = sampling.subsets(
            self._seed, f"{self._name}/couples", counters, count, self._others
        )
        drawn = []
        for i, number in enumerate(numbers):
            if near is not None:
                groups = near[np.arange(len(rows)), number]
            else:
                groups = number + (number >= own)
            bits = sampling.random_bits(self._seed, f"{self._name}/couples/{i}/text", counters)
            drawn.append(self._text_of(groups, bits))
        return Drawn(tuple(drawn), tuple(drawn))
