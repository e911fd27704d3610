"""Google's own files of its referring expressions (RefCOCOg by Google), aligned with COCO.

google_refexp_{train,val}_201511_coco_aligned.json, which the setup.py of
https://github.com/mjhucla/Google_Refexp_toolbox makes, is one object:

  annotations  {id: {"annotation_id", "image_id", "bbox" (x, y, width, height), "refexp_ids"}}
  images       {id: {"image_id", "region_candidates": [{"bounding_box" (x, y, width, height)}]}}
  refexps      {id: {"refexp_id", "raw", "tokens"}}
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.errors import DataError
from input_pipeline.datasets.reading import entries
from input_pipeline.datasets.reading import files as official_files
from input_pipeline.datasets.reading.boxes import from_corner
from input_pipeline.datasets.reading.entries import check, need, need_id, need_number, need_text
from input_pipeline.datasets.records import Box, Expression

SPLITS = ("train", "val")


def file_name(split: str) -> str:
    """Name of the file of a split."""
    return f"google_refexp_{split}_201511_coco_aligned.json"


def expressions(
    path: str, *, raw: bool, detected: bool, annotated: Mapping[int, Sequence[Box]] | None
) -> Iterator[Expression]:
    """The expressions of a file, in its order of objects.

    Args:
      path: of the file.
      raw: whether texts are as typed, else tokens joined by spaces.
      detected: whether the file's region candidates may be chosen.
      annotated: {image: boxes} that may be chosen, too; None: none.

    Raises:
      DataError: naming the entry: a key missing or of the wrong kind, an annotation without box
        (the file before it is aligned with COCO), an expression or image that is not there, an
        expression twice, an empty one.
    """
    contents = official_files.read_json(path)
    objects, images, texts = (
        need(contents, key, dict, path) for key in ("annotations", "images", "refexps")
    )
    ids = entries.Unique("refexp_id")
    for name, item in objects.items():
        where = f"{path}, annotations[{name!r}]"
        if "bbox" not in check(item, dict, where):
            raise DataError(
                "an annotation has no box",
                where=where,
                expected="'bbox': the file is aligned with COCO, ..._coco_aligned.json",
                found=f"keys {sorted(item)[:20]}",
                fix="run setup.py of Google_Refexp_toolbox, which aligns it",
            )
        box, image = (
            from_corner(item["bbox"], f"{where}, 'bbox'"),
            need_number(item, "image_id", where),
        )
        candidates = []
        if detected:
            candidates += _candidates(
                _entry(images, image, f"{path}, images"), f"{path}, images[{image!r}]"
            )
        if annotated is not None:
            candidates += annotated.get(int(image), ())
        for number in need(item, "refexp_ids", list, where):
            entry = _entry(texts, str(number), f"{path}, refexps")
            place = f"{path}, refexps[{str(number)!r}]"
            yield Expression(
                text_id=ids.add(need_id(entry, "refexp_id", place), place),
                ref_id=int(need_number(item, "annotation_id", where)),
                image_id=image,
                text=need_text(_text(entry, raw, place), place, "expression"),
                box=box,
                candidates=tuple(candidates),
            )


def _entry(entries: dict, key: str, where: str) -> dict:
    return need(entries, key, dict, where)


def _text(entry: dict, raw: bool, where: str) -> str:
    if raw:
        return str(need(entry, "raw", str, where))
    return " ".join(
        check(word, str, where, "tokens") for word in need(entry, "tokens", list, where)
    )


def _candidates(image: dict[str, Any], where: str) -> list[Box]:
    return [
        from_corner(need(item, "bounding_box", list, where), f"{where}, 'bounding_box'")
        for item in need(image, "region_candidates", list, where)
    ]
