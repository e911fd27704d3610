"""Visual Genome's region descriptions: 5.4 million phrases with a box each (Krishna et al., 2017).

Files, from https://homes.cs.washington.edu/~ranjay/visualgenome/api.html ("region descriptions" and
"image meta data", version 1.2 or later), in data.manual_dir:

  region_descriptions.json  127 MB packed: [{"id": image, "regions": [{"region_id", "image_id",
                            "phrase", "x", "y", "width", "height"}]}], about 50 an image
  image_data.json           [{"image_id", "width", "height", ...}], the pictures' sizes

A phrase is a text, and all of its words name its box. An image's id in the region store is its
Visual Genome number, a text's is "<image>#<region_id>". Boxes are cut at the edges of the picture
(some thousands start before it); of one without area, or wholly outside, the phrase stays and names
nothing. A phrase that an image has again, of the same box, is left out.

No split is published: `val` is the images whose number is a multiple of 100 (about 1,080), `train`
the others, `full` all, so that no image is in both.
"""

import functools
from collections.abc import Iterator

from core.errors import DataError
from core.messages import brief
from input_pipeline.datasets.reading import entries, json_list, official
from input_pipeline.datasets.reading import files as official_files
from input_pipeline.datasets.reading.boxes import from_corner
from input_pipeline.datasets.reading.builder import declare
from input_pipeline.datasets.reading.entries import check, need, need_text
from input_pipeline.datasets.records import Box, GroundedCaption, Mention
from input_pipeline.texts.rows import EMPTY, Skipped

SPLITS = ("train", "val", "full")
OPTIONS = ("on_missing",)
VAL_EVERY = 100  # of the images' numbers
AGAIN = "the same phrase of the same box again"  # reason of a Skipped
_DOWNLOAD = "download it from https://homes.cs.washington.edu/~ranjay/visualgenome/api.html"


def files(folder: str, split: str, *, on_missing: str = "error") -> list[str]:
    """The two files, whatever the split.

    Raises:
      DataError: one is missing.
    """
    names = ("region_descriptions.json", "image_data.json")
    return [official_files.locate(folder, name, fix=_DOWNLOAD) for name in names]


def records(
    folder: str, split: str, *, on_missing: str = "error"
) -> Iterator[GroundedCaption | Skipped]:
    """The phrases of a split, in file order; Skipped for one that is there already.

    Args:
      folder: of the files.
      split: one of SPLITS.
      on_missing: "skip" yields a Skipped for an empty phrase.

    Raises:
      DataError: naming file and index: what `files.need` finds, an image or a region_id of an
        image that occurs twice, an image without a size, a region filed under another image, an
        empty phrase, a box of negative width or height.
    """
    path, data = files(folder, split)
    sizes, images = _sizes(data), entries.Unique("image id")
    for i, item in json_list.items(path):
        where = f"{path}, [{i}]"
        # As the file has it; its documentation says "image_id".
        key = "image_id" if isinstance(item, dict) and "id" not in item else "id"
        image = need(item, key, int, where)
        image_id = images.add(str(image), where)
        regions = need(item, "regions", list, where)
        if split != "full" and (image % VAL_EVERY == 0) != (split == "val"):
            continue
        if regions and image not in sizes:
            raise DataError(
                "an image has no size",
                where=where,
                expected=f"image_id {image} in {data}",
                found=f"{len(sizes)} other images",
                fix="download both files again, of the same version",
            )
        unique, said = entries.Unique("region_id of an image"), set()
        for j, region in enumerate(regions):
            place = f"{where}.regions[{j}]"
            text_id = f"{image_id}#{unique.add(_region_id(region, image, place), place)}"
            box = _box(region, sizes[image], place)
            text = need(region, "phrase", str, place)
            if not text.strip() and on_missing == "skip":
                yield Skipped(f"{text_id} ({place})", EMPTY)
                continue
            text = need_text(text, f"{place} (--config.data.on_missing=skip goes on)", "phrase")
            if (text, box) in said:
                yield Skipped(text_id, AGAIN)
                continue
            said.add((text, box))
            found = ((Mention(0, len(text), 0),), (box,)) if box else ((), ())
            yield GroundedCaption(text_id, image_id, text, *found)


def _sizes(path: str) -> dict[int, tuple[int, int]]:
    """{image: (width, height)}."""
    sizes = {}
    for i, item in enumerate(check(official_files.read_json(path), list, path)):
        where = f"{path}, [{i}]"
        size = tuple(need(item, side, int, where) for side in ("width", "height"))
        if min(size) < 1:
            raise DataError(
                "an image has no area",
                where=where,
                expected="a width and a height of 1 or more",
                found=brief(size),
                fix=_DOWNLOAD,
            )
        sizes[need(item, "image_id", int, where)] = size
    return sizes


def _region_id(region: dict, image: int, where: str) -> str:
    number = need(region, "region_id", int, where)
    if (found := need(region, "image_id", int, where)) != image:
        raise DataError(
            "a region is filed under another image",
            where=where,
            expected=f"image_id {image}, the entry's id",
            found=found,
            fix="download the file again",
        )
    return str(number)


def _box(region: dict, size: tuple[int, int], where: str) -> Box | None:
    """The part of a region's box that is in the picture; None where that has no area."""
    values = [need(region, key, float, where) for key in ("x", "y", "width", "height")]
    x1, y1, x2, y2 = from_corner(values, where)
    width, height = size
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    return box if box[0] < box[2] and box[1] < box[3] else None


def image_name(image_id: str) -> str:
    """The image's name over data sets."""
    return f"vg:{image_id}"


prepare = functools.partial(official.prepare, __name__)
BUILDER = declare(__name__, GroundedCaption)
