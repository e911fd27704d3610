"""Region store: one record per image, read at random by row, hash-checked at every read.

A store is a folder: `spec.json` (what the features are), `manifest.json` (records and bytes of
each shard), `index.npz` (id, place, size and hash of each record) and flat shards. Flat shards
with a hash each are read about twice as fast as ArrayRecord, and a cut file cannot pass as a
shorter one: sizes are compared when the store is opened. On gs:// the shards stay where they are
and records are read as ranges of them (`remote_shards`).
"""

import collections
import functools
import os
import threading
from collections.abc import Callable, Sequence

import numpy as np
import xxhash

from core.errors import DataError
from core.ids import without_suffix
from core.reading import unreadable
from input_pipeline.regions.region_folder import Folder
from input_pipeline.regions.region_writer import INDEX_FIELDS, RegionWriter
from input_pipeline.regions.spec import FeatureSpec

__all__ = ["ORDERS", "FeatureSpec", "RegionStore", "RegionWriter", "split_paths"]

ORDERS = ("stored", "confidence")
# See `RegionStore.read_into`.
Rank = Callable[[tuple[int, ...], np.ndarray, int], np.ndarray]


def split_paths(paths: str | os.PathLike | Sequence[str]) -> list[str]:
    """A comma-separated text, one path or several as a list without empty parts."""
    if isinstance(paths, (str, os.PathLike)):
        paths = os.fspath(paths).split(",")
    return [str(path).strip() for path in paths if str(path).strip()]


def layout(spec: FeatureSpec, batch: int, images: int, regions: int) -> dict[str, tuple]:
    """{key: (shape, dtype)} of the arrays that a store fills: [B, M, R, ...]."""
    k, lead = spec.kept_classes, (batch, images)
    out = {
        "regions": ((*lead, regions, spec.feature_dim), spec.np_dtype),
        "boxes": ((*lead, regions, 4), np.float32),
        "region_mask": ((*lead, regions), bool),
        "image_size": ((*lead, 2), np.float32),
        "num_detected": (lead, np.int32),
        "image_key": (lead, np.int32),
    }
    if spec.scaled:
        out["region_scale"] = (*lead, regions), np.float32
    if k:
        out["region_class_ids"] = (*lead, regions, k), np.int32
        out["region_class_probs"] = (*lead, regions, k), np.float32
        out["region_rest_prob"] = (*lead, regions), np.float32
    return out


class RegionStore:
    """Region features of many images, over one or several folders.

    Attributes:
      spec: FeatureSpec all folders share.
      keys: image ids by row.
      heights, widths: int32 [N] image sizes in pixels.
      counts: int32 [N] detected regions, row 0 not counted.
      nbytes: int, of all records.
      fingerprint: hex digest of the contents.
    """

    def __init__(self, folders: list[Folder]):
        self._folders = folders
        self.spec = folders[0].spec
        self.keys = [key for folder in folders for key in folder.keys]
        joined = {n: np.concatenate([f.index[n] for f in folders]) for n in INDEX_FIELDS}
        self.counts, self.heights, self.widths = joined["n"], joined["height"], joined["width"]
        self.nbytes = int(joined["nbytes"].sum())
        # Plain lists: reading one number out of them is several times faster than from an array.
        self._offset, self._nbytes = joined["offset"].tolist(), joined["nbytes"].tolist()
        self._hash, self._shard = joined["xxh3"].tolist(), joined["shard"].tolist()
        self._folder_of = np.repeat(
            np.arange(len(folders)), [len(f.keys) for f in folders]
        ).tolist()
        self._row = {key: row for row, key in enumerate(self.keys)}
        self.fingerprint = (
            folders[0].fingerprint
            if len(folders) == 1
            else xxhash.xxh3_128_hexdigest("".join(f.fingerprint for f in folders).encode())
        )
        self._scratch = threading.local()
        self._lock = threading.Lock()

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

    def features_of(self, record: dict[str, np.ndarray]) -> np.ndarray:
        """float32 [n + 1, F] features of a record that `read` gave, whatever the store's dtype."""
        return self.spec.decode(record)

    def allocate(self, batch: int, images: int, regions: int) -> dict[str, np.ndarray]:
        """Arrays for `read_into`: [B, M, R, ...] with the keys of the batch contract."""
        return {
            key: aligned(shape, dtype) if key == "regions" else np.empty(shape, dtype)
            for key, (shape, dtype) in layout(self.spec, batch, images, regions).items()
        }

    def read_into(
        self,
        out: dict[str, np.ndarray],
        rows: np.ndarray,
        order: str = "stored",
        keep: np.ndarray | None = None,
        rank: Rank | None = None,
    ) -> None:
        """Fills the arrays of `allocate` with records, features as stored and never cast.

        Args:
          out: arrays [B, M, R, ...]; everything beyond an image's rows is zeroed.
          rows: int [B, M] rows of the store.
          order: which regions come first and are kept: as "stored", or by "confidence", the
            largest class probability, background included (VL-BERT's order).
          keep: int [B, M], rows of `regions` to fill, row 0 included; None: R.
          rank: asked for each image that has more regions than are kept: rank((b, m), boxes
            [n, 4] in `order`, how many are kept) -> int [n]. The highest ranks are cut first and,
            among equal ones, the last; those that stay keep their order.

        Raises:
          DataError: an unknown order, an order the spec cannot give, a damaged record.
        """
        check_order(order, self.spec)
        limit = out["regions"].shape[2]
        fetched = self._prefetch(rows)
        counts = self.counts[rows]
        sizes = np.minimum(counts + 1, limit if keep is None else np.minimum(keep, limit))
        out["num_detected"][...] = counts
        out["image_key"][...] = rows
        out["image_size"][..., 0] = self.heights[rows]
        out["image_size"][..., 1] = self.widths[rows]
        out["region_mask"][...] = np.arange(limit) < sizes[..., None]
        # Many short calls that release and take the GIL cost threads more than they gain: with one
        # thread at a time in here a batch takes half the CPU time. Waiting for the disk overlaps
        # all the same, since records are prefetched.
        with self._lock:
            for at in np.argsort(rows, axis=None, kind="stable"):  # the order on disk
                place = np.unravel_index(at, rows.shape)
                row = int(rows[place])
                record = self._record(row, fetched[row]) if row in fetched else self.read(row)
                self._fill(out, place, record, int(sizes[place]), order, rank)

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

    def _fill(
        self,
        out: dict[str, np.ndarray],
        place: tuple[int, int],
        record: dict[str, np.ndarray],
        size: int,
        order: str,
        rank: Rank | None,
    ) -> None:
        """Copies one record into the first `size` rows at out[...][place]."""
        # numpy moves 16-bit integers faster than it moves bfloat16.
        integers = f"u{self.spec.np_dtype.itemsize}"
        features, target = record["features"].view(integers), out["regions"].view(integers)[place]
        targets = {"boxes": "boxes"}
        if self.spec.kept_classes:
            targets.update(
                region_class_ids="class_ids", region_class_probs="probs", region_rest_prob="rest"
            )
        chosen = None
        if order == "confidence":
            chosen = np.argsort(-record["probs"][:, 0], kind="stable")
        if rank is not None and size - 1 < len(record["boxes"]):
            chosen = np.arange(len(record["boxes"])) if chosen is None else chosen
            ranks = rank(place, record["boxes"][chosen], size - 1)
            chosen = chosen[np.sort(np.argsort(ranks, kind="stable")[: size - 1])]
        if chosen is not None:
            chosen = chosen[: size - 1]
            target[0] = features[0]
            np.take(features, chosen + 1, axis=0, out=target[1:size], mode="clip")
        else:
            target[:size] = features[:size]
        target[size:] = 0
        if self.spec.scaled:
            to, scales = out["region_scale"][place], record["scales"]
            to[0] = scales[0]
            to[1:size] = scales[1:size] if chosen is None else scales[chosen + 1]
            to[size:] = 0
        for name, source in targets.items():
            to, values = out[name][place], record[source]
            to[0] = 0
            to[1:size] = values[: size - 1] if chosen is None else values[chosen]
            to[size:] = 0


def check_order(order: str, spec: FeatureSpec, block: str = "config.streams.<name>") -> None:
    """Checks that regions of `spec` can be put in `order`; `block` is the stream's in the config.

    Raises:
      DataError: an unknown order, or "confidence" without class distributions.
    """
    if order not in ORDERS:
        raise DataError("unknown order of regions", expected=f"one of {ORDERS}", found=repr(order))
    if order == "confidence" and not spec.kept_classes:
        raise DataError(
            "regions cannot be ordered by confidence: the store has no class distributions",
            where=f"features of {spec.detector!r}",
            expected="num_classes > 0 in the feature spec",
            found="num_classes = 0",
            fix=f"keep them as they are stored: --{block}.order=stored",
        )


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array at a 64-byte boundary, which TensorFlow takes without a copy."""
    nbytes = int(np.prod(shape)) * dtype.itemsize
    buffer = np.empty(nbytes + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + nbytes].view(dtype).reshape(shape)
