"""An import that has been planned: its parts are done, joined and named."""

import contextlib
import dataclasses
import pathlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence

from core import remote, remote_folders
from core.console import say
from core.errors import DataError
from core.progress import Progress
from input_pipeline.importers import elsewhere
from input_pipeline.importers.base import Layout, Part
from input_pipeline.importers.parts import (
    LAST,
    Job,
    Moves,
    Noted,
    PartImporter,
    Task,
    count,
    duplicate,
    merge,
    moved,
    noted,
    origin,
    repeated,
)
from input_pipeline.importers.workers import in_processes
from input_pipeline.regions.shard_writer import MANIFEST
from input_pipeline.regions.spec import FeatureSpec


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


class Import:
    """An import in its folder OUT.partial."""

    def __init__(
        self,
        job: Job,
        reader: Layout,
        groups: list[list[Part]],
        partial: pathlib.Path,
        place: remote.Path,
        workers: int | elsewhere.Engine,
    ):
        """Finds what earlier runs have finished.

        Args:
          job: what all parts share.
          reader: of the input, in this process.
          groups: ranges of the input that each become a part of the import.
          partial: the folder on this machine.
          place: where parts are written, another than `partial` on gs://.
          workers: processes, or what has parts done on other machines.
        """
        self._job, self._reader, self._groups = job, reader, groups
        self._partial, self._place, self._workers = partial, place, workers
        self._parts = [f"part-{number:05d}" for number in range(len(groups))]
        self._folders = [partial / name for name in self._parts]

    def finish(self, out: remote.Path) -> Imported:
        """Imports what is missing, merges, and names the result `out`."""
        rate = self._import_missing()
        self._import_repeated()

        def copied(moves: Moves) -> None:
            """As `moved`, of shards that have never been on this machine."""
            pairs = {self._place / a.relative_to(self._partial): out / b.name for a, b in moves}
            remote_folders.copy({str(source): str(target) for source, target in pairs.items()})

        away = self._place is not self._partial
        move = copied if away else moved
        store = self._partial / "store"
        skipped = merge(self._folders, store, self._job.spec, self._names(), move)
        images, notes = sum(map(count, self._folders)), noted(self._folders)
        if remote.is_remote(out):
            remote.upload_folder(store, out, last=MANIFEST)
        else:
            store.rename(out)
        self._remove()
        reason = skipped[0]["reason"] if skipped else ""
        return Imported(self._job.spec, images, len(skipped), rate, notes, reason)

    def _look(self) -> None:
        """Brings this machine's copy of what others have written up to date."""
        if self._place is not self._partial:
            mirrored(self._place)

    def _remove(self) -> None:
        shutil.rmtree(self._partial)
        if self._place is not self._partial:
            remote_folders.remove(self._place)

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
        with contextlib.suppress(DataError):
            self._look()
        done = len(self._folders) - len(self._missing())
        if not done or (done == len(self._folders) and not any(map(count, self._folders))):
            with contextlib.suppress(OSError, DataError):
                self._remove()
            return
        error.add_note(
            f"  kept: {done} of {len(self._folders)} parts are finished in {self._place}; the "
            "same command resumes there (a changed input starts anew: remove it first)"
        )

    def _import_missing(self) -> float:
        """Imports the parts that are not there; returns images per second."""
        total = len(self._folders)
        missing = self._missing()
        if len(missing) < total:
            say(f"import: {total - len(missing)} of {total} parts are there already")
        lengths = [sum(part.stop - part.start for part in group) for group in self._groups]
        unit = self._reader.unit
        unit, scale = ("MB", 1e6) if unit == "bytes" else (unit, 1)
        length = sum(lengths[number] for number in missing) / scale
        progress = Progress(f"import {self._job.layout}", length, unit=unit)
        start, images = time.monotonic(), 0
        tasks = [self._task(number, {}) for number in missing]
        for index, found in self._work(tasks):
            images += found
            progress.add(lengths[missing[index]] / scale)
        return images / max(time.monotonic() - start, 1e-9)

    def _missing(self) -> list[int]:
        """Numbers of the parts that are not finished."""
        return [i for i, folder in enumerate(self._folders) if not (folder / LAST).is_file()]

    def _task(self, number: int, first: Mapping[str, str]) -> Task:
        """A part to import, without images that earlier parts have."""
        return Task(self._groups[number], self._place / self._parts[number], first)

    def _work(self, tasks: Sequence[Task]) -> Iterator[tuple[int, int]]:
        """(index of a task, its number of images) as they are done: here, in processes, or away."""
        if not isinstance(self._workers, int):
            if tasks:
                say(f"import: {len(tasks):,} parts are done by the engine, in {self._place}")
                work = elsewhere.PartWork(self._job)
                self._workers.each(work, tasks, self._place, f"import {self._job.layout}")
                self._look()
            yield from ((i, count(self._partial / t.folder.name)) for i, t in enumerate(tasks))
            return
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
            if self._place is not self._partial:
                remote_folders.remove(self._place / self._parts[number])
        for _ in self._work([self._task(number, first) for number, first in again.items()]):
            pass


def mirrored(place: remote.Path) -> pathlib.Path:
    """This machine's copy of an unfinished import on gs://, all but its shards."""
    return remote.mirror(place, lambda name: not name.endswith(".bin"))
