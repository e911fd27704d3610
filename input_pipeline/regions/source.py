"""What batches are filled from: the records of many images by row, wherever they are kept."""

import threading
from collections.abc import Callable, Sequence

import numpy as np

from core.errors import DataError
from input_pipeline.regions.id_lookup import IdLookup
from input_pipeline.regions.image_index import ImageIndex
from input_pipeline.regions.spec import FeatureSpec

ORDERS = ("stored", "confidence")
FEATURES = ("regions", "region_scale")  # what a batch lacks whose model sees pictures
# See `RegionSource.read_into`.
Rank = Callable[[tuple[int, ...], np.ndarray, int], np.ndarray]


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


class RegionSource(ImageIndex):
    """Region features of many images, read by row; a subclass says where from.

    Attributes:
      spec: FeatureSpec of all.
      keys: image ids by row.
      heights, widths: int32 [N] image sizes in pixels.
      counts: int32 [N] detected regions, row 0 not counted.
      fingerprint: hex digest of the contents.
    """

    spec: FeatureSpec
    fingerprint: str

    def __init__(
        self,
        lookups: Sequence[IdLookup],
        counts: np.ndarray,
        heights: np.ndarray,
        widths: np.ndarray,
    ):
        super().__init__(lookups)
        self.counts, self.heights, self.widths = counts, heights, widths
        self._lock = threading.Lock()

    def read(self, row: int) -> dict[str, np.ndarray]:
        """Views of one record (see FeatureSpec.split_record), valid until this thread's next read.

        Raises:
          DataError: it cannot be read.
        """
        raise NotImplementedError

    def _prefetch(self, rows: np.ndarray) -> dict[int, np.ndarray]:
        """{row: bytes for `_record`} of those that are read together; others may be prepared."""
        del rows
        return {}

    def _record(self, row: int, data: np.ndarray) -> dict[str, np.ndarray]:
        """As `read`, of bytes that `_prefetch` gave."""
        raise NotImplementedError

    def features_of(self, record: dict[str, np.ndarray]) -> np.ndarray:
        """float32 [n + 1, F] features of a record that `read` gave, whatever the store's dtype."""
        return self.spec.decode(record)

    def allocate(
        self, batch: int, images: int, regions: int, *, features: bool = True
    ) -> dict[str, np.ndarray]:
        """Arrays for `read_into`: [B, M, R, ...] with the keys of the batch contract.

        Args:
          batch, images, regions: B, M and R.
          features: whether features are to be read, too, or boxes and classes alone.
        """
        return {
            key: aligned(shape, dtype) if key == "regions" else np.empty(shape, dtype)
            for key, (shape, dtype) in layout(self.spec, batch, images, regions).items()
            if features or key not in FEATURES
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
        limit = out["boxes"].shape[2]
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
        if "regions" in out:
            self._fill_features(out, place, record, size, chosen)
        for name, source in targets.items():
            to, values = out[name][place], record[source]
            to[0] = 0
            to[1:size] = values[: size - 1] if chosen is None else values[chosen]
            to[size:] = 0

    def _fill_features(
        self,
        out: dict[str, np.ndarray],
        place: tuple[int, int],
        record: dict[str, np.ndarray],
        size: int,
        chosen: np.ndarray | None,
    ) -> None:
        """Copies the features of row 0 and of the regions `chosen`; None: of the first ones."""
        # numpy moves 16-bit integers faster than it moves bfloat16.
        integers = f"u{self.spec.np_dtype.itemsize}"
        features, target = record["features"].view(integers), out["regions"].view(integers)[place]
        if chosen is not None:
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
