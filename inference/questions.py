"""What people ask, in plain Python values, as the records that training reads."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import DataError
from input_pipeline.datasets.records import (
    Box,
    Caption,
    Expression,
    MultipleChoice,
    ObjectBox,
    Pointing,
    Question,
    RowOptions,
    Statement,
    Token,
)
from input_pipeline.texts.rows import Row
from input_pipeline.texts.tokenizer import SPECIALS, Tokenizer

MASK = SPECIALS["mask"]
_ID, _IMAGE = "the text", ""  # a record has an id and an image, which nothing here reads
_MENTION = re.compile(r"\[\s*(\d+(?:\s*,\s*\d+)*)\s*\]")  # [0] or [0, 2]
_UNKNOWN = (0.0, 0.0, 0.0, 0.0)

Text = str | Sequence[str | Sequence[int]]  # with mentions: "Is [0] new ?", ["Is", [0], "new", "?"]


def text(value: Any, what: str = "a text") -> str:
    """A text that says something.

    Raises:
      DataError: it is empty, or no text.
    """
    if not isinstance(value, str):
        raise DataError(f"{what} is no text", expected="a str", found=type(value).__name__)
    if not value.strip():
        raise DataError(f"{what} is empty", expected="at least one word", found=repr(value))
    return value


def question(value: str) -> tuple[Row, ...]:
    """An open question."""
    return tuple(Question(_ID, _IMAGE, text(value, "a question")).rows(RowOptions()))


def caption(value: str) -> tuple[Row, ...]:
    """A text about an image."""
    return tuple(Caption(_ID, _IMAGE, text(value)).rows(RowOptions()))


def statement(value: str, images: int) -> tuple[Row, ...]:
    """A text about so many images."""
    record = Statement(_ID, (_IMAGE,) * images, text(value), -1)
    return tuple(record.rows(RowOptions()))


def expression(value: str, candidates: Sequence[Any] | None) -> tuple[Row, ...]:
    """A text that means a region, of some boxes where these are given."""
    boxes = () if candidates is None else boxes_of(candidates, "candidates")
    record = Expression(_ID, -1, _IMAGE, text(value), _UNKNOWN, boxes)
    return tuple(record.rows(RowOptions(all_regions=candidates is None)))


def pointing(value: str, options: Sequence[Any]) -> tuple[Row, ...]:
    """A text that means one of some boxes."""
    boxes = boxes_of(options, "boxes")
    record = Pointing(_ID, _IMAGE, text(value), boxes, tuple(range(len(boxes))), -1)
    return tuple(record.rows(RowOptions()))


def boxes_of(values: Sequence[Any], what: str) -> tuple[Box, ...]:
    """Boxes, each xyxy in pixels.

    Raises:
      DataError: none, or something else.
    """
    try:
        found = tuple(tuple(map(float, box)) for box in values)
        if not found or any(len(box) != 4 for box in found):
            raise ValueError("no four numbers of each, or no box")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"the {what} are no boxes",
            expected="at least one (x1, y1, x2, y2) in pixels of the image",
            found=str(error),
        ) from error
    return found


def choice(
    asked: Text,
    choices: Sequence[Text],
    *,
    objects: Sequence[Any],
    answer: Text | None,
    key: str,
    joined_by: str,
) -> tuple[Row, ...]:
    """A question and its choices: answers or, where it comes with its answer, rationales.

    Args:
      asked: the question.
      choices: the texts to choose from.
      objects: what texts mention by number, see `object_boxes`.
      answer: to the question, where rationales are to be chosen.
      key: from which the names of persons follow.
      joined_by: see `RowOptions`.
    """
    found = object_boxes(objects)
    given = tokens(asked, len(found), "a question")
    texts = tuple(tokens(one, len(found), f"choice {i}") for i, one in enumerate(choices))
    if answer is None:
        record = MultipleChoice(key, _IMAGE, 1, 1, given, texts, (), -1, -1, found)
        kind = "answers"
    else:
        told = (tokens(answer, len(found), "an answer"),)
        record = MultipleChoice(key, _IMAGE, 1, 1, given, told, texts, 0, -1, found)
        kind = "rationales"
    return tuple(record.rows(RowOptions(kind=kind, joined_by=joined_by)))


def object_boxes(values: Sequence[Any]) -> tuple[ObjectBox, ...]:
    """Objects of an image: (name, box), {"name", "box"} or `ObjectBox` each.

    Raises:
      DataError: something else.
    """
    found = []
    for number, value in enumerate(values):
        if isinstance(value, ObjectBox):
            found.append(value)
            continue
        try:
            name, box = (value["name"], value["box"]) if isinstance(value, Mapping) else value
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"object {number} is none",
                expected="(name, (x1, y1, x2, y2)), or {'name': ..., 'box': ...}",
                found=repr(value),
            ) from error
        found.append(ObjectBox(text(name, "an object's name"), *boxes_of([box], "objects")))
    return tuple(found)


def tokens(value: Text, objects: int, what: str) -> tuple[Token, ...]:
    """Words and mentions of objects.

    Args:
      value: a text, whose mentions are numbers in brackets where there are objects; or words, and
        lists of numbers.
      objects: how many there are.
      what: the text is called in messages.

    Raises:
      DataError: an empty text, or a mention of no object.
    """
    parts: list[Any] = []
    if isinstance(value, str):
        for i, part in enumerate(_MENTION.split(text(value, what)) if objects else [value]):
            parts += [[int(n) for n in part.split(",")]] if i % 2 else part.split()
    else:
        parts = list(value)
    found = []
    for part in parts:
        mentions = () if isinstance(part, str) else tuple(part)
        wrong = [n for n in mentions if not 0 <= n < objects]
        if wrong:
            raise DataError(
                f"{what} mentions an object that there is not",
                expected=f"numbers from 0 to {objects - 1}"
                if objects
                else "no mentions, or objects=[(name, box), ...]",
                found=wrong[0],
            )
        found.append(Token("" if mentions else part, mentions))
    if not found:
        raise DataError(f"{what} is empty", expected="at least one word", found=repr(value))
    return tuple(found)


def masked(value: str, tokenizer: Tokenizer) -> tuple[Row, ...]:
    """A text with [MASK]s, each of which is one marked piece.

    Raises:
      DataError: there is no mask to fill.
    """
    parts = text(value).split(MASK)
    if len(parts) == 1:
        raise DataError(
            "there is no mask to fill", expected=f"{MASK} in the text", found=repr(value)
        )
    word = plain_word(tokenizer)  # stands where the mask will: a tokenizer reads no special tokens
    out, spans = "", []
    for part in parts[:-1]:
        out += f"{part} "
        spans.append((len(out), len(out) + len(word), 0))
        out += f"{word} "
    return (Row(_IMAGE, out + parts[-1], _ID, probe=tuple(spans)),)


def plain_word(tokenizer: Tokenizer) -> str:
    """A word of one piece."""
    return next(
        piece for piece in tokenizer.pieces if piece.isascii() and piece.isalpha() and
        piece.islower()
    )  # fmt: skip


def filled(value: str, pieces: Sequence[str]) -> str:
    """A text with word pieces for its first [MASK]s; those that continue a word join it."""
    out, *rest = value.split(MASK)
    for part, piece in itertools.zip_longest(rest, pieces, fillvalue=MASK):
        joined = piece.startswith("##") and len(piece) > 2
        out = (out.rstrip() + piece[2:] if joined else out + piece) + part
    return out
