"""Visual Genome QA: 1.7 million free-form questions and answers (Krishna et al., 2017).

File, from https://homes.cs.washington.edu/~ranjay/visualgenome/api.html ("question answers"), in
data.manual_dir:

  question_answers.json     [{"id": image, "qas": [{"qa_id", "image_id", "question", "answer"}]}]

An image's id in the region store is its Visual Genome number, which is not its COCO number.

`val` is the last 5,000 questions by qa_id, `train` the others (12-in-1).
"""

import functools
from collections.abc import Iterator

from core.errors import DataError
from input_pipeline.datasets.reading import answers, entries, official
from input_pipeline.datasets.reading import files as official_files
from input_pipeline.datasets.reading.builder import declare
from input_pipeline.datasets.records import Answer, Question

SPLITS = ("train", "val")
VAL = 5000


def files(folder: str, split: str) -> list[str]:
    """The one file, whatever the split."""
    fix = "download it from https://homes.cs.washington.edu/~ranjay/visualgenome/api.html"
    return [official_files.locate(folder, "question_answers.json", fix=fix)]


def records(folder: str, split: str) -> Iterator[Question]:
    """The questions of a split, in file order, each with one answer of score 1.

    The answer is normalised as the VQA evaluation does ("Sailboats." becomes "sailboats"), so that
    VQA's vocabulary, which ViLBERT shares, can hold it; `raw_answers` has it as given.

    Raises:
      DataError: naming file and index: what `files.need` finds, an empty question or answer, a
        qa_id that occurs twice, a question filed under another image.
    """
    (path,) = files(folder, split)
    unique, items = entries.Unique("question id (qa_id)"), {}
    for i, image in enumerate(entries.check(official_files.read_json(path), list, path)):
        image_where = f"{path}, [{i}]"
        image_id = entries.need(image, "id", int, image_where)
        for j, item in enumerate(entries.need(image, "qas", list, image_where)):
            where = f"{image_where}.qas[{j}]"
            number = entries.need(item, "qa_id", int, where)
            unique.add(str(number), where)
            if (found := entries.need(item, "image_id", int, where)) != image_id:
                raise DataError(
                    "a question is filed under another image",
                    where=where,
                    expected=f"image_id {image_id}, the entry's id",
                    found=found,
                    fix="download the file again",
                )
            items[number] = (where, item)
    val = set(sorted(items)[-VAL:])
    for number, (where, item) in items.items():
        if (number in val) == (split == "val"):
            answer = entries.need(item, "answer", str, where)
            answer = entries.need_text(answer, where, "answer")
            question = entries.need(item, "question", str, where)
            yield Question(
                text_id=str(number),
                image_id=str(item["image_id"]),
                text=entries.need_text(question, where, "question"),
                answers=(Answer(answers.normalize(answer), 1.0),),
                raw_answers=(answer,),
            )


def image_name(image_id: str) -> str:
    """The image's name over data sets."""
    return f"vg:{image_id}"


prepare = functools.partial(official.prepare, __name__)
BUILDER = declare(__name__, Question)
