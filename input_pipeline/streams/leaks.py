"""Keeps images that are evaluated on out of training.

Images are compared by names that hold over data sets ("coco:139", "vg:7"), since data sets share
them: RefCOCO, VQA and the captions are all of COCO, half of Visual Genome is, too. 12-in-1 calls
training sets without the test images of any task "clean".

However a name is written, it is compared as `core.ids.identity` reads it: without suffix, leading
zeros and COCO's file names. An id alone ("139", of one's own data) means one of the images it is
compared with, of whatever data set, where that is said: in data.held_out, and in one region store.
"""

import dataclasses
import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from core.console import say, warn
from core.errors import DataError
from core.ids import endings, identity, split_namespace
from input_pipeline import datasets
from input_pipeline.datasets import options
from input_pipeline.datasets.options.shared import LEAKS
from input_pipeline.datasets.reading import files, official
from input_pipeline.regions.store import split_paths
from input_pipeline.texts.rows import Skipped


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Images that must not be trained on.

    Attributes:
      names: of the images, over data sets; where `by_id`, also ids alone.
      source: where they come from, for messages.
      by_id: whether an id alone, here or of a training image, is compared with any name.
      listed: whether data.held_out names it, so that it may be of no image at all.
      from_file: whether the names are the lines of a file; they may be paths, too.
    """

    names: frozenset[str]
    source: str
    by_id: bool = False
    listed: bool = False
    from_file: bool = False


def check_mode(mode: str) -> None:
    """Checks data.leaks.

    Raises:
      DataError: an unknown value.
    """
    if mode not in LEAKS:
        raise files.unknown("leaks", LEAKS, mode, "--config.data.leaks")


def listed(data_config) -> list[HeldOut]:
    """The images of `data.held_out`: text files with one a line, or DATASET:SPLIT.

    A line is a name over data sets, an id, or the path of a picture. The files of DATASET are
    those of `data.manual_dir` or `data.tfds_dir`.

    Raises:
      DataError: a file cannot be read, an unknown data set or split.
    """
    held = []
    for entry in split_paths(data_config.held_out):
        dataset, colon, split = entry.partition(":")
        if colon and dataset in datasets.known() and not os.path.exists(entry):
            names = _split(dataset, split, data_config)
            held.append(HeldOut(names, entry, by_id=True, listed=True))
        else:
            names = frozenset(text.strip() for _, text in files.lines(entry))
            held.append(HeldOut(names, entry, by_id=True, listed=True, from_file=True))
    return held


def _split(dataset: str, split: str, data_config) -> frozenset[str]:
    module = importlib.import_module(f"{datasets.__name__}.{dataset}")
    if not hasattr(module, "records"):
        raise DataError(
            "a data set without official files is held out",
            where="--config.data.held_out",
            expected="DATASET:SPLIT of a data set under data.manual_dir",
            found=f"{dataset}:{split}",
            fix="name a text file of image ids instead",
        )
    block = data_config
    if dataset != data_config.dataset:  # its own options are not in this block
        block = ConfigDict(options.of(dataset))
        block.update({name: data_config[name] for name in options.SHARED})
    reader = official.Reader(module, block)
    return frozenset(
        reader.image_name(image_id)
        for _, record in reader.records(split)
        if not isinstance(record, Skipped)
        for image_id in record.images
    )


def coco_names(path: str) -> dict[str, str]:
    """{"vg:<id>": "coco:<id>"} of the images of Visual Genome that are COCO's.

    Args:
      path: of Visual Genome's image_data.json, a list of {"image_id", "coco_id" or null, ...}.

    Raises:
      DataError: it is not that file.
    """
    names = {}
    for i, item in enumerate(files.check(files.read_json(path), list, path)):
        where = f"{path}[{i}]"
        number = files.need_number(item, "image_id", where)
        if item.get("coco_id") is not None:
            names[f"vg:{number}"] = f"coco:{files.need_number(item, 'coco_id', where)}"
    return names


class _Names:
    """The names of a `HeldOut`, to be found by any way of writing them."""

    def __init__(self, held: HeldOut, to_coco: Mapping[str, str]):
        self._by_id, self._from_file, self._to_coco = held.by_id, held.from_file, to_coco
        self._full: dict[tuple[str, str], set[str]] = {}  # (namespace, identity): names
        self._any: dict[str, set[str]] = {}  # identity whatever the namespace: names
        self._alone: dict[str, set[str]] = {}  # identity of an id alone: names
        self._paths: dict[str, set[str]] = {}  # identities of the ends of paths: names
        for name in held.names:
            (space, own), image_id = image = _image(name)
            for key in self._keys(image.key):
                self._full.setdefault(key, set()).add(name)
            self._any.setdefault(own, set()).add(name)
            if not space:
                self._alone.setdefault(own, set()).add(name)
                for end in endings(image_id)[1:] if held.from_file else ():
                    self._paths.setdefault(end, set()).add(name)
        self.spaces = {split_namespace(name)[0] for name in held.names}

    def _keys(self, key: tuple[str, str]) -> list[tuple[str, str]]:
        """(namespace, identity) of a name, and of the same image's name in COCO."""
        coco = self._to_coco.get(":".join(key)) if self._to_coco else None
        return [key, split_namespace(coco)] if coco else [key]

    def of(self, image: "_Image") -> set[str]:
        """The names that mean an image."""
        found: set[str] = set()
        for key in self._keys(image.key):
            found |= self._full.get(key, _NONE)
        if not self._by_id:
            return found
        space, own = image.key
        found |= (self._alone if space else self._any).get(own, _NONE)
        found |= self._paths.get(own, _NONE)
        if self._from_file and "/" in image.image_id:  # "still.jpg" for "movie/still.jpg"
            found = found.union(
                *(self._alone.get(end, _NONE) for end in endings(image.image_id)[1:])
            )
        return found


_NONE: frozenset[str] = frozenset()


class _Image(NamedTuple):
    """A name over data sets, taken apart once: (namespace, identity), and the id as written."""

    key: tuple[str, str]
    image_id: str


def _image(name: str) -> _Image:
    space, image_id = split_namespace(name)
    return _Image((space, identity(image_id)), image_id)


def find(
    images: Sequence[str],
    image_name: Callable[[str], str],
    held: Sequence[HeldOut],
    same: Mapping[str, str] | None = None,
    *,
    strict: bool = True,
    known: Callable[[], Iterable[str]] = tuple,
) -> dict[int, str]:
    """Which images are held out.

    Args:
      images: ids of the training images.
      image_name: gives their names over data sets.
      held: what to keep out.
      same: `coco_names`; None where the file is not named.
      strict: refuse to compare images of Visual Genome with COCO's without `same`; False: say
        so and go on.
      known: known() -> names over data sets of all images that the run knows of beside these,
        which a list may mean.

    Returns:
      {index into `images`: source of the first list it is in}.

    Raises:
      DataError: Visual Genome and COCO meet without `same`, and `strict`; no name of a list is of
        a known image.
    """
    names = [image_name(image) for image in images]
    parsed = [_image(name) for name in names]
    ours = {image.key[0] for image in parsed}
    found: dict[int, str] = {}
    for item in held:
        wanted = _Names(item, same or {})
        if {"vg", "coco"} <= ours | wanted.spaces and same is None:
            unknown = DataError(
                "images of Visual Genome cannot be told from COCO's",
                where=f"training images against {item.source}",
                expected="Visual Genome's image_data.json, which tells its COCO images",
                found="none",
                fix="--config.data.image_data=image_data.json, or go on without this check: "
                "--config.data.leaks=report",
            )
            if strict:
                raise unknown
            say(f"data: {unknown}")
        met: set[str] = set()
        for i, image in enumerate(parsed):
            if here := wanted.of(image):
                found.setdefault(i, item.source)
                met |= here
        if item.listed and len(met) < len(item.names):
            _check_known(item, wanted, ours, met, names, known)
    return found


def _check_known(
    item: HeldOut,
    wanted: _Names,
    ours: set[str],
    met: set[str],
    names: Sequence[str],
    known: Callable[[], Iterable[str]],
) -> None:
    """Tells of names that are of no known image.

    Args:
      item: held out.
      wanted: its names.
      ours: namespaces of the training images.
      met: names that are of training images.
      names: of the training images.
      known: see `find`.

    Raises:
      DataError: none of the names is of a known image, and they could be of this data set's.
    """
    if not item.from_file and (met or "" not in ours):
        return  # a split of official files: names over data sets are sure
    for image in known():
        met |= wanted.of(_image(image))
    lost = sorted(item.names - met)
    if not lost:
        return
    first = ", ".join(map(repr, lost[:3]))
    if met or (not wanted.spaces & (ours | {""}) and "" not in ours):
        if item.from_file:
            warn(
                f"data: {len(lost)} of the {len(item.names)} images held out by {item.source} are "
                f"no image of this data set or its region store, such as {first}"
            )
        return
    raise DataError(
        "held-out images are unknown",
        where=f"--config.data.held_out, {item.source}",
        expected=f"ids or names of images such as {names[0]!r}" if names else "known images",
        found=f"{len(lost)} names, none of a training image, an evaluated one or one in the region "
        f"store: {first}",
        fix="write them as the annotations do (suffixes, leading zeros and COCO's file names are "
        "understood), or leave the list out; a list for one of several streams: "
        "--config.streams.<name>.data.held_out",
    )


def refuse(found: Mapping[int, str], images: Sequence[str], origin: str) -> DataError:
    """The error of training images that are held out."""
    return DataError(
        "training images are evaluated on",
        where=origin,
        expected="no image in common with " + ", ".join(dict.fromkeys(found.values())),
        found=describe(found, images),
        fix="--config.data.leaks=drop leaves their texts out of training; report goes on with "
        "them, as recipes do that train on the validation split",
    )


def describe(found: Mapping[int, str], images: Sequence[str]) -> str:
    """How many images are held out, and the first ones."""
    first = ", ".join(repr(images[i]) for i in list(found)[:5])
    return f"{len(found)} of {len(images)} images: {first}{', ...' if len(found) > 5 else ''}"
