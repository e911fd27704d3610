"""`inspect`: what a store or a raw file holds, inferred from a sample of its values."""

import collections
import dataclasses
import json
import pathlib

import numpy as np

from core import disk
from core.errors import DataError
from core.progress import Progress
from input_pipeline.doctor.boxes import BoxStats
from input_pipeline.doctor.findings import LEVELS, Finding, verdict
from input_pipeline.doctor.sheet import Pictures, Sheet
from input_pipeline.doctor.sources import LayoutSource, Sample, StoreSource
from input_pipeline.doctor.values import ClassStats, FeatureStats, order_shares
from input_pipeline.regions.spec import FeatureSpec

SORTED = 0.99  # share of neighbours in falling order from which regions count as sorted
UNREADABLE = 5  # errors kept of images that cannot be read


@dataclasses.dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes:
      statistics: JSON, see `examine`.
      findings: what is worth saying, the worst first.
    """

    statistics: dict
    findings: list[Finding]

    @property
    def verdict(self) -> str:
        """ "sound", "suspicious" or "broken"."""
        return verdict(self.findings)

    def write(self, path: str) -> None:
        """Writes everything as JSON."""
        value = {
            "verdict": self.verdict,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            **self.statistics,
        }
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        with disk.explained(path):
            pathlib.Path(path).write_text(text, encoding="utf-8", errors="backslashreplace")


def examine(
    source: StoreSource | LayoutSource,
    images: int | None = None,
    pictures: Pictures | None = None,
    sheet: Sheet | None = None,
) -> Examination:
    """Looks at images of a source.

    Args:
      source: of `sources.open_source`.
      images: how many, evenly spread; None: all.
      pictures: whose sizes are compared with those stored.
      sheet: draws images that have a picture.
    """
    boxes, features, classes = BoxStats(), FeatureStats(), ClassStats()
    orders: collections.Counter[str] = collections.Counter()
    neighbours = 0
    counts, heights, widths, errors, other_sizes, bad_pictures = [], [], [], [], [], []
    ids: collections.Counter[str] = collections.Counter()
    notes: collections.Counter[str] = collections.Counter()
    progress = Progress("inspect", images, unit="images")
    also = pictures.has if pictures else lambda image_id: False
    for found in source.samples(images, also):
        progress.add()
        if isinstance(found, DataError):
            errors.append(str(found))
            continue
        boxes.add(found)
        features.add(found)
        classes.add(found)
        ids[found.image_id] += 1
        notes.update(found.notes)
        counts.append(len(found.features))
        heights.append(found.height)
        widths.append(found.width)
        for name, (falling, pairs) in order_shares(
            _keys(found, source.background_class, boxes.reading()[0])
        ).items():
            orders[name] += falling
            neighbours += pairs if name == "box area" else 0
        size = None
        if pictures:
            try:
                size = pictures.size(found.image_id)
            except DataError as error:
                bad_pictures.append(str(error))
        if size:
            if size != (found.height, found.width):
                other_sizes.append((found.image_id, size, (found.height, found.width)))
            if sheet:
                sheet.add(found)
    best = max(orders, key=orders.get, default=None)
    order = best if neighbours and orders[best] >= SORTED * neighbours else None
    statistics = {
        "source": source.name,
        "kind": "region store" if isinstance(source, StoreSource) else source.layout,
        "total": source.total,
        "images": len(counts),
        "all": not source.cut,
        "spec": source.spec.to_dict() if source.spec else None,
        "background_class": source.background_class,
        "unreadable": len(errors),
        "regions": {
            "count": int(np.sum(counts)),
            "min": int(min(counts, default=0)),
            "mean": float(np.mean(counts)) if counts else 0.0,
            "max": int(max(counts, default=0)),
            "order": order,
            "falling": {name: orders[name] / max(neighbours, 1) for name in orders},
        },
        "pixels": {
            "height": [int(min(heights, default=0)), int(max(heights, default=0))],
            "width": [int(min(widths, default=0)), int(max(widths, default=0))],
        },
        "features": features.statistics(),
        "boxes": boxes.statistics(),
        "classes": classes.statistics(),
    }
    statistics["looks_like"] = hints(statistics)
    global_feature = source.spec.global_feature if source.spec else ""
    findings = _of_images(errors, ids, counts, heights, widths, other_sizes)
    if bad_pictures:
        first = " | ".join(bad_pictures[0].splitlines())
        text = f"{len(bad_pictures):,} pictures of --pictures cannot be read, first: {first}"
        findings.append(Finding("suspicious", "unreadable_pictures", text))
    if counts:
        findings += boxes.findings()
        findings += features.findings(global_feature)
        findings += classes.findings(source.background_class)
    findings += [
        Finding("note", "import", f"{count:,} images: {note}") for note, count in notes.items()
    ]
    if neighbours and order is None:
        findings.append(
            Finding(
                "note",
                "unsorted",
                "regions are in no order that the numbers show:"
                " where max_regions cuts, order='stored' keeps any",
            )
        )
    return Examination(
        statistics, sorted(findings, key=lambda finding: LEVELS.index(finding.level))
    )


def _keys(sample: Sample, background: int | None, kind: str) -> dict[str, np.ndarray]:
    """Keys that regions may be sorted by: {name: [n]}."""
    corner, far = sample.boxes[:, :2], sample.boxes[:, 2:4]
    size = far if kind == "xywh" else far - corner
    keys = {"box area": np.prod(size, axis=1)}
    if sample.probs is not None and sample.probs.size:
        keys["best class, background included"] = sample.probs.max(1)
        if background is not None:
            objects = np.delete(sample.probs, background, axis=1)
            keys["best class without background"] = objects.max(1, initial=0)
    return keys


def _of_images(
    errors: list[str],
    ids: collections.Counter[str],
    counts: list[int],
    heights: list[int],
    widths: list[int],
    other_sizes: list[tuple[str, tuple[int, int], tuple[int, int]]],
) -> list[Finding]:
    out = []

    def say(level: str, name: str, text: str) -> None:
        out.append(Finding(level, name, text))

    if errors:
        texts = "".join(f"\n  {' | '.join(error.splitlines())}" for error in errors[:UNREADABLE])
        say("broken", "unreadable", f"{len(errors):,} images cannot be read:{texts}")
    if not counts:
        say("broken", "no_images", "not a single image could be read")
    repeated = [key for key, n in ids.items() if n > 1]
    if repeated:
        say(
            "broken",
            "repeated_ids",
            f"{len(repeated):,} image ids occur more than once, first {repeated[0]!r}",
        )
    if (empty := sum(n == 0 for n in counts)) > 0:
        say("broken", "no_regions", f"{empty:,} images have no region")
    if counts and min(*heights, *widths) < 1:
        say("broken", "image_size", "heights or widths of images are not positive")
    if other_sizes:
        image_id, picture, stored = other_sizes[0]
        swapped = sum(a == b[::-1] for _, a, b in other_sizes)
        say(
            "suspicious",
            "picture_size",
            f"{len(other_sizes):,} pictures have another size than stored, {swapped:,} of them "
            f"height and width swapped; first {image_id!r}: picture {picture[0]}x{picture[1]}, "
            f"stored {stored[0]}x{stored[1]} (height x width)",
        )
    return out


def hints(statistics: dict) -> list[str]:
    """Extractors whose output looks like this; never more than likely."""
    dims, counts, classes = (
        statistics["features"]["dim"],
        statistics["regions"],
        statistics["classes"]["count"],
    )
    if len(dims) != 1:
        return []
    dim, low, high = dims[0], counts["min"], counts["max"]
    positive, out = statistics["features"]["negatives"] == 0, []
    fixed = f"fixed {high}" if low == high else f"{low} to {high}"
    genome = {1601: "with", 1600: "without"}.get(classes)
    if dim == 2048 and positive and genome:
        out.append(
            f"bottom-up attention (Visual Genome, 1,600 classes {genome} background), "
            f"{fixed} regions"
        )
    elif dim == 2048 and positive and not classes and (low == high or 10 <= low <= high <= 100):
        out.append(f"bottom-up attention (Anderson et al.), {fixed} regions, without classes")
    if dim == 2048 and positive and low == high == 100:
        out.append("ViLBERT multi-task's ResNeXt-152 (fc6, 100 regions)")
    if dim == 2054:
        out.append("VinVL (2,048 numbers and 6 of the box's place: split these off)")
    if dim == 1024:
        out.append(
            "the box head of a Faster R-CNN with feature pyramid (fc6 or fc7, 1,024 numbers)"
        )
    if dim in (512, 768):
        out.append("a transformer's or CLIP's region embedding")
    if classes in (80, 81, 90, 91):
        out.append("a detector of COCO's classes" + ("" if classes % 10 else ", no background"))
    return out


def against_checkpoint(
    saved: FeatureSpec, where: str, source: StoreSource | LayoutSource, statistics: dict
) -> Finding | None:
    """What keeps a trained model from reading these features.

    Raw files have no spec: feature size and number of classes are compared.
    """
    here = source.spec
    if here is None:
        classes, dims = (
            statistics["classes"]["count"],
            statistics["features"]["dim"] or [saved.feature_dim],
        )
        background = None
        if classes:
            stated = statistics["classes"].get("background")
            background = source.background_class if stated is None else stated
        here = dataclasses.replace(
            saved,
            feature_dim=dims[0],
            num_classes=classes,
            background_class=background,
            top_k=saved.top_k or 16,
        )
        saved = dataclasses.replace(saved, top_k=here.top_k)
    try:
        here.require_match(saved, source.name, where)
    except DataError as error:
        return Finding("broken", "checkpoint", str(error))
    return None
