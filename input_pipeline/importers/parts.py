"""A part of an import, finished on its own: how one is written, and how all become one store.

A part is a folder: `store/` (a region store, perhaps without images), `places.json` (where each
image of it comes from), `skipped.json` (what was left out, and why), `notes.json` (what is to be
told of its images) and, where the layout gives some, `attributes.npz` (see `regions.labels`). On
gs:// LAST is there once all the others are.
"""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from core import ids, remote
from core.errors import DataError
from core.progress import atomic_folder
from core.reading import reading
from core.strings import pack_strings, unpack_strings
from input_pipeline.importers.arrange import arranged
from input_pipeline.importers.base import Item, Layout, Part, entries_of, parsed
from input_pipeline.importers.plan import damage_told
from input_pipeline.regions import labels
from input_pipeline.regions.region_writer import (
    INDEX_FIELDS,
    RegionWriter,
    empty_store,
    seal,
)
from input_pipeline.regions.spec import FeatureSpec

LAST = "notes.json"


@dataclasses.dataclass(frozen=True)
class Job:
    """What all parts of an import share.

    Attributes:
      layout: name of the layout.
      files: its input.
      options: of the layout.
      spec: of the store.
      ids: "as_is", or "number" (see `ids.number_of`).
      on_bad: "error", or "skip": leave out an image whose record is bad.
      class_scores, resized: see `ImportSettings`.
    """

    layout: str
    files: Sequence[str]
    options: Mapping
    spec: FeatureSpec
    ids: str
    on_bad: str
    class_scores: str = ""
    resized: str = ""


@dataclasses.dataclass(frozen=True)
class Task:
    """A part to import.

    Attributes:
      parts: consecutive ranges of the input.
      folder: to write, of this machine or gs://.
      elsewhere: {image id: origin} of images that earlier parts have.
    """

    parts: Sequence[Part]
    folder: remote.Path
    elsewhere: Mapping[str, str]


Noted = tuple[int, str]  # images, where the first of them is
Moves = Sequence[tuple[pathlib.Path, pathlib.Path]]  # (a shard of a part, the same of the store)


class Stopped(Exception):
    """Another part failed, or the user interrupted: this one was given up."""


def duplicate(image_id: str, first: str, second: str) -> DataError:
    """The error of an image that the input has twice."""
    return DataError(
        "an image id occurs twice",
        where=f"{first} and {second}, image {image_id!r}",
        expected="each image once",
        found="two records",
        fix="name each file once, remove one of the records, or keep the first: --on_bad skip",
    )


def read_item(
    layout: Layout, where: str, raw: Any, class_scores: str = "", resized: str = ""
) -> Item:
    """One image as it goes to the store; options as of `arrange.arranged`.

    Raises:
      DataError: whatever is wrong with the image's record.
    """
    item = parsed(layout, where, raw)
    with reading(where, "an image's record cannot be used", fix="leave this image out"):
        said = getattr(layout, "states_background", False)
        assumed = None if said else layout.background_class
        return arranged(item, where, assumed, class_scores, resized)


class PartImporter:
    """Reads, checks and writes parts, one at a time; one object per process."""

    def __init__(self, job: Job, layout: Layout, stop: Callable[[], bool] = lambda: False):
        self.job, self.layout, self.stop = job, layout, stop

    def __call__(self, task: Task) -> int:
        """Writes the folder of a part, whole or not at all; returns its number of images.

        Where another process has written it meanwhile, its folder is kept: it is the same.

        Raises:
          DataError: the input cannot be read on, or, with on_bad="error", an image is bad.
          Stopped: stop() is true.
        """
        origins, skipped = dict(task.elsewhere), []
        notes: dict[str, Noted] = {}
        attributes: list[dict[str, np.ndarray]] = []
        together = getattr(self.layout, "together", lambda entries: entries)
        with atomic_folder(task.folder, keep_existing=True, last=LAST) as temporary:
            with RegionWriter(temporary / "store", self.job.spec, allow_empty=True) as writer:
                for part in task.parts:
                    for where, raw in together(entries_of(self.layout, part)):
                        if self.stop():
                            raise Stopped
                        try:
                            item = self._add(writer, where, raw, origins, notes)
                        except DataError as error:
                            if self.job.on_bad == "error":
                                raise
                            skipped.append({"where": where, "reason": str(error)})
                            continue
                        if item.attribute_probs is not None:
                            attributes.append(labels.best(item.attribute_probs))
            own = list(origins.values())[len(task.elsewhere) :]
            (temporary / "places.json").write_text(json.dumps(own))
            (temporary / "skipped.json").write_text(json.dumps(skipped))
            if attributes:
                np.savez(temporary / labels.ATTRIBUTES, **_joined(attributes))
            (temporary / LAST).write_text(json.dumps(notes))
        return len(own)

    def _add(
        self,
        writer: RegionWriter,
        where: str,
        raw: Any,
        origins: dict[str, str],
        notes: dict[str, Noted],
    ) -> Item:
        """Writes an image; returns it as it was read."""
        spec = self.job.spec
        item = read_item(self.layout, where, raw, self.job.class_scores, self.job.resized)
        # A layout may hand over the number that its file has.
        image_id = given = str(item.image_id)
        if self.job.ids == "number" and not (image_id := ids.number_of(given)):
            raise DataError(
                "an image id has no number",
                where=f"{where}, image {given!r}",
                expected="digits somewhere in the id (--ids number)",
                found=repr(given),
                fix="import with --ids as_is",
            )
        if image_id in origins:
            raise duplicate(image_id, origins[image_id], where)
        writer.add(
            image_id,
            boxes=item.boxes,
            features=item.features,
            height=item.height,
            width=item.width,
            class_probs=item.class_probs,
            global_feature=item.global_feature if spec.global_feature == "stored" else None,
            source=where,
        )
        origins[image_id] = where
        for note in item.notes:
            count, first = notes.get(note, (0, where))
            notes[note] = count + 1, first
        return item


def _joined(found: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def _ids(part: pathlib.Path) -> list[str]:
    path = part / "store" / "index.npz"
    with damage_told(path, part.parent), np.load(path) as arrays:
        return unpack_strings(arrays["keys"], arrays["key_ends"])


@contextlib.contextmanager
def _own(part: pathlib.Path, name: str) -> Iterator[Any]:
    """Context with the value of a JSON file of a part; what goes wrong with it is its damage."""
    with damage_told(part / name, part.parent):
        yield json.loads((part / name).read_text())


def repeated(parts: Sequence[pathlib.Path]) -> dict[int, dict[str, str]]:
    """{part number: {id: origin}} of images that an earlier part has, with their origins there."""
    first: dict[str, int] = {}
    found: dict[int, dict[str, str]] = {}
    for number, part in enumerate(parts):
        for image_id in _ids(part):
            if first.setdefault(image_id, number) != number:
                found.setdefault(number, {})[image_id] = origin(parts[first[image_id]], image_id)
    return found


def noted(parts: Sequence[pathlib.Path]) -> dict[str, Noted]:
    """{what is to be told: (number of images, where the first is)} of all parts."""
    found: dict[str, Noted] = {}
    for part in parts:
        with _own(part, LAST) as notes:
            for note, (count, where) in notes.items():
                before, first = found.get(note, (0, where))
                found[note] = before + count, first
    return found


def count(part: pathlib.Path) -> int:
    """Images of a part."""
    with _own(part, "store/manifest.json") as manifest:
        return int(manifest["records"])


def origin(part: pathlib.Path, image_id: str) -> str:
    """Where an image of a part comes from."""
    row = _ids(part).index(image_id)
    with _own(part, "places.json") as places:
        return str(places[row])


def moved(moves: Moves) -> None:
    """Moves shards to where they are not yet.

    Raises:
      DataError: one is in neither place.
    """
    for source, target in moves:
        if not target.exists():
            if not source.exists():
                raise DataError(
                    "a finished part of an import is damaged",
                    where=str(source),
                    expected="its shard",
                    found="no such file",
                    fix=f"remove {target.parent.parent} and start anew",
                )
            source.rename(target)


def merge(
    parts: Sequence[pathlib.Path],
    folder: pathlib.Path,
    spec: FeatureSpec,
    names: tuple[Sequence[str], Sequence[str]] = ((), ()),
    move: Callable[[Moves], None] = moved,
) -> list[dict[str, str]]:
    """Makes one store of parts, in order, by moving their shards.

    Records are not touched, and the store is the one a single RegionWriter would have written but
    for where its shards end. Cut short, it can be done again: the parts' indexes stay until the
    end, and a shard that is in `folder` already is not missed in its part.

    Args:
      parts: folders of finished parts, no image in two of them.
      folder: to fill.
      spec: of all parts.
      names: of classes and of attributes, () where they are not known.
      move: moves the shards.

    Returns:
      {"where", "reason"} of each image that was left out.

    Raises:
      DataError: all parts together have no image, or a file of theirs is gone.
    """
    columns: dict[str, list] = {name: [] for name in INDEX_FIELDS}
    keys, shards, moves, skipped = [], [], [], []
    for part in parts:
        store = part / "store"
        with damage_told(store / "index.npz", part.parent), np.load(store / "index.npz") as arrays:
            for name, column in columns.items():
                shift = len(shards) if name == "shard" else 0
                column.append(arrays[name] + arrays[name].dtype.type(shift))
        keys += _ids(part)
        with _own(part, "store/manifest.json") as manifest:
            for shard in manifest["shards"]:
                name = f"shard-{len(shards):05d}.bin"
                moves.append((store / shard["file"], folder / name))
                shards.append({**shard, "file": name})
        with _own(part, "skipped.json") as left_out:
            skipped += [dict(where=one["where"], reason=one["reason"]) for one in left_out]
    if not keys and skipped:
        first = " | ".join(map(str.strip, skipped[0]["reason"].splitlines()))
        raise DataError(
            "a region store would be empty: every image was left out",
            where=str(folder),
            expected="at least one image",
            found=f"{len(skipped):,} bad images, the first: {first}",
            fix="what is wrong with all of them is a mistake of the options or of the whole file",
        )
    if not keys:
        raise empty_store(str(folder))
    folder.mkdir(exist_ok=True)
    move(moves)
    index = {name: np.concatenate(column) for name, column in columns.items()}
    index["keys"], index["key_ends"] = pack_strings(keys)
    if skipped:
        (folder / "skipped.jsonl").write_text("".join(json.dumps(row) + "\n" for row in skipped))
    if any(names):
        attributes = [_attributes(part) for part in parts if count(part)] if names[1] else []
        found = _joined(attributes) if attributes else None
        labels.write(folder, labels.digest_of(keys, index["n"]), *names, found)
    seal(folder, spec, index, shards)
    return skipped


def _attributes(part: pathlib.Path) -> dict[str, np.ndarray]:
    path = part / labels.ATTRIBUTES
    with damage_told(path, part.parent), np.load(path) as arrays:
        return {name: arrays[name] for name in ("ids", "probs")}
