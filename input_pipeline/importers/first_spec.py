"""The feature spec of an import: that of its first readable image."""

import collections
from collections.abc import Sequence

import numpy as np

from core.errors import DataError
from core.reading import reading
from input_pipeline.importers.arrange import background_of
from input_pipeline.importers.base import Item, Layout, Part, entries_of
from input_pipeline.importers.parts import read_item
from input_pipeline.importers.settings import ImportSettings
from input_pipeline.regions.spec import FeatureSpec


def _check_matrices(item: Item, where: str, *, boxes_alone: bool) -> None:
    """Raises DataError if features or class distributions are no [n, ...]."""
    for name in ("features", "class_probs"):
        value = getattr(item, name)
        with reading(where, f"{name} are no array", fix="leave this image out"):
            shape = np.shape(value)
        none = name == "features" and boxes_alone
        if value is not None and (len(shape) != 2 or not (shape[1] or none)):
            raise DataError(
                f"{name} have the wrong shape", where=where, expected="[n, ...]", found=shape
            )


def first_spec(
    reader: Layout, groups: Sequence[Sequence[Part]], settings: ImportSettings
) -> FeatureSpec:
    """The feature spec that the first readable image gives; all others must match it.

    Where bad images are left out, the first that two readable ones give: the very first may be the
    bad one.
    """
    skip = settings.on_bad == "skip"
    seen: collections.Counter[FeatureSpec] = collections.Counter()
    for where, raw in (e for group in groups for part in group for e in entries_of(reader, part)):
        try:
            item = read_item(reader, where, raw, settings.class_scores, settings.resized)
            alone = getattr(reader, "boxes_alone", False)
            _check_matrices(item, where, boxes_alone=alone)
        except DataError:
            if not skip:
                raise
            continue
        classes = 0 if item.class_probs is None else np.shape(item.class_probs)[1]
        spec = FeatureSpec(
            feature_dim=np.shape(item.features)[1],
            num_classes=classes,
            background_class=background_of(reader.background_class, settings.class_scores)
            if classes
            else None,
            detector=settings.detector or getattr(reader, "detector", "unknown"),
            dtype=settings.dtype,
            top_k=settings.top_k,
            max_regions=settings.max_regions,
            global_feature=settings.global_feature or getattr(reader, "global_feature", "mean"),
        )
        seen[spec] += 1
        if not skip or seen[spec] == 2:
            return spec
    if seen:
        return seen.most_common(1)[0][0]
    raise DataError(
        "no image can be read",
        expected="at least one image of this layout",
        found="none in all files" + ", bad ones left out" * skip,
        fix="check the layout's name and the files" + ", or see why with --on_bad error" * skip,
    )
