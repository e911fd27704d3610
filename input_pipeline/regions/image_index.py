"""Images of a store by their ids."""

import bisect
import itertools
from collections.abc import Sequence

import numpy as np

from core.errors import DataError
from core.strings import PackedStrings, pack_strings
from input_pipeline.regions import id_lookup
from input_pipeline.regions.id_lookup import IdLookup


def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays one after the other; a single one as it is, perhaps in its file."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


class ImageIndex:
    """Rows of images by id.

    Attributes:
      keys: image ids by row.
      lookups: of the ids of each folder, in the order of the rows.
    """

    def __init__(self, lookups: Sequence[IdLookup]):
        self.lookups = lookups
        self.keys: Sequence[str] = PackedStrings(
            *(part for lookup in lookups for part in lookup.keys.parts)
        )

        counts = (len(lookup.keys) for lookup in lookups[:-1])
        self._first_rows = [0, *itertools.accumulate(counts)]

    def place_of(self, row: int) -> tuple[int, int]:
        """(number of the folder that a row is of, its row there)."""
        if len(self._first_rows) == 1:
            return 0, row
        folder = bisect.bisect_right(self._first_rows, row) - 1
        return folder, row - self._first_rows[folder]

    @staticmethod
    def lookups_of(keys: Sequence[str]) -> list[IdLookup]:
        """The lookup of some ids, for the constructor."""
        return [IdLookup.of(PackedStrings(pack_strings(keys)))]

    def __len__(self) -> int:
        return len(self.keys)

    def check_unique(self, folders: Sequence[str], what: str, fix: str) -> None:
        """Raises DataError where an id is there twice.

        Args:
          folders: where the lookups come from, for the message.
          what: the store, for the message.
          fix: what to do about it.
        """
        if twice := id_lookup.repeated(self.lookups):
            key, one, other = twice
            raise DataError(
                f"an image id is twice in a {what}"
                if one == other
                else f"an image id is in two folders of a {what}",
                where=f"{folders[one]} and {folders[other]}, image {key!r}",
                expected="ids that occur once",
                found="two records",
                fix=fix,
            )

    def misled(self) -> list[int]:
        """Numbers of the folders whose index does not find all ids that they have."""
        return [
            number
            for number, lookup in enumerate(self.lookups)
            if not lookup.same_as(IdLookup.of(lookup.keys))
        ]

    def rows_of(self, ids: Sequence[str]) -> np.ndarray:
        """int64 [len(ids)] rows of image ids, -1 where the store has no such image.

        An id that is not there as it is written is looked up without a picture's suffix, on both
        sides: "still.jpg" finds "still", unless another of `ids` or of the store's would, too.
        """
        return id_lookup.rows_of(self.lookups, ids)
