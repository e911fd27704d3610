"""Writes a region store: checks every record in full, then appends it to flat shards."""

import json
import operator
import os
import pathlib
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np
import xxhash

from core import progress
from core.errors import DataError
from core.messages import brief
from core.reading import reading
from core.strings import pack_strings
from input_pipeline.regions.boxes import another_scale
from input_pipeline.regions.spec import FeatureSpec

FORMAT = 1
MANIFEST = "manifest.json"  # written last: a folder with it is a whole store
BOX_TOLERANCE = 1.0  # pixels a box may stick out of its image (rounding) before it is an error
SUM_TOLERANCE = 1e-2  # of class probabilities, wide enough for half precision
MAX_SIDE = 2**31 - 1  # pixels; the index has 32 bits for it
MAX_ID = 4096  # bytes of an image's id: as long as a path may be
INDEX_FIELDS = {
    "shard": np.int32,
    "offset": np.int64,
    "nbytes": np.int64,
    "n": np.int32,
    "height": np.int32,
    "width": np.int32,
    "xxh3": np.uint64,
}


# fail(what, expected, found[, fix]) makes the error of a bad value.
Fail = Callable[..., DataError]


def content_fingerprint(spec: FeatureSpec, index: dict[str, np.ndarray]) -> str:
    """Hex digest of what a store holds, whatever its shards are."""
    digest = xxhash.xxh3_128(spec.checksum().encode())
    for name in ("keys", "key_ends", "n", "height", "width", "xxh3"):
        digest.update(np.ascontiguousarray(index[name]).tobytes())
    return digest.hexdigest()


def _check_id(image_id: object, fail: Fail) -> None:
    if not isinstance(image_id, str) or not image_id:
        raise fail("an image id is no text", "a non-empty string", brief(image_id))
    try:
        nbytes = len(image_id.encode())
    except UnicodeEncodeError as error:
        raise fail("an image id is no Unicode text", "UTF-8", brief(image_id)) from error
    if nbytes > MAX_ID:
        raise fail("an image id is too long", f"at most {MAX_ID:,} bytes", f"{nbytes:,}")


def check_boxes(boxes: np.ndarray, height: int, width: int, fail: Fail) -> np.ndarray:
    """Checks xyxy pixel boxes against their image and clips the tolerated overhang.

    Args:
      boxes: [n, 4].
      height: of the image.
      width: of the image.
      fail: makes the error.

    Returns:
      float32 [n, 4] within [0, width] x [0, height].
    """
    boxes = np.asarray(boxes, np.float32)
    bad = np.flatnonzero(~np.isfinite(boxes).all(1))
    if bad.size:
        raise fail(f"box {bad[0]} is not finite", "four finite numbers", boxes[bad[0]].tolist())
    bad = np.flatnonzero((boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1]))
    if bad.size:
        raise fail(
            f"box {bad[0]} has its corners swapped", "x1 <= x2 and y1 <= y2", boxes[bad[0]].tolist()
        )
    limit = np.asarray([width, height, width, height], np.float32)
    outside = (boxes < -BOX_TOLERANCE) | (boxes > limit + BOX_TOLERANCE)
    bad = np.flatnonzero(outside.any(1))
    if bad.size:
        raise fail(
            f"box {bad[0]} lies outside its image",
            f"xyxy within 0 <= x <= {width}, 0 <= y <= {height} (tolerance {BOX_TOLERANCE} px)",
            boxes[bad[0]].tolist(),
            *([fix] if (fix := another_scale(boxes, height, width)) else []),
        )
    return np.clip(boxes, 0, limit)


def check_probs(probs: np.ndarray, fail: Fail) -> np.ndarray:
    """Checks class distributions [n, C] and returns them as float32 rows that sum to 1."""
    probs = np.asarray(probs, np.float32)
    sums = probs.sum(1, dtype=np.float64)
    # Negated, so that NaN fails as well.
    bad = np.flatnonzero(~((np.abs(sums - 1) <= SUM_TOLERANCE) & (probs >= -1e-6).all(1)))
    if bad.size:
        row = probs[bad[0]]
        raise fail(
            f"class probabilities of region {bad[0]} are no distribution",
            f"values >= 0 that sum to 1 (+-{SUM_TOLERANCE})",
            f"sum {sums[bad[0]]:.4f}, smallest value {row.min():.4g}",
        )
    probs = np.maximum(probs, 0)
    return probs / probs.sum(1, keepdims=True)


def keep_top(probs: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """The k largest probabilities of each row, largest first, and the sum of the rest.

    Args:
      probs: float32 [n, C], rows sum to 1.
      k: classes kept, at most C.

    Returns:
      {"class_ids" [n, k] int32, "probs" [n, k] float32, "rest" [n] float32}; rest is exactly 0
      for k = C.
    """
    # Two steps: sorting 1601 classes of each region would be most of an import's time.
    ids = np.arange(probs.shape[1])[None].repeat(len(probs), 0)
    if k < probs.shape[1]:
        ids = np.sort(np.argpartition(-probs, k - 1, axis=1)[:, :k], axis=1)
    best = np.argsort(-np.take_along_axis(probs, ids, 1), axis=1, kind="stable")
    ids = np.take_along_axis(ids, best, 1).astype(np.int32)
    kept = np.take_along_axis(probs, ids, 1)
    rest = np.maximum(0, 1 - kept.sum(1)) if k < probs.shape[1] else np.zeros(len(probs))
    return {"class_ids": ids, "probs": kept, "rest": rest.astype(np.float32)}


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
    np.savez(folder / "index.npz", **index)
    manifest = {
        "format": FORMAT,
        "records": len(index["n"]),
        "fingerprint": content_fingerprint(spec, index),
        "index_xxh3": xxhash.xxh3_64_hexdigest((folder / "index.npz").read_bytes()),
        "shards": shards,
    }
    for name, value in (("spec.json", spec.to_dict()), (MANIFEST, manifest)):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n")


class RegionWriter:
    """Context manager that writes a new region store.

    Everything goes to a temporary folder beside `folder`, which is renamed at the end: after an
    error nothing is left. A store on gs:// is written to this machine first (`remote.cache()`).
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
        self.folder, self.spec, self.shard_bytes = str(folder), spec, shard_bytes
        self.allow_empty = allow_empty  # for a part of a store, joined with others later
        self._columns = {name: [] for name in INDEX_FIELDS}
        self._keys: dict[str, int] = {}
        self._shards: list[dict] = []
        self._file = None

    def __enter__(self) -> Self:
        self._stack = progress.atomic_folder(self.folder, last=MANIFEST)
        self._temporary = self._stack.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        try:
            if self._file:
                self._file.close()
            if kind is None:
                self._finish()
        except BaseException as late:
            self._stack.__exit__(type(late), late, late.__traceback__)
            raise
        return self._stack.__exit__(kind, error, trace)

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
            views, height, width = self._checked(
                image_id, boxes, features, (height, width), class_probs, global_feature, fail
            )
        self.add_checked(image_id, views, height, width, where=where)

    def _checked(
        self,
        image_id: str,
        boxes: np.ndarray,
        features: np.ndarray,
        size: tuple[int, int],
        class_probs: np.ndarray | None,
        global_feature: np.ndarray | None,
        fail: Fail,
    ) -> tuple[dict[str, np.ndarray], int, int]:
        """(arrays of `add_checked`, height, width) of an image; arguments and errors as `add`."""
        spec = self.spec
        _check_id(image_id, fail)
        height, width = (operator.index(side) for side in size)
        if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
            raise fail(
                "the image size is out of range",
                f"height and width from 1 to {MAX_SIDE:,} pixels",
                brief((height, width)),
            )
        features, boxes = np.asarray(features), np.asarray(boxes)
        if features.ndim != 2:
            raise fail("features have the wrong shape", f"(n, {spec.feature_dim})", features.shape)
        n = len(features)
        if not 1 <= n <= spec.max_regions:
            more = f"import with --max_regions {n} or more, or leave out this image"
            raise fail(
                "the number of regions is out of range",
                f"1 to {spec.max_regions}",
                n,
                *([more] if n else []),
            )
        given = {"features": (features, (n, spec.feature_dim)), "boxes": (boxes, (n, 4))}
        for name, value, size, wanted in (
            ("class_probs", class_probs, (n, spec.num_classes), spec.num_classes > 0),
            (
                "global_feature",
                global_feature,
                (spec.feature_dim,),
                spec.global_feature == "stored",
            ),
        ):
            if (value is not None) != wanted:
                raise fail(
                    f"{name} and the feature spec disagree",
                    f"{name} {'given' if wanted else 'absent'} (num_classes={spec.num_classes}, "
                    f"global_feature={spec.global_feature!r})",
                    "absent" if value is None else "given",
                )
            if wanted:
                given[name] = (np.asarray(value), size)
        for name, (value, shape) in given.items():
            if value.shape != shape:
                raise fail(f"{name} have the wrong shape", shape, value.shape)

        views = {"boxes": check_boxes(boxes, height, width, fail)}
        if spec.num_classes:
            views.update(keep_top(check_probs(class_probs, fail), spec.kept_classes))
        with np.errstate(over="ignore", invalid="ignore"):  # infinite ones are refused
            features = features.astype(np.float32)
            # The mean is of the features as given, before they are rounded to the store's dtype.
            top = features.mean(0) if global_feature is None else global_feature
            views["rows"] = np.concatenate([np.asarray(top, np.float32)[None], features])
        if not features.any():
            raise fail(
                "all features of the image are zero",
                "features of a detector",
                f"{n} regions of zeros, as a file that was not written to its end has them",
                "leave out this image, or extract it again",
            )
        return views, height, width

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
            stored = self.spec.encode(arrays["rows"])
            seen = self.spec.decode(stored)
            bad = np.flatnonzero(~np.isfinite(seen).all(1))
            if bad.size:
                raise fail(
                    "features of the whole image are not finite"
                    if bad[-1] == 0
                    else f"features of region {bad[bad > 0][0] - 1} are not finite",
                    f"finite numbers within {self.spec.dtype}",
                    "NaN or infinity",
                )
            n = len(arrays["boxes"])
            record = np.empty(self.spec.record_nbytes(n), np.uint8)
            for name, view in self.spec.split_record(record, n).items():
                view[...] = stored[name] if name in stored else arrays[name]
        self._append(record.tobytes())
        row = (len(record), n, height, width, xxhash.xxh3_64_intdigest(record))
        for name, value in zip(("nbytes", "n", "height", "width", "xxh3"), row, strict=True):
            self._columns[name].append(value)
        self._keys[image_id] = len(self._keys)
        return seen

    def _append(self, record: bytes) -> None:
        full = self._shards and self._shards[-1]["bytes"] + len(record) > self.shard_bytes
        if not self._shards or full:
            if self._file:
                self._file.close()
            name = f"shard-{len(self._shards):05d}.bin"
            self._shards.append({"file": name, "records": 0, "bytes": 0})
            self._file = (self._temporary / name).open("wb")
        self._columns["shard"].append(len(self._shards) - 1)
        self._columns["offset"].append(self._shards[-1]["bytes"])
        self._file.write(record)
        self._shards[-1]["bytes"] += len(record)
        self._shards[-1]["records"] += 1

    def _finish(self) -> None:
        if not self._keys and not self.allow_empty:
            raise empty_store(self.folder)
        index = {name: np.asarray(self._columns[name], t) for name, t in INDEX_FIELDS.items()}
        index["keys"], index["key_ends"] = pack_strings(list(self._keys))
        seal(self._temporary, self.spec, index, self._shards)
