"""Keeps images that are evaluated on out of training.

Images are compared by names that hold over data sets ("coco:139", "vg:7"), since data sets share
them: RefCOCO, VQA and the captions are all of COCO, half of Visual Genome is, too. 12-in-1 calls
training sets without the test images of any task "clean".
"""

import dataclasses
import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from ml_collections import ConfigDict

from core.console import say
from core.errors import DataError
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
      names: of the images, over data sets; from lists also ids of the training data's own.
      source: where they come from, for messages.
    """

    names: frozenset[str]
    source: str


def check_mode(mode: str) -> None:
    """Checks data.leaks.

    Raises:
      DataError: an unknown value.
    """
    if mode not in LEAKS:
        raise files.unknown("leaks", LEAKS, mode, "--config.data.leaks")


def listed(data_config) -> list[HeldOut]:
    """The images of `data.held_out`: text files with one a line, or DATASET:SPLIT.

    A line is a name over data sets or an id of the training data's own; digits match with and
    without leading zeros. The files of DATASET are those of `data.manual_dir` or `data.tfds_dir`.

    Raises:
      DataError: a file cannot be read, an unknown data set or split.
    """
    held = []
    for entry in split_paths(data_config.held_out):
        dataset, colon, split = entry.partition(":")
        if colon and dataset in datasets.known() and not os.path.exists(entry):
            held.append(HeldOut(_split(dataset, split, data_config), entry))
        else:
            names = {text.strip() for _, text in files.lines(entry)}
            names |= {str(int(name)) for name in names if name.isascii() and name.isdecimal()}
            held.append(HeldOut(frozenset(names), entry))
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


def _namespaces(names: Iterable[str]) -> set[str]:
    return {name.partition(":")[0] for name in names}


def find(
    images: Sequence[str],
    image_name: Callable[[str], str],
    held: Sequence[HeldOut],
    same: Mapping[str, str] | None = None,
    *,
    strict: bool = True,
) -> dict[int, str]:
    """Which images are held out.

    Args:
      images: ids of the training images.
      image_name: gives their names over data sets.
      held: what to keep out.
      same: `coco_names`; None where the file is not named.
      strict: refuse to compare images of Visual Genome with COCO's without `same`; False: say
        so and go on.

    Returns:
      {index into `images`: source of the first list it is in}.

    Raises:
      DataError: Visual Genome and COCO meet without `same`, and `strict`.
    """
    names = [image_name(image) for image in images]
    ours = _namespaces(names)
    found: dict[int, str] = {}
    to_coco = same or {}
    for item in held:
        both = ours | _namespaces(item.names)
        if {"vg", "coco"} <= both and same is None:
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
        others = item.names | {to_coco[name] for name in item.names if name in to_coco}
        for i, (image, name) in enumerate(zip(images, names, strict=True)):
            if not others.isdisjoint((image, name, to_coco.get(name, name))):
                found.setdefault(i, item.source)
    return found


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
