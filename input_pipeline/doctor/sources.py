"""Samples of images, of a region store or of raw files of an importer's layout."""

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from core import remote
from core.console import warn
from core.errors import DataError
from core.reading import reading
from core.spacing import evenly_spaced
from input_pipeline import importers
from input_pipeline.doctor.options import complete
from input_pipeline.importers.base import (
    Item,
    Layout,
    Part,
    entries_of,
    opened_layout,
    parsed,
    parts_of,
)
from input_pipeline.importers.plan import stamp
from input_pipeline.regions.spec import FeatureSpec
from input_pipeline.regions.store import RegionStore, split_paths

MAX_RANGES = 64  # ranges of a raw file that a sample is read from


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image as it is stored, unchecked.

    Attributes:
      image_id: its name.
      where: place, for messages.
      height, width: of the image in pixels.
      boxes: float64 [n, 4 or more].
      features: float32 [n, F].
      probs: float32 [n, C] class probabilities, 0 where a store keeps none; None without classes.
      rest: float32 [n] probability of the classes that are not kept.
      whole: float32 [F] whole-image feature; None without one.
      dtype: of the features as stored.
      notes: what an import would tell of the image, see `Item.notes`.
    """

    image_id: str
    where: str
    height: int
    width: int
    boxes: np.ndarray
    features: np.ndarray
    probs: np.ndarray | None
    rest: np.ndarray | None
    whole: np.ndarray | None
    dtype: str
    notes: tuple[str, ...] = ()


class StoreSource:
    """Images of a region store.

    Attributes:
      name: for people.
      spec: FeatureSpec of the store.
      background_class: column of the background as the spec states it.
      total: how much there is, for people.
      cut: whether `samples` has left images out.
    """

    def __init__(self, folders: Sequence[str]):
        self.store = RegionStore.open(folders)
        self.name = ", ".join(folders)
        self.spec: FeatureSpec | None = self.store.spec
        self.background_class = self.store.spec.background_class
        self.total = f"{len(self.store):,} images"
        self.cut = False

    def samples(
        self, count: int | None, also: Callable[[str], bool] = lambda image_id: False
    ) -> Iterator[Sample | DataError]:
        """Evenly spread images; where one cannot be read, the error.

        Args:
          count: number of images, None: all.
          also: images to read beside these, as far as `count` more.
        """
        rows = evenly_spaced(len(self.store), count)
        self.cut = len(rows) < len(self.store)
        if count is not None:
            wanted = np.flatnonzero([also(key) for key in self.store.keys])
            rows = np.union1d(rows, wanted[evenly_spaced(len(wanted), count)])
        yield from map(self.read, rows.tolist())

    def find(self, ids: Collection[str], id_of: Callable[[str], str]) -> Iterator[Sample]:
        """Images whose `id_of(id)` is among `ids`.

        Raises:
          DataError: one of them cannot be read.
        """
        for row, key in enumerate(self.store.keys):
            if id_of(key) in ids:
                found = self.read(row)
                if isinstance(found, DataError):
                    raise found
                yield found

    def read(self, row: int) -> Sample | DataError:
        """The image of a row, or the error."""
        store, spec = self.store, self.store.spec
        try:
            record = store.read(row)
        except DataError as error:
            return error
        features = store.features_of(record)
        probs = rest = None
        if spec.kept_classes:
            ids = record["class_ids"]
            probs = np.zeros((len(ids), spec.num_classes), np.float32)
            known = (ids >= 0) & (ids < spec.num_classes)  # others are missing in the row's sum
            np.put_along_axis(
                probs, np.where(known, ids, 0), np.where(known, record["probs"], 0), 1
            )
            rest = record["rest"].copy()
        return Sample(
            image_id=store.keys[row],
            where=store.where(row),
            height=int(store.heights[row]),
            width=int(store.widths[row]),
            boxes=record["boxes"].astype(np.float64),
            features=features[1:],
            probs=probs,
            rest=rest,
            whole=features[0],
            dtype=spec.dtype,
        )


class LayoutSource:
    """Images of raw files, as a layout of `importers` reads them.

    Attributes: as of StoreSource; `spec` is None, `layout` the layout's name, `options` its
    options' names.
    """

    spec: FeatureSpec | None = None

    def __init__(self, files: Sequence[str], layout: str, options: Mapping[str, Any]):
        self.reader: Layout = opened_layout(importers.load(layout).Layout, files, **options)
        self._files = files
        self.layout, self.name, self.options = layout, ", ".join(files), set(options)
        self.background_class = self.reader.background_class
        self.nbytes = sum(stamp(file)[1] for file in files)
        self.total = f"{self.nbytes / 1e6:,.1f} MB"
        self.cut = False  # whether `samples` has left images out
        self._images = None
        if self.reader.unit == "images":
            self._images = sum(part.stop - part.start for part in self._parts(1))
            self.total = f"{self._images:,} images"

    def _parts(self, count: int) -> list[Part]:
        return parts_of(self.reader, self._files, -(-self.nbytes // count) or 1)

    def samples(
        self, count: int | None, also: Callable[[str], bool] = lambda image_id: False
    ) -> Iterator[Sample | DataError]:
        """See `StoreSource.samples`; `also` is not looked for, files have no index."""
        del also
        if count is not None and self._images is not None and count >= self._images:
            count = None
        left = count
        ranges = MAX_RANGES if count is None else min(MAX_RANGES, count)
        parts = self._parts(ranges)
        if count is not None:  # a layout has at least one part per file
            self.cut = len(parts) > ranges
            parts = [parts[i] for i in evenly_spaced(len(parts), ranges)]
        for number, part in enumerate(parts):
            # Later ranges make up for what earlier ones were short of.
            quota = None if left is None else -(-left // (len(parts) - number))
            for found in self._read(part, quota):
                left = None if left is None else left - 1
                yield found

    def find(self, ids: Collection[str], id_of: Callable[[str], str]) -> Iterator[Sample]:
        """See `StoreSource.find`; reads until all are found."""
        left = set(ids)
        for found in itertools.chain.from_iterable(self._read(part) for part in self._parts(1)):
            if isinstance(found, DataError):
                raise found
            if id_of(found.image_id) in left:
                left.remove(id_of(found.image_id))
                yield found
            if not left:
                return

    def _read(self, part: Part, count: int | None = None) -> Iterator[Sample | DataError]:
        try:
            for number, (where, raw) in enumerate(entries_of(self.reader, part)):
                if number == count:
                    self.cut = True
                    return
                try:
                    yield _sample(where, parsed(self.reader, where, raw))
                except DataError as error:
                    yield error
        except DataError as error:  # the file itself ends here
            yield error


def _sample(where: str, item: Item) -> Sample:
    with reading(where, "an image's record cannot be used"), np.errstate(all="ignore"):
        return _checked_sample(where, item)


def _checked_sample(where: str, item: Item) -> Sample:
    features, boxes = np.asarray(item.features), np.asarray(item.boxes, np.float64)
    probs = None if item.class_probs is None else np.asarray(item.class_probs, np.float32)
    shapes = {"features": features, "boxes": boxes, "class_probs": probs}
    for name, value in shapes.items():
        least = 4 if name == "boxes" else 1
        fits = value is None or (value.ndim == 2 and len(value) == len(features))
        if not fits or (value is not None and value.shape[1] < least):
            raise DataError(
                f"{name} have the wrong shape",
                where=where,
                expected="[n, ...] with as many rows as features; boxes [n, 4]",
                found={key: getattr(v, "shape", None) for key, v in shapes.items()},
            )
    return Sample(
        image_id=str(item.image_id),
        where=where,
        height=int(item.height),
        width=int(item.width),
        boxes=boxes,
        features=features.astype(np.float32),
        probs=probs,
        rest=None if probs is None else np.zeros(len(probs), np.float32),
        whole=None if item.global_feature is None else np.asarray(item.global_feature, np.float32),
        dtype=features.dtype.name,
        notes=item.notes,
    )


def fitting(
    files: Sequence[str],
    options: Mapping[str, Any] | None = None,
    shared: Mapping[str, Any] | None = None,
) -> tuple[dict[str, LayoutSource], dict[str, DataError]]:
    """Layouts that can read the first image of some files, and why the others cannot.

    Args:
      files: of one layout.
      options: of the layout; one that does not have them is not among them.
      shared: of the layout if it has them.
    """
    sources, reasons = {}, {}
    for layout in importers.known():
        try:
            source = LayoutSource(files, layout, complete(layout, options or {}, shared))
            first = next(source.samples(1), None)
            if first is None:
                raise DataError("no image is found", expected="at least one", found="none")
            if isinstance(first, DataError):
                raise first
            sources[layout] = source
        except DataError as error:
            reasons[layout] = error
    meant = {k: v for k, v in sources.items() if not getattr(v.reader, "last_resort", False)}
    return meant or sources, reasons


def open_source(
    paths: Sequence[str],
    layout: str = "",
    options: Mapping[str, Any] | None = None,
    shared: Mapping[str, Any] | None = None,
) -> StoreSource | LayoutSource:
    """Opens region stores, or files of one layout.

    Args:
      paths: folders of a store, or files; a text may name several, separated by commas.
      layout: of the files; empty: the one that can read them.
      options: of the layout, see `options.complete`; the others are as by default.
      shared: of the layout if it has them.

    Raises:
      DataError: nothing there, or no layout or several can read the files.
    """
    paths = [part for path in paths for part in split_paths(path)]
    for path in paths or [""]:
        remote.require(path, "doctor")
        if not remote.path(path).exists():
            raise DataError(
                "nothing to look at",
                where=path,
                expected="a region store, or files of region features",
                found="no such file or folder",
            )
    if all((remote.path(path) / "spec.json").is_file() for path in paths):
        if options:
            raise DataError(
                "options of a layout, but a region store",
                where=", ".join(paths),
                expected="raw files",
                found=", ".join(f"--{name}" for name in options),
                fix="leave them out: a store says all of it itself",
            )
        return StoreSource(paths)
    for path in paths:
        remote.refuse(path, "files of a layout", "copy them with gcloud storage cp -r")
    if layout:
        return _told(LayoutSource(paths, layout, complete(layout, options or {}, shared)))
    sources, reasons = fitting(paths, options, shared)
    if len(sources) == 1:
        return _told(next(iter(sources.values())))
    if sources:
        raise DataError(
            "several layouts can read these files",
            where=", ".join(paths),
            expected="one",
            found=", ".join(sources),
            fix="--layout NAME",
        )
    why = ""
    for name, error in reasons.items():
        lines = str(error).splitlines()
        found = next((line.strip() for line in lines if line.startswith("  found: ")), "")
        why += f"\n    {name}: {lines[0]}; {found[:110]}"
    raise DataError(
        "no known layout fits, or it needs options",
        where=", ".join(paths),
        expected="a region store, or files of one of these layouts" + why,
        found="none of them",
        fix="--layout NAME with its options (`python -m input_pipeline.importers NAME --help`)",
    )


def _told(source: LayoutSource) -> LayoutSource:
    """A source whose layout is known to be right: what its reader has to say is said."""
    for notice in getattr(source.reader, "notices", ()):
        warn(notice)
    return source
