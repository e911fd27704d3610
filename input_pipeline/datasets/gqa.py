"""GQA: compositional questions on Visual Genome and COCO images (Hudson and Manning, 2019).

Files, from https://cs.stanford.edu/people/dorarad/gqa/download.html (questions1.2.zip), in
data.manual_dir:

  {train,val,testdev,test,challenge}_balanced_questions.json
  {val,testdev,test,challenge}_all_questions.json  submission_all_questions.json
  train_all_questions/train_all_questions_{0..9}.json     (14 million questions)

Each file is an object {question id: {"imageId", "question", "answer", "types", ...}}. An image's
id in the region store is `imageId` as it stands: a number, or an n and a number. test, challenge
and submission have no answers.

`minival` is the last 3,000 questions of train_balanced and val_balanced together by id, `trainval`
the others (12-in-1).
"""

import functools
import pathlib
import re
from collections.abc import Iterator

from core.errors import DataError
from input_pipeline.datasets.reading import entries, official
from input_pipeline.datasets.reading import files as official_files
from input_pipeline.datasets.reading.builder import declare
from input_pipeline.datasets.records import Answer, Question

UNLABELLED = ("test_", "challenge_", "submission_")
PARTS = dict.fromkeys(("trainval", "minival"), ("train_balanced", "val_balanced"))
SPLITS = (
    *(f"{name}_{kind}" for kind in ("balanced", "all") for name in ("train", "val", "testdev")),
    *(f"{name}_{kind}" for kind in ("balanced", "all") for name in ("test", "challenge")),
    "submission_all",
    *PARTS,
)
MINIVAL = 3000
ANSWERS_AS_WRITTEN = True  # its evaluation compares to the letter
QUESTION_ID = re.compile(r"\d{1,30}", re.ASCII)


def files(folder: str, split: str) -> list[str]:
    """The file or files of a split."""
    if split in PARTS:
        return [path for part in PARTS[split] for path in files(folder, part)]
    name = f"{split}_questions"
    many = [str(path) for path in pathlib.Path(folder, name).glob("*.json*")]
    if many:
        return sorted(many, key=lambda path: (len(path), path))  # number 10 comes after 9
    fix = "download it from https://cs.stanford.edu/people/dorarad/gqa/download.html"
    return [official_files.locate(folder, f"{name}.json", f"{name}/{name}_0.json", fix=fix)]


def records(folder: str, split: str) -> Iterator[Question]:
    """The questions of a split, in file order, each with one answer of score 1.

    `question_type` is the structural type (verify, query, choose, logical, compare), after which
    the official evaluation splits its accuracy.

    Raises:
      DataError: naming file and question: what `files.need` finds, an id that is no number or is
        in two files, an empty question, no answer where the split has answers.
    """
    paths, unique = files(folder, split), entries.Unique("question id")
    chosen = None
    if split in PARTS:
        names = {name for path in paths for name in _read(path)}
        minival = set(sorted(names, key=lambda name: (int(name), name))[-MINIVAL:])
        chosen = minival if split == "minival" else names - minival
    for path in paths:
        for name, item in _read(path).items():
            if chosen is None or name in chosen:
                unique.add(name, path)
                yield _question(name, item, f"{path}, {name!r}", split.startswith(UNLABELLED))


def _read(path: str) -> dict:
    """{question id: item} of a file."""
    contents = entries.check(official_files.read_json(path), dict, path)
    for name in contents:
        if not QUESTION_ID.fullmatch(name):
            raise DataError(
                "a question id is no number",
                where=path,
                expected="{question id: {...}} with ids of digits",
                found=repr(name),
                fix="check that this is an official questions file",
            )
    return contents


def _question(name: str, item: dict, where: str, unlabelled: bool) -> Question:
    text = entries.need(item, "question", str, where)
    labels = {}
    if not unlabelled:
        answer = entries.need(item, "answer", str, where)
        answer = entries.need_text(answer, where, "answer")
        labels = {"answers": (Answer(answer, 1.0),), "raw_answers": (answer,)}
    types = entries.check(item.get("types", {}), dict, where, "types")
    return Question(
        text_id=name,
        image_id=entries.need_id(item, "imageId", where),
        text=entries.need_text(text, where, "question"),
        question_type=entries.check(types.get("structural", ""), str, where, "structural"),
        **labels,
    )


def image_name(image_id: str) -> str:
    """The image's name over data sets; a plain number is Visual Genome's."""
    return f"{'vg' if image_id.isdecimal() else 'gqa'}:{image_id}"


prepare = functools.partial(official.prepare, __name__)
BUILDER = declare(__name__, Question)
