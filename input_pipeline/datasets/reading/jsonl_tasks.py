"""The lines of one's own JSONL files as records (`datasets.records`), one kind a `data.records`.

Every line names an image of the region store and a text; what else it needs:

  captions, retrieve   the text may be a list of strings, one example each
  classify             label: a string or a whole number
  choices              choices: two strings or more; label: number of the right one, from 0
  ground               box: x1, y1, x2, y2 in pixels; candidates: a list of boxes, or none
  questions            answers: a string, or a list of strings

An example is called by its `id`, or "<image id>#<n>". Lines without a label, box or answers are an
error in training; elsewhere they can be predicted on and count in no metric.
"""

import collections
from collections.abc import Iterator, Sequence
from typing import Any

from core.errors import DataError
from input_pipeline.datasets.options.jsonl import RECORDS
from input_pipeline.datasets.reading import entries
from input_pipeline.datasets.reading.answers import normalize, soft_scores
from input_pipeline.datasets.reading.jsonl_lines import Line, class_name, identifier, lines, missing
from input_pipeline.datasets.reading.stretches import Stretch
from input_pipeline.datasets.records import (
    Answer,
    Caption,
    Expression,
    MultipleChoice,
    Question,
    Statement,
    Token,
)
from input_pipeline.texts.rows import EMPTY, Skipped

CAPTIONS = ("captions", "retrieve")
ANNOTATORS = 10  # answers of a question that are scored as VQA's
UNKNOWN_BOX = (0.0, 0.0, 0.0, 0.0)


class Reader:
    """Turns the lines of a split into records of one kind.

    Attributes:
      texts_of: {image id: texts so far} of those that are called "<image id>#<n>".
    """

    def __init__(self, kind: str, keys, on_missing: str, *, trained: bool, classes=()):
        """Reads nothing yet.

        Args:
          kind: one of RECORDS.
          keys: data.json_keys.
          on_missing: "skip" makes lines without text, or in training without label, Skipped.
          trained: whether the split is trained on, so that every line must have its label.
          classes: names of the classes of "classify", in the order of their labels.

        Raises:
          DataError: an unknown kind.
        """
        if kind not in RECORDS:
            raise DataError(
                "unknown records of jsonl",
                where="--config.data.records",
                expected=f"one of {RECORDS}",
                found=repr(kind),
            )
        self._make = getattr(self, f"_{kind}" if kind not in CAPTIONS else "_captions")
        self._captions_only = kind in CAPTIONS
        self._keys, self._skip, self._trained = keys, on_missing == "skip", trained
        self._label_of = {name: label for label, name in enumerate(classes)}
        self.texts_of: collections.Counter[str] = collections.Counter()
        self._ids = entries.Unique("id")
        self._count = 0  # choices of the first line
        self._candidates: bool | None = None  # whether the first line has any

    def records(
        self, files: Sequence[str], split: str, stretch: Stretch | None = None
    ) -> Iterator[tuple[int, Any]]:
        """(number of the file, record or Skipped) of a split, or of a stretch of it, in order.

        Raises:
          DataError: naming file and line, whatever is wrong.
        """
        self.texts_of.update(stretch.before if stretch else {})
        for line in lines(files, self._keys, split, stretch):
            for record in self._make(line):
                yield line.source, record

    def _number(self, line: Line) -> str:
        """The next "<image id>#<n>"."""
        self.texts_of[line.image_id] += 1
        return f"{line.image_id}#{self.texts_of[line.image_id] - 1}"

    def _captions(self, line: Line) -> Iterator[Caption | Skipped]:
        key = self._keys.text
        texts = line.item.get(key, [])
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise self._no_text(line, "a string or a list of strings")
        if not texts and not self._skip:
            raise line.error(
                "a row has no text",
                f"a string or a non-empty list at {key!r}",
                f"keys {sorted(line.item)}",
                "add it, set --config.data.json_keys.text, or --config.data.on_missing=skip",
            )
        if not texts:
            yield Skipped(f"{line.image_id} ({line.where})", EMPTY)
        for text in texts:
            name = self._number(line)
            if text.strip():
                yield Caption(name, line.image_id, text)
            elif self._skip:
                yield Skipped(f"{name} ({line.where})", EMPTY)
            else:
                raise self._empty(line, text)

    def _no_text(self, line: Line, expected: str) -> DataError:
        return line.error(
            f"the value of {self._keys.text!r} is no text",
            expected,
            repr(line.item[self._keys.text])[:60],
            "correct the line, or set --config.data.json_keys.text",
        )

    def _empty(self, line: Line, text: str) -> DataError:
        return line.error(
            "a text is empty",
            "at least one word",
            repr(text),
            "correct it, or set --config.data.on_missing=skip",
        )

    def _named(self, line: Line) -> tuple[str, str]:
        """(id, text) of a line with one text; an empty text is left to the caller."""
        keys, item = self._keys, line.item
        if keys.id and keys.id in item:
            name = identifier(line, item[keys.id], "an id")
        else:
            name = self._number(line)
        if keys.text not in item and not self._skip:
            raise missing(line, keys, "text")
        text = item.get(keys.text, "")
        if not isinstance(text, str):
            raise self._no_text(line, "a string")
        if not text.strip() and not self._skip:
            raise self._empty(line, text)
        return self._ids.add(name, line.where), text

    def _one(self, line: Line, name: str, make) -> Iterator[Any]:
        """The record of a line with one text and one target.

        Args:
          line: of the file.
          name: of the target's key in data.json_keys.
          make: make(id, text, whether the target is there) -> record.
        """
        text_id, text = self._named(line)
        there = self._target(name) in line.item
        if there and line.item[self._target(name)] is None:
            raise line.error(
                f"the value of {self._target(name)!r} is null",
                "a value, or no such key where it is unknown",
                "null",
                "add the value, or leave the key out of a line to predict",
            )
        if not text.strip():
            yield Skipped(f"{text_id} ({line.where})", EMPTY)
        elif there or not self._trained:
            yield make(text_id, text, there)
        elif self._skip:
            yield Skipped(f"{text_id} ({line.where})", f"no {name}")
        else:
            raise missing(line, self._keys, name)

    def _target(self, name: str) -> str:
        return self._keys[name]

    def _classify(self, line: Line) -> Iterator[Statement | Skipped]:
        def make(text_id, text, there):
            found = class_name(line, self._keys) if there else ""
            if there and found not in self._label_of:
                raise line.error(
                    "a label is none of the classes",
                    f"one of {list(self._label_of)[:20]}",
                    repr(found),
                    "correct it, or name a list that has it: --config.data.answers=classes.txt",
                )
            label = self._label_of[found] if there else -1
            return Statement(text_id, (line.image_id,), text, label, found)

        return self._one(line, "label", make)

    def _choices(self, line: Line) -> Iterator[MultipleChoice | Skipped]:
        def make(text_id, text, there):
            choices = self._strings(line, "choices", 2)
            self._count = self._count or len(choices)
            if len(choices) != self._count:
                raise line.error(
                    "the lines have different numbers of choices",
                    f"{self._count}, as the first one",
                    len(choices),
                    "give all of them as many (option choices of their objective)",
                )
            label = line.item[self._keys.label] if there else -1
            if there and (type(label) is not int or not 0 <= label < len(choices)):
                raise line.error(
                    "a label is none of the choices",
                    f"a number from 0 to {len(choices) - 1}",
                    repr(label),
                    "correct the line",
                )
            return MultipleChoice(
                text_id=text_id,
                image_id=line.image_id,
                height=0,  # unknown, as no object refers to pixels
                width=0,
                question=_words(text),
                answers=tuple(map(_words, choices)),
                rationales=(),
                answer_label=label,
                rationale_label=-1,
                objects=(),
            )

        return self._one(line, "label", make)

    def _ground(self, line: Line) -> Iterator[Expression | Skipped]:
        def make(text_id, text, there):
            key = self._keys.candidates
            candidates = line.item.get(key, [])
            if not isinstance(candidates, list):
                raise line.error(
                    f"the value of {key!r} is no list",
                    "a list of boxes",
                    repr(candidates)[:60],
                    "correct the line, or set --config.data.json_keys.candidates",
                )
            boxes = tuple(_box(line, box) for box in candidates)
            if self._candidates is None:
                self._candidates = bool(candidates)
            if self._candidates != bool(candidates):
                raise line.error(
                    "some lines have candidates and some have none",
                    f"{'some' if self._candidates else 'none'}, as in the first line",
                    f"{len(candidates)} candidates",
                    "give candidates to all lines of the split, or to none",
                )
            return Expression(
                text_id=text_id,
                ref_id=-1,
                image_id=line.image_id,
                text=text,
                box=_box(line, line.item[self._keys.box]) if there else UNKNOWN_BOX,
                candidates=boxes,
            )

        return self._one(line, "box", make)

    def _questions(self, line: Line) -> Iterator[Question | Skipped]:
        def make(text_id, text, there):
            raw = self._strings(line, "answers", 1) if there else ()
            if 1 < len(raw) != ANNOTATORS:
                # Other ways to say it: each as often as the official rule asks for to be right.
                raw = tuple(answer for answer in dict.fromkeys(raw) for _ in range(4))
            scored = soft_scores(raw, "normalized") if raw else {}
            often = collections.Counter(map(normalize, raw))
            answers = [Answer(*pair) for pair in scored.items()]
            answers.sort(key=lambda answer: -often[answer.text])
            return Question(text_id, line.image_id, text, tuple(answers), raw)

        return self._one(line, "answers", make)

    def _strings(self, line: Line, name: str, least: int) -> tuple[str, ...]:
        key = self._target(name)
        if key not in line.item:
            raise missing(line, self._keys, name)
        value = line.item[key]
        value = [value] if isinstance(value, str) and least == 1 else value
        if (
            not isinstance(value, list)
            or len(value) < least
            or not all(isinstance(text, str) and text.strip() for text in value)
        ):
            raise line.error(
                f"the value of {key!r} is no list of texts",
                f"a list of at least {least} strings that are not empty",
                repr(line.item[key])[:60],
                f"correct the line, or set --config.data.json_keys.{name}",
            )
        return tuple(value)


def _words(text: str) -> tuple[Token, ...]:
    return tuple(map(Token, text.split()))


def _box(line: Line, value) -> tuple[float, float, float, float]:
    numbers = value if isinstance(value, list) else ()
    sound = len(numbers) == 4 and all(map(entries.is_number, numbers))
    if not sound or numbers[2] <= numbers[0] or numbers[3] <= numbers[1]:
        raise line.error(
            "a box is none",
            "[x1, y1, x2, y2] in pixels, x1 < x2 and y1 < y2",
            repr(value)[:60],
            "correct the line; of x, y, width, height, add the first two to the others",
        )
    return tuple(map(float, numbers))
