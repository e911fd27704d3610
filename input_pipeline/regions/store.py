"""Region store: one record per image, read at random by row, hash-checked at every read.

A store is a folder: `spec.json` (what the features are), `manifest.json` (records and bytes of
each shard), `index.npz` (id, place, size and hash of each record; `index_file`) and flat shards.
Flat shards with a hash each are read about twice as fast as ArrayRecord, and a cut file cannot
pass as a shorter one: sizes are compared when the store is opened. On gs:// the shards stay where
they are and records are read as ranges of them (`remote_shards`).
"""

import os
import threading
from collections.abc import Sequence

import numpy as np
import xxhash

from core.errors import DataError
from core.reading import unreadable
from input_pipeline.regions.image_index import joined
from input_pipeline.regions.region_folder import Folder
from input_pipeline.regions.region_writer import RegionWriter
from input_pipeline.regions.source import RegionSource
from input_pipeline.regions.spec import FeatureSpec

__all__ = ["FeatureSpec", "RegionStore", "RegionWriter", "split_paths"]

_PER_IMAGE = ("n", "height", "width")  # of the index, what is asked of many rows at once


def split_paths(paths: str | os.PathLike | Sequence[str]) -> list[str]:
    """A comma-separated text, one path or several as a list without empty parts."""
    if isinstance(paths, (str, os.PathLike)):
        paths = os.fspath(paths).split(",")
    return [str(path).strip() for path in paths if str(path).strip()]


class RegionStore(RegionSource):
    """Region features in one or several folders, all of one spec.

    Attributes:
      nbytes: int, of all records.
    """

    def __init__(self, folders: list[Folder]):
        self._folders = folders
        self.spec = folders[0].spec
        super().__init__(
            [folder.lookup for folder in folders],
            *(joined([folder.index[name] for folder in folders]) for name in _PER_IMAGE),
        )
        self.nbytes = sum(int(folder.index["nbytes"].sum()) for folder in folders)
        self.fingerprint = (
            folders[0].fingerprint
            if len(folders) == 1
            else xxhash.xxh3_128_hexdigest("".join(f.fingerprint for f in folders).encode())
        )
        self._scratch = threading.local()

    @classmethod
    def open(cls, folders: str | os.PathLike | Sequence[str]) -> "RegionStore":
        """Opens a store.

        Args:
          folders: a path, several separated by commas, or a list; rows are numbered through.

        Raises:
          DataError: no folder, a damaged one (a missing or cut shard, a changed index), specs
            that differ, or an image id in two of them.
        """
        paths = split_paths(folders)
        if not paths:
            raise DataError(
                "no region store is named",
                expected="one or more folders",
                found=repr(folders),
                fix="set --config.data.regions=STORE (input_pipeline.importers writes one)",
            )
        opened = [Folder(path) for path in paths]
        for path, folder in zip(paths[1:], opened[1:], strict=True):
            opened[0].spec.require_match(folder.spec, paths[0], path)
        store = cls(opened)
        store.check_unique(
            paths, "region store", "name the folders once, or import the images once"
        )
        return store

    def where(self, row: int) -> str:
        """The place of a record, for messages."""
        folder, (shard, offset, _) = self._folder_of(row), self._place(row)
        file = folder.path / folder.manifest["shards"][shard]["file"]
        return f"{file}, image {self.keys[row]!r} (row {row}, byte {offset})"

    def _folder_of(self, row: int) -> Folder:
        return self._folders[self.place_of(row)[0]]

    def _buffer(self, nbytes: int) -> np.ndarray:
        """One buffer per thread: a new one per record would cost page faults at each."""
        buffer = getattr(self._scratch, "buffer", None)
        if buffer is None or len(buffer) < nbytes:
            buffer = self._scratch.buffer = np.empty(nbytes, np.uint8)
        return buffer[:nbytes]

    def read(self, row: int) -> dict[str, np.ndarray]:
        """Views of one record (see FeatureSpec.split_record), valid until this thread's next read.

        Raises:
          DataError: the record is cut short or its hash differs.
        """
        folder, place = self._folder_of(row), self._place(row)
        if folder.shards:
            return self._record(row, folder.shards.read(place))
        shard, offset, nbytes = place
        buffer = self._buffer(nbytes)
        # preadv into a buffer, not a memory map: a file cut while it is open gives a short read
        # and not a killed process, and the GIL is released while the disk works.
        try:
            size = os.preadv(folder.files[shard], [buffer], offset)
        except OSError as error:  # the disk, or a network disk that has gone
            raise unreadable(
                self.where(row), error, "a region record cannot be read", fix="check the disk"
            ) from error
        return self._record(row, buffer[:size])

    def _place(self, row: int) -> tuple[int, int, int]:
        """Where a record is in its folder: number of the shard, first byte, bytes."""
        number, at = self.place_of(row)
        index = self._folders[number].index
        return index["shard"].item(at), index["offset"].item(at), index["nbytes"].item(at)

    def _record(self, row: int, data: np.ndarray) -> dict[str, np.ndarray]:
        """Views of a record, if `data` is what was written."""
        found = xxhash.xxh3_64_intdigest(data)
        number, at = self.place_of(row)
        index = self._folders[number].index
        nbytes, wanted = index["nbytes"].item(at), index["xxh3"].item(at)
        if len(data) != nbytes or found != wanted:
            raise DataError(
                "a region record is damaged",
                where=self.where(row),
                expected=f"{nbytes} bytes with xxh3 {wanted:016x}",
                found=f"{len(data)} bytes with xxh3 {found:016x}",
                fix="run `python -m input_pipeline.doctor verify` and copy or import it again",
            )
        return self.spec.split_record(data, int(self.counts[row]))

    def _prefetch(self, rows: np.ndarray) -> dict[int, np.ndarray]:
        """Prefetches records: local ones into the page cache, remote ones by concurrent reads.

        Returns:
          {row: uint8 array} of remote records, all of them read.
        """
        remote_rows: dict = {}  # {RemoteShards: rows}
        advise = getattr(os, "posix_fadvise", None)  # not on every system; reading works without it
        for row in rows.ravel().tolist():
            folder = self._folder_of(row)
            if folder.shards:
                remote_rows.setdefault(folder.shards, []).append(row)
            elif advise:
                shard, offset, nbytes = self._place(row)
                advise(folder.files[shard], offset, nbytes, os.POSIX_FADV_WILLNEED)
        fetched = {}
        for shards, wanted in remote_rows.items():
            found = shards.fetch(map(self._place, wanted))
            fetched.update((row, found[self._place(row)]) for row in wanted)
        return fetched
