"""Which images annotations need, and how many of them a region store has."""

import importlib
import inspect
import os
import re
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from core import strict_json
from core.console import say
from core.errors import DataError
from core.ids import number_of
from input_pipeline import datasets
from input_pipeline.datasets.reading import text_corpus
from input_pipeline.regions.image_index import ImageIndex
from input_pipeline.texts.rows import Skipped

SHOWN = 20  # missing images printed
FEW = 0.1  # share of images found, below which ids are thought to be written in another way


def needed(source: str, key: str = "image_id", manual_dir: str = "") -> dict[str, str]:
    """{image id: where it is needed first}.

    Args:
      source: a .txt file of ids, one a line; a JSONL file; or DATASET:SPLIT, official files.
      key: of the image's id in a JSONL file.
      manual_dir: folder of the official files.

    Raises:
      DataError: an unreadable file, a line without an id, an unknown data set.
    """
    images: dict[str, str] = {}
    if re.fullmatch(r"\w+:[\w+-]+", source) and not os.path.exists(source):
        for record in _records(*source.split(":"), manual_dir):
            for image_id in getattr(record, "image_ids", None) or (record.image_id,):
                images.setdefault(image_id, f"{source}, text {record.text_id!r}")
        return images
    for line, raw in text_corpus.lines(source):
        image_id = raw if source.endswith(".txt") else _id_of(raw, key, f"{source}:{line}")
        images.setdefault(image_id, f"{source}:{line}")
    return images


def _records(name: str, split: str, manual_dir: str) -> Iterator[Any]:
    """Official records of a data set, with its options at their defaults."""
    from input_pipeline.datasets.reading import official

    known = name in datasets.known()
    module = importlib.import_module(f"{datasets.__name__}.{name}") if known else None
    if not hasattr(module, "records"):
        raise DataError(
            "no data set with official records",
            where=f"{name}:{split}",
            expected=f"one of {datasets.known()} that is read from official files, or a file",
            found=repr(name),
        )
    defaults = {
        option: inspect.signature(module.records).parameters[option].default
        for option in getattr(module, "OPTIONS", ())
    }
    config = types.SimpleNamespace(manual_dir=manual_dir, tfds_dir="", **defaults)
    for _, record in official.Reader(module, config).records(split):
        if not isinstance(record, Skipped):
            yield record


def _id_of(raw: str, key: str, where: str) -> str:
    try:
        value = strict_json.parse(raw)[key]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            "a line has no image id",
            where=where,
            expected=f"a JSON object with the key {key!r}",
            found=f"{type(error).__name__}: {raw[:60]!r}",
            fix="name the key of the image's id, or use a .txt file of ids",
        ) from error
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise DataError(
            "an image id is neither text nor a whole number",
            where=where,
            expected="a string or an integer",
            found=repr(value)[:60],
        )
    return str(value)


def report(store: ImageIndex, images: dict[str, str], origin: str) -> int:
    """Prints how many images a store has of those needed; returns the number it lacks.

    Args:
      store: the store.
      images: {image id: where it is needed}, see `needed`.
      origin: of `images`, for the text.
    """
    missing = [key for key, row in zip(images, store.rows_of(list(images)), strict=True) if row < 0]
    found = len(images) - len(missing)
    share = f" ({100 * found / len(images):.1f} %)" if images else ""
    say(f"{origin}: needs {len(images):,} images; {found:,}{share} are in the store, "
          f"{len(missing):,} are missing")  # fmt: skip
    say(f"store: {len(store):,} images, {len(store) - found:,} of them not needed")
    for key in missing[:SHOWN]:
        say(f"  missing: {key!r} ({images[key]})")
    if len(missing) > SHOWN:
        say(f"  ... and {len(missing) - SHOWN:,} more")
    if found < FEW * len(images) and (fix := same_numbers(store.keys, images)):
        say(f"fix: {fix}")
    return len(missing)


def same_numbers(keys: Sequence[str], images: Collection[str]) -> str:
    """The fix, where ids would match if both were plain numbers; else empty."""

    def plain(image_id: str) -> str:
        return number_of(image_id) or image_id

    def apart(names: Iterable[str]) -> bool:
        """Whether names remain different as plain numbers."""
        several = list(names)
        return len(set(map(plain, several))) == len(several)

    def matches(of_store: Callable[[str], str], of_text: Callable[[str], str]) -> int:
        return len({of_store(key) for key in keys} & {of_text(key) for key in images})

    example = f"the store has ids like {keys[0]!r}, the annotations {next(iter(images))!r}"
    most = FEW * len(images)
    if not apart(keys) or not apart(images):  # as "movie/one@0" and "movie/two@0"
        return ""
    if matches(plain, str) > most:
        return f"{example}: import the features again with --ids number"
    if matches(str, plain) > most:
        return f"{example}: write plain numbers without leading zeros in the annotations"
    if matches(plain, plain) > most:
        return (f"{example}: import the features again with --ids number, and write plain numbers "
                "without leading zeros in the annotations")  # fmt: skip
    return ""
