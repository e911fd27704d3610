"""VL-BERT's detector output: one JSON file an image, in a zip or a folder (subfolders too).

  python -m input_pipeline.importers vlbert_json train_frcnn.zip val_frcnn.zip --out STORE
  python -m input_pipeline.importers vlbert_json trainval2014_resnet101_faster_rcnn_genome \
      --out STORE --ids number

Keys of a file with n boxes (the arrays are base64 of little-endian float32 in C order):

  image_w, image_h    size of the image in pixels
  num_boxes           n, 0 boxes are refused
  boxes     [n, 4]    xyxy in pixels of the image
  features  [n, F]
  classes   [n, C]    class distribution of each box, column 0 = background; the files of
                      Conceptual Captions have it, those of COCO do not
  image_box_feature [F]  of the whole image; optional, for `--global_feature stored`

`attrs` is not read. An image's id is its file's name without folders and `.json`: 00000012 for
the row of Conceptual Captions, the COCO id for COCO; `--id_from json` takes the key image_id.
"""

import argparse
import os
from collections.abc import Iterator, Sequence

from core import arguments
from core.errors import DataError
from input_pipeline.importers.base import Item, Part
from input_pipeline.importers.formats import fields, inputs
from input_pipeline.importers.formats.members import FolderMembers, ZipMembers

ID_FROM = ("name", "json")


class Layout:
    """See the module, and `base.Layout`."""

    unit = "images"
    background_class = 0

    def __init__(
        self,
        files: Sequence[str],
        id_from: str = "name",
        feature_dim: int = 2048,
        num_classes: int = 1601,
    ):
        if id_from not in ID_FROM:
            raise DataError("unknown --id_from", expected=f"one of {ID_FROM}", found=repr(id_from))
        self.id_from, self.feature_dim, self.num_classes = id_from, feature_dim, num_classes
        self._inputs = []
        for path in files or [""]:
            is_folder = os.path.isdir(path)
            inputs.require_paths([path] if path else [], folders=is_folder)
            self._inputs.append((FolderMembers if is_folder else ZipMembers)(path, ".json"))

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """See `base.Layout`."""
        parser.add_argument(
            "--id_from", default="name", choices=ID_FROM, help="file name, or the key image_id"
        )
        parser.add_argument(
            "--feature_dim", type=arguments.whole(1), default=2048, help="F of the features"
        )
        parser.add_argument(
            "--num_classes", type=arguments.whole(0), default=1601, help="C, with background"
        )

    def parts(self, size: int) -> list[Part]:
        """See `base.Layout`."""
        return [
            part
            for file, members in enumerate(self._inputs)
            for part in inputs.count_parts(file, members.sizes, size, members.names)
        ]

    def entries(self, part: Part) -> Iterator[tuple[str, tuple[str, bytes | DataError]]]:
        """See `base.Layout`; raw is (file name, its bytes or what `parse` is to raise)."""
        members = self._inputs[part.file]
        inputs.check_key(members.path, part, members.names)
        for where, name, data in members.read(part.start, part.stop):
            yield where, (name, data)

    def parse(self, where: str, raw: tuple[str, bytes | DataError]) -> Item:
        """See `base.Layout`."""
        name, data = raw
        if isinstance(data, DataError):
            raise data
        record = fields.json_value(data, where)
        image_id = name.replace(os.sep, "/").rpartition("/")[2].removesuffix(".json")
        if self.id_from == "json":
            image_id = fields.pick(record, ("image_id",), where)
        n, height, width = (
            fields.integer(fields.pick(record, (key,), where), where, key, int(key != "num_boxes"))
            for key in ("num_boxes", "image_h", "image_w")
        )
        shapes = {"boxes": (n, 4), "features": (n, self.feature_dim)}
        optional = {"classes": (n, self.num_classes), "image_box_feature": (self.feature_dim,)}
        shapes.update({key: shape for key, shape in optional.items() if key in record})
        arrays = {
            key: fields.base64_array(fields.pick(record, (key,), where), where, key, shape)
            for key, shape in shapes.items()
        }
        return Item(
            image_id=fields.image_id(image_id, where),
            height=height,
            width=width,
            boxes=arrays["boxes"],
            features=arrays["features"],
            class_probs=arrays.get("classes"),
            global_feature=arrays.get("image_box_feature"),
        )
