"""Pictures, with a model that finds and describes their regions (input_pipeline.regions.extract).

  python -m input_pipeline.importers pictures val2017 --extractor visual_genome \
      --out STORE --ids number
  python -m input_pipeline.importers pictures val2017 \
      --extractor scripts.extract_efficientnet:EfficientNetLite0 --out STORE

Input: folders of .jpg, .jpeg, .jpe, .png, .webp, .bmp, .gif, .tif and .tiff files, in upper or
lower case, subfolders too; how many files of other kinds were left out is told. Of a moving picture
the first one is taken. An image's id is its path below the folder, without suffix.

Pictures are handed over as 8-bit RGB, turned upright as their EXIF data say (as viewers and OpenCV
show them: boxes and sizes are of the upright picture). Grey, palette and CMYK pictures are
converted, transparency is dropped; more than 8 bits a channel are refused.
"""

import argparse
import dataclasses
import functools
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from core import pictures as core_pictures
from core.console import say
from core.errors import DataError
from input_pipeline.datasets.reading.pictures import SUFFIXES
from input_pipeline.importers.base import Item, Part
from input_pipeline.importers.formats import inputs
from input_pipeline.importers.formats.members import list_files, read_file
from input_pipeline.regions import extract, extractors


def decode(data: bytes, where: str) -> np.ndarray:
    """A picture as uint8 [H, W, 3], see the module.

    Raises:
      DataError: no picture, a damaged one, one cut short, or more than 8 bits a channel.
    """
    fix = "copy or convert the picture, or leave it out with --on_bad skip"
    return core_pictures.decoded(data, where, fix)


def _pictures(folder: str) -> list[tuple[str, int]]:
    """Sorted (path relative to the folder, bytes) of its pictures; tells of other files.

    Raises:
      DataError: there are none.
    """
    found = list_files(folder, SUFFIXES, any_case=True)
    if multiprocessing.parent_process() is None:  # once, and not by each worker
        others = [name for name, _ in list_files(folder, [""])]
        others = sorted(set(others) - {name for name, _ in found})
        if others:
            kinds = sorted({os.path.splitext(name)[1] or name for name in others})
            say(
                f"{folder}: {len(found):,} pictures; {len(others):,} other files are left out "
                f"({', '.join(kinds[:5])}{', ...' * (len(kinds) > 5)})"
            )
    return found


class Layout:
    """See the module, and `base.Layout`.

    Attributes:
      detector: name of the model, for the feature spec.
      global_feature: whether the model gives a feature of the whole picture ("stored", "mean").
    """

    unit = "images"
    least_part = 2**23  # a model works on it for longer than it is read
    states_background = True  # the extractor does

    def __init__(self, files: Sequence[str], extractor: str = "", extractor_options: str = ""):
        inputs.require_paths(files, folders=True)
        self.folders = files
        self._files = [_pictures(folder) for folder in files]
        self._extractor = extractors.load(extractor, extractor_options)
        self.detector = self._extractor.name
        self.global_feature = self._extractor.global_feature
        self.background_class = self._extractor.background_class
        self.class_names = getattr(self._extractor, "class_names", ())
        self.attribute_names = getattr(self._extractor, "attribute_names", ())
        self.most_workers = getattr(self._extractor, "most_workers", os.cpu_count() or 1)

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """See `base.Layout`."""
        parser.add_argument(
            "--extractor",
            default="",
            help=f"{', '.join(extractors.known())}; or module:Class of your own, see "
            "input_pipeline.regions.extract",
        )
        parser.add_argument(
            "--extractor_options", default="", help="JSON object of the class's arguments"
        )

    def parts(self, size: int) -> list[Part]:
        """See `base.Layout`."""
        return [
            part
            for file, found in enumerate(self._files)
            for part in inputs.count_parts(
                file, [nbytes for _, nbytes in found], size, [name for name, _ in found]
            )
        ]

    def entries(self, part: Part) -> Iterator[tuple[str, tuple[str, bytes | DataError]]]:
        """See `base.Layout`; raw is (path below the folder, bytes or what `parse` is to raise)."""
        names = [name for name, _ in self._files[part.file]]
        inputs.check_key(self.folders[part.file], part, names)
        for name in names[part.start : part.stop]:
            path = os.path.join(self.folders[part.file], name)
            yield path, (name, read_file(path))

    def together(self, entries: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        """See `base.Layout`; raw becomes an `Item`, or what is wrong."""
        if not hasattr(self._extractor, "batch"):
            yield from entries
            return
        names: dict[str, tuple[str, tuple[int, int]]] = {}

        def read(where: str, raw: Any) -> extract.Decoded:
            try:
                if isinstance(raw, DataError):
                    raise raw
                picture = _picture(where, raw)
            except DataError as error:
                return where, error
            names[where] = raw[0], picture.shape[:2]
            return where, picture

        calls = (functools.partial(read, where, raw) for where, raw in entries)
        for where, found in extract.in_batches(self._extractor, calls):
            if isinstance(found, DataError):
                yield where, found
            else:
                yield where, _item(*names.pop(where), found)

    def parse(self, where: str, raw: Any) -> Item:
        """See `base.Layout`."""
        if isinstance(raw, Item):
            return raw
        picture = _picture(where, raw)
        found = extract.regions_of(self._extractor, picture, where)
        return _item(raw[0], picture.shape[:2], found)


def _picture(where: str, raw: tuple[str, bytes | DataError]) -> np.ndarray:
    """The picture of an entry; raises DataError."""
    _, data = raw
    if isinstance(data, DataError):
        raise data
    return decode(data, where)


def _item(name: str, size: tuple[int, int], found: extract.Regions) -> Item:
    """What was found in a picture, for the store."""
    return Item(
        image_id=os.path.splitext(name)[0].replace(os.sep, "/"),
        height=size[0],
        width=size[1],
        **{field.name: getattr(found, field.name) for field in dataclasses.fields(found)},
    )
