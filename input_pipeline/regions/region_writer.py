"""Writes a region store: records are checked in full and appended to flat shards."""

import json
import os
import pathlib

import numpy as np
import xxhash

from core.errors import DataError
from core.reading import reading
from input_pipeline.regions import image_checks, index_file
from input_pipeline.regions.shard_writer import MANIFEST, ShardWriter
from input_pipeline.regions.spec import FeatureSpec

FORMAT = 1
INDEX_FIELDS = {
    "shard": np.int32,
    "offset": np.int64,
    "nbytes": np.int64,
    "n": np.int32,
    "height": np.int32,
    "width": np.int32,
    "xxh3": np.uint64,
}


def content_fingerprint(spec: FeatureSpec, index: dict[str, np.ndarray]) -> str:
    """Hex digest of what a store holds, whatever its shards are."""
    digest = xxhash.xxh3_128(spec.checksum().encode())
    for name in ("keys", "key_ends", "n", "height", "width", "xxh3"):
        digest.update(np.ascontiguousarray(index[name]))
    return digest.hexdigest()


def empty_store(where: str) -> DataError:
    """The error of a store without images."""
    return DataError(
        "a region store would be empty",
        where=where,
        expected="at least one image",
        found="0 images",
        fix="check what is imported",
    )


def seal(
    folder: pathlib.Path, spec: FeatureSpec, index: dict[str, np.ndarray], shards: list[dict]
) -> None:
    """Makes a folder of shards a store: writes its index, spec and manifest.

    Args:
      folder: holds the shards.
      spec: of all records.
      index: INDEX_FIELDS and the packed ids ("keys", "key_ends"), in the order of the records.
      shards: {"file", "records", "bytes"} of each.
    """
    digest = index_file.write(folder / index_file.FILE, index)
    manifest = {
        "format": FORMAT,
        "records": len(index["n"]),
        "fingerprint": content_fingerprint(spec, index),
        "index_xxh3": digest,
        "shards": shards,
    }
    for name, value in (("spec.json", spec.to_dict()), (MANIFEST, manifest)):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n")


def packed(
    spec: FeatureSpec, arrays: dict[str, np.ndarray], fail: image_checks.Fail
) -> tuple[np.ndarray, np.ndarray]:
    """An image's record, and its features as readers will see them.

    Args:
      spec: of the features.
      arrays: of `RegionWriter.add_checked`.
      fail: makes the error.

    Returns:
      uint8 record (see `FeatureSpec.split_record`), float32 [n + 1, F].

    Raises:
      DataError: features not finite, as given or in the spec's dtype.
    """
    stored = spec.encode(arrays["rows"])
    seen = spec.decode(stored)
    bad = np.flatnonzero(~np.isfinite(seen).all(1))
    if bad.size:
        raise fail(
            "features of the whole image are not finite"
            if bad[-1] == 0
            else f"features of region {bad[bad > 0][0] - 1} are not finite",
            f"finite numbers within {spec.dtype}",
            "NaN or infinity",
        )
    n = len(arrays["boxes"])
    record = np.empty(spec.record_nbytes(n), np.uint8)
    for name, view in spec.split_record(record, n).items():
        view[...] = stored[name] if name in stored else arrays[name]
    return record, seen


class RegionWriter(ShardWriter):
    """Context manager that writes a new region store, whole or not at all.

    Every `add` checks its image in full.

    Raises:
      DataError: the folder exists, an image is bad (see `add`), or no image was added.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        spec: FeatureSpec,
        shard_bytes: int = 2**30,
        *,
        allow_empty: bool = False,
    ):
        super().__init__(folder, INDEX_FIELDS, shard_bytes)
        self.spec = spec
        self.allow_empty = allow_empty  # for a part of a store, joined with others later

    def add(
        self,
        image_id: str,
        *,
        boxes: np.ndarray,
        features: np.ndarray,
        height: int,
        width: int,
        class_probs: np.ndarray | None = None,
        global_feature: np.ndarray | None = None,
        source: str = "",
    ) -> None:
        """Appends one image.

        Args:
          image_id: unique name, by which texts refer to the image.
          boxes: [n, 4] xyxy in pixels.
          features: [n, F].
          height: of the image in pixels.
          width: of the image in pixels.
          class_probs: [n, C] detector distributions; None exactly if the spec has no classes.
          global_feature: [F] of the whole image; None exactly if the spec says "mean".
          source: file the image comes from, for error messages.

        Raises:
          DataError: a wrong shape, zero or too many regions, features that are not finite (also
            after the cast to the store's dtype), a bad box or distribution, an id added twice.
        """
        where = f"{source or self.folder}, image {image_id!r}"

        def fail(
            what: str,
            expected: object,
            found: object,
            fix: str = "correct or leave out this image",
        ) -> DataError:
            return DataError(what, where=where, expected=expected, found=found, fix=fix)

        with reading(where, "an image cannot be stored", fix="leave out this image"):
            views, height, width = image_checks.checked(
                self.spec,
                image_id,
                boxes,
                features,
                (height, width),
                class_probs,
                global_feature,
                fail,
            )
        self.add_checked(image_id, views, height, width, where=where)

    def add_checked(
        self, image_id: str, arrays: dict[str, np.ndarray], height: int, width: int, *, where: str
    ) -> np.ndarray:
        """Appends one image whose boxes and distributions are valid already.

        Args:
          image_id: unique name.
          arrays: "rows" float32 [n + 1, F], row 0 the whole image; "boxes" [n, 4] and, with
            distributions, "probs", "rest" and "class_ids" (see FeatureSpec.split_record).
          height: of the image in pixels.
          width: of the image in pixels.
          where: for error messages.

        Returns:
          float32 [n + 1, F], "rows" as readers will see them.

        Raises:
          DataError: an id added twice; features not finite, as given or in the store's dtype.
        """

        def fail(what: str, expected: object, found: object) -> DataError:
            fix = "correct or leave out this image"
            return DataError(what, where=where, expected=expected, found=found, fix=fix)

        with reading(where, "an image cannot be stored", fix="leave out this image"):
            if image_id in self._keys:
                raise fail(
                    "an image id occurs twice", "unique ids", f"also image {self._keys[image_id]}"
                )
            record, seen = packed(self.spec, arrays, fail)
            n = len(arrays["boxes"])
        self._append(record.tobytes(), n=n, height=height, width=width)
        self._keys[image_id] = len(self._keys)
        return seen

    def _finish(self) -> None:
        if not self._keys and not self.allow_empty:
            raise empty_store(self.folder)
        seal(self._temporary, self.spec, self._index(), self._shards)
