"""`--sizes FILE`: heights and widths of images whose region files do not have them.

  .json   COCO style, {"images": [{"id", "file_name", "height", "width"}, ...]}: an image is found
          by its id, its file name and its file name without suffix;
          or {id: {"height", "width"}, ...}
  .jsonl  one {"id" or "image_id", "height", "width"} a line
  .tsv    id, height, width; or id and a JSON object (or a list of one) with height and width,
          as VinVL's hw.tsv and predictions.tsv have it

For height and width also image_h, image_w, image_height, image_width, img_h and img_w.
"""

import argparse
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from core.errors import DataError
from input_pipeline.importers.formats import fields, inputs

HEIGHT = ("height", "image_h", "image_height", "img_h")
WIDTH = ("width", "image_w", "image_width", "img_w")

Sizes = dict[str, tuple[int, int]]
Entries = Iterator[tuple[str, list[str], tuple[int, int]]]  # (where, names, size) of images


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Adds --sizes."""
    parser.add_argument(
        "--sizes",
        default="",
        help="file of image sizes: COCO-style .json, .jsonl, or .tsv of id, height, width",
    )


def read_sizes(path: str) -> Sizes:
    """{image id: (height, width) in pixels}, see the module.

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
    sizes: Sizes = {}
    for where, names, size in readers[suffix](path):
        for name in names:
            if sizes.setdefault(name, size) != size:
                raise DataError(
                    f"two sizes of image {name!r}",
                    where=where,
                    expected=f"(height, width) = {sizes[name]} as before",
                    found=size,
                )
    if not sizes:
        raise DataError("no image sizes", where=path, expected="at least one", found="none")
    return sizes


def lookup(sizes: Sizes | None, image_id: str, where: str) -> tuple[int, int]:
    """(height, width) of an image.

    Raises:
      DataError: no sizes were given, or none of this image.
    """
    if sizes is None or image_id not in sizes:
        raise DataError(
            "the size of an image is not known",
            where=where,
            expected="the image's height and width in pixels",
            found=f"none in the file, and {'no --sizes' if sizes is None else 'not in --sizes'}",
            fix="pass --sizes FILE (a COCO-style .json, a .jsonl, or a .tsv of id, height, width)"
            if sizes is None
            else "add this image to the file of --sizes, under the same id",
        )
    return sizes[image_id]


def size_of(record: dict, where: str) -> tuple[int, int]:
    """(height, width) from a record's own fields.

    Raises:
      DataError: missing, or no positive whole numbers.
    """
    height, width = (
        fields.integer(fields.pick(record, names, where), where, names[0])
        for names in (HEIGHT, WIDTH)
    )
    return height, width


def own_or_given(record: dict, sizes: Sizes | None, image_id: str, where: str) -> tuple[int, int]:
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
            found=repr(value)[:80],
        )
    return value


def _from_json(path: str) -> Entries:
    with open(path, "rb") as file:
        value = fields.json_value(file.read(), path)
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
                text = line.decode().strip()
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
