"""Regions of images in memory: of a store, or given as arrays, to be read like a store."""

import dataclasses
from collections.abc import Mapping, Sequence

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
      record: see `FeatureSpec.split_record`; "boxes" [n, 4] and "features" [n + 1, F] at least.
    """

    key: str
    height: int
    width: int
    record: Mapping[str, np.ndarray]

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
        return cls(key, height, width, spec.split_record(record, len(arrays["boxes"])))

    @classmethod
    def of_store(cls, store: RegionSource, row: int) -> "ImageRegions":
        """A copy of a store's record; raises DataError where it cannot be read."""
        record = {name: view.copy() for name, view in store.read(row).items()}
        return cls(store.keys[row], int(store.heights[row]), int(store.widths[row]), record)


class MemoryRegions(RegionSource):
    """The regions of some images: row i is image i, whose id is of no account."""

    def __init__(self, spec: FeatureSpec, images: Sequence[ImageRegions]):
        self.spec, self._images = spec, images
        self.fingerprint = xxhash.xxh3_128_hexdigest(
            b"".join(
                xxhash.xxh3_128_digest(np.ascontiguousarray(array).view(np.uint8))
                for one in images
                for array in one.record.values()
            )
        )
        super().__init__(
            self.lookups_of([str(row) for row in range(len(images))]),
            np.array([len(one.record["boxes"]) for one in images], np.int32),
            np.array([one.height for one in images], np.int32),
            np.array([one.width for one in images], np.int32),
        )

    def read(self, row: int) -> dict[str, np.ndarray]:
        """Views of one record, see FeatureSpec.split_record."""
        return dict(self._images[row].record)
