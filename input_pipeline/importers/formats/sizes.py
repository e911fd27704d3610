"""`--sizes FILE`: heights and widths of images whose region files do not have them.

  .json   COCO style, {"images": [{"id", "file_name", "height", "width"}, ...]}: an image is found
          by its id, its file name and its file name without suffix;
          or {id: {"height", "width"}, ...}
  .jsonl  one {"id" or "image_id", "height", "width"} a line
  .tsv    id, height, width; or id and a JSON object (or a list of one) with height and width,
          as VinVL's hw.tsv and predictions.tsv have it

For height and width also image_h, image_w, image_height, image_width, img_h and img_w.

An image is found by its id, in any way to write it (`core.ids.identity`: 42, 000000000042,
COCO_val2014_000000000042.jpg); and where one side has plain numbers, by the number that the other
one's ends in: flickr30k_42 and val/42.jpg are 42. train/42 is not val/42. A name that stands for
images of several sizes finds none.
"""

import argparse
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from core import ids
from core.errors import DataError
from core.messages import brief
from input_pipeline.importers.formats import fields, inputs

HEIGHT = ("height", "image_h", "image_height", "img_h")
WIDTH = ("width", "image_w", "image_width", "img_w")

Size = tuple[int, int]
Entries = Iterator[tuple[str, list[str], Size]]  # (where, names, size) of images


_NUMBERED = re.compile(r"[_/\\]0*([0-9]+)$")


def _number(name: str) -> str:
    """The number behind the last _ or / that a name ends in; empty where it ends otherwise."""
    found = _NUMBERED.search(ids.without_suffix(name))
    return found[1] if found else ""


class Sizes:
    """Sizes of images by their names, see the module."""

    def __init__(self):
        self._exact: dict[str, Size] = {}
        self._same: dict[str, Size | None] = {}  # by identity; None: of several sizes
        self._numbers: dict[str, Size | None] = {}  # by the number at the end

    def add(self, name: str, size: Size, where: str) -> None:
        """Adds one name of an image.

        Raises:
          DataError: the name has another size already.
        """
        if self._exact.setdefault(name, size) != size:
            raise DataError(
                f"two sizes of image {name!r}",
                where=where,
                expected=f"(height, width) = {self._exact[name]} as before",
                found=size,
            )
        for table, key in ((self._same, ids.identity(name)), (self._numbers, _number(name))):
            if table.setdefault(key, size) != size:
                table[key] = None

    def find(self, image_id: str) -> Size | None:
        """(height, width) of an image."""
        name = ids.identity(image_id)
        found = self._exact.get(image_id) or self._same.get(name)
        if found or name in self._same:
            return found
        number = _number(image_id)
        return self._same.get(number) if number else self._numbers.get(name)

    def example(self) -> str:
        """One of the names; empty without any."""
        return next(iter(self._exact), "")


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Adds --sizes."""
    parser.add_argument(
        "--sizes",
        default="",
        help="file of image sizes: COCO-style .json, .jsonl, or .tsv of id, height, width",
    )


def read_sizes(path: str) -> Sizes:
    """The sizes in a file, see the module.

    Raises:
      DataError: naming file and line or entry: unreadable, malformed, or two sizes of one image.
    """
    inputs.require_paths([path], folders=False)
    readers = {".json": _from_json, ".jsonl": _from_jsonl, ".tsv": _from_tsv}
    suffix = pathlib.Path(path).suffix.lower()
    if suffix not in readers:
        raise DataError(
            "unknown kind of file of image sizes",
            where=path,
            expected=f"a name that ends in one of {list(readers)}",
            found=repr(suffix),
            fix="rename it",
        )
    sizes = Sizes()
    for where, names, size in readers[suffix](path):
        for name in names:
            sizes.add(name, size, where)
    if not sizes.example():
        raise DataError("no image sizes", where=path, expected="at least one", found="none")
    return sizes


def lookup(sizes: Sizes | None, image_id: str, where: str) -> Size:
    """(height, width) of an image.

    Raises:
      DataError: no sizes were given, or none of this image.
    """
    size = sizes and sizes.find(image_id)
    if sizes is None or size is None:
        raise DataError(
            "the size of an image is not known",
            where=where,
            expected="the image's height and width in pixels",
            found="none in the file, and no --sizes"
            if sizes is None
            else f"none in the file, and {image_id!r} is not in --sizes, whose names are like "
            f"{sizes.example()!r}",
            fix="pass --sizes FILE (a COCO-style .json, a .jsonl, or a .tsv of id, height, width)"
            if sizes is None
            else "add this image to the file of --sizes, under its id or the number in it",
        )
    return size


def size_of(record: dict, where: str) -> Size:
    """(height, width) from a record's own fields.

    Raises:
      DataError: missing, or no positive whole numbers.
    """
    size = []
    for names in (HEIGHT, WIDTH):
        value = fields.pick(record, names, where)
        name = next(name for name in names if name in record)
        at = where if name == names[0] else f"{where}, key {name!r}"
        size.append(fields.integer(value, at, names[0]))
    return size[0], size[1]


def own_or_given(record: dict, sizes: Sizes | None, image_id: str, where: str) -> Size:
    """(height, width): the record's own if it has fields for them, else those of --sizes."""
    has = [any(name in record for name in names) for names in (HEIGHT, WIDTH)]
    return size_of(record, where) if any(has) else lookup(sizes, image_id, where)


def _object(value: Any, where: str) -> dict:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        raise DataError(
            "no size of an image",
            where=where,
            expected="an object with height and width",
            found=brief(value),
        )
    return value


def _from_json(path: str) -> Entries:
    with open(path, "rb") as file:
        value = fields.json_value(file.read(), path, limit=None)
    if not isinstance(value.get("images"), list):
        for name, record in value.items():
            where = f"{path}, key {name!r}"
            yield where, [name], size_of(_object(record, where), where)
        return
    for number, record in enumerate(value["images"]):
        where = f"{path}, images[{number}]"
        record = _object(record, where)
        names = [fields.image_id(record["id"], where)] if "id" in record else []
        if "file_name" in record:
            name = fields.image_id(record["file_name"], where)
            names += [name, os.path.splitext(os.path.basename(name))[0]]
        if not names:
            fields.pick(record, ("id", "file_name"), where)
        yield where, names, size_of(record, where)


def _text_lines(path: str) -> Iterator[tuple[str, str]]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}:{number}"
            try:
                text = (inputs.unmarked(line, path) if number == 1 else line).decode().strip()
            except UnicodeDecodeError as error:
                raise DataError(
                    "a line is not UTF-8", where=where, expected="UTF-8", found=str(error)
                ) from error
            if text:
                yield where, text


def _from_jsonl(path: str) -> Entries:
    for where, text in _text_lines(path):
        record = fields.json_value(text, where)
        name = fields.image_id(fields.pick(record, ("id", "image_id"), where), where)
        yield where, [name], size_of(record, where)


def _from_tsv(path: str) -> Entries:
    for where, text in _text_lines(path):
        name, *cells = text.split("\t")
        if len(cells) == 2:
            record = dict(zip(("height", "width"), cells, strict=True))
        elif len(cells) == 1:
            record = _object(fields.json_value(cells[0], where, object), where)
        else:
            raise DataError(
                "a line has the wrong number of columns",
                where=where,
                expected="id, height, width, or id and a JSON object, separated by tabs",
                found=f"{len(cells) + 1} columns: {text[:60]!r}",
            )
        yield where, [name], size_of(record, where)
