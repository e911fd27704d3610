"""VQA v2: open questions on COCO images, ten answers each (Goyal et al., 2017).

Files, from https://visualqa.org/download.html, unpacked in data.manual_dir:

  v2_OpenEnded_mscoco_{train2014,val2014,test2015,test-dev2015}_questions.json
  v2_mscoco_{train2014,val2014}_annotations.json

Questions and annotations belong together by `question_id`. An image's id in the region store is
its COCO number. The test splits have no answers.

`minival` is the last 3,000 questions of val2014 by id, `val2014_minus_minival` the others, and
`trainval` train2014 with the others: how ViLBERT and 12-in-1 train and choose checkpoints. The cut
goes through images: some of minival's have questions in trainval, too. VL-BERT trains on
train2014+val2014.
"""

import functools
from collections.abc import Iterator

from core.errors import DataError
from input_pipeline.datasets.reading import answers, entries, official
from input_pipeline.datasets.reading import files as official_files
from input_pipeline.datasets.reading.builder import declare
from input_pipeline.datasets.records import AnnotatedQuestion, Answer

PARTS = {
    "trainval": ("train2014", "val2014_minus_minival"),
    "minival": ("val2014",),
    "val2014_minus_minival": ("val2014",),
}
SPLITS = ("train2014", "val2014", "test2015", "test-dev2015", *PARTS)
MINIVAL = 3000
ANNOTATORS = 10


def files(folder: str, split: str) -> list[str]:
    """The files of a split: questions, then annotations if it has any."""
    if split in PARTS:
        return [path for part in PARTS[split] for path in files(folder, part)]
    names = [f"v2_OpenEnded_mscoco_{split}_questions.json"]
    if not split.startswith("test"):
        names.append(f"v2_mscoco_{split}_annotations.json")
    fix = "download it from https://visualqa.org/download.html"
    return [official_files.locate(folder, name, fix=fix) for name in names]


def records(folder: str, split: str) -> Iterator[AnnotatedQuestion]:
    """The questions of a split, in file order.

    `answers` has the distinct answers, verbatim, with their soft scores (`answers.soft_scores`),
    first the file's main answer (`multiple_choice_answer`); `raw_answers` has the ten as given.

    Raises:
      DataError: naming file and index: what `files.need` finds, an empty question, a question id
        that occurs twice, a question without annotation or the reverse, other than ten answers,
        two image ids for one question.
    """
    if split == "trainval":
        for part in PARTS[split]:
            yield from records(folder, part)
        return
    paths = files(folder, split)
    questions = _by_id(paths[0], "questions")
    labels = _by_id(paths[1], "annotations") if len(paths) == 2 else None
    if labels is not None:
        _check_same(questions, labels, paths)
    chosen = set(sorted(questions)[-MINIVAL:]) if split in PARTS else set(questions)
    if split == "val2014_minus_minival":
        chosen = set(questions) - chosen
    for number, (where, item) in questions.items():
        if number not in chosen:
            continue
        text = entries.need(item, "question", str, where)
        yield AnnotatedQuestion(
            text_id=str(number),
            image_id=str(entries.need(item, "image_id", int, where)),
            text=entries.need_text(text, where, "question"),
            **(_labels(*labels[number], item["image_id"]) if labels else {}),
        )


def _by_id(path: str, key: str) -> dict[int, tuple[str, dict]]:
    """{question id: (where, item)} of the list at a key of a file, in its order."""
    unique, out = entries.Unique("question id"), {}
    contents = official_files.read_json(path)
    for index, item in enumerate(entries.need(contents, key, list, path)):
        where = f"{path}, {key}[{index}]"
        number = entries.need(item, "question_id", int, where)
        unique.add(str(number), where)
        out[number] = (where, item)
    return out


def _check_same(questions: dict, labels: dict, paths: list[str]) -> None:
    missing = [number for number in questions if number not in labels]
    unknown = [number for number in labels if number not in questions]
    if missing or unknown:
        raise DataError(
            "questions and annotations do not belong together",
            where=" and ".join(paths),
            expected="one annotation for each question",
            found=f"{len(missing)} questions without annotation {missing[:5]}, "
            f"{len(unknown)} annotations without question {unknown[:5]}",
            fix="download both files again, of the same split and version",
        )


def _labels(where: str, item: dict, image_id: int) -> dict:
    """The fields of a record that come from an annotation."""
    found = item.get("image_id", image_id)
    if found != image_id:
        raise DataError(
            "question and annotation are of two images",
            where=where,
            expected=f"image_id {image_id}, as the question has it",
            found=repr(found),
            fix="download both files again, of the same split and version",
        )
    given = entries.need(item, "answers", list, where)
    raw = tuple(
        entries.need(answer, "answer", str, f"{where}, answers[{i}]")
        for i, answer in enumerate(given)
    )
    if len(raw) != ANNOTATORS:
        raise DataError(
            "a question has the wrong number of answers",
            where=where,
            expected=ANNOTATORS,
            found=len(raw),
            fix="check that this is the official file",
        )
    types = {
        key: entries.check(item.get(key, ""), str, where, key)
        for key in ("question_type", "answer_type", "multiple_choice_answer")
    }
    main = types.pop("multiple_choice_answer")
    scored = [Answer(*pair) for pair in answers.soft_scores(raw, "verbatim").items()]
    # Where the file names no main answer, that is the most frequent, of these the first.
    scored.sort(key=lambda answer: (answer.text != main, -raw.count(answer.text)))
    return {"answers": tuple(scored), "raw_answers": raw, **types}


def image_name(image_id: str) -> str:
    """The image's name over data sets."""
    return f"coco:{image_id}"


prepare = functools.partial(official.prepare, __name__)
BUILDER = declare(__name__, AnnotatedQuestion)
