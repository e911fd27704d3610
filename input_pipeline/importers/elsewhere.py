"""Parts of an import that other machines do: their inputs, and what they hand over.

What a worker writes goes to a folder that all machines see, of a shared file system or gs://.
Inputs are there, too; one on gs:// is copied whole to the machine that reads a part of it, for as
long as it does. In messages and origins it keeps its name.
"""

import contextlib
import dataclasses
import json
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from core import remote, remote_folders
from core.errors import DataError
from input_pipeline.importers import load
from input_pipeline.importers.base import Layout, Part, opened_layout, parts_of
from input_pipeline.importers.parts import LAST, Job, PartImporter, Task
from input_pipeline.regions.store import split_paths


class Engine(Protocol):
    """What has work done on other machines (`input_pipeline.beam.engine`)."""

    def each(
        self, work: Callable[[Any], None], items: Sequence[Any], place: remote.Path, label: str
    ) -> None:
        """Has work(item) done for each item, perhaps twice; raises what is wrong with one."""


def has_remote(files: Sequence[str], options: Mapping[str, Any]) -> bool:
    """Whether an input, or a file that an option names, is on gs://."""
    texts = (value for value in options.values() if isinstance(value, str))
    return any(map(remote.is_remote, (*files, *texts)))


@contextlib.contextmanager
def opened(
    layout: str, files: Sequence[str], options: Mapping[str, Any], numbers: Sequence[int]
) -> Iterator[Layout]:
    """A reader of some of the inputs, by their numbers; of all where none is on gs://.

    Raises:
      DataError: whatever is wrong with them.
    """
    make = load(layout).Layout
    if not has_remote(files, options):
        yield opened_layout(make, files, **options)
        return
    folder = remote.cache() / "inputs"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        names: dict[str, str] = {}

        def here(place: str) -> str:
            """A path of this machine with the contents of a place."""
            if not remote.is_remote(place):
                return place
            copy = pathlib.Path(scratch, str(len(names)), place.rstrip("/").rpartition("/")[2])
            copy.parent.mkdir()
            remote_folders.download(place, copy)
            names[str(copy)] = place.rstrip("/")
            return str(copy)

        copies = [here(files[number]) for number in numbers]
        own = {
            name: ",".join(map(here, split_paths(value)))
            if isinstance(value, str) and remote.is_remote(value)
            else value
            for name, value in options.items()
        }
        try:
            yield Copied(opened_layout(make, copies, **own), numbers, names)
        except DataError as error:
            raise _renamed(error, names) from error


def _renamed(error: DataError, names: Mapping[str, str]) -> DataError:
    text = str(error)
    for copy, name in names.items():
        text = text.replace(copy, name)
    if text == str(error):
        return error
    named = DataError(text)
    for note in getattr(error, "__notes__", ()):
        named.add_note(note)
    return named


class Copied:
    """A layout that reads copies of some of the inputs, which it calls by their own names."""

    def __init__(self, layout: Layout, numbers: Sequence[int], names: Mapping[str, str]):
        """Opens nothing.

        Args:
          layout: over the copies.
          numbers: of these inputs among all.
          names: {copy: input}.
        """
        self._layout, self._numbers, self._names = layout, list(numbers), names

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layout, name)

    def parts(self, size: int) -> list[Part]:
        """See `base.Layout`."""
        return [
            dataclasses.replace(part, file=self._numbers[part.file])
            for part in self._layout.parts(size)
        ]

    def entries(self, part: Part) -> Iterator[tuple[str, Any]]:
        """See `base.Layout`."""
        own = dataclasses.replace(part, file=self._numbers.index(part.file))
        for where, raw in self._layout.entries(own):
            for copy, name in self._names.items():
                where = where.replace(copy, name)
            yield where, _renamed(raw, self._names) if isinstance(raw, DataError) else raw


class InputWork:
    """Cuts an input on gs:// into parts, on the machine that it is copied to."""

    def __init__(self, layout: str, files: Sequence[str], options: Mapping[str, Any], size: int):
        """Args: as of `opened`; size: bytes of a part."""
        self._arguments, self._size = (layout, files, options), size

    def __call__(self, item: tuple[int, str]) -> None:
        """Writes the parts of an input.

        Args:
          item: number of the input, and the file to write.

        Raises:
          DataError: it cannot be read as this layout.
        """
        number, target = item
        with opened(*self._arguments, [number]) as reader:
            parts = parts_of(reader, [self._arguments[1][number]], self._size)
            found = [dataclasses.astuple(part) for part in parts]
            told = list(getattr(reader, "notices", ()))
        remote.replace(target, json.dumps({"parts": found, "notices": told}).encode())

    def read(self, target: remote.Path) -> tuple[list[Part], list[str]]:
        """(parts, notices) of a file that a worker has written."""
        found = json.loads(target.read_text())
        return [Part(*part) for part in found["parts"]], found["notices"]


def cut_elsewhere(
    engine: Engine, work: InputWork, inputs: int, out: remote.Path
) -> tuple[list[Part], list[str]]:
    """(parts, notices) of inputs that other machines cut."""
    place = out.with_name(out.name + ".inputs")
    place.mkdir(parents=True, exist_ok=True)
    targets = [place / f"input-{number:05d}.json" for number in range(inputs)]
    engine.each(work, [(i, str(target)) for i, target in enumerate(targets)], place, "inputs")
    found = [work.read(target) for target in targets]
    remote_folders.remove(place)
    return [p for parts, _ in found for p in parts], [n for _, told in found for n in told]


def read_by(reader: Layout, groups: Sequence[Sequence[Part]]) -> Sequence[Sequence[Part]]:
    """The parts that a reader can read: one of copies has the first input alone."""
    if not isinstance(reader, Copied):
        return groups
    return [[part for part in group if part.file == 0] for group in groups]


class PartWork:
    """Imports parts of a job on the machine that has it; what it opens once, it keeps."""

    def __init__(self, job: Job):
        """Opens nothing; picklable until it is called."""
        self._job, self._importer = job, None
        self._remote = has_remote(job.files, job.options)

    def __call__(self, task: Task) -> None:
        """Writes the folder of a part, whole or not at all, unless it is there.

        Raises:
          DataError: the input cannot be read on, or an image is bad.
        """
        if remote.complete(task.folder, LAST):  # an engine repeats what it has not heard the end of
            return
        job = self._job
        if self._remote:
            numbers = sorted({part.file for part in task.parts})
            with opened(job.layout, job.files, job.options, numbers) as reader:
                PartImporter(job, reader)(task)
            return
        if self._importer is None:
            with opened(job.layout, job.files, job.options, ()) as reader:
                self._importer = PartImporter(job, reader)
        self._importer(task)
