"""RefCOCO, RefCOCO+ and RefCOCOg: which object does an expression mean?

Files, from https://github.com/lichengunc/refer (its server is down: docs/data.md names a copy), in
data.manual_dir, a folder a variant:

  refcoco+/refs(unc).p       pickled list of objects with their sentences, read without running it
  refcoco+/instances.json    COCO's annotations of all images of the variant
  refcoco+/proposal/res101_coco_minus_refer_notime_dets.json   detections of MAttNet
                             (https://github.com/lichengunc/MAttNet), for candidates other than
                             "gt"; also found as detections/refcoco+_unc/... , as they are packed

Of refcocog by google, whose own release it is, also Google's files (`reading.google_refexp`), where
there is no refs(google).p: "detected" are then the file's region candidates, and "gt" needs
refcocog/instances.json or COCO's instances_train2014.json (also in annotations/).

  refcocog/google_refexp_train_201511_coco_aligned.json   train, from the setup.py of
  refcocog/google_refexp_val_201511_coco_aligned.json     val    mjhucla/Google_Refexp_toolbox

`variant` is refcoco, refcoco+ or refcocog, `split_by` the division. There is one record a sentence.
Splits are

  refcoco   unc     train val testA (people) testB (other objects) test (both)
            google  train val test       objects are divided, not images: images are shared
  refcoco+  unc     as refcoco's
  refcocog  umd     train val test
            google  train val            images are shared, as above

`candidates` are the boxes to choose from. Papers differ, and numbers compare only for equal ones:

  gt        all COCO annotations of the image, crowds included
  detected  MAttNet's detections: none for some images, where only the whole image is left
  both      detected, then gt
  both_in_training    both in the split `train`, detected in the others: VL-BERT's detected setting
  regions   whatever regions the store holds
  listed    detected ones, of a file in which sentences are joined with their boxes already, in
            place of the others: `<variant>/<split>.json`, a list of {"sent", "gt_box",
            "pred_boxes" (x, y, width, height), "pred_boxes_img_id" (a name a box, such as
            COCO_train2014_000000266240_0.jpg)}

`expression` is "tokens" (cleaned words joined by spaces, VL-BERT) or "raw" (as typed, ViLBERT).
"""

import functools
import itertools
import pathlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from core import safe_pickle
from core.errors import DataError
from input_pipeline.datasets.options import refcoco as declared
from input_pipeline.datasets.options.refcoco import CANDIDATES, DIVISIONS, EXPRESSIONS
from input_pipeline.datasets.reading import entries, google_refexp, official
from input_pipeline.datasets.reading import files as official_files
from input_pipeline.datasets.reading.boxes import from_corner, need_box
from input_pipeline.datasets.reading.builder import declare
from input_pipeline.datasets.reading.entries import check, need, need_text
from input_pipeline.datasets.records import Box, Expression

SPLITS = declared.SPLITS
OPTIONS = tuple(declared.OPTIONS)
DETECTIONS = "res101_coco_minus_refer_notime_dets.json"
IMAGE_NAME = re.compile(r"COCO_\w+_(\d{12})_\d+\.jpg", re.ASCII)


def _one_of(name: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise entries.unknown(name, known, value, "data set refcoco")
    return value


def _kinds(candidates: str, split: str) -> tuple[bool, bool]:
    """Whether annotated and whether detected boxes may be chosen in a split."""
    if candidates == "both_in_training":
        candidates = "both" if split == "train" else "detected"
    return candidates in ("gt", "both"), candidates in ("detected", "both")


def files(
    folder: str,
    split: str,
    *,
    variant: str = "refcoco+",
    split_by: str = "unc",
    candidates: str = "gt",
    expression: str = "tokens",
) -> list[str]:
    """The files a split is read from: sentences, annotations and detections, those it needs.

    Raises:
      DataError: an unknown option or split, a missing file.
    """
    divisions = DIVISIONS[_one_of("variant", variant, tuple(DIVISIONS))]
    _one_of(f"split_by of {variant}", split_by, tuple(divisions))
    _one_of(f"split of {variant} ({split_by})", split, divisions[split_by])
    listed = _one_of("candidates", candidates, CANDIDATES) == "listed"
    gt, detected = _kinds(candidates, split)
    _one_of("expression", expression, EXPRESSIONS[:1] if listed else EXPRESSIONS)
    if listed:
        return [official_files.locate(folder, f"{variant}/{split}.json")]
    if own := _google_file(folder, variant, split, split_by):
        return [own, *([_coco_boxes(folder)] if gt else ())]
    fix = "get it as https://github.com/lichengunc/refer tells; docs/data.md names a copy"
    paths = [
        official_files.locate(folder, f"{variant}/{name}", fix=fix)
        for name in (f"refs({split_by}).p", "instances.json")
    ]
    if detected:
        names = f"{variant}/proposal/{DETECTIONS}", f"detections/{variant}_{split_by}/{DETECTIONS}"
        fix = "get it as https://github.com/lichengunc/MAttNet tells; docs/data.md names a copy"
        paths.append(official_files.locate(folder, *names, fix=fix))
    return paths


def records(
    folder: str, split: str, *, candidates: str = "gt", expression: str = "tokens", **options: str
) -> Iterator[Expression]:
    """The sentences of a split, in file order; see the module for the options.

    Raises:
      DataError: an unknown option, a missing or malformed file, an object without annotation, a
        sentence id that occurs twice, an empty sentence, detections of other images.
    """
    paths = files(folder, split, candidates=candidates, expression=expression, **options)
    if candidates == "listed":
        yield from _listed(paths[0])
        return
    gt, detected = _kinds(candidates, split)
    if pathlib.Path(paths[0]).name.startswith(google_refexp.file_name(split)):
        annotated = _annotations(paths[1])[1] if gt else None
        yield from google_refexp.expressions(
            paths[0],
            raw=expression == "raw",
            detected=detected,
            annotated=annotated,
        )
        return
    refs = _refs(paths[0], split)
    boxes, annotated = _annotations(paths[1])
    found: dict[int, list[Box]] = {}
    if detected:
        found = _detections(paths[2])
        if not any(need(ref, "image_id", int, where) in found for where, ref in refs):
            raise DataError(
                "no image of the split has detections",
                where=f"{paths[2]}, split {split}",
                expected=f"detections of the images in {paths[0]}",
                found=f"images {sorted(found)[:5]} ...",
                fix="use the detections of this variant",
            )
    ids = entries.Unique("sentence id")
    for where, ref in refs:
        image, annotation = need(ref, "image_id", int, where), need(ref, "ann_id", int, where)
        if annotation not in boxes:
            raise DataError(
                "the object of an expression is not annotated",
                where=where,
                expected=f"ann_id {annotation} in {paths[1]}",
                found="no such annotation",
                fix="use the two files of one variant",
            )
        choice = list(found.get(image, ()))
        if gt:
            choice += annotated[image]
        for sentence in need(ref, "sentences", list, where):
            raw = expression == "raw"
            words = need(sentence, "raw", str, where) if raw else _tokens(sentence, where)
            yield Expression(
                text_id=ids.add(entries.need_id(sentence, "sent_id", where), where),
                ref_id=need(ref, "ref_id", int, where),
                image_id=str(image),
                text=need_text(words, where, "sentence"),
                box=boxes[annotation],
                candidates=tuple(choice),
            )


def _google_file(folder: str, variant: str, split: str, split_by: str) -> str:
    """Google's own file of a split, where REFER's is not there; else ""."""
    if (variant, split_by) != ("refcocog", "google"):
        return ""
    try:
        official_files.locate(folder, f"{variant}/refs({split_by}).p")
    except DataError:
        try:
            name = google_refexp.file_name(split)
            return official_files.locate(folder, f"{variant}/{name}", name)
        except DataError:
            pass
    return ""


def _coco_boxes(folder: str) -> str:
    """COCO's annotations of the pictures that Google's expressions are of."""
    return official_files.locate(
        folder,
        "refcocog/instances.json",
        "annotations/instances_train2014.json",
        "instances_train2014.json",
        fix="download COCO's annotations_trainval2014.zip, or choose among other boxes: "
        "--config.data.candidates=detected or regions",
    )


def _refs(path: str, split: str) -> list[tuple[str, dict]]:
    """(where, entry) of the objects of a split."""
    with official_files.opened(path) as file:
        entries = check(safe_pickle.loads(file.read(), path), list, path)
    places = [(f"{path}, entry {i}", entry) for i, entry in enumerate(entries)]
    found = [need(entry, "split", str, where) for where, entry in places]
    # As REFER's own reader: a test image can be in both halves ("testAB"), "test" is all of them.
    inside = {
        "test": lambda name: "test" in name,
        "testA": lambda name: name.startswith("test") and "A" in name,
        "testB": lambda name: name.startswith("test") and "B" in name,
    }.get(split, lambda name: name == split)
    chosen = [place for place, name in zip(places, found, strict=True) if inside(name)]
    if not chosen:
        raise official_files.NoSuchSplit(
            f"there is no split {split!r}",
            where=path,
            expected=f"one of {sorted(set(found))}",
            found=repr(split),
            fix="set data.train_split and data.eval_split, or split_by",
        )
    return chosen


def _tokens(sentence: dict, where: str) -> str:
    return " ".join(check(t, str, where, "tokens") for t in need(sentence, "tokens", list, where))


def _annotations(path: str) -> tuple[dict[int, Box], dict[int, list[Box]]]:
    """Boxes by annotation id, and all boxes of each image id in file order."""
    boxes, images = {}, defaultdict(list)
    for i, item in enumerate(need(official_files.read_json(path), "annotations", list, path)):
        where = f"{path}, annotation {i}"
        box = need_box(item, "bbox", where)
        boxes[need(item, "id", int, where)] = box
        images[need(item, "image_id", int, where)].append(box)
    return boxes, images


def _detections(path: str) -> dict[int, list[Box]]:
    """Detected boxes of each image id, in file order (falling score)."""
    images = defaultdict(list)
    for i, item in enumerate(check(official_files.read_json(path), list, path)):
        where = f"{path}, detection {i}"
        images[need(item, "image_id", int, where)].append(need_box(item, "box", where))
    return images


def _listed(path: str) -> Iterator[Expression]:
    """Sentences joined with their boxes."""
    for i, item in enumerate(check(official_files.read_json(path), list, path)):
        where = f"{path}, entry {i}"
        names = need(item, "pred_boxes_img_id", list, where)
        images = {IMAGE_NAME.fullmatch(str(name)) for name in names}
        numbers = {match and int(match[1]) for match in images}
        if len(numbers) != 1 or None in numbers:
            raise DataError(
                "an expression names no image, or several",
                where=f"{where}, 'pred_boxes_img_id'",
                expected="COCO_train2014_<12 digits>_<box>.jpg, all of one image",
                found=repr(names)[:80],
            )
        yield Expression(
            text_id=f"{pathlib.Path(path).stem}:{i}",
            ref_id=-1,
            image_id=str(numbers.pop()),
            text=need_text(need(item, "sent", str, where), where, "sentence"),
            box=need_box(item, "gt_box", where),
            candidates=tuple(from_corner(b, where) for b in need(item, "pred_boxes", list, where)),
        )


def image_name(image_id: str) -> str:
    """The image's name over data sets."""
    return f"coco:{image_id}"


prepare = functools.partial(official.prepare, __name__)
BUILDER = declare(
    __name__,
    Expression,
    configs={
        "_".join(values): dict(zip(OPTIONS, values, strict=True))
        for variant, divisions in DIVISIONS.items()
        for values in itertools.product((variant,), divisions, CANDIDATES[:-1], EXPRESSIONS)
    },
)
