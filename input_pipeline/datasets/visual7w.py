"""Visual7W pointing: "Which ...?", answered by one of four boxes (Zhu et al., 2016).

File, from https://ai.stanford.edu/~yukez/visual7w/ (dataset_v7w_pointing.zip), in data.manual_dir:

  dataset_v7w_pointing.json    images with their splits and questions, and all boxes

Splits are train, val and test. The images are Visual Genome's and keep its numbers: image_id
2370799 is `v7w_2370799.jpg` and "2370799" in the region store (import with --ids number where a
store has the picture's name).

The four candidates of a question (answer and three others) are sorted by box id, as in 12-in-1;
`boxes` are the candidates of all questions on the image, which is the order of rows in a store
of features of the annotated boxes.
"""

import functools
from collections.abc import Iterator

from core.errors import DataError
from input_pipeline.datasets.reading import entries, official
from input_pipeline.datasets.reading import files as official_files
from input_pipeline.datasets.reading.boxes import from_corner
from input_pipeline.datasets.reading.builder import declare
from input_pipeline.datasets.reading.entries import check, need, need_text
from input_pipeline.datasets.records import Box, Pointing

SPLITS = ("train", "val", "test")


def files(folder: str, split: str) -> list[str]:
    """The one file of all splits."""
    fix = "download dataset_v7w_pointing.zip from https://ai.stanford.edu/~yukez/visual7w/"
    return [official_files.locate(folder, "dataset_v7w_pointing.json", fix=fix)]


def records(folder: str, split: str) -> Iterator[Pointing]:
    """The questions of a split, in file order.

    Raises:
      DataError: a missing or malformed file, a box that is not there, a question id that occurs
        twice, an answer among the wrong choices, an empty question.
    """
    [path] = files(folder, split)
    data = official_files.read_json(path)
    boxes = _boxes(need(data, "boxes", list, path), path)
    ids = entries.Unique("question id")
    for i, image in enumerate(need(data, "images", list, path)):
        where = f"{path}, image {i}"
        name = need(image, "split", str, where)
        if name not in SPLITS:
            raise entries.unknown("split", SPLITS, name, where)
        if name != split:
            continue
        image_id = str(need(image, "image_id", int, where))
        questions = need(image, "qa_pairs", list, where)
        choices = [_choices(qa, boxes, f"{where}, question {k}") for k, qa in enumerate(questions)]
        order = sorted(set().union(*choices))
        for k, (qa, own) in enumerate(zip(questions, choices, strict=True)):
            place = f"{where}, question {k}"
            yield Pointing(
                text_id=ids.add(entries.need_id(qa, "qa_id", place), place),
                image_id=image_id,
                text=need_text(need(qa, "question", str, place), place, "question"),
                boxes=tuple(boxes[box] for box in order),
                candidates=tuple(order.index(box) for box in own),
                target=own.index(qa["answer"]),
            )


def _boxes(items: list, path: str) -> dict[int, Box]:
    boxes = {}
    for i, item in enumerate(items):
        where = f"{path}, box {i}"
        values = [need(item, key, float, where) for key in ("x", "y", "width", "height")]
        boxes[need(item, "box_id", int, where)] = from_corner(values, where)
    return boxes


def _choices(qa: dict, boxes: dict[int, Box], where: str) -> list[int]:
    """Box ids of the answer and the wrong choices of a question, sorted."""
    answer, wrong = need(qa, "answer", int, where), need(qa, "multiple_choices", list, where)
    ids = [answer, *(check(box, int, where, "multiple_choices") for box in wrong)]
    missing = [box for box in ids if box not in boxes]
    if missing or len(set(ids)) != len(ids) or not wrong:
        raise DataError(
            "the choices of a question are no set of boxes",
            where=where,
            expected="different box ids out of 'boxes', answer not among multiple_choices",
            found=f"answer {answer}, multiple_choices {wrong}, unknown {missing}",
            fix="check that this is the official file",
        )
    return sorted(ids)


def image_name(image_id: str) -> str:
    """The image's name over data sets."""
    return f"vg:{image_id}"


prepare = functools.partial(official.prepare, __name__)
BUILDER = declare(__name__, Pointing)
