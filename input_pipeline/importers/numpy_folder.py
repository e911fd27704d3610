"""Region features in folders of one .npy or .npz file per image (subfolders too).

  python -m input_pipeline.importers numpy_folder FOLDER... --out STORE --detector NAME

A folder holds one of these kinds:

  X.npy alone        a pickled dictionary {features [n, F], bbox [n, 4], image_width, image_height,
                     cls_prob [n, C], ...}, as the extractor of 12-in-1 writes it
  X.npy, X_info.npy  features [n, F], and the dictionary without them: MMF's extractor
  X.npy, X.json      features [n, F], and {"boxes": n x 4, "width", "height"}
  X.npz              x or features [n, F], bbox or boxes [n, 4], num_bbox or num_boxes, image_w,
                     image_h: bottom-up attention in PyTorch. In some published sets x is [F, n]:
                     `--transpose`

Further names: boxes and bboxes for bbox; height, image_h and img_h for image_height, the same for
the width. `cls_prob` (column 0 = background) is optional everywhere. Sizes that the files lack
come from `--sizes`. Boxes are xyxy in pixels; `--box_format xywh` reads x, y, width, height (given
as xyxy, such boxes have swapped corners and are refused, or pass as boxes of a wrong extent).

An image's id is the file's path in its folder without suffix: COCO_val2014_000000000042, or
lsmdc_1/0042 for files in subfolders. All rows are regions: the extractors' num_boxes counts those
with a score, and training reads all. Pickles are read without running them.
"""

import argparse
import io
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from core import safe_pickle
from core.errors import DataError
from input_pipeline.importers.base import Item, Part
from input_pipeline.importers.formats import fields, inputs
from input_pipeline.importers.formats import sizes as image_sizes
from input_pipeline.importers.formats.members import list_files, read_file

BOX_FORMATS = ("xyxy", "xywh")
FEATURES = ("features", "x")
BOXES = ("bbox", "boxes", "bboxes")
COUNT = ("num_boxes", "num_bbox")
SINGLE, PAIRS, JSON, NPZ = ".npy", "_info.npy", ".json", ".npz"  # kinds, by their suffix


class Layout:
    """See the module, and `base.Layout`."""

    unit = "images"
    background_class = 0

    def __init__(
        self,
        files: Sequence[str],
        sizes: str = "",
        box_format: str = "xyxy",
        transpose: bool = False,
    ):
        inputs.require_paths(files, folders=True)
        if box_format not in BOX_FORMATS:
            raise DataError(
                "unknown --box_format", expected=f"one of {BOX_FORMATS}", found=repr(box_format)
            )
        self.box_format, self.transpose = box_format, transpose
        self._sizes = image_sizes.read_sizes(sizes) if sizes else None
        self._folders = [(folder, *_images(folder)) for folder in files]

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """See `base.Layout`."""
        parser.add_argument("--box_format", default="xyxy", choices=BOX_FORMATS)
        parser.add_argument("--transpose", action="store_true", help="features are [F, n]")
        image_sizes.add_argument(parser)

    def parts(self, size: int) -> list[Part]:
        """See `base.Layout`."""
        return [
            part
            for file, (_, _, stems, nbytes) in enumerate(self._folders)
            for part in inputs.count_parts(file, nbytes, size, stems)
        ]

    def entries(self, part: Part) -> Iterator[tuple[str, tuple]]:
        """See `base.Layout`; raw is (id, kind, bytes of the features' file, bytes of the other's).

        In place of bytes is the error of a file that cannot be read, or None without such a file.
        """
        folder, kind, stems, _ = self._folders[part.file]
        inputs.check_key(folder, part, stems)
        for stem in stems[part.start : part.stop]:
            path = os.path.join(folder, stem)
            features = path + (NPZ if kind == NPZ else ".npy")
            info = path + kind if kind in (PAIRS, JSON) else ""
            yield features, (stem, kind, read_file(features), read_file(info) if info else None)

    def parse(self, where: str, raw: tuple) -> Item:
        """See `base.Layout`."""
        stem, kind, data, info = raw
        for value in (data, info):
            if isinstance(value, DataError):
                raise value
        record = _record(where, kind, data, info)
        features = fields.pick(record, FEATURES, where)
        features = fields.floats(features, where, "features", (None, None))
        boxes = fields.array(fields.pick(record, BOXES, where), where, "bbox", (None, 4))
        if self.transpose:
            features = features.T
        rows = len(features)
        if len(boxes) != rows:
            raise DataError(
                "features and boxes differ in number",
                where=where,
                expected=f"features [{len(boxes)}, F], as there are boxes",
                found=features.shape,
                fix="pass --transpose: they are [F, n]"
                if features.shape[1] == len(boxes) and not self.transpose
                else "leave this image out",
            )
        if any(name in record for name in COUNT):
            count = fields.pick(record, COUNT, where)
            count = fields.integer(count, where, "num_boxes", 0)
            if count > rows or (kind in (JSON, NPZ) and count != rows):
                raise fields.bad_field(where, "num_boxes", f"{rows}, as features", count)
        probs = record.get("cls_prob")
        if probs is not None:
            probs = fields.array(probs, where, "cls_prob", (rows, None))
        height, width = image_sizes.own_or_given(record, self._sizes, stem, where)
        if self.box_format == "xywh":
            boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
        name = fields.image_id(stem.replace(os.sep, "/"), where)
        return Item(name, height, width, boxes, features, probs)


def _images(folder: str) -> tuple[str, list[str], list[int]]:
    """(kind, sorted stems, bytes of each image's files) of a folder.

    Raises:
      DataError: no files, or files of several kinds.
    """
    files = list_files(folder, (".npy", NPZ, JSON))
    arrays = {name for name, _ in files if name.endswith(".npy")}
    stems = {name.removesuffix(".npy") for name in arrays}
    kinds = {
        NPZ: any(name.endswith(NPZ) for name, _ in files),
        PAIRS: any(name.endswith(PAIRS) for name in arrays),
        JSON: any(name.removesuffix(JSON) in stems for name, _ in files if name.endswith(JSON)),
    }
    found = [kind for kind, is_there in kinds.items() if is_there]
    if len(found) > 1 or (NPZ in found and arrays):
        raise DataError(
            "a folder holds files of several kinds",
            where=folder,
            expected=f"one of X{NPZ}, X.npy, X.npy and X{PAIRS}, X.npy and X{JSON}",
            found=f"files that end in {[*found, *(['.npy'] if arrays else [])]}",
            fix="import the kinds from folders of their own, into stores of their own",
        )
    kind = found[0] if found else SINGLE
    nbytes: dict[str, int] = {}
    for name, size in files:
        suffix = PAIRS if kind == PAIRS and name.endswith(PAIRS) else os.path.splitext(name)[1]
        if suffix == kind or (suffix == ".npy" and kind != NPZ):
            stem = name.removesuffix(suffix)
            nbytes[stem] = nbytes.get(stem, 0) + size
    if not nbytes:
        raise DataError(
            "a folder holds no features", where=folder, expected=".npy or .npz", found=".json only"
        )
    return kind, sorted(nbytes), [nbytes[stem] for stem in sorted(nbytes)]


def _record(where: str, kind: str, data: bytes, info: bytes | None) -> dict[str, Any]:
    """All fields of an image, from its one or two files."""
    if kind == NPZ:
        return _load_npz(where, data)
    features = safe_pickle.load_npy(io.BytesIO(data), where)
    if kind == SINGLE:
        if isinstance(features, dict):
            return features
        raise DataError(
            "a .npy file holds features alone",
            where=where,
            expected="a dictionary with features, bbox, image_width and image_height",
            found=f"{type(features).__name__} {np.shape(features)}",
            fix=f"put X{PAIRS} or X{JSON} with the boxes and the image's size beside each X.npy",
        )
    where = where.removesuffix(".npy") + kind
    if kind == JSON:
        record = fields.json_value(info, where)
    else:
        record = safe_pickle.load_npy(io.BytesIO(info), where)
        if not isinstance(record, dict):
            raise fields.bad_field(where, "info", "a dictionary", type(record).__name__)
    return {**record, "features": features}


def _load_npz(where: str, data: bytes) -> dict[str, Any]:
    wanted = (*FEATURES, *BOXES, *COUNT, "cls_prob", *image_sizes.HEIGHT, *image_sizes.WIDTH)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            record = {name: file[name] for name in file.files if name in wanted}
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        AttributeError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(
            "not a readable .npz file",
            where=where,
            expected="an .npz archive, its arrays without pickled objects",
            found=f"{type(error).__name__}: {error}",
            fix="copy the file again, or leave this image out",
        ) from error
    return {name: value.item() if value.ndim == 0 else value for name, value in record.items()}
