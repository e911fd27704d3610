"""Region features in folders of one .npy or .npz file per image (subfolders too).

  python -m input_pipeline.importers numpy_folder FOLDER... --out STORE --detector NAME
  python -m input_pipeline.importers numpy_folder cocobu_att --sizes instances.json --out STORE
  python -m input_pipeline.importers numpy_folder mmf_features --ids number --out STORE \
      --class_scores without_background

A folder holds one of these kinds:

  X.npy alone        a pickled dictionary {features [n, F], bbox [n, 4], image_width, image_height,
                     cls_prob [n, C], ...}, as the extractor of 12-in-1 writes it
  X.npy, X_info.npy  features [n, F], and the dictionary without them: MMF's extractors. Their
                     cls_prob has the 1,600 classes without the background (--class_scores), that of
                     the Faster R-CNN one number per box, which is not read; VinVL's bbox has six
                     columns, which are shares of the image
  X.npy, X.json      features [n, F], and {"boxes": n x 4, "width", "height"}
  X.npz              x or features [n, F], bbox or boxes [n, 4], num_bbox or num_boxes, image_w,
                     image_h: bottom-up attention in PyTorch. In some published sets x is [F, n]:
                     `--transpose`
  X.npz or X.npy     features [n, F] alone (feat in an .npz), where `--box_folder` names the folder
                     of the boxes, one X.npy [n, 4] each. Without it, for a folder that is called
                     NAME_att, NAME_box beside it is taken, and NAME_fc for the feature of the whole
                     image (`--global_feature stored`): self-critical captioning's COCO-BU

Further names: boxes and bboxes for bbox; height, image_h and img_h for image_height, the same for
the width. `cls_prob` (column 0 = background) is optional everywhere. Sizes that the files lack
come from `--sizes`. Boxes are xyxy in pixels; `--box_format xywh` reads x, y, width, height (given
as xyxy, such boxes have swapped corners and are refused, or pass as boxes of a wrong extent).

An image's id is the file's path in its folder without suffix: COCO_val2014_000000000042, or
lsmdc_1/0042 for files in subfolders. Where num_boxes is below the number of rows, see
`--num_boxes`. Pickles are read without running them. Grids and patches, which have no boxes, are of
the layout `grid`.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from core import npy
from core.errors import DataError
from input_pipeline.importers.base import Item, Part
from input_pipeline.importers.formats import fields, inputs, npz_file
from input_pipeline.importers.formats import record as records
from input_pipeline.importers.formats import sizes as image_sizes
from input_pipeline.importers.formats.members import list_files, read_file
from input_pipeline.regions.store import split_paths

BOXES = ("bbox", "boxes", "bboxes")
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
        num_boxes: str = "padding",
        box_folder: str = "",
        fc_folder: str = "",
    ):
        inputs.require_paths(files, folders=True)
        records.check_arguments(num_boxes, box_format)
        self._options = {
            "num_boxes": num_boxes, "box_format": box_format, "transpose": transpose,
        }  # fmt: skip
        self._sizes = image_sizes.read_sizes(sizes) if sizes else None
        self._folders = [(folder, *_images(folder)) for folder in files]
        self._boxes = _beside(files, "box_folder", box_folder, "_box")
        self._wholes = _beside(files, "fc_folder", fc_folder, "_fc")

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """See `base.Layout`."""
        records.add_box_format(parser)
        parser.add_argument("--transpose", action="store_true", help="features are [F, n]")
        image_sizes.add_argument(parser)
        records.add_argument(parser)
        parser.add_argument(
            "--box_folder", default="", help="comma-separated folders of boxes, one an input"
        )
        parser.add_argument(
            "--fc_folder", default="", help="comma-separated folders of whole-image features"
        )

    def parts(self, size: int) -> list[Part]:
        """See `base.Layout`."""
        return [
            part
            for file, (_, _, stems, nbytes) in enumerate(self._folders)
            for part in inputs.count_parts(file, nbytes, size, stems)
        ]

    def entries(self, part: Part) -> Iterator[tuple[str, tuple]]:
        """See `base.Layout`; raw is (id, kind, {name: bytes of the image's file}).

        In place of bytes is the error of a file that cannot be read. The names are "features" and,
        where there are such files, "info", "boxes" and "whole".
        """
        folder, kind, stems, _ = self._folders[part.file]
        inputs.check_key(folder, part, stems)
        for stem in stems[part.start : part.stop]:
            path = os.path.join(folder, stem)
            paths = {"features": path + (NPZ if kind == NPZ else ".npy")}
            if kind in (PAIRS, JSON):
                paths["info"] = path + kind
            for name, folders in (("boxes", self._boxes), ("whole", self._wholes)):
                if beside := folders[part.file]:
                    paths[name] = os.path.join(beside, stem + ".npy")
            data = {name: read_file(file) for name, file in paths.items()}
            yield paths["features"], (stem, kind, data)

    def parse(self, where: str, raw: tuple) -> Item:
        """See `base.Layout`."""
        stem, kind, data = raw
        for value in data.values():
            if isinstance(value, DataError):
                raise value
        record = _record(where, kind, data)
        found = records.arrays_of(record, where, boxes=BOXES, **self._options)
        name = fields.image_id(stem.replace(os.sep, "/"), where)
        size = image_sizes.own_or_given(record, self._sizes, name, where)
        whole = record.get("whole")
        if whole is not None:
            whole = fields.floats(whole, where, "whole-image feature", found.features.shape[1:])
        return found.item(name, size, whole)


def _beside(files: Sequence[str], option: str, given: str, suffix: str) -> list[str]:
    """For each input, the folder of further arrays; empty where there is none.

    Raises:
      DataError: another number of folders than of inputs, or one that is none.
    """
    if folders := split_paths(given):
        if len(folders) != len(files):
            raise DataError(
                f"--{option} does not fit the inputs",
                expected=f"{len(files)} folders, one an input in their order",
                found=f"{len(folders)} folders",
            )
        inputs.require_paths(folders, folders=True)
        return folders
    names = [path.rstrip(os.sep) for path in files]
    for name in names:
        if name.endswith(suffix) and name.removesuffix(suffix) + "_att" in names:
            raise DataError(
                "a folder beside the features is named as an input of its own",
                where=name,
                expected=f"{name.removesuffix(suffix)}_att alone",
                found=", ".join(names),
                fix="leave it out: it is found by its name",
            )
    beside = [name.removesuffix("_att") + suffix for name in names]
    return [
        folder if name.endswith("_att") and os.path.isdir(folder) else ""
        for name, folder in zip(names, beside, strict=True)
    ]


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


def _record(where: str, kind: str, data: dict[str, bytes]) -> dict[str, Any]:
    """All fields of an image, from its files."""
    if kind == NPZ:
        record = _load_npz(where, data["features"])
    else:
        features = npy.load(data["features"], where)
        record = features if isinstance(features, dict) else {"features": features}
        if kind == SINGLE and "boxes" not in data and record is not features:
            raise DataError(
                "a .npy file holds features alone",
                where=where,
                expected="a dictionary with features, bbox, image_width and image_height",
                found=f"{type(features).__name__} {np.shape(features)}",
                fix=f"put X{PAIRS} or X{JSON} with the boxes and the image's size beside each "
                "X.npy, or name --box_folder; grids and patches are of the layout `grid`",
            )
    if "info" in data:
        at = where.removesuffix(".npy") + kind
        if kind == JSON:
            info = fields.json_value(data["info"], at)
        else:
            info = npy.load(data["info"], at)
            if not isinstance(info, dict):
                raise fields.bad_field(at, "info", "a dictionary", type(info).__name__)
        record = {**info, "features": features}
    for name, field in (("boxes", BOXES[0]), ("whole", "whole")):
        if name in data:
            at = f"{where}, {name} of another folder"
            record = {**record, field: npy.load(data[name], at)}
    return record


def _load_npz(where: str, data: bytes) -> dict[str, Any]:
    """The arrays of a file that are read; the others' names stand for themselves, unread."""
    wanted = (*records.FEATURES, *BOXES, *records.COUNT, *records.CLASSES,
              *image_sizes.HEIGHT, *image_sizes.WIDTH)  # fmt: skip
    record = npz_file.load(data, wanted, where)
    return {name: value.item() if value.ndim == 0 else value for name, value in record.items()}
