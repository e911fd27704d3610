"""Images of a store by their ids."""

import collections
import functools
from collections.abc import Sequence

import numpy as np

from core.ids import without_suffix


class ImageIndex:
    """Rows of images by id.

    Attributes:
      keys: image ids by row.
    """

    def __init__(self, keys: Sequence[str]):
        self.keys = list(keys)
        self._row = {key: row for row, key in enumerate(self.keys)}

    def __len__(self) -> int:
        return len(self.keys)

    def rows_of(self, ids: Sequence[str]) -> np.ndarray:
        """int64 [len(ids)] rows of image ids, -1 where the store has no such image.

        An id that is not there as it is written is looked up without a picture's suffix, on both
        sides: "still.jpg" finds "still", unless another of `ids` or of the store's would, too.
        """
        get = self._row.get
        rows = np.fromiter((get(image_id, -1) for image_id in ids), np.int64, len(ids))
        if (rows < 0).any():
            there, asked = self._without_suffix, collections.Counter(map(without_suffix, set(ids)))
            for i in np.flatnonzero(rows < 0).tolist():
                name = without_suffix(ids[i])
                if asked[name] == 1:
                    rows[i] = there.get(name, -1)
        return rows

    @functools.cached_property
    def _without_suffix(self) -> dict[str, int]:
        """{id without a picture's suffix: row}, of the ids that this names alone."""
        rows: dict[str, int] = {}
        for row, key in enumerate(self.keys):
            name = without_suffix(key)
            rows[name] = -1 if name in rows else row
        return rows
