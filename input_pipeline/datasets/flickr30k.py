"""Flickr30k: five captions of each of 31,783 images.

Files in data.manual_dir, of which each split reads its own:

  results_20130124.token   full; from https://shannon.cs.illinois.edu/DenotationGraph/ (a form)
  dataset_flickr30k.json   train (29,000 images), val (1,014), test (1,000): Karpathy's splits; from
                           https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip
  Sentences/<image>.txt    entities: the images of that folder; entities_{train,val,test}: those
  {train,val,test}.txt     of the lists; annotations.zip and lists of Flickr30k Entities, from
                           https://github.com/BryanPlummer/flickr30k_entities

Image ids are the numbers of the file names (1000092795). Of the texts, white space alone is
cleaned; a phrase that Entities marks, "[/EN#1/people A girl]", becomes its words. The data set
`flickr30k_entities` has the same sentences with the boxes that their phrases name.
"""

import functools
import pathlib
from collections.abc import Iterator

from input_pipeline.datasets.reading import entities, entries, karpathy, official
from input_pipeline.datasets.reading import files as official_files
from input_pipeline.datasets.reading.builder import declare
from input_pipeline.datasets.reading.entries import need
from input_pipeline.datasets.records import Caption

_KARPATHY = ("train", "val", "test")
_ENTITIES = ("entities", *(f"entities_{split}" for split in _KARPATHY))
SPLITS = ("full", *_KARPATHY, *_ENTITIES)


def files(folder: str, split: str) -> list[str]:
    """The official files of a split.

    Raises:
      DataError: one is missing.
    """
    if split == "full":
        return [official_files.locate(folder, "results_20130124.token")]
    if split in _KARPATHY:
        return [official_files.locate(folder, "dataset_flickr30k.json")]
    return entities.sentence_files(folder, split.removeprefix("entities").removeprefix("_"))


def records(folder: str, split: str) -> Iterator[Caption]:
    """The captions of a split, in file order.

    Raises:
      DataError: naming file and line or entry: a malformed line, a key missing or of the wrong
        kind, an empty caption, an id twice.
    """
    paths = files(folder, split)
    if split == "full":
        return _token(paths[0])
    if split in _KARPATHY:
        return karpathy.captions(
            paths[0],
            split,
            lambda image, where: _image(need(image, "filename", str, where), where),
        )
    return _entities(paths if split == "entities" else paths[1:])


def _image(name: str, where: str) -> str:
    """1000092795 of 1000092795.jpg."""
    return entries.number(name.removesuffix(".jpg"), where, "image")


def _token(path: str) -> Iterator[Caption]:
    ids = entries.Unique("caption id")
    for line, (name, text) in official_files.tsv(path, ("image.jpg#number", "caption")):
        where = f"{path}:{line}"
        file, _, k = name.partition("#")
        image_id = _image(file, where)
        text_id = ids.add(f"{image_id}#{entries.number(k, where, 'caption number')}", where)
        yield Caption(text_id, image_id, entries.need_text(text, where, "caption"))


def _entities(paths: list[str]) -> Iterator[Caption]:
    for path in paths:
        image_id = entries.number(pathlib.Path(path).stem, path, "image")
        for k, (line, text) in enumerate(official_files.lines(path)):
            plain, _ = entities.sentence(text, f"{path}:{line}")
            yield Caption(f"{image_id}#{k}", image_id, plain)


def image_name(image_id: str) -> str:
    """The image's name over data sets."""
    return f"flickr30k:{image_id}"


prepare = functools.partial(official.prepare, __name__)
BUILDER = declare(__name__, Caption, sources=karpathy.ARCHIVE)
