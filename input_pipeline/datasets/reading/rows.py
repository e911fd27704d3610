"""From records to the rows of a text table: which texts, images and targets an example has."""

from collections.abc import Sequence
from typing import Any

from core.errors import DataError
from input_pipeline.datasets.reading import answer_list, spoken
from input_pipeline.datasets.reading.answers import AnswerVocabulary
from input_pipeline.datasets.records import (
    Box,
    Expression,
    MultipleChoice,
    Pointing,
    Question,
    Statement,
)
from input_pipeline.texts.rows import Row

CHOICES = ("answers", "rationales")  # what is to be chosen in VCR, `data.task`


def images_of(record: Any) -> Sequence[str]:
    """Ids of the images of a record."""
    return record.image_ids if hasattr(record, "image_ids") else (record.image_id,)


def rows_of(
    record: Any,
    *,
    source: int = 0,
    answers: AnswerVocabulary | None = None,
    task: str = "",
    classes: Sequence[str] = (),
    all_regions: bool = False,
) -> list[Row]:
    """The rows of the text table that a record becomes; mostly one.

    Args:
      record: of any data set.
      source: number of the split it is of, where several are joined.
      answers: the answer list, for questions.
      task: one of CHOICES, for questions with choices.
      classes: names of the objects' classes, the first of which has number 1.
      all_regions: whether an expression may mean any region of the store, and not just the
        record's candidates.

    Raises:
      DataError: an unknown task or class.
    """
    if isinstance(record, MultipleChoice):
        return _choices(record, source, task, classes)
    first, *more = images_of(record)
    values: dict[str, Any] = {}
    if isinstance(record, Question):
        values = answer_list.targets(record, answers)
    elif isinstance(record, Statement):
        values = {"label": (record.label,)}
    elif isinstance(record, Expression):
        values = {"target_box": record.box}
        if not all_regions:
            values["candidate_boxes"] = _flat(record.candidates)
    elif isinstance(record, Pointing):
        candidates = [record.boxes[i] for i in record.candidates]
        target = candidates[record.target] if record.target >= 0 else (0.0,) * 4
        values = {"target_box": target, "option_boxes": _flat(candidates)}
    return [
        Row(first, record.text, record.text_id, more_images=tuple(more), source=source,
            values=values)
    ]  # fmt: skip


def _flat(boxes: Sequence[Box]) -> list[float]:
    return [number for box in boxes for number in box]


def _choices(record: MultipleChoice, source: int, task: str, classes: Sequence[str]) -> list[Row]:
    """A question's row, followed by those of its choices.

    Rationales are for the question with its right answer. Where that is unknown, each of the
    answers makes an example of its own, as the leaderboard asks: "<id>/a0" to "<id>/a3".
    """
    if task not in CHOICES:
        raise DataError(
            "questions with choices have two tasks",
            where="--config.data.task",
            expected=f"one of {CHOICES}",
            found=repr(task),
        )
    number_of = {name: number for number, name in enumerate(classes, 1)}
    unknown = sorted({item.name for item in record.objects} - number_of.keys())
    if unknown and classes:
        raise DataError(
            "an object has an unknown class",
            where=f"example {record.text_id!r}",
            expected=f"one of {list(classes)}",
            found=unknown,
        )
    values: dict[str, Any] = {"object_boxes": _flat([item.box for item in record.objects])}
    if classes:
        values["object_classes"] = [number_of[item.name] for item in record.objects]

    def row(text_id, *texts, **options):
        text, mentions = spoken.spoken(sum(texts, ()), record.objects, record.text_id)
        spans = tuple((m.start, m.end, m.object) for m in mentions)
        return Row(record.image_id, text, text_id, mentions=spans, source=source, **options)

    def example(text_id, question, choices, label):
        yield row(text_id, *question, values=values | {"label": (label,)})
        for n, choice in enumerate(choices):
            yield row(f"{text_id}/{n}", choice, follows=True)

    name = record.text_id
    if task == "answers":
        return list(example(name, (record.question,), record.answers, record.answer_label))
    if record.answer_label >= 0:
        given = (record.question, record.answers[record.answer_label])
        return list(example(name, given, record.rationales, record.rationale_label))
    return [
        made
        for n, answer in enumerate(record.answers)
        for made in example(f"{name}/a{n}", (record.question, answer), record.rationales, -1)
    ]
