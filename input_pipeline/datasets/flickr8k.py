"""Flickr8k: five captions of each of some 8,000 images (Hodosh et al., 2013).

Files in data.manual_dir, from Flickr8k_text.zip (the form of
https://forms.illinois.edu/sec/1713398 is closed; it is mirrored by many):

  Flickr8k.token.txt                      full: image.jpg#number, tab, caption
  Flickr_8k.{train,dev,test}Images.txt    train (6,000 images), val (1,000), test (1,000): names

or, of these three splits, Karpathy's file alone:

  dataset_flickr8k.json    from
                           https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip

Image ids are the file names without suffix (1000268201_693b08cb0e). Of the texts, white space alone
is cleaned. The published list of captions has an image that is in no split
(2258277193_586949ec62.jpg.1).
"""

import functools
from collections.abc import Iterator

from core.errors import DataError
from input_pipeline.datasets.reading import files as official_files
from input_pipeline.datasets.reading import karpathy, official
from input_pipeline.datasets.reading.builder import declare
from input_pipeline.datasets.reading.files import need
from input_pipeline.datasets.records import Caption

CAPTIONS, KARPATHY = "Flickr8k.token.txt", "dataset_flickr8k.json"
_LISTS = {"train": "train", "val": "dev", "test": "test"}  # split: its name in the lists
SPLITS = ("full", *_LISTS)


def files(folder: str, split: str) -> list[str]:
    """The official files of a split: captions and the list of its images, or Karpathy's alone.

    Raises:
      DataError: one is missing.
    """
    if split == "full":
        return [official_files.locate(folder, CAPTIONS)]
    found = official_files.locate(folder, CAPTIONS, KARPATHY)
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
    return _token(path, *lists)


def _image(name: str) -> str:
    """1000268201_693b08cb0e of 1000268201_693b08cb0e.jpg."""
    return name.removesuffix(".jpg")


def _token(path: str, images: str = "") -> Iterator[Caption]:
    """The captions of all images, or of those that a list names."""
    wanted: dict[str, int] = {}
    for line, name in official_files.lines(images) if images else ():
        wanted[_image(name.strip())] = line
    ids, left = official_files.Unique("caption id"), dict(wanted)
    for line, (name, text) in official_files.tsv(path, ("image.jpg#number", "caption")):
        where = f"{path}:{line}"
        file, _, k = name.partition("#")
        text_id = f"{_image(file)}#{official_files.number(k, where, 'caption number')}"
        ids.add(text_id, where)
        left.pop(_image(file), None)
        if not images or _image(file) in wanted:
            caption = official_files.need_text(text, where, "caption")
            yield Caption(text_id, _image(file), caption)
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
