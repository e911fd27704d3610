"""`data.held_out`: lists of images that stay out of training, whoever wrote them.

An entry is one of

  FILE            a text file with an image a line, or a .npy array of ids
  SPACE=FILE      the same, of ids of one collection of images: "coco=coco_test_ids.npy"
  DATASET:SPLIT   the images of a split of official files, under `data.manual_dir`

Ids alone mean something in one collection only: image 7 of COCO is not image 7 of Visual Genome. So
in a run over several a list of ids says whose they are. 12-in-1's lists are `coco_test_ids.npy`,
`genome_test_ids.npy` (SPACE "vg") and `flickr_test_ids.npy` (SPACE "flickr30k").
"""

import dataclasses
import functools
import importlib
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from core import npy
from core.console import warn
from core.errors import DataError
from core.ids import split_namespace
from input_pipeline import datasets
from input_pipeline.datasets.reading import entries, files, named
from input_pipeline.regions.store import split_paths
from input_pipeline.streams import leaks
from input_pipeline.streams.leaks import HeldOut
from input_pipeline.texts.rows import Skipped

_NPY = b"\x93NUMPY"
_WHERE = "--config.data.held_out"


@functools.cache
def spaces() -> tuple[str, ...]:
    """Collections of images that data sets share, by the names that stand before their ids."""
    found = set()
    for name in datasets.known():
        module = importlib.import_module(f"{datasets.__name__}.{name}")
        image_name = getattr(module, "image_name", str)
        # A data set's ids may be of two collections, numbers of one and other names of another.
        found |= {split_namespace(image_name(example))[0] for example in ("7", "n7")}
    return tuple(sorted(found - {""}))


def read(data_config) -> list[HeldOut]:
    """The images of `data.held_out`.

    Args:
      data_config: the `data` block.

    Raises:
      DataError: a file cannot be read or is no list, an unknown collection, data set or split.
    """
    held = []
    for entry in split_paths(data_config.held_out):
        there = os.path.exists(entry)
        dataset, colon, split = entry.partition(":")
        if colon and dataset in datasets.known() and not there:
            names = of_split(dataset, split, data_config)
            held.append(HeldOut(names, entry, by_id=True))
            continue
        space, equals, path = entry.partition("=")
        if there or not equals or not space.isidentifier():
            space, path = "", entry
        names = frozenset(images_in(path))
        if not names:
            raise DataError(
                "a list of held-out images is empty",
                where=f"{_WHERE}, {entry}",
                expected="an image a line, or a .npy array of ids",
                found="none",
            )
        if space:
            if space not in spaces():
                raise entries.unknown("collection of images", spaces(), space, f"{_WHERE}={entry}")
            names = frozenset(n if split_namespace(n)[0] else f"{space}:{n}" for n in names)
        held.append(HeldOut(names, entry, by_id=True, from_file=True))
    return held


def images_in(path: str) -> list[str]:
    """The images that a file lists: its lines, or the items of an array.

    Raises:
      DataError: it cannot be read, or is no list.
    """
    with files.opened(path) as file:
        is_array = file.read(len(_NPY)) == _NPY
        data = _NPY + file.read() if is_array else b""
    if not is_array:
        return [text.strip() for _, text in files.lines(path)]
    array = npy.load(data, path)
    kind = getattr(getattr(array, "dtype", None), "kind", "")
    if kind not in "iuSUO" or not kind or array.ndim != 1:
        raise DataError(
            "an array is no list of images",
            where=path,
            expected="one axis of whole numbers or text",
            found=f"{array.dtype} {array.shape}" if kind else type(array).__name__,
        )
    return [_id(item, f"{path}[{i}]") for i, item in enumerate(array.tolist())]


def _id(item: object, where: str) -> str:
    if isinstance(item, bytes):
        return files.decode(item, where)
    if isinstance(item, str | int) and not isinstance(item, bool):
        return str(item)
    raise DataError(
        "an array is no list of images",
        where=where,
        expected="a whole number or text",
        found=repr(item)[:80],
    )


def of_split(dataset: str, split: str, data_config) -> frozenset[str]:
    """Names over data sets of the images of a split of official files.

    Args:
      dataset: its name; its own options are those of `data_config` where that is of the same data
        set, else their defaults.
      split: one, or several joined.
      data_config: a `data` block, which says where the files are.

    Raises:
      DataError: no data set of official files, or what is wrong with them.
    """
    reader = named.reader(dataset, data_config, f"{_WHERE}, {dataset}:{split}")
    return frozenset(
        reader.image_name(image_id)
        for _, record in reader.records(split)
        if not isinstance(record, Skipped)
        for image_id in record.images
    )


@dataclasses.dataclass(frozen=True)
class Known:
    """What a part of a run knows of images: a stream's data, with the lists that it names.

    Attributes:
      lists: that are held out of its training.
      trained: names over data sets of its training images.
      others: of images that it evaluates or has regions of.
      same: `leaks.coco_names`, or None.
    """

    lists: Sequence[HeldOut]
    trained: Sequence[str]
    others: Iterable[str]
    same: Mapping[str, str] | None


def require_sure(parts: Sequence[Known]) -> None:
    """Refuses lists of ids alone for parts whose images are of several collections.

    Raises:
      DataError: there is one.
    """
    ours = [{split_namespace(name)[0] for name in part.trained} for part in parts]
    for item in _distinct(parts):
        alone = item.from_file and any(not split_namespace(name)[0] for name in item.names)
        used = [mine for part, mine in zip(parts, ours, strict=True) if item in part.lists]
        met = set().union(*used) - {""}
        if alone and len(used) > 1 and len(met) > 1:
            raise DataError(
                "ids of a list could be those of several collections of images",
                where=f"{_WHERE}, {item.source}",
                expected=f"the collection they are of, one of {', '.join(sorted(met))}",
                found="ids alone, for streams of all of these",
                fix=f"--config.data.held_out={min(met)}={item.source}, or give the list to the "
                "streams that it is for: --config.streams.<name>.data.held_out",
            )


def require_known(parts: Sequence[Known]) -> None:
    """Tells of listed names that are of no image of a run.

    Raises:
      DataError: none of a list's names is of a known image, and they could be of the run's data
        sets.
    """
    for item in _distinct(parts):
        using = [part for part in parts if item in part.lists]
        ours = {split_namespace(name)[0] for part in using for name in part.trained}
        lost = _lost(item, parts, trained_only=not item.from_file)
        if not item.from_file and (len(lost) < len(item.names) or "" not in ours):
            continue  # a split of official files: names over data sets are sure
        if lost and not item.from_file:
            lost = _lost(item, parts)
        if not lost:
            continue
        first = ", ".join(map(repr, sorted(lost)[:3]))
        wanted = {split_namespace(name)[0] for name in item.names}
        if len(lost) == len(item.names) and (wanted & (ours | {""}) or "" in ours):
            raise DataError(
                "held-out images are unknown",
                where=f"{_WHERE}, {item.source}",
                expected=_such_as(using),
                found=f"{len(lost)} names, none of a training image, an evaluated one or one in "
                f"the region store: {first}",
                fix="write them as the annotations do (suffixes, leading zeros and COCO's file "
                "names are understood), say whose ids they are (coco=FILE), or leave the list out",
            )
        if item.from_file:
            warn(
                f"data: {len(lost)} of the {len(item.names)} images held out by {item.source} are "
                f"no image of the data sets of this run or of their region stores, such as {first}"
            )


def _such_as(parts: Sequence[Known]) -> str:
    first = next((name for part in parts for name in part.trained), "")
    return f"ids or names of images such as {first!r}" if first else "known images"


def _distinct(parts: Sequence[Known]) -> list[HeldOut]:
    return list(dict.fromkeys(item for part in parts for item in part.lists))


def _lost(item: HeldOut, parts: Sequence[Known], *, trained_only: bool = False) -> frozenset[str]:
    """Names of a list that are of no image of the parts."""
    met: set[str] = set()
    for part in parts:
        names = leaks.Names(item, part.same or {})
        for images in (part.trained,) if trained_only else (part.trained, part.others):
            for image in images:
                if len(met) == len(item.names):
                    return frozenset()
                met |= names.of(image)
    return item.names - met


def as_array(names: Iterable[str]) -> np.ndarray:
    """The ids of names over data sets, as 12-in-1's lists have them: int64 or text, sorted."""
    ids = sorted({split_namespace(name)[1] for name in names})
    if all(image.isdecimal() for image in ids):
        return np.asarray(sorted(map(int, ids)), np.int64)
    return np.asarray(ids)
