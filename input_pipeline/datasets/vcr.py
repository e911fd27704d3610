"""VCR: questions on film stills, four answers and four rationales each (Zellers et al., 2019).

Files, from https://visualcommonsense.com/download, unpacked in data.manual_dir:

  train.jsonl  val.jsonl  test.jsonl
  vcr1images/<metadata_fn>     one JSON a still: boxes (x1, y1, x2, y2, score), segms (polygons of
                               (x, y)), names, width, height

Texts refer to objects of the still by index; `records.mentions` turns that into plain words. An
image's id in the region store is the annotation's metadata path with .jpg for .json, as
ViLBERT's 12-in-1 code names them:
"lsmdc_3015_CHARLIE_ST_CLOUD/3015_..._00.23.57.935-00.24.00.783@0.jpg".
test has no labels (-1).
"""

import functools
import os
from collections.abc import Iterator

from core.errors import DataError
from input_pipeline.datasets.reading import entries, official
from input_pipeline.datasets.reading import files as official_files
from input_pipeline.datasets.reading.builder import declare
from input_pipeline.datasets.records import MultipleChoice, ObjectBox, Token
from input_pipeline.texts.rows import Skipped

SPLITS = ("train", "val", "test")
OPTIONS = ("on_missing",)
CHOICES = 4
DOWNLOAD = "download it from https://visualcommonsense.com/download"
# COCO's 80, as the annotations write them; the first has number 1, 0 is the background.
_CLASSES = """
person bicycle car motorcycle airplane bus train truck boat trafficlight firehydrant stopsign
parkingmeter bench bird cat dog horse sheep cow elephant bear zebra giraffe backpack umbrella
handbag tie suitcase frisbee skis snowboard sportsball kite baseballbat baseballglove skateboard
surfboard tennisracket bottle wineglass cup fork knife spoon bowl banana apple sandwich orange
broccoli carrot hotdog pizza donut cake chair couch pottedplant bed diningtable toilet tv laptop
mouse remote keyboard cellphone microwave oven toaster sink refrigerator book clock vase scissors
teddybear hairdrier toothbrush
"""
CLASSES = tuple(_CLASSES.split())


def files(folder: str, split: str, *, on_missing: str = "error") -> list[str]:
    """The annotation file of a split, whatever `on_missing`; metadata are under vcr1images."""
    return [official_files.locate(folder, f"{split}.jsonl", fix=DOWNLOAD)]


def records(
    folder: str, split: str, *, on_missing: str = "error"
) -> Iterator[MultipleChoice | Skipped]:
    """The questions of a split, in file order.

    Args:
      folder: of the files.
      split: one of SPLITS.
      on_missing: "skip" yields a Skipped for a question whose still has no metadata file.

    Raises:
      DataError: naming file and line: what `files.need` finds, an annot_id that occurs twice, a
        reference to no object, an empty text, other than four choices, a label of none of them,
        objects that differ between annotation and metadata, metadata that is missing.
    """
    (path,) = files(folder, split)
    unique, last = entries.Unique("annot_id"), ("", None)
    for line, item in official_files.json_lines(path):
        where = f"{path}:{line}"
        name = unique.add(entries.need_id(item, "annot_id", where), where)
        metadata = entries.need(item, "metadata_fn", str, where)
        still = os.path.join(folder, "vcr1images", metadata)
        there = any(os.path.isfile(still + end) for end in ("", ".gz"))
        if on_missing == "skip" and not there:
            yield Skipped(f"{name} ({where})", "no metadata")
            continue
        if last[0] != still:  # questions on one still follow each other
            last = (still, _metadata(folder, metadata))
        height, width, objects = last[1]
        classes = entries.need(item, "objects", list, where)
        if classes != [found.name for found in objects]:
            raise DataError(
                "annotation and metadata have different objects",
                where=where,
                expected=f"{[found.name for found in objects]}, as {still}",
                found=classes,
                fix="download both again, of the same version",
            )
        question = entries.need(item, "question", list, where)
        yield MultipleChoice(
            text_id=name,
            image_id=metadata.removesuffix(".json") + ".jpg",
            height=height,
            width=width,
            question=_tokens(question, len(objects), where, "question"),
            answers=_choices(item, "answer_choices", len(objects), where),
            rationales=_choices(item, "rationale_choices", len(objects), where),
            answer_label=-1 if split == "test" else _label(item, "answer_label", where),
            rationale_label=-1 if split == "test" else _label(item, "rationale_label", where),
            objects=objects,
        )


def _metadata(folder: str, name: str) -> tuple[int, int, tuple[ObjectBox, ...]]:
    """(height, width, objects) of a still."""
    path = official_files.locate(
        folder, f"vcr1images/{name}", fix=f"{DOWNLOAD}, or set --config.data.on_missing=skip"
    )
    contents = official_files.read_json(path)
    names, boxes, segms = (
        entries.need(contents, key, list, path) for key in ("names", "boxes", "segms")
    )
    size = [entries.need(contents, key, int, path) for key in ("height", "width")]
    if not len(names) == len(boxes) == len(segms) or min(size) < 1:
        raise DataError(
            "metadata of a still do not fit together",
            where=path,
            expected="as many names as boxes and segms; a height and width above 0",
            found=f"{len(names)} names, {len(boxes)} boxes, {len(segms)} segms; {size}",
            fix=DOWNLOAD,
        )
    objects = []
    for i, (found, box, polygons) in enumerate(zip(names, boxes, segms, strict=True)):
        where = f"{path}, object {i}"
        *corners, score = _numbers(box, 5, where, "boxes")
        if corners[2] < corners[0] or corners[3] < corners[1]:
            raise DataError(
                "a box ends before it starts",
                where=where,
                expected="x1, y1, x2, y2, score",
                found=box,
                fix=DOWNLOAD,
            )
        polygons = tuple(
            tuple(
                _numbers(point, 2, where, "segms")
                for point in entries.check(polygon, list, where, "segms")
            )
            for polygon in entries.check(polygons, list, where, "segms")
        )
        found = entries.check(found, str, where, "names")
        objects.append(ObjectBox(found, tuple(corners), score, polygons))
    return *size, tuple(objects)


def _numbers(values: list, count: int, where: str, name: str) -> tuple[float, ...]:
    values = entries.check(values, list, where, name)
    if len(values) != count:
        raise DataError(
            f"an item of {name!r} has the wrong length", where=where, expected=count, found=values
        )
    return tuple(float(entries.check(value, float, where, name)) for value in values)


def _tokens(text: list, objects: int, where: str, name: str) -> tuple[Token, ...]:
    """Words and references of a text; white space, which the official tokenizer leaves, is none."""
    tokens = []
    for token in text:
        if isinstance(token, str):
            tokens += [Token(word) for word in token.split()]
            continue
        indices = entries.check(token, list, where, name)
        for index in indices:
            entries.check(index, int, where, name)
        if not indices or not all(0 <= index < objects for index in indices):
            raise DataError(
                f"the {name} refers to no object",
                where=where,
                expected=f"indices from 0 to {objects - 1}",
                found=token,
                fix="check that this is the official file",
            )
        tokens.append(Token("", tuple(indices)))
    if not tokens:
        entries.need_text("", where, name)
    return tuple(tokens)


def _choices(item: dict, key: str, objects: int, where: str) -> tuple[tuple[Token, ...], ...]:
    choices = entries.need(item, key, list, where)
    if len(choices) != CHOICES:
        raise DataError(
            f"{key!r} has the wrong number of choices",
            where=where,
            expected=CHOICES,
            found=len(choices),
            fix="check that this is the official file",
        )
    return tuple(
        _tokens(entries.check(choice, list, where, f"{key}[{i}]"), objects, where, f"{key}[{i}]")
        for i, choice in enumerate(choices)
    )


def _label(item: dict, key: str, where: str) -> int:
    label = entries.need(item, key, int, where)
    if not 0 <= label < CHOICES:
        raise DataError(
            f"{key!r} is none of the choices",
            where=where,
            expected=f"0 to {CHOICES - 1}",
            found=label,
            fix="check that this is the official file",
        )
    return label


def image_name(image_id: str) -> str:
    """The image's name over data sets."""
    return f"vcr:{image_id}"


prepare = functools.partial(official.prepare, __name__)
BUILDER = declare(__name__, MultipleChoice)
