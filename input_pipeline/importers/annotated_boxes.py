"""Boxes of annotations, without features, for models that make theirs of pictures (docs/pixels.md).

  python -m input_pipeline.importers annotated_boxes instances_train2014.json --out STORE
  python -m input_pipeline.importers annotated_boxes vcr1images --out STORE --max_regions 150
  python -m input_pipeline.importers annotated_boxes boxes.jsonl --out STORE

Inputs, told by their kind:

  .jsonl   one image a line: {"image_id", "height", "width", "boxes": [[x1, y1, x2, y2], ...]}
  .json    COCO's instances (RefCOCO's too): "images" with id, height and width, "annotations" with
           image_id and bbox [x, y, width, height]; crowds count. An image's id is COCO's number.
  folder   VCR's vcr1images: a JSON file a still, with width, height and boxes [x1, y1, x2, y2,
           score]. An image's id is its path below the folder, with .jpg for .json.

Images without boxes are left out. Boxes are pixels of the upright picture; what reaches past it is
refused (clip it, or leave the image out: --on_bad skip). The store has the boxes alone: its
features are 0 wide, and a model that reads stored features refuses it.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from core import strict_json
from core.errors import DataError
from core.reading import reading
from input_pipeline.importers.base import Item, Part
from input_pipeline.importers.formats import fields, inputs
from input_pipeline.importers.formats.members import FolderMembers, read_file

_LINES, _COCO, _FOLDER = range(3)


class Layout:
    """See the module, and `base.Layout`."""

    unit = "images"
    background_class = None
    detector = "annotated boxes"
    boxes_alone = last_resort = True

    def __init__(self, files: Sequence[str]):
        self._files = files
        self._kinds = [_kind(path) for path in files]
        if not files:
            inputs.require_paths(files, folders=False)
        self._opened = [_open(path, kind) for path, kind in zip(files, self._kinds, strict=True)]

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """See `base.Layout`."""

    def parts(self, size: int) -> list[Part]:
        """See `base.Layout`."""
        found = []
        for file, (kind, opened) in enumerate(zip(self._kinds, self._opened, strict=True)):
            if kind == _FOLDER:
                found += inputs.count_parts(file, opened.sizes, size, opened.names)
            else:
                names = [str(where) for where, _ in opened]
                found += inputs.count_parts(file, [256] * len(names), size, names)
        return found

    def entries(self, part: Part) -> Iterator[tuple[str, Any]]:
        """See `base.Layout`; raw is the image's record, or what `parse` is to raise."""
        opened = self._opened[part.file]
        if self._kinds[part.file] != _FOLDER:
            inputs.check_key(self._files[part.file], part, [where for where, _ in opened])
            yield from opened[part.start : part.stop]
            return
        inputs.check_key(opened.path, part, opened.names)
        for where, name, data in opened.read(part.start, part.stop):
            if not isinstance(data, DataError):
                record = fields.json_value(data, where)
                name = name.replace(os.sep, "/").removesuffix(".json") + ".jpg"
                boxes = [list(box)[:4] for box in fields.pick(record, ("boxes",), where)]
                data = {**record, "image_id": name, "boxes": boxes}
            yield where, data

    def parse(self, where: str, raw: dict[str, Any]) -> Item:
        """See `base.Layout`."""
        boxes = fields.pick(raw, ("boxes",), where)
        boxes = fields.array(boxes, where, "boxes", (None, 4)) if boxes else []
        height, width = (
            fields.integer(fields.pick(raw, (key,), where), where, key)
            for key in ("height", "width")
        )
        return Item(
            image_id=fields.image_id(fields.pick(raw, ("image_id",), where), where),
            height=height,
            width=width,
            boxes=np.asarray(boxes, np.float32).reshape(-1, 4),
            features=np.zeros((len(boxes), 0), np.float32),
        )


def _kind(path: str) -> int:
    if os.path.isdir(path):
        return _FOLDER
    inputs.require_paths([path], folders=False)
    if path.endswith(".jsonl"):
        return _LINES
    if path.endswith(".json"):
        return _COCO
    raise DataError(
        "an input is of no known kind",
        where=path,
        expected="a .jsonl file, COCO's .json, or a folder of VCR's metadata",
        found="another name",
    )


def _open(path: str, kind: int) -> Any:
    """A folder's members, else [(where, record or error)] of a file's images that have boxes."""
    if kind == _FOLDER:
        return FolderMembers(path, ".json")
    if kind == _LINES:
        found = []
        for at, line in inputs.lines(path, 0, os.path.getsize(path)):
            where = f"{path}, byte {at}"
            record = line if isinstance(line, DataError) else _record(line, where)
            if isinstance(record, DataError) or record.get("boxes") != []:
                found.append((where, record))
        return found
    with reading(path, "annotations cannot be read", expected="COCO's instances, a JSON file"):
        data = read_file(path)
        if isinstance(data, DataError):
            raise data
        contents = strict_json.parse(data)
        boxes: dict[Any, list[list[float]]] = {}
        for annotation in contents["annotations"]:
            x, y, width, height = annotation["bbox"]
            boxes.setdefault(annotation["image_id"], []).append([x, y, x + width, y + height])
        return [
            (
                f"{path}, image {image['id']}",
                dict(
                    image_id=str(image["id"]),
                    height=image["height"],
                    width=image["width"],
                    boxes=boxes[image["id"]],
                ),
            )
            for image in contents["images"]
            if image["id"] in boxes
        ]


def _record(line: bytes, where: str) -> Any:
    try:
        return fields.json_value(line, where)
    except DataError as error:
        return error
