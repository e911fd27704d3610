"""Drives an import: files of one layout -> one region store, in parallel, resumable.

The input is cut into parts; each becomes a small store of its own in `OUT.partial/`, and all of
them the store OUT at the end, by moving files. The same command resumes an interrupted run: it
skips finished parts. `plan.json` there records what they were made of; another input or option is
refused. The number of parts and workers changes nothing in the result. A store on gs:// is made on
this machine (`remote.cache()`) and uploaded at the end.
"""

import argparse
import collections
import dataclasses
import os
import pathlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from core import disk, remote
from core.console import say, warn
from core.errors import DataError
from core.progress import Progress
from core.reading import reading
from input_pipeline.importers import load
from input_pipeline.importers.arrange import background_of
from input_pipeline.importers.base import Item, Layout, Part, entries_of, opened_layout, parts_of
from input_pipeline.importers.parts import (
    Job,
    Noted,
    PartImporter,
    Task,
    count,
    duplicate,
    merge,
    noted,
    origin,
    read_item,
    repeated,
)
from input_pipeline.importers.plan import claimed, stamp
from input_pipeline.importers.settings import ImportSettings
from input_pipeline.importers.workers import in_processes
from input_pipeline.regions.shard_writer import MANIFEST
from input_pipeline.regions.spec import FeatureSpec
from input_pipeline.regions.store import split_paths

MIN_PART = 2**26  # bytes; below, starting a part would cost more than reading it
# A part has a shard at least, and a store keeps all shards open: few enough for any limit on files.
MAX_PARTS = 256


@dataclasses.dataclass(frozen=True)
class Imported:
    """What an import has written.

    Attributes:
      spec: of the store.
      images: in the store.
      skipped: images left out; `skipped.jsonl` in the store says which and why.
      reason: why the first of them was; empty without any.
      rate: images per second of this run; those of earlier, interrupted runs do not count.
      notes: {what is to be told: (number of images, where the first is)}.
    """

    spec: FeatureSpec
    images: int
    skipped: int
    rate: float
    notes: Mapping[str, Noted] = dataclasses.field(default_factory=dict)
    reason: str = ""


def convert(
    layout: str,
    files: Sequence[str],
    out: str | os.PathLike,
    settings: ImportSettings | None = None,
) -> Imported:
    """Writes one region store from files of a layout.

    With several workers the calling script needs the `if __name__ == "__main__":` that any use of
    processes needs.

    Args:
      layout: name of a module here.
      files: its input, in the order of the store.
      out: folder to write; `OUT.partial` beside it is used meanwhile.
      settings: how; None: the defaults.

    Raises:
      DataError: an unknown option, unreadable input, a bad image, an id that occurs twice, or
        OUT.partial of another import. No store is left; finished parts are, for the next run.
    """
    settings, out = settings or ImportSettings(), remote.path(out)
    settings.check()
    _check_output(out)
    for file in files:
        remote.refuse(
            file, "an import's input", "copy it (gcloud storage cp) or mount it (gcsfuse)"
        )
    files = [os.path.abspath(file) for file in files]
    stamps = [stamp(file) for file in files]
    options = _complete(layout, settings.options)
    reader = opened_layout(load(layout).Layout, files, **options)
    least = getattr(reader, "least_part", MIN_PART)
    size = settings.part_size or max(least, sum(nbytes for _, nbytes, _ in stamps) // MAX_PARTS)
    groups = _grouped(parts_of(reader, files, size))
    for notice in getattr(reader, "notices", ()):
        warn(notice)
    spec = _first_spec(reader, groups, settings)
    job = Job(
        layout,
        files,
        options,
        spec,
        settings.ids,
        settings.on_bad,
        settings.class_scores,
        settings.resized,
    )
    plan = {
        **dataclasses.asdict(job),
        "files": stamps,
        "part_size": settings.part_size,
        "parts": [[dataclasses.astuple(part) for part in group] for group in groups],
        "option_files": _files_named_by(options),
    }
    working_copy = remote.working_copy(out) if remote.is_remote(out) else out
    partial = working_copy.with_name(out.name + ".partial")
    with disk.explained(partial), claimed(partial, plan):
        workers = min(settings.workers, getattr(reader, "most_workers", settings.workers))
        unfinished = _Import(job, reader, groups, partial, workers)
        try:
            with disk.explained(partial):
                return unfinished.finish(out)
        except BaseException as error:
            unfinished.keep(error)
            raise


class _Import:
    """An import in its folder OUT.partial."""

    def __init__(
        self,
        job: Job,
        reader: Layout,
        groups: list[list[Part]],
        partial: pathlib.Path,
        workers: int,
    ):
        """Finds what earlier runs have finished.

        Args:
          job: what all parts share.
          reader: of the input, in this process.
          groups: ranges of the input that each become a part of the import.
          partial: the folder.
          workers: processes.
        """
        self._job, self._reader, self._groups = job, reader, groups
        self._partial, self._workers = partial, workers
        self._folders = [partial / f"part-{number:05d}" for number in range(len(groups))]

    def finish(self, out: remote.Path) -> Imported:
        """Imports what is missing, merges, and names the result `out`."""
        rate = self._import_missing()
        self._import_repeated()
        skipped = merge(self._folders, self._partial / "store", self._job.spec, self._names())
        images, notes = sum(map(count, self._folders)), noted(self._folders)
        if remote.is_remote(out):
            remote.upload_folder(self._partial / "store", out, last=MANIFEST)
        else:
            (self._partial / "store").rename(out)
        shutil.rmtree(self._partial)
        reason = skipped[0]["reason"] if skipped else ""
        return Imported(self._job.spec, images, len(skipped), rate, notes, reason)

    def _names(self) -> tuple[Sequence[str], Sequence[str]]:
        """Names of the classes and attributes that the store will have."""
        classes = getattr(self._reader, "class_names", ())
        if len(classes) != self._job.spec.num_classes:  # --class_scores made others of them
            classes = ()
        return classes, getattr(self._reader, "attribute_names", ())

    def keep(self, error: BaseException) -> None:
        """After `error`: removes what is of no use to the next run, and notes what is kept."""
        for leftover in self._partial.glob(".part-*"):  # of a worker that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        done = sum(folder.is_dir() for folder in self._folders)
        if not done or (done == len(self._folders) and not any(map(count, self._folders))):
            shutil.rmtree(self._partial, ignore_errors=True)
            return
        error.add_note(
            f"  kept: {done} of {len(self._folders)} parts are finished in {self._partial}; the "
            "same command resumes there (a changed input starts anew: remove it first)"
        )

    def _import_missing(self) -> float:
        """Imports the parts that are not there; returns images per second."""
        total = len(self._folders)
        missing = [number for number, folder in enumerate(self._folders) if not folder.is_dir()]
        if len(missing) < total:
            say(f"import: {total - len(missing)} of {total} parts are there already")
        lengths = [sum(part.stop - part.start for part in group) for group in self._groups]
        unit = self._reader.unit
        unit, scale = ("MB", 1e6) if unit == "bytes" else (unit, 1)
        length = sum(lengths[number] for number in missing) / scale
        progress = Progress(f"import {self._job.layout}", length, unit=unit)
        start, images = time.monotonic(), 0
        tasks = [Task(self._groups[number], self._folders[number], {}) for number in missing]
        for index, found in self._work(tasks):
            images += found
            progress.add(lengths[missing[index]] / scale)
        return images / max(time.monotonic() - start, 1e-9)

    def _work(self, tasks: Sequence[Task]) -> Iterator[tuple[int, int]]:
        """(index of a task, its number of images) as they are done, here or in processes."""
        workers = min(self._workers, len(tasks))
        if workers > 1:
            yield from in_processes(self._job, tasks, workers)
            return
        importer = PartImporter(self._job, self._reader)
        for index, task in enumerate(tasks):
            yield index, importer(task)

    def _import_repeated(self) -> None:
        """Imports parts again without the images that earlier parts have.

        Raises:
          DataError: there are such images, and on_bad is "error".
        """
        again = repeated(self._folders)
        if again and self._job.on_bad == "error":
            number, first = next(iter(again.items()))
            image_id, where = next(iter(first.items()))
            raise duplicate(image_id, where, origin(self._folders[number], image_id))
        for number in again:
            shutil.rmtree(self._folders[number])
        importer = PartImporter(self._job, self._reader)
        for number, first in again.items():
            importer(Task(self._groups[number], self._folders[number], first))


def _check_output(out: remote.Path) -> None:
    """Raises DataError if a store cannot be written there, or something is there."""
    remote.require(out, "--out", write=True)
    if remote.complete(out, MANIFEST):
        raise DataError(
            "the output folder exists already",
            where=str(out),
            expected="a path that is not there yet",
            found="a folder" if out.is_dir() else "a file",
            fix="remove it or choose another path",
        )


def _files_named_by(options: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """Stamps of files that options name (image sizes, an id map).

    They decide what is read as much as the input does.
    """
    texts = [value for value in options.values() if isinstance(value, str)]
    paths = [path for text in texts for path in split_paths(text)]
    return [stamp(os.path.abspath(path)) for path in paths if os.path.isfile(path)]


def _complete(layout: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a layout, given ones and defaults."""
    parser = argparse.ArgumentParser(add_help=False)
    load(layout).Layout.add_arguments(parser)
    defaults = vars(parser.parse_args([]))
    if unknown := sorted(set(options) - set(defaults)):
        raise DataError(
            "unknown option of a layout",
            where=f"layout {layout!r}",
            expected=f"options among {sorted(defaults)}",
            found=unknown,
        )
    return {**defaults, **options}


def _grouped(parts: Sequence[Part]) -> list[list[Part]]:
    """At most MAX_PARTS groups of consecutive parts: a layout has a part per file at least."""
    step = -(-len(parts) // MAX_PARTS) or 1
    return [list(parts[i : i + step]) for i in range(0, len(parts), step)]


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


def _first_spec(reader: Layout, groups: list[list[Part]], settings: ImportSettings) -> FeatureSpec:
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
