"""The interface of a reader of region features. One file beside this one = one layout.

A layout's module has a docstring that describes the files, and a class `Layout`. The driver
(`importers.run`) cuts its files into parts, reads parts in several processes, checks and writes
every image, resumes interrupted imports, and reports progress and coverage.
"""

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np


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
    notes: tuple[str, ...] = ()


class Layout(Protocol):
    """Reads files of one layout. Made again in each process from (files, options).

    Attributes:
      unit: what Part.start and Part.stop count, for progress: "bytes" or "images".
      background_class: column of class_probs that is the background, None without one.
      detector: where a layout knows it, the detector's name for the feature spec.
      global_feature: where a layout knows it, "stored" or "mean" (FeatureSpec).
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

        `where` names file and line, key or member for messages.

        Raises:
          DataError: the file itself cannot be read on (cut short, damaged).
        """

    def parse(self, where: str, raw: Any) -> Item:
        """One image, as the file has it.

        Raises:
          DataError: naming `where`, the field, what was expected and found, and the fix.
        """
