"""Predictions as cards of the report: each beside its record's texts, truth, pictures and boxes."""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evaluation.report.report import Card, Picture
from input_pipeline.datasets.reading import answers, spoken
from input_pipeline.datasets.reading.rows import images_of
from input_pipeline.datasets.records import (
    Expression,
    MultipleChoice,
    ObjectBox,
    Pointing,
    Question,
    Statement,
    Token,
)
from input_pipeline.regions.boxes import iou

HIT = 0.5  # overlap with the true box from which a predicted one is right
RIGHT_ANSWER = 0.5  # official accuracy from which an answer is right
TRUNCATED = 60  # characters of a box's label


@dataclasses.dataclass(frozen=True)
class _Part:
    """What a kind of record adds to a card: lines, boxes on the first picture, right or not."""

    lines: Sequence[tuple[str, str]]
    boxes: Sequence[tuple] = ()
    right: bool | None = None


def known(record: Any) -> bool:
    """Whether a record tells what is right."""
    if isinstance(record, Question):
        return bool(record.raw_answers or record.answers)
    if isinstance(record, Statement):
        return record.label >= 0
    if isinstance(record, MultipleChoice):
        return record.answer_label >= 0
    if isinstance(record, Pointing):
        return record.target >= 0
    return True


def make(predictions: Sequence[Mapping], stream, task: str) -> list[Card]:
    """A card for each prediction, in order.

    Args:
      predictions: of `Predictor.run`.
      stream: the `setup.EvaluationStream` they are of.
      task: `config.data.task`; "rationales" shows rationales, not answers.
    """
    # Rationales of one question come with each answer in turn, as predictions of their own.
    names = {row["id"]: row["id"] for row in predictions}
    if task == "rationales":
        names = {name: name.rpartition("/a")[0] or name for name in names}
    wanted, found = set(names.values()), {}
    for record in stream.records() if stream.records else ():
        if record.text_id in wanted:
            found[record.text_id] = record
            if len(found) == len(wanted):
                break
    files = stream.pictures(image for record in found.values() for image in images_of(record))
    return [
        _card(row, found.get(names[row["id"]]), stream.stream.store, files, task)
        for row in predictions
    ]


def _card(row: Mapping, record: Any, store, files: Mapping[str, bytes], task: str) -> Card:
    if record is None:
        text = ", ".join(f"{key} {value}" for key, value in row.items() if key != "id")
        return Card(row["id"], lines=[("predicted", text)])
    part = _KINDS[type(record)](row, record, task)
    pictures = [
        _picture(image, store, files, part.boxes if place == 0 else ())
        for place, image in enumerate(images_of(record))
    ]
    return Card(row["id"], part.lines, pictures, part.right)


def _picture(image: str, store, files: Mapping[str, bytes], boxes: Sequence[tuple]) -> Picture:
    (row,) = store.rows_of([image])
    size = (int(store.heights[row]), int(store.widths[row]))
    return Picture(size, files.get(image), boxes, image)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _question(row: Mapping, record: Question, task: str) -> _Part:
    top = ", ".join(f"{answer} {_percent(share)}" for answer, share in row["top"])
    lines = [("question", record.text), ("predicted", top)]
    given = record.raw_answers or tuple(answer.text for answer in record.answers)
    if not given:
        return _Part(lines)
    truth = given[0]
    if len(given) > 1:
        counts = collections.Counter(given).most_common()
        truth = ", ".join(f"{answer} ×{count}" for answer, count in counts)
    right = answers.accuracy(row["answer"], given) >= RIGHT_ANSWER
    return _Part([*lines, ("true", truth)], right=right)


def _expression(row: Mapping, record: Expression, task: str) -> _Part:
    share = float(iou(row["box"], record.box, "plus_one"))
    lines = [
        ("expression", record.text),
        ("predicted", f"region {row['region']}, {_percent(row['score'])}"),
        ("overlap", f"{share:.2f}"),
    ]
    boxes = [(record.box, "true", "true"), (row["box"], "predicted", "predicted")]
    return _Part(lines, boxes, share >= HIT)


def _pointing(row: Mapping, record: Pointing, task: str) -> _Part:
    boxes = [
        (record.boxes[index], "", "true" if place == record.target else "other")
        for place, index in enumerate(record.candidates)
    ]
    boxes.append((row["box"], "predicted", "predicted"))
    lines = [("text", record.text), ("predicted", f"region {row['region']}")]
    if record.target < 0:
        return _Part(lines, boxes)
    target = record.boxes[record.candidates[record.target]]
    return _Part(lines, boxes, bool(iou(row["box"], target, "plus_one") >= HIT))


def _statement(row: Mapping, record: Statement, task: str) -> _Part:
    name = row.get("name", row["class"])
    share = row["probabilities"][row["class"]]
    lines = [("statement", record.text), ("predicted", f"{name} {_percent(share)}")]
    if record.label < 0:
        return _Part(lines)
    truth = record.label_name or str(record.label)
    return _Part([*lines, ("true", truth)], right=row["class"] == record.label)


def _choice(row: Mapping, record: MultipleChoice, task: str) -> _Part:
    def text(tokens: Sequence[Token]) -> str:
        return spoken.spoken(tokens, record.objects, record.text_id)[0]

    lines, read = [("question", text(record.question))], [record.question]
    choices, label = record.answers, record.answer_label
    if task == "rationales":
        given = row["id"].removeprefix(record.text_id).removeprefix("/a")
        answer = record.answers[int(given) if given else record.answer_label]
        lines.append(("answer", text(answer)))
        read.append(answer)
        # With a wrong answer no rationale is right.
        choices, label = record.rationales, -1 if given else record.rationale_label
    for i, (choice, share) in enumerate(zip(choices, row["probabilities"], strict=True)):
        marks = [_percent(share)]
        marks += ["predicted"] * (i == row["choice"]) + ["true"] * (i == label)
        lines.append((", ".join(marks), text(choice)))
        read.append(choice)
    mentioned = sorted({i for tokens in read for token in tokens for i in token.objects})
    boxes = [_mention(record.objects, i, text) for i in mentioned]
    return _Part(lines, boxes, None if label < 0 else row["choice"] == label)


def _mention(objects: Sequence[ObjectBox], index: int, text: Callable) -> tuple:
    """The box of an object, called as the texts call it."""
    return objects[index].box, text([Token("", (index,))])[:TRUNCATED], "mentioned"


_KINDS: Mapping[type, Callable[[Mapping, Any, str], _Part]] = {
    Question: _question,
    Expression: _expression,
    Pointing: _pointing,
    Statement: _statement,
    MultipleChoice: _choice,
}
