"""Questions with choices, whose texts mention objects (VCR)."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.errors import DataError
from input_pipeline.datasets.records import outlines
from input_pipeline.datasets.records.base import (
    Record,
    RowOptions,
    Shown,
    first_word,
    flat,
    percent,
)
from input_pipeline.datasets.records.mentions import Mention, ObjectBox, Token, in_words
from input_pipeline.texts.table_writer import Row

KINDS = ("answers", "rationales")  # what is to be chosen
TRUNCATED = 60  # characters of a box's label

Text = tuple[Token, ...]


@dataclasses.dataclass(frozen=True)
class MultipleChoice(Record):
    """A VCR question. `Token.objects` are indices of `objects`; labels are -1 where unknown."""

    text_id: str
    image_id: str
    height: int
    width: int
    question: tuple[Token, ...]
    answers: tuple[tuple[Token, ...], ...]
    rationales: tuple[tuple[Token, ...], ...]
    answer_label: int
    rationale_label: int
    objects: tuple[ObjectBox, ...]

    @property
    def labelled(self) -> bool:
        return self.answer_label >= 0

    def rows(self, options: RowOptions) -> Iterator[Row]:
        """The question's row, followed by those of its choices.

        Rationales are for the question with its right answer. Where that is unknown, each of the
        answers makes an example of its own, as the leaderboard asks: "<id>/a0" to "<id>/a3".

        Raises:
          DataError: an unknown kind, or an object of an unknown class.
        """
        if options.kind not in KINDS:
            raise DataError(
                "questions with choices are of two kinds",
                where="--config.data.records",
                expected=f"one of {KINDS}",
                found=repr(options.kind),
            )
        values = self._objects(options.classes)
        if options.outlines:
            values["object_masks"] = outlines.packed(self.objects)
        if options.kind == "answers":
            given = [("", (self.question,), self.answers, self.answer_label)]
        elif self.labelled:
            answered = (self.question, self.answers[self.answer_label])
            given = [("", answered, self.rationales, self.rationale_label)]
        else:
            given = [
                (f"/a{n}", (self.question, answer), self.rationales, -1)
                for n, answer in enumerate(self.answers)
            ]
        for suffix, question, choices, label in given:
            text_id = self.text_id + suffix
            yield self._row(
                text_id, *question, options=options, values=values | {"label": (label,)}
            )
            for n, choice in enumerate(choices):
                yield self._row(f"{text_id}/{n}", choice, options=options, follows=True)

    @classmethod
    def version_of_rows(cls, kind: str) -> int:
        return 2 if kind == "rationales" else 1  # since 2 they tell where the answer starts

    def _row(self, text_id: str, *texts: Text, options: RowOptions, **more: Any) -> Row:
        def written(tokens: Text) -> tuple[str, tuple[Mention, ...]]:
            return in_words(tokens, self.objects, self.text_id, joined_by=options.joined_by)

        words, mentions = written(sum(texts, ()))
        if len(texts) > 1:
            more["second"] = len(written(texts[0])[0]) + 1
        spans = tuple((m.start, m.end, m.object) for m in mentions)
        return Row(self.image_id, words, text_id, mentions=spans, source=options.source, **more)

    def _objects(self, classes: Sequence[str]) -> dict[str, Any]:
        """Boxes of the objects, with the numbers of their classes where these are named."""
        number = {name: n for n, name in enumerate(classes, 1)}
        unknown = sorted({item.name for item in self.objects} - number.keys())
        if unknown and classes:
            raise DataError(
                "an object has an unknown class",
                where=f"example {self.text_id!r}",
                expected=f"one of {list(classes)}",
                found=unknown,
            )
        values: dict[str, Any] = {"object_boxes": flat([item.box for item in self.objects])}
        if classes:
            values["object_classes"] = [number[item.name] for item in self.objects]
        return values

    def shown(self, prediction: Mapping[str, Any], kind: str = "") -> Shown:
        lines, texts = [("question", self._words(self.question))], [self.question]
        choices, label = self.answers, self.answer_label
        if kind == "rationales":
            given = prediction["id"].removeprefix(self.text_id).removeprefix("/a")
            answer = self.answers[int(given) if given else self.answer_label]
            lines.append(("answer", self._words(answer)))
            texts.append(answer)
            # With a wrong answer no rationale is right.
            choices, label = self.rationales, -1 if given else self.rationale_label
        shares = prediction["probabilities"]
        for i, (choice, share) in enumerate(zip(choices, shares, strict=True)):
            marks = [percent(share)]
            marks += ["predicted"] * (i == prediction["choice"]) + ["true"] * (i == label)
            lines.append((", ".join(marks), self._words(choice)))
            texts.append(choice)
        mentioned = sorted({i for text in texts for token in text for i in token.objects})
        boxes = [self._mentioned(i) for i in mentioned]
        chosen = prediction["choice"]
        return Shown(
            lines,
            boxes,
            None if label < 0 else chosen == label,
            text=lines[0][1],
            predicted=f"choice {chosen + 1}",
            true="" if label < 0 else f"choice {label + 1}",
            confidence=shares[chosen],
            groups=first_word(lines[0][1]),
        )

    def _words(self, text: Text) -> str:
        return in_words(text, self.objects, self.text_id)[0]

    def _mentioned(self, index: int) -> tuple[Sequence[float], str, str]:
        """The box of an object, called as the texts call it."""
        label = self._words((Token("", (index,)),))
        return self.objects[index].box, label[:TRUNCATED], "mentioned"
