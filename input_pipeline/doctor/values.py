"""Statistics of features and class distributions."""

import numpy as np
import xxhash

from input_pipeline.doctor.findings import Finding, percent
from input_pipeline.doctor.sources import Sample
from input_pipeline.importers.arrange import OBJECT_CLASSES
from input_pipeline.regions.image_checks import SUM_TOLERANCE

QUANTILES = (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0)
MEAN_TOLERANCE = 0.05  # relative; int8 is off by 0.02, another feature by far more
MAX_DUPLICATES = 0.01  # share of regions with an equal one in their image
MAX_FEATURE = 1e4  # no feature of a detector is larger; misread bytes are
PRESENT_PROBABILITY = 0.01  # above it a class counts as present in a region


def order_shares(values: dict[str, np.ndarray]) -> dict[str, tuple[int, int]]:
    """{name: (neighbours that do not rise, neighbours)} of one image's regions."""
    return {name: (int((np.diff(v) <= 0).sum()), max(len(v) - 1, 0)) for name, v in values.items()}


class FeatureStats:
    """Collects statistics of features in about 8 bytes per region."""

    def __init__(self):
        self.dims: dict[int, int] = {}
        self.dtypes: dict[str, int] = {}
        self.norms: list[np.ndarray] = []
        self.numbers = self.zeros = self.negatives = 0
        self.low, self.high = np.inf, -np.inf
        self.not_finite = self.empty_rows = self.regions = self.equal = self.equal_boxes = 0
        self.with_whole = self.whole_is_mean = 0
        self.first: dict[str, str] = {}
        self.hashes: dict[int, str] = {}
        self.same: list[tuple[str, str]] = []  # images with the same features

    def add(self, sample: Sample) -> None:
        """Counts the features of an image."""
        x = sample.features
        for table, key in ((self.dims, x.shape[1]), (self.dtypes, sample.dtype)):
            table[key] = table.get(key, 0) + 1
        self.regions += len(x)
        if not len(x):
            return
        finite = np.isfinite(x).all(1)
        if not finite.all():
            self.not_finite += int((~finite).sum())
            self.first.setdefault("not_finite", sample.where)
        valid = x[finite]
        if valid.size:
            # In float64: misread bytes can be as large as float32 goes.
            norms = np.sqrt(np.einsum("ij,ij->i", valid, valid, dtype=np.float64))
            self.norms.append(norms)
            self.numbers += valid.size
            self.zeros += int((valid == 0).sum())
            self.negatives += int((valid < 0).sum())
            self.low, self.high = min(self.low, valid.min()), max(self.high, valid.max())
            if (norms == 0).any():
                self.empty_rows += int((norms == 0).sum())
                self.first.setdefault("zero", sample.where)
        if sample.whole is not None:
            self.with_whole += 1
            with np.errstate(invalid="ignore"):  # infinite features are counted above
                mean = x.mean(0, dtype=np.float64)
                off = np.linalg.norm(sample.whole.astype(np.float64) - mean)
            self.whole_is_mean += bool(off <= MEAN_TOLERANCE * np.linalg.norm(mean))
        rows = np.ascontiguousarray(x)
        hashes = np.asarray([xxhash.xxh3_64_intdigest(row) for row in rows], np.uint64)
        _, first, count = np.unique(hashes, return_index=True, return_counts=True)
        if len(first) < len(x):
            self.equal += len(x) - len(first)
            self.first.setdefault("equal", sample.where)
            group = {hashes[i]: sample.boxes[i] for i in first[count > 1]}
            again = np.setdiff1d(np.arange(len(x)), first)
            self.equal_boxes += sum(
                np.array_equal(group[hashes[i]], sample.boxes[i]) for i in again
            )
        digest = xxhash.xxh3_64_intdigest(hashes)
        other = self.hashes.setdefault(digest, sample.image_id)
        if other != sample.image_id:
            self.same.append((other, sample.image_id))

    def statistics(self) -> dict:
        """Everything counted, as JSON."""
        norms = np.concatenate(self.norms) if self.norms else np.zeros(1)
        return {
            "dim": sorted(self.dims),
            "dtype": sorted(self.dtypes),
            "norm_mean": float(norms.mean()),
            "norm_quantiles": {
                str(q): float(v)
                for q, v in zip(QUANTILES, np.quantile(norms, QUANTILES), strict=True)
            },
            "range": [float(self.low), float(self.high)] if self.numbers else None,
            "zeros": self.zeros / max(self.numbers, 1),
            "negatives": self.negatives / max(self.numbers, 1),
            "equal_regions": self.equal,
            "equal_images": len(self.same),
            "whole_image": {
                "stored": self.with_whole,
                "equal_to_mean": self.whole_is_mean,
            },
        }

    def findings(self, global_feature: str) -> list[Finding]:
        """What is wrong with the features; `global_feature` as the spec states it, or empty."""
        out, n = [], max(self.regions, 1)

        def say(level: str, name: str, text: str) -> None:
            out.append(Finding(level, name, text))

        if len(self.dims) > 1:
            say("broken", "dims", f"features have several sizes: {sorted(self.dims)}")
        if self.not_finite:
            say(
                "broken",
                "not_finite",
                f"features of {self.not_finite:,} regions have NaN or "
                f"infinity, first in {self.first['not_finite']}",
            )
        if self.empty_rows:
            say(
                "suspicious",
                "zero_features",
                f"features of {self.empty_rows:,} regions "
                f"({percent(self.empty_rows, n)}) are all zero, first in {self.first['zero']}: "
                "padding rows?",
            )
        if self.numbers and max(-self.low, self.high) > MAX_FEATURE:
            say(
                "suspicious",
                "huge_values",
                f"values go from {self.low:.3g} to {self.high:.3g}: "
                "bytes read in another order or type?",
            )
        if self.equal > MAX_DUPLICATES * n:
            say(
                "suspicious",
                "equal_regions",
                f"{self.equal:,} regions ({percent(self.equal, n)}) "
                f"have the features of another region of their image, {self.equal_boxes:,} its box "
                f"too; first in {self.first['equal']}",
            )
        if self.same:
            a, b = self.same[0]
            say(
                "suspicious",
                "equal_images",
                f"{len(self.same):,} images have exactly the "
                f"features of another, first {b!r} those of {a!r}",
            )
        if global_feature == "mean" and self.whole_is_mean < self.with_whole:
            say(
                "broken",
                "whole_is_no_mean",
                f"the spec says that row 0 is the mean of the "
                f"regions; it is not in {self.with_whole - self.whole_is_mean:,} of "
                f"{self.with_whole:,} images",
            )
        if self.norms and np.abs(np.concatenate(self.norms) - 1).max() < 0.01:
            say("note", "unit_norm", "all features have length 1: they were normalised")
        return out


class ClassStats:
    """Collects statistics of class distributions."""

    def __init__(self):
        self.regions = self.without = self.bad_sums = self.negative = 0
        self.widths: dict[int, int] = {}
        self.low, self.high, self.mass_kept = np.inf, -np.inf, 0.0
        self.mass = self.present = self.best = None
        self.first: dict[str, str] = {}

    def add(self, sample: Sample) -> None:
        """Counts the distributions of an image."""
        if sample.probs is None:
            self.without += 1
            return
        p = sample.probs
        self.widths[p.shape[1]] = self.widths.get(p.shape[1], 0) + 1
        if self.mass is None:
            self.mass, self.present, self.best = np.zeros((3, p.shape[1]))
        if p.shape[1] != len(self.mass) or not len(p):
            return
        sums = p.sum(1, dtype=np.float64) + sample.rest
        wrong = ~(np.abs(sums - 1) <= SUM_TOLERANCE)  # NaN is wrong too
        negative = ~((p >= -1e-6).all(1) & (sample.rest >= -1e-6))
        for name, bad in (("sums", wrong), ("negative", negative)):
            if bad.any():
                self.first.setdefault(name, f"region {np.flatnonzero(bad)[0]} of {sample.where}")
        self.bad_sums += int(wrong.sum())
        self.negative += int(negative.sum())
        self.regions += len(p)
        if np.isfinite(sums).any():
            self.low = min(self.low, np.nanmin(sums))
            self.high = max(self.high, np.nanmax(sums))
        self.mass += np.nan_to_num(p).sum(0, dtype=np.float64)
        self.present += (p > PRESENT_PROBABILITY).sum(0)
        self.best += np.bincount(np.nan_to_num(p).argmax(1), minlength=p.shape[1])
        self.mass_kept += float(np.sum(1 - np.nan_to_num(sample.rest)))

    @property
    def count(self) -> int:
        """C."""
        return 0 if self.mass is None else len(self.mass)

    def background(self) -> int | None:
        """First or last column, if it is the one that nearly every region gives some probability.

        A class of objects is absent from most regions; the background has some probability in most.
        """
        if self.count < 3 or not self.regions:
            return None
        second, first = np.argsort(self.present, kind="stable")[-2:]
        clear = self.present[first] >= max(0.5 * self.regions, 2 * self.present[second])
        is_end = first in (0, self.count - 1) and first == self.mass.argmax()
        return int(first) if clear and is_end else None

    def statistics(self) -> dict:
        """Everything counted, as JSON."""
        if not self.regions:
            return {"count": self.count}
        top = int(self.mass.argmax())
        return {
            "count": self.count,
            "background": self.background(),
            "largest_column": top,
            "largest_mean_mass": float(self.mass[top] / self.regions),
            "mean_mass_first": float(self.mass[0] / self.regions),
            "mean_mass_last": float(self.mass[-1] / self.regions),
            "present_first": float(self.present[0] / self.regions),
            "present_last": float(self.present[-1] / self.regions),
            "sums": [float(self.low), float(self.high)] if np.isfinite(self.low) else None,
            "mass_kept": self.mass_kept / self.regions,
            "best_somewhere": int(np.count_nonzero(self.best)),
        }

    def findings(self, stated: int | None) -> list[Finding]:
        """What is wrong with the distributions; `stated`: background column of spec or layout."""
        out = []

        def say(level: str, name: str, text: str) -> None:
            out.append(Finding(level, name, text))

        if self.without and self.widths:
            say(
                "broken",
                "classes_missing",
                f"{self.without:,} images have no class distributions and others have",
            )
        if len(self.widths) > 1:
            say("broken", "classes_count", f"distributions over {sorted(self.widths)} classes")
        if self.bad_sums or self.negative:
            n = max(self.bad_sums, self.negative)
            first = self.first.get("sums") or self.first["negative"]
            logits = " (logits, and no softmax?)" if self.negative > 0.5 * self.regions else ""
            if not self.negative and self.high <= 1 + SUM_TOLERANCE:
                logits = " (without the background? --class_scores without_background)"
            sums = f"{self.low:.3f} to {self.high:.3f}" if np.isfinite(self.low) else "NaN"
            say(
                "broken",
                "class_sums",
                f"{n:,} class distributions ({percent(n, self.regions)}) have negative values or "
                f"do not sum to 1{logits}: sums {sums}, first {first}",
            )
        found = self.background()
        owner = OBJECT_CLASSES.get(self.count)
        if owner and stated is not None:
            say(
                "suspicious",
                "classes_without_background",
                f"{owner} {self.count:,} classes and no background: an import takes "
                "--class_scores without_background (what rows lack of 1 is the background's), "
                "with_background or drop",
            )
        elif self.regions and found is not None and found != stated:
            said = "no column is stated" if stated is None else f"column {stated} is stated"
            share = percent(self.present[found], self.regions)
            say(
                "suspicious",
                "background",
                f"the background looks like column {found} of {self.count} (mean probability "
                f"{self.mass[found] / self.regions:.3f}, present in {share} of the regions), but "
                f"{said}",
            )
        return out
