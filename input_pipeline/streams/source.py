"""What a stream draws its examples from."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from input_pipeline.pictures.store import PictureStore
from input_pipeline.regions.source import RegionSource
from input_pipeline.texts.tables import TextTable


@dataclasses.dataclass(frozen=True)
class Source:
    """The examples a stream draws from.

    Attributes:
      table: tokenised texts.
      rows: int64 [n] usable rows of the table.
      store: regions, None for plain text.
      store_rows: int64 [images of the table], row in the store, -1 = none; None for plain text.
      pictures: of the images, None where the model reads stored features.
      picture_rows: int64 [images of the region store], row in `pictures`, -1 = none.
      kinds: names of the table's sources where the data set makes them, see `Prepared.sources`.
    """

    table: TextTable
    rows: np.ndarray
    store: RegionSource | None = None
    store_rows: np.ndarray | None = None
    kinds: Sequence[str] = ()
    pictures: PictureStore | None = None
    picture_rows: np.ndarray | None = None

    def images_of(self, rows: np.ndarray) -> np.ndarray:
        """int64 [B, M] rows of the store that the images of rows [B] of the table have."""
        return self.store_rows[self.table.images_of(rows)]
