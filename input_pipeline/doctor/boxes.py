"""The convention that boxes follow, inferred from their values."""

import collections

import numpy as np

from input_pipeline.doctor.findings import Finding, percent
from input_pipeline.doctor.sources import Sample

FORMATS = ("xyxy", "xywh")
UNITS = ("pixels", "shares")  # shares: of the image's width and height, 0 to 1
TOLERANCE = 1.0  # pixels that a box may exceed its image by, as RegionWriter allows
UNIT_LIMIT = 1.01  # largest share, with room for rounding
FITS = 0.99  # share of boxes that must fit a reading
MARGIN = 0.02  # by which an unusual reading must fit better than xyxy
LOW_REACH = 0.5  # of an image that its outermost boxes cover, below which the scale is suspicious
# In a sound picture some box ends near its right or lower edge; of many, nearly all do at both.
EDGE, MANY = 0.9, 10


class BoxStats:
    """Counts how many boxes each reading of their four numbers fits."""

    def __init__(self):
        self.boxes = self.bad = self.as_shares = self.first_is_whole = self.images = 0
        self.low, self.high = np.inf, -np.inf
        self.columns: collections.Counter[int] = collections.Counter()
        self.fits: collections.Counter = collections.Counter()  # (format, unit, swapped)
        self.ordered: collections.Counter = collections.Counter()  # format
        self.empty: collections.Counter = collections.Counter()  # format: boxes without area
        self.reach: list[tuple[float, float]] = []  # right and lower edge, as shares of the image
        self.aspects: set[float] = set()  # width / height of images
        self.misfit: dict[tuple, str] = {}  # the first box that does not fit a reading
        self.fifth_is_area = True

    def add(self, sample: Sample) -> None:
        """Counts the boxes of an image."""
        self.columns[sample.boxes.shape[1]] += 1
        finite = np.isfinite(sample.boxes).all(1)
        self.bad += int((~finite).sum())
        if not finite.all():
            first = int(np.flatnonzero(~finite)[0])
            self.misfit.setdefault("finite", f"box {first} of {sample.where}")
        boxes = sample.boxes[finite, :4]
        if not len(boxes):
            return
        h, w = sample.height, sample.width
        self.boxes += len(boxes)
        self.images += 1
        self.low, self.high = min(self.low, boxes.min()), max(self.high, boxes.max())
        in_unit = (boxes >= 1 - UNIT_LIMIT) & (boxes <= UNIT_LIMIT)
        self.as_shares += int(in_unit.all(1).sum())
        corners = {
            "xyxy": boxes,
            "xywh": np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1),
        }
        for kind, xyxy in corners.items():
            size = xyxy[:, 2:] - xyxy[:, :2]
            self.ordered[kind] += int((size >= 0).all(1).sum())
            self.empty[kind] += int(((size >= 0).all(1) & (size == 0).any(1)).sum())
            for unit in UNITS:
                for swapped in (False, True):
                    limit = np.asarray([h, w, h, w] if swapped else [w, h, w, h], np.float64)
                    pixels = xyxy * limit if unit == "shares" else xyxy
                    inside = (pixels >= -TOLERANCE) & (pixels <= limit + TOLERANCE)
                    good = inside.all(1) & (size >= 0).all(1)
                    key = (kind, unit, swapped)
                    self.fits[key] += int(good.sum())
                    if not good.all():
                        first = int(np.flatnonzero(~good)[0])
                        self.misfit.setdefault(
                            key,
                            f"{np.round(boxes[first], 3).tolist()} in {w}x{h}, box "
                            f"{np.flatnonzero(finite)[first]} of {sample.where}",
                        )
        self.aspects.add(w / max(h, 1))
        self.reach.append((boxes[:, 2].max() / max(w, 1), boxes[:, 3].max() / max(h, 1)))
        whole = np.abs(boxes[0] - [0, 0, w, h]) <= 2 * TOLERANCE  # some subtract 1
        self.first_is_whole += bool(whole.all() and len(boxes) > 1)
        if sample.boxes.shape[1] > 4:
            share = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
            near = [np.abs(sample.boxes[finite, 4] - share / area) < 0.01 for area in (h * w, 1)]
            self.fifth_is_area &= any(n.all() for n in near)

    def share(self, kind: str, unit: str, swapped: bool = False) -> float:
        """Of all boxes, those in order and inside their images under a reading."""
        return self.fits[kind, unit, swapped] / max(self.boxes, 1)

    def reading(self) -> tuple[str, str, bool]:
        """(format, unit, whether height and width are swapped) that fits best."""
        unit = UNITS[self.as_shares >= FITS * self.boxes > 0]
        kind = "xyxy"
        if self.share("xywh", unit) > max(self.share("xyxy", unit) + MARGIN, 0.9):
            kind = "xywh"
        best = self.share(kind, unit)
        for other in FORMATS:  # under shares, height and width do not matter
            if unit == "pixels" and self.share(other, unit, True) >= max(best + MARGIN, FITS):
                return other, unit, True
        return kind, unit, False

    def statistics(self) -> dict:
        """Everything counted, as JSON."""
        kind, unit, swapped = self.reading()
        return {
            "convention": f"{kind}_{unit}",
            "swapped_size": swapped,
            "columns": sorted(self.columns),
            "range": [float(self.low), float(self.high)] if self.boxes else None,
            "ordered": {k: self.ordered[k] / max(self.boxes, 1) for k in FORMATS},
            "fits": {
                f"{k}_{u}" + ("_swapped" if s else ""): self.share(k, u, s)
                for k in FORMATS
                for u in UNITS
                for s in (False, True)
                if not (s and u == "shares")
            },
            "without_area": self.empty[kind],
            "reach": np.median(self.reach, axis=0).tolist() if self.reach else None,
        }

    def findings(self) -> list[Finding]:
        """What is wrong with the boxes."""
        out: list[Finding] = []

        def say(level: str, name: str, text: str) -> None:
            out.append(Finding(level, name, text))

        if self.bad:
            first = self.misfit["finite"]
            say("broken", "boxes_not_finite", f"{self.bad:,} boxes are not finite, first {first}")
        if not self.boxes:
            say("broken", "no_boxes", "not a single readable box")
            return out
        kind, unit, swapped = self.reading()
        fit, straight = self.share(kind, unit, swapped), self.share(kind, unit)
        if set(self.columns) != {4}:
            numbers = " or ".join(map(str, sorted(self.columns)))
            fifth = "; the fifth is the share of the image's area" if self.fifth_is_area else ""
            say("broken", "box_columns", f"boxes have {numbers} numbers, not 4{fifth}")
        if unit == "shares":
            say(
                "broken",
                "boxes_normalised",
                f"boxes look normalised to 0..1: {percent(self.as_shares, self.boxes)} of them are "
                f"within, the largest number is {self.high:.3f}; pixels are wanted",
            )
        if kind == "xywh":
            say(
                "broken",
                "boxes_xywh",
                f"boxes look like x, y, width, height: read so, {fit:.1%} lie inside their images, "
                f"read as two corners {self.share('xyxy', unit, swapped):.1%} (x2 >= x1 and "
                f"y2 >= y1 in {self.ordered['xyxy'] / self.boxes:.1%})",
            )
        if swapped:
            say(
                "suspicious",
                "swapped_size",
                f"height and width of images look swapped: with the two exchanged {fit:.1%} of the "
                f"boxes lie inside, as stored {straight:.1%}",
            )
        elif (outside := self.boxes - self.fits[kind, unit, swapped]) > 0:
            say(
                "broken",
                "boxes_outside",
                f"{outside:,} boxes ({percent(outside, self.boxes)}) have swapped corners or stick "
                f"out of their images by more than {TOLERANCE:g} px, first "
                f"{self.misfit[kind, unit, swapped]}",
            )
        if empty := self.empty[kind]:
            say(
                "suspicious",
                "boxes_without_area",
                f"{empty:,} boxes ({percent(empty, self.boxes)}) lack width or height",
            )
        if (kind, unit, swapped) == ("xyxy", "pixels", False):
            out += self._reach_findings()
        if self.first_is_whole > 0.9 * self.images:
            share = percent(self.first_is_whole, self.images)
            say(
                "suspicious",
                "first_region_is_image",
                f"region 0 is the whole image in {share} of the images: models add that region "
                "themselves",
            )
        return out

    def _reach_findings(self) -> list[Finding]:
        """Boxes that end far from the edges of their images: boxes or sizes of another scale."""
        across, down = np.median(self.reach, axis=0)
        lower = float(np.median(np.min(self.reach, axis=1)))
        further = float(np.median(np.max(self.reach, axis=1)))
        ends = f"{across:.0%} of the width and {down:.0%} of the height of their images (medians)"
        if min(across, down) < LOW_REACH or (self.images >= MANY and further < EDGE - 0.05):
            text = f"boxes reach only to {ends}: boxes of another scale?"
            return [Finding("suspicious", "boxes_low_reach", text)]
        if self.images >= 3 and len(self.aspects) == 1 and lower < EDGE:
            aspect = next(iter(self.aspects))
            shape = "as wide as high" if aspect == 1 else f"{aspect:.2f} times as wide as high"
            text = (
                f"all images are said to be {shape}, but boxes end at {lower:.0%} of one of their "
                f"sides (median): the sizes are not those of the pictures"
            )
            return [Finding("suspicious", "one_aspect", text)]
        return []
