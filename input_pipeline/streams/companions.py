"""What examples get beside their own text and image: wrong texts, and another image."""

import dataclasses

import numpy as np
from ml_collections import ConfigDict

from core.errors import DataError
from input_pipeline.streams import sampling
from input_pipeline.streams.distractors import Distractors
from input_pipeline.streams.plan import DrawSettings
from input_pipeline.streams.source import Source


@dataclasses.dataclass(frozen=True)
class Companions:
    """Of a batch.

    Attributes:
      texts: int64 [B] rows of the table each.
      images: int64 [B, 1] rows of the store each.
    """

    texts: tuple[np.ndarray, ...] = ()
    images: tuple[np.ndarray, ...] = ()


class Negatives:
    """A wrong text for each example: of the table's foreign ones, else another image's."""

    def __init__(self, name: str, source: Source, rows: np.ndarray, seed: int):
        """Groups the examples by image.

        Args:
          name: of the stream.
          source: of the examples.
          rows: int64 [n], the stream's examples in the table.
          seed: of the run.

        Raises:
          DataError: an example without foreign text, or fewer than two images.
        """
        self._name, self._seed = name, seed
        self._foreign, self._groups = source.table.foreign, None
        if self._foreign is not None:
            source.table.check_foreign(rows)
            return
        self._groups = sampling.Groups(rows, source.images_of(rows)[:, 0])
        if len(self._groups) < 2:
            raise DataError(
                "no caption of another image to choose",
                where=f"config.streams.{name}.negatives",
                expected="at least 2 images",
                found=len(self._groups),
            )

    def draw(self, rows: np.ndarray, counters: np.ndarray) -> np.ndarray:
        """int64 [B] rows of the table, a function of (seed, stream, counter)."""
        # A foreign text needs no regions, so it may be of an image that is left out itself.
        if self._groups is None:
            foreign = self._foreign[rows]
            return sampling.foreign_rows(self._seed, self._name, counters, foreign)
        return sampling.other_image_rows(self._seed, self._name, counters, rows, self._groups)


class CompanionPicker:
    """Picks the companions of a stream's examples.

    Attributes:
      fingerprint: of the distractors' pool, "" without distractors.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        rows: np.ndarray,
        options: ConfigDict,
        settings: DrawSettings,
        other_image: bool,
    ):
        """Joins what the options ask for with the stream's images.

        Args:
          name: of the stream.
          source: of the examples.
          rows: int64 [n], the stream's examples in the table.
          options: the stream's block of the config.
          settings: how the stream goes through its examples.
          other_image: whether each example gets another example's image.

        Raises:
          DataError: the data have too few images, or a pool does not fit them.
        """
        self._source, self.fingerprint = source, ""
        self._negatives = self._distractors = self._other_image = None
        if source.store is None:  # `limits.check_without_images` has refused the options
            return
        if options.negatives:
            self._negatives = Negatives(name, source, rows, settings.seed)
        images = source.images_of(rows)[:, 0]
        if options.distractors:
            self._distractors = Distractors(
                options.distractors,
                rows,
                images,
                source.store,
                seed=settings.seed,
                name=name,
                hard=settings.training,
                couples=options.couples,
            )
            self.fingerprint = self._distractors.fingerprint
        if other_image:
            images = np.unique(images)
            self._other_image = np.full(len(source.store), -1, np.int64)
            other = sampling.derangement(settings.seed, len(images))
            self._other_image[images] = images[other]

    def pick(self, rows: np.ndarray, counters: np.ndarray) -> Companions:
        """Companions of the examples in rows [B] of the table; counters as in `plan.Draw`."""
        texts: tuple[np.ndarray, ...] = ()
        images: tuple[np.ndarray, ...] = ()
        if self._other_image is not None:
            images += (self._other_image[self._source.images_of(rows)[:, :1]],)
        if self._distractors is not None:
            drawn = self._distractors.draw(rows, counters)
            texts = drawn.texts
            images += tuple(self._source.images_of(rows)[:, :1] for rows in drawn.images)
        elif self._negatives is not None:
            texts = (self._negatives.draw(rows, counters),)
        return Companions(texts, images)
