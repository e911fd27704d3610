"""The interface of a reader of region features. One file beside this one = one layout.

A layout's module has a docstring that describes the files, and a class `Layout`. The driver
(`importers.run`) cuts its files into parts, reads parts in several processes, checks and writes
every image, resumes interrupted imports, and reports progress and coverage.
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from core.errors import DataError
from core.reading import reading


@dataclasses.dataclass(frozen=True)
class Part:
    """A range of one input file that is read independently, always in the same order.

    Attributes:
      file: number of the input file.
      start, stop: what the layout counts in: bytes of a text file, records of a database.
      key: first record's key, where a layout seeks by key; empty otherwise.
    """

    file: int
    start: int
    stop: int
    key: str = ""


@dataclasses.dataclass(frozen=True)
class Item:
    """One image as its file has it.

    Attributes:
      image_id: as in the file (the driver applies --ids).
      height, width: of the image in pixels.
      boxes: [n, 4] xyxy in pixels of the image.
      features: [n, F].
      class_probs: [n, C] class distributions, background included; None where the file has none.
      global_feature: [F] of the whole image; None where the file has none.
      attribute_probs: [n, A] of each attribute; None where the file has none.
      notes: what was left out or decided for this image, in the same words for each; the import
        counts them and tells them at its end.
    """

    image_id: str
    height: int
    width: int
    boxes: np.ndarray
    features: np.ndarray
    class_probs: np.ndarray | None = None
    global_feature: np.ndarray | None = None
    attribute_probs: np.ndarray | None = None
    notes: tuple[str, ...] = ()


class Layout(Protocol):
    """Reads files of one layout. Made again in each process from (files, options).

    Attributes:
      unit: what Part.start and Part.stop count, for progress: "bytes" or "images".
      background_class: column of class_probs that is the background, None without one.
      detector: where a layout knows it, the detector's name for the feature spec.
      global_feature: where a layout knows it, "stored" or "mean" (FeatureSpec).
      states_background: true where background_class is said by what the layout reads, and not what
        files of its kind usually have.
      class_names, attribute_names: of the columns of class_probs and attribute_probs, where known.
      least_part: bytes of input that a part has at least, where reading is not what takes time.
      most_workers: processes that may have the reader at once, where there is a limit.
      boxes_alone: true where there are no features: theirs are 0 wide.
      last_resort: true where a layout reads much, as one that makes boxes itself: where the files
        are to tell their layout, it is meant only if no other can read them.
    """

    unit: str
    background_class: int | None

    def __init__(self, files: Sequence[str], **options: Any):
        """Opens no large files; `options` are those of `add_arguments`.

        Raises:
          DataError: an input whose first bytes are not of this layout.
        """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Options of this layout alone; their `dest`s are the keyword arguments of __init__."""

    def parts(self, size: int) -> list[Part]:
        """All parts, of about `size` bytes of input each; the same list each time."""

    def entries(self, part: Part) -> Iterator[tuple[str, Any]]:
        """(where, raw) of each image of a part, in order, one at a time in memory.

        `where` names file and line, key or member for messages. `raw` is a DataError where this
        image cannot be read and the following ones can.

        Raises:
          DataError: the file itself cannot be read on (cut short, damaged).
        """

    # May be absent: what `parse` would do, for the entries of a part together. It gives as many,
    # in their order, with another `raw`.
    together: Callable[[Iterator[tuple[str, Any]]], Iterator[tuple[str, Any]]]

    def parse(self, where: str, raw: Any) -> Item:
        """One image, as the file has it; called through `parsed`.

        Raises:
          DataError: naming `where`, the field, what was expected and found, and the fix.
        """


def parsed(layout: Layout, where: str, raw: Any) -> Item:
    """One image of `layout.entries`: the one way to call `parse`.

    Raises:
      DataError: whatever is wrong with the image's record, foreseen or not.
    """
    if isinstance(raw, DataError):
        raise raw
    with reading(
        where,
        "an image's record cannot be read",
        fix="copy the file again, or leave this image out",
    ):
        return layout.parse(where, raw)


def entries_of(layout: Layout, part: Part) -> Iterator[tuple[str, Any]]:
    """`layout.entries`: the one way to call it.

    Raises:
      DataError: whatever keeps the file from being read on.
    """
    entries, where = layout.entries(part), f"input {part.file}, from {part.start} on"
    while True:
        with reading(where, "an input cannot be read on"):
            entry = next(entries, None)
        if entry is None:
            return
        where = f"after {entry[0]}"
        yield entry


def opened_layout(make: Callable[..., Layout], files: Sequence[str], **options: Any) -> Layout:
    """A layout's reader of files: the one way to make it.

    Raises:
      DataError: whatever is wrong with the files.
    """
    with reading(", ".join(files), "files cannot be read as this layout"):
        return make(files, **options)


def parts_of(layout: Layout, files: Sequence[str], size: int) -> list[Part]:
    """`layout.parts`: the one way to call it; raises DataError alone."""
    with reading(", ".join(files), "files cannot be read as this layout"):
        return layout.parts(size)
