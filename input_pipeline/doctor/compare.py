"""`compare`: are these the same features, the same detector's, or another's?

Regions of an image are matched one to one so that the sum of their IoU is largest, with boxes as
shares of the image, since sizes may differ. The verdict is the first that holds:

  same features
      boxes agree (MIN_SAME_BOXES of all regions match at IoU > SAME_BOX_IOU), and 99 % of the
      features differ by a relative error <= SAME_ERROR
  same features, rounded
      the same with <= ROUNDED_ERROR: another dtype; int8 errs by about 0.02
  same boxes, different features
  same detector, other regions
      boxes do not agree, but where they do (IoU > SAME_BOX_IOU, at least MIN_MATCHES matches) the
      median cosine is >= SAME_DETECTOR_COSINE: other thresholds or counts
  different detector
      else, also where the sizes of the features differ
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
from scipy.optimize import linear_sum_assignment

from core import disk
from core.errors import DataError
from core.ids import number_of
from core.spacing import evenly_spaced
from input_pipeline.doctor.sources import LayoutSource, Sample, StoreSource
from input_pipeline.importers.settings import IDS
from input_pipeline.regions.boxes import iou

SAME_BOX_IOU, MATCH_IOU = 0.95, 0.5
MIN_SAME_BOXES = 0.99
SAME_ERROR, ROUNDED_ERROR = 1e-4, 0.05  # relative error |a - b| / |a|; bfloat16 errs by 0.002
SAME_DETECTOR_COSINE, MIN_MATCHES = 0.95, 20
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
SAME_VERDICTS = ("same features", "same features, rounded")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """`statistics` is JSON; `verdict` one of those in the module's docstring."""

    statistics: dict
    verdict: str

    @property
    def same(self) -> bool:
        """Whether one may stand in for the other."""
        return self.verdict in SAME_VERDICTS

    def write(self, path: str) -> None:
        """Writes everything as JSON."""
        value = {"verdict": self.verdict, **self.statistics}
        with disk.explained(path):
            pathlib.Path(path).write_text(json.dumps(value, indent=2) + "\n")


def pairs(
    a: StoreSource | LayoutSource,
    b: StoreSource | LayoutSource,
    images: int | None,
    ids: str = "as_is",
) -> Iterator[tuple[Sample, Sample]]:
    """Yields (sample of a, sample of b) of the images that both have.

    Args:
      a, b: sources.
      images: how many at most, evenly spread; None: all.
      ids: "as_is", or "number": ids are the same if the last numbers in them are.

    Raises:
      DataError: an unknown `ids`, or an image that cannot be read.
    """
    if ids not in IDS:
        raise DataError("unknown --ids", expected=f"one of {IDS}", found=repr(ids))
    id_of: Callable[[str], str] = str if ids == "as_is" else lambda key: number_of(key) or key
    if isinstance(a, StoreSource) and isinstance(b, StoreSource):
        there = set(map(id_of, b.store.keys))
        shared = [key for key in map(id_of, a.store.keys) if key in there]
        wanted = {shared[i] for i in evenly_spaced(len(shared), images)}
        rows = {id_of(key): row for row, key in enumerate(b.store.keys)}
        for sample in a.find(wanted, id_of):
            yield sample, _sound(b.read(rows[id_of(sample.image_id)]))
        return
    # A raw file has no index: its sample is read first and looked up in the other source.
    flip = isinstance(a, StoreSource)
    raw, other = (b, a) if flip else (a, b)
    held = {id_of(found.image_id): found for found in map(_sound, raw.samples(images))}
    for found in other.find(held, id_of):
        first = held[id_of(found.image_id)]
        yield (found, first) if flip else (first, found)


def _sound(found: Sample | DataError) -> Sample:
    if isinstance(found, DataError):
        raise found
    return found


def compare(
    a: StoreSource | LayoutSource,
    b: StoreSource | LayoutSource,
    images: int | None = None,
    ids: str = "as_is",
) -> Comparison:
    """Compares images of two sources; see the module and `pairs`.

    Raises:
      DataError: they share no image.
    """
    specs = {"dtype": [set(), set()], "dim": [set(), set()], "classes": [set(), set()]}
    regions, matched, agree, in_order, sizes, count = [0, 0], 0, 0, 0, 0, 0
    overlaps, cosines, errors, ratios, close = [], [], [], [], []
    larger = 0
    for x, y in pairs(a, b, images, ids):
        count += 1
        sizes += (x.height, x.width) != (y.height, y.width)
        for side, sample in enumerate((x, y)):
            regions[side] += len(sample.features)
            specs["dtype"][side].add(sample.dtype)
            specs["dim"][side].add(sample.features.shape[1])
            specs["classes"][side].add(0 if sample.probs is None else sample.probs.shape[1])
        larger += max(len(x.features), len(y.features))
        scaled = [s.boxes[:, :4] / np.asarray([s.width, s.height] * 2, np.float64) for s in (x, y)]
        table = iou(scaled[0][:, None], scaled[1][None], "plain")
        rows, columns = linear_sum_assignment(-table)
        found = table[rows, columns]
        overlaps.append(found)
        matched += int((found > MATCH_IOU).sum())
        agree += int((found > SAME_BOX_IOU).sum())
        in_order += int(((found > SAME_BOX_IOU) & (rows == columns)).sum())
        if x.features.shape[1] == y.features.shape[1]:
            good = found > MATCH_IOU
            u, v = x.features[rows[good]], y.features[columns[good]]
            norms = np.linalg.norm(u, axis=1), np.linalg.norm(v, axis=1)
            some = (norms[0] > 0) & (norms[1] > 0)
            dots = np.einsum("ij,ij->i", u, v, dtype=np.float64)
            cosines.append((dots[some] / (norms[0] * norms[1])[some]).astype(np.float64))
            ratios.append((norms[1] / np.where(norms[0] > 0, norms[0], 1))[some])
            errors.append(np.linalg.norm(u - v, axis=1) / np.maximum(norms[0], 1e-12))
            close.append((found[good] > SAME_BOX_IOU)[some])
    if not count:
        raise DataError(
            "the two share no image",
            where=f"{a.name} and {b.name}",
            expected="image ids that both have",
            found=f"ids like {_example(a)} and {_example(b)}",
            fix="--ids number compares the numbers in them; or look at more images (--images all)",
        )
    cosine, ratio, error, near = (
        np.concatenate(v) if v else np.zeros(0) for v in (cosines, ratios, errors, close)
    )
    overlap = np.concatenate(overlaps)
    statistics = {
        "a": a.name,
        "b": b.name,
        "images": count,
        "regions": regions,
        "other_image_size": sizes,
        "stated": [s.spec.to_dict() if s.spec else None for s in (a, b)],
        **{name: [sorted(v) for v in values] for name, values in specs.items()},
        "mean_iou": float(overlap.mean()) if overlap.size else 0.0,
        "matched": matched / max(larger, 1),
        "same_box": agree / max(larger, 1),
        "same_order": in_order / max(agree, 1),
        "cosine": _quantiles(cosine),
        "norm_ratio": _quantiles(ratio),
        "relative_error": _quantiles(error),
    }
    alike = cosine[near.astype(bool)] if len(near) else cosine
    return Comparison(statistics, _verdict(statistics, alike))


def _verdict(statistics: dict, alike: np.ndarray) -> str:
    if statistics["dim"][0] != statistics["dim"][1] or statistics["relative_error"] is None:
        return "different detector"
    if statistics["same_box"] >= MIN_SAME_BOXES:
        error = statistics["relative_error"]["0.99"]
        if error <= ROUNDED_ERROR:  # NaN is no such thing
            return SAME_VERDICTS[error > SAME_ERROR]
        return "same boxes, different features"
    if len(alike) >= MIN_MATCHES and np.median(alike) >= SAME_DETECTOR_COSINE:
        return "same detector, other regions"
    return "different detector"


def _quantiles(values: np.ndarray) -> dict[str, float] | None:
    if not values.size:
        return None
    return {
        str(q): float(v) for q, v in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)
    }


def _example(source: StoreSource | LayoutSource) -> str:
    first = next((s for s in source.samples(1) if isinstance(s, Sample)), None)
    return repr(first.image_id) if first else "none"


def table(result: Comparison) -> str:
    """Both side by side, what matched, and the verdict."""
    f, lines = result.statistics, []
    for side, name in enumerate("ab"):
        lines.append((name.upper(), f[name]))
        lines.append(
            (
                "",
                f"{f['regions'][side]:,} regions, {f['dim'][side]} x {f['dtype'][side]}, "
                f"classes {f['classes'][side]}",
            )
        )
    stated_a, stated_b = f["stated"]
    if stated_a and stated_b:
        differing = [key for key in stated_a if stated_a[key] != stated_b[key]]
        lines.append(
            (
                "stated",
                ", ".join(f"{k}: {stated_a[k]!r} / {stated_b[k]!r}" for k in differing)
                or "the same spec",
            )
        )
    lines += [
        ("images", f"{f['images']:,} compared"
         + (f", {f['other_image_size']:,} of another size" if f["other_image_size"] else "")),
        ("boxes", f"mean IoU of matched regions {f['mean_iou']:.3f}; {f['matched']:.1%} of the "
         f"regions match at IoU > {MATCH_IOU}, {f['same_box']:.1%} at > {SAME_BOX_IOU}, of which "
         f"{f['same_order']:.1%} at the same place in the order"),
    ]  # fmt: skip
    for name in ("cosine", "norm_ratio", "relative_error"):
        if f[name]:
            text = ", ".join(f"{float(q):.0%} {v:.5g}" for q, v in f[name].items())
            lines.append((name.replace("_", " "), f"quantiles {text}"))
    lines.append(("verdict", result.verdict))
    return "\n".join(f"{name:16}{value}" for name, value in lines)
