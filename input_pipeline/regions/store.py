"""Region store: one record per image, read at random by row, hash-checked at every read.

A store is a folder: `spec.json` (what the features are), `manifest.json` (records and bytes of
each shard), `index.npz` (id, place, size and hash of each record) and flat shards. Flat shards
with a hash each are read about twice as fast as ArrayRecord, and a cut file cannot pass as a
shorter one: sizes are compared when the store is opened. On gs:// the shards stay where they are
and records are read as ranges of them (`remote_shards`).
"""

import os
import threading
from collections.abc import Sequence

import numpy as np
import xxhash

from core.errors import DataError
from core.reading import unreadable
from input_pipeline.regions.region_folder import Folder
from input_pipeline.regions.region_writer import INDEX_FIELDS, RegionWriter
from input_pipeline.regions.source import RegionSource
from input_pipeline.regions.spec import FeatureSpec

__all__ = ["FeatureSpec", "RegionStore", "RegionWriter", "split_paths"]


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
        joined = {n: np.concatenate([f.index[n] for f in folders]) for n in INDEX_FIELDS}
        keys = [key for folder in folders for key in folder.keys]
        super().__init__(keys, joined["n"], joined["height"], joined["width"])
        self.nbytes = int(joined["nbytes"].sum())
        # Plain lists: reading one number out of them is several times faster than from an array.
        self._offset, self._nbytes = joined["offset"].tolist(), joined["nbytes"].tolist()
        self._hash, self._shard = joined["xxh3"].tolist(), joined["shard"].tolist()
        self._folder_of = np.repeat(
            np.arange(len(folders)), [len(f.keys) for f in folders]
        ).tolist()
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
        if len(store._row) != len(store.keys):
            seen: dict[str, str] = {}
            for path, folder in zip(paths, opened, strict=True):
                for key in folder.keys:
                    if key in seen:
                        raise DataError(
                            "an image id is in two folders of a region store",
                            where=f"{seen[key]} and {path}, image {key!r}",
                            expected="ids that occur once",
                            found="two records",
                            fix="name the folders once, or import the images once",
                        )
                    seen[key] = path
        return store

    def where(self, row: int) -> str:
        """The place of a record, for messages."""
        folder = self._folders[self._folder_of[row]]
        file = folder.path / folder.manifest["shards"][self._shard[row]]["file"]
        return f"{file}, image {self.keys[row]!r} (row {row}, byte {self._offset[row]})"

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
        shards = self._folders[self._folder_of[row]].shards
        if shards:
            return self._record(row, shards.read(self._place(row)))
        buffer = self._buffer(self._nbytes[row])
        file = self._folders[self._folder_of[row]].files[self._shard[row]]
        # preadv into a buffer, not a memory map: a file cut while it is open gives a short read
        # and not a killed process, and the GIL is released while the disk works.
        try:
            size = os.preadv(file, [buffer], self._offset[row])
        except OSError as error:  # the disk, or a network disk that has gone
            raise unreadable(
                self.where(row), error, "a region record cannot be read", fix="check the disk"
            ) from error
        return self._record(row, buffer[:size])

    def _place(self, row: int) -> tuple[int, int, int]:
        """Where a record is in its folder: number of the shard, first byte, bytes."""
        return self._shard[row], self._offset[row], self._nbytes[row]

    def _record(self, row: int, data: np.ndarray) -> dict[str, np.ndarray]:
        """Views of a record, if `data` is what was written."""
        found = xxhash.xxh3_64_intdigest(data)
        if len(data) != self._nbytes[row] or found != self._hash[row]:
            raise DataError(
                "a region record is damaged",
                where=self.where(row),
                expected=f"{self._nbytes[row]} bytes with xxh3 {self._hash[row]:016x}",
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
            folder = self._folders[self._folder_of[row]]
            if folder.shards:
                remote_rows.setdefault(folder.shards, []).append(row)
            elif advise:
                file = folder.files[self._shard[row]]
                advise(file, self._offset[row], self._nbytes[row], os.POSIX_FADV_WILLNEED)
        fetched = {}
        for shards, wanted in remote_rows.items():
            found = shards.fetch(map(self._place, wanted))
            fetched.update((row, found[self._place(row)]) for row in wanted)
        return fetched
