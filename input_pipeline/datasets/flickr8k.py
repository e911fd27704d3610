"""Flickr8k: five captions of each of some 8,000 images (Hodosh et al., 2013).

Files in data.manual_dir, from Flickr8k_text.zip (the form of
https://forms.illinois.edu/sec/1713398 is closed; it is mirrored by many):

  Flickr8k.token.txt                      full: image.jpg#number, tab, caption
  Flickr_8k.{train,dev,test}Images.txt    train (6,000 images), val (1,000), test (1,000): names

in place of the first

  captions.txt             as Kaggle has it (adityajn105/flickr8k): CSV with the columns image and
                           caption. Captions of an image are numbered in their order, from 0

or, of these three splits, Karpathy's file alone:

  dataset_flickr8k.json    from
                           https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip

Image ids are the file names without suffix (1000268201_693b08cb0e). Of the texts, white space alone
is cleaned. The published list of captions has an image that is in no split
(2258277193_586949ec62.jpg.1).
"""

import collections
import functools
import pathlib
from collections.abc import Iterator

from core.errors import DataError
from input_pipeline.datasets.reading import csv_file, entries, karpathy, official
from input_pipeline.datasets.reading import files as official_files
from input_pipeline.datasets.reading.builder import declare
from input_pipeline.datasets.reading.entries import need
from input_pipeline.datasets.records import Caption

CAPTIONS, KAGGLE, KARPATHY = "Flickr8k.token.txt", "captions.txt", "dataset_flickr8k.json"
_LISTS = {"train": "train", "val": "dev", "test": "test"}  # split: its name in the lists
SPLITS = ("full", *_LISTS)


def files(folder: str, split: str) -> list[str]:
    """The official files of a split: captions and the list of its images, or Karpathy's alone.

    Raises:
      DataError: one is missing.
    """
    if split == "full":
        return [official_files.locate(folder, CAPTIONS, KAGGLE)]
    found = official_files.locate(folder, CAPTIONS, KARPATHY, KAGGLE)
    if KARPATHY in found:
        return [found]
    return [found, official_files.locate(folder, f"Flickr_8k.{_LISTS[split]}Images.txt")]


def records(folder: str, split: str) -> Iterator[Caption]:
    """The captions of a split, in file order.

    Raises:
      DataError: naming file and line or entry: a malformed line, a key missing or of the wrong
        kind, an empty caption, an id twice, an image of a list without captions.
    """
    path, *lists = files(folder, split)
    if KARPATHY in path:
        return karpathy.captions(
            path, split, lambda image, where: _image(need(image, "filename", str, where))
        )
    return _captions(path, *lists)


def _image(name: str) -> str:
    """1000268201_693b08cb0e of 1000268201_693b08cb0e.jpg."""
    return name.removesuffix(".jpg")


def _token(path: str) -> Iterator[tuple[str, str, str, str]]:
    """("file:line", image file, number of the caption, caption) of the lines of a token file."""
    for line, (name, text) in official_files.tsv(path, ("image.jpg#number", "caption")):
        file, _, k = name.partition("#")
        where = f"{path}:{line}"
        yield where, file, entries.number(k, where, "caption number"), text


def _kaggle(path: str) -> Iterator[tuple[str, str, str, str]]:
    """The same of the rows of Kaggle's file."""
    count = collections.Counter[str]()
    for where, row in csv_file.rows(path, ("image", "caption")):
        file = entries.need_text(row["image"], where, "image")
        yield where, file, str(count[file]), row["caption"]
        count[file] += 1


def _captions(path: str, images: str = "") -> Iterator[Caption]:
    """The captions of all images, or of those that a list names."""
    wanted: dict[str, int] = {}
    for line, name in official_files.lines(images) if images else ():
        wanted[_image(name.strip())] = line
    ids, left = entries.Unique("caption id"), dict(wanted)
    read = _kaggle if pathlib.PurePath(path).name.startswith(KAGGLE) else _token
    for where, file, number, text in read(path):
        image = _image(file)
        text_id = ids.add(f"{image}#{number}", where)
        left.pop(image, None)
        if not images or image in wanted:
            yield Caption(text_id, image, entries.need_text(text, where, "caption"))
    if left:
        name, line = next(iter(left.items()))
        raise DataError(
            "an image of a split has no captions",
            where=f"{images}:{line}",
            expected=f"captions of {name!r} in {path}",
            found=f"none; {len(left)} of {len(wanted)} images have none",
            fix="get both files again",
        )


def image_name(image_id: str) -> str:
    """The image's name over data sets."""
    return f"flickr8k:{image_id}"


prepare = functools.partial(official.prepare, __name__)
BUILDER = declare(__name__, Caption, sources=karpathy.ARCHIVE)
