"""The spec of a region store's features, and the binary layout of its records.

Features are kept as floats of 32 or 16 bits, or as int8 with one float32 scale per region:
x ~ scale * q with scale = max|x| / 127, symmetric, so that a zero stays exactly zero.
"""

import dataclasses
import hashlib
import json

import ml_dtypes
import numpy as np

from core.errors import DataError
from core.messages import brief

DTYPES = {
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "int8": np.dtype(np.int8),
}
INT8_MAX = 127  # not -128: the range is symmetric
GLOBAL_FEATURES = ("mean", "stored")
BOX_CONVENTIONS = ("xyxy_pixels",)


LARGEST = 2**24  # of sizes and counts: far beyond any detector, far below what overflows


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclasses.dataclass(frozen=True)
class FeatureSpec:
    """Identity of region features. A model trained on one spec must not be fed another.

    Attributes:
      detector: free name of the detector and its weights.
      feature_dim: F, width of a feature; 0: a store of boxes alone.
      num_classes: C of the detector's class distributions, 0 where it gives none.
      background_class: column of the background class, None where there is none.
      box_convention: "xyxy_pixels".
      global_feature: row 0 is the float32 "mean" of all regions, or "stored" as given.
      dtype: of the features on disk and in batches; "int8" adds a scale per region.
      top_k: class probabilities kept per region; the others are summed into one remainder.
      max_regions: most regions an image may have, row 0 not counted.
    """

    detector: str
    feature_dim: int
    num_classes: int = 0
    background_class: int | None = None
    box_convention: str = "xyxy_pixels"
    global_feature: str = "mean"
    dtype: str = "bfloat16"
    top_k: int = 16
    max_regions: int = 100

    def __post_init__(self) -> None:
        for field, options in (
            ("box_convention", BOX_CONVENTIONS),
            ("global_feature", GLOBAL_FEATURES),
            ("dtype", tuple(DTYPES)),
        ):
            if getattr(self, field) not in options:
                raise DataError(
                    f"unknown {field} of a feature spec",
                    expected=f"one of {list(options)}",
                    found=repr(getattr(self, field)),
                )
        least = {"feature_dim": 0, "num_classes": 0, "top_k": 0, "max_regions": 1}
        for field, low in least.items():
            value = getattr(self, field)
            if not _is_whole(value):
                raise DataError(
                    f"{field} of a feature spec is no number",
                    expected=f"a whole number from {low} to {LARGEST:,}",
                    found=brief(value),
                )
            if not low <= value <= LARGEST:
                raise DataError(
                    f"{field} of a feature spec is too {'small' if value < low else 'large'}",
                    expected=f">= {low}, at most {LARGEST:,}",
                    found=brief(value),
                )
        if not isinstance(self.detector, str):
            raise DataError(
                "detector of a feature spec is no text", expected="text", found=brief(self.detector)
            )
        if self.num_classes and not self.top_k:
            raise DataError(
                "a spec with class distributions keeps none of them",
                expected="top_k >= 1",
                found="top_k = 0",
                fix="set top_k, or num_classes=0",
            )
        background = self.background_class
        if background is not None and not (
            _is_whole(background) and 0 <= background < self.num_classes
        ):
            raise DataError(
                "background_class of a feature spec is no class",
                expected=f"None or 0 <= background_class < {self.num_classes}",
                found=self.background_class,
            )

    @property
    def np_dtype(self) -> np.dtype:
        """numpy dtype of the features."""
        return DTYPES[self.dtype]

    @property
    def scaled(self) -> bool:
        """Whether each region has a scale beside its features."""
        return self.dtype == "int8"

    @property
    def kept_classes(self) -> int:
        """k: probabilities stored per region, 0 without distributions."""
        return min(self.top_k, self.num_classes)

    def to_dict(self) -> dict:
        """Plain values, fit for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict, where: str = "") -> "FeatureSpec":
        """Inverse of `to_dict`.

        Raises:
          DataError: fields are missing or unknown.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or set(values) != known:
            raise DataError(
                "a feature spec has the wrong fields",
                where=where,
                expected=sorted(known),
                found=sorted(values) if isinstance(values, dict) else brief(values),
                fix="import the features again with this version",
            )
        try:
            return cls(**values)
        except DataError as error:
            raise DataError(str(error), where=where) if where else error from error

    def checksum(self) -> str:
        """16 hex digits that change with any field."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def require_match(self, other: "FeatureSpec", here: str, there: str) -> None:
        """Checks that two specs are the same.

        Raises:
          DataError: naming both places and each field that differs.
        """
        mine, theirs = self.to_dict(), other.to_dict()
        differing = [name for name in mine if mine[name] != theirs[name]]
        if differing:
            raise DataError(
                f"region features of two kinds: {', '.join(differing)} differ",
                where=f"{here} against {there}",
                expected=", ".join(f"{name}={mine[name]!r}" for name in differing) + f" ({here})",
                found=", ".join(f"{name}={theirs[name]!r}" for name in differing) + f" ({there})",
                fix="use features of one detector, imported with the same options",
            )

    def record_nbytes(self, n: int) -> int:
        """Bytes of the record of an image with n regions (see `split_record`)."""
        k = self.kept_classes
        meta = n * 4 * 4 + (n * (8 * k + 4) if k else 0) + (n + 1) * 4 * self.scaled
        return meta + (n + 1) * self.feature_dim * self.np_dtype.itemsize

    def split_record(self, record: np.ndarray, n: int) -> dict[str, np.ndarray]:
        """Views into one record of n regions.

        The record is: boxes [n, 4] float32 | class probabilities [n, k] float32 | rest [n]
        float32 | class ids [n, k] int32 | scales [n + 1] float32 | features [n + 1, F], row 0 the
        whole image. All is little-endian; the three of the classes are absent without class
        distributions, scales are there for int8 alone.

        Args:
          record: uint8 [record_nbytes(n)].
          n: regions of the image.

        Returns:
          {"boxes", "features"}, with distributions {"probs", "rest", "class_ids"}, for int8
          {"scales"}.
        """
        k = self.kept_classes
        views, start = {}, 0
        parts = [("boxes", np.dtype("<f4"), (n, 4))]
        if k:
            parts.append(("probs", np.dtype("<f4"), (n, k)))
            parts.append(("rest", np.dtype("<f4"), (n,)))
            parts.append(("class_ids", np.dtype("<i4"), (n, k)))
        if self.scaled:
            parts.append(("scales", np.dtype("<f4"), (n + 1,)))
        parts.append(("features", self.np_dtype, (n + 1, self.feature_dim)))
        for name, dtype, shape in parts:
            stop = start + dtype.itemsize * int(np.prod(shape))
            views[name] = record[start:stop].view(dtype).reshape(shape)
            start = stop
        return views

    def encode(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Features as they are stored, rounded to the nearest (half to even).

        A row of zeros gets the scale 0. What the dtype cannot hold comes back from `decode` as
        NaN or infinity, never as another number.

        Args:
          rows: float32 [n + 1, F].

        Returns:
          {"features" [n + 1, F]} and for int8 {"scales" float32 [n + 1]}.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            if not self.scaled:
                return {"features": rows.astype(self.np_dtype)}
            scales = np.abs(rows).max(1) / np.float32(INT8_MAX)
            valid = np.isfinite(scales) & (scales > 0)
            whole = np.rint(rows / np.where(valid, scales, 1)[:, None])
            # A scale among the smallest floats is coarse itself: the quotient may exceed 127.
            whole = np.clip(np.where(valid[:, None], whole, 0), -INT8_MAX, INT8_MAX)
        return {"features": whole.astype(np.int8), "scales": scales}

    def decode(self, record: dict[str, np.ndarray]) -> np.ndarray:
        """float32 [n + 1, F] features of a record (see `split_record`), whatever their dtype."""
        features = record["features"].astype(np.float32)
        if self.scaled:
            with np.errstate(
                invalid="ignore"
            ):  # an infinite scale decodes to NaN, which checks find
                features *= record["scales"][:, None]
        return features
