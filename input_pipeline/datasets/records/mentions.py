"""Texts that mention objects (VCR), in plain words."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import xxhash

from input_pipeline.datasets.records.base import Box

PERSON = "person"
# What VL-BERT calls persons, in its order.
NAMES = (
    *("Casey", "Riley", "Jessie", "Jackie", "Avery", "Jaime", "Peyton"),
    *("Kerry", "Jody", "Kendall", "Frankie", "Pat", "Quinn"),
)


@dataclasses.dataclass(frozen=True)
class Token:
    """A word, or a mention of objects of the image (then `word` is empty)."""

    word: str
    objects: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class ObjectBox:
    """An annotated object: class name, box, detector score, polygons of (x, y) pixels."""

    name: str
    box: Box
    score: float = 1.0
    polygons: tuple[tuple[tuple[float, float], ...], ...] = ()


@dataclasses.dataclass(frozen=True)
class Mention:
    """Characters start to end of a text name an object (index into the record's `objects`)."""

    start: int
    end: int
    object: int


def joined_by(block: Mapping[str, Any]) -> str:
    """The word between several objects that a text mentions together, by a `data` block."""
    return "and" if block.get("objects_with_and", True) else ""


def in_words(
    tokens: Sequence[Token], objects: Sequence[ObjectBox], key: str, *, joined_by: str = "and"
) -> tuple[str, tuple[Mention, ...]]:
    """A text in plain words, and which of them are which object.

    An object goes by its class name; a person by one of 13 names that suit any gender, since the
    class name would not tell two persons apart. Several objects are joined by "and", which belongs
    to none of them, as VL-BERT does; ViLBERT writes them one after the other. VL-BERT deals the
    names out with one counter over all examples it happens to read; here the first name follows
    from `key` and the next person has the next name, so that it depends on nothing else, and is
    the same in question, answers and rationales.

    Args:
      tokens: of the question, an answer or a rationale.
      objects: of the record.
      key: the record's text_id.
      joined_by: word between several objects; empty: none.
    """
    first, persons, names = xxhash.xxh3_64_intdigest(key.encode()), 0, []
    for item in objects:
        names.append(item.name)
        if item.name == PERSON:
            names[-1] = NAMES[(first + persons) % len(NAMES)]
            persons += 1
    text, mentions = "", []
    for token in tokens:
        for place, index in enumerate(token.objects):
            text += f" {joined_by} " if place and joined_by else " "
            mentions.append(Mention(len(text) - 1, len(text) - 1 + len(names[index]), index))
            text += names[index]
        if token.word:
            text += f" {token.word}"
    return text[1:], tuple(mentions)  # without the space before the first word
