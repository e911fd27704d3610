"""Regions of images in memory: of a store, or given as arrays, to be read like a store."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import xxhash

from input_pipeline.regions import image_checks, region_writer
from input_pipeline.regions.source import RegionSource
from input_pipeline.regions.spec import FeatureSpec


@dataclasses.dataclass(frozen=True, eq=False)
class ImageRegions:
    """The regions of one image.

    Attributes:
      key: its id.
      height, width: in pixels.
      record: uint8, see `FeatureSpec.split_record`.
      count: its regions, row 0 not counted.
    """

    key: str
    height: int
    width: int
    record: np.ndarray
    count: int

    @classmethod
    def of_arrays(
        cls,
        spec: FeatureSpec,
        key: str,
        boxes: np.ndarray,
        features: np.ndarray,
        size: tuple[int, int],
        class_probs: np.ndarray | None,
        global_feature: np.ndarray | None,
        fail: image_checks.Fail,
    ) -> "ImageRegions":
        """Checks arrays as a store's writer does; arguments and errors as `RegionWriter.add`."""
        arrays, height, width = image_checks.checked(
            spec, key, boxes, features, size, class_probs, global_feature, fail
        )
        record, _ = region_writer.packed(spec, arrays, fail)
        return cls(key, height, width, record, len(arrays["boxes"]))

    @classmethod
    def of_store(cls, store: RegionSource, row: int) -> "ImageRegions":
        """A copy of a store's record; raises DataError where it cannot be read."""
        views, count = store.read(row), int(store.counts[row])
        record = np.empty(store.spec.record_nbytes(count), np.uint8)
        for name, view in store.spec.split_record(record, count).items():
            view[...] = views[name]
        return cls(
            store.keys[row], int(store.heights[row]), int(store.widths[row]), record, count
        )

    def boxes(self, spec: FeatureSpec) -> np.ndarray:
        """float32 [n, 4] xyxy in pixels."""
        return spec.split_record(self.record, self.count)["boxes"]


class MemoryRegions(RegionSource):
    """The regions of some images, whose ids may occur more than once: row i is image i."""

    def __init__(self, spec: FeatureSpec, images: Sequence[ImageRegions]):
        self.spec, self._images = spec, images
        self.fingerprint = xxhash.xxh3_128_hexdigest(
            b"".join(xxhash.xxh3_128_digest(one.record) for one in images)
        )
        super().__init__(
            [one.key for one in images],
            *(
                np.array([getattr(one, name) for one in images], np.int32)
                for name in ("count", "height", "width")
            ),
        )

    def read(self, row: int) -> dict[str, np.ndarray]:
        """Views of one record, see FeatureSpec.split_record."""
        return self.spec.split_record(self._images[row].record, self._images[row].count)
