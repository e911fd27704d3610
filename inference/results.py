"""What the verbs of a trained model give back."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inference.result import SHOWN, Result

Scored = tuple[str, float]  # a word, an answer or a class, and its probability


def percent(share: float) -> str:
    """0.254 → "25.4 %"."""
    return f"{100 * share:.1f} %"


def _ranked(scored: Sequence[Scored]) -> str:
    return ", ".join(f"{name} {percent(share)}" for name, share in scored[:SHOWN])


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class FilledMask(Result):
    """Words for each [MASK] of a text.

    Attributes:
      text: with its masks.
      filled: with the best words in their places.
      masks: of each mask the best word pieces and their probabilities, the best one first.
    """

    text: str
    filled: str
    masks: tuple[tuple[Scored, ...], ...]

    def lines(self) -> list[tuple[str, str]]:
        """See `Result`."""
        number = len(self.masks) > 1
        return [
            ("text", self.filled),
            *(
                (f"mask {i}" if number else "mask", _ranked(one))
                for i, one in enumerate(self.masks, 1)
            ),
        ]


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Answer(Result):
    """Answers to a question.

    Attributes:
      question: as it was asked.
      answer, probability: the best one; sigmoid scores, each answer by itself.
      top: the best answers with their probabilities, the best one first.
    """

    question: str
    answer: str
    probability: float
    top: tuple[Scored, ...]

    def lines(self) -> list[tuple[str, str]]:
        """See `Result`."""
        return [("question", self.question), ("answers", _ranked(self.top))]


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Choice(Result):
    """Which of several texts fits a question.

    Attributes:
      question, choices: as they were asked.
      choice: number of the best one, from 0.
      probabilities, logits: of each.
    """

    question: str
    choices: tuple[str, ...]
    choice: int
    probabilities: tuple[float, ...]
    logits: tuple[float, ...]

    def lines(self) -> list[tuple[str, str]]:
        """See `Result`."""
        marks = ["→ " if i == self.choice else "" for i in range(len(self.choices))]
        shown = zip(marks, self.probabilities, self.choices, strict=True)
        return [
            ("question", self.question),
            *((f"{mark}{percent(share)}", text) for mark, share, text in shown),
        ]


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Region(Result):
    """The region that a text means.

    Attributes:
      text: as it was asked.
      region: its row; 0 is the whole image, n the n-th region that the model read.
      box: xyxy in pixels of the image.
      score: probability of this region alone.
      option: number of the box that was offered, from 0; None where none were.
    """

    text: str
    region: int
    box: tuple[float, float, float, float]
    score: float
    option: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; without `option` where none were offered."""
        found = super().to_dict()
        if self.option is None:
            del found["option"]
        return found

    def lines(self) -> list[tuple[str, str]]:
        """See `Result`."""
        which = f"region {self.region}" if self.option is None else f"option {self.option}"
        corners = ", ".join(f"{x:.1f}" for x in self.box)
        return [("text", self.text), ("found", f"{which} at ({corners}), score {self.score:.3f}")]

    def drawn(self) -> list[tuple[Sequence[float], str, str]]:
        """See `Result`."""
        return [(self.box, self.text[:40], "predicted")]


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Class(Result):
    """The class of a text and its images.

    Attributes:
      text: as it was asked.
      number: of the best class, from 0.
      name: of it; its number as text where the checkpoint has no names.
      names: of all classes.
      probabilities: of each; shares of one, or with `exclusive` false each by itself.
    """

    text: str
    number: int
    name: str
    names: tuple[str, ...]
    probabilities: tuple[float, ...]
    exclusive: bool = True

    def lines(self) -> list[tuple[str, str]]:
        """See `Result`."""
        order = sorted(range(len(self.names)), key=lambda i: -self.probabilities[i])
        return [
            ("text", self.text),
            ("class", _ranked([(self.names[i], self.probabilities[i]) for i in order])),
        ]


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Alignment(Result):
    """Whether a text belongs to an image.

    Attributes:
      text: as it was asked.
      match: whether the model says so.
      probability: of a match.
      score: log-odds of a match.
    """

    text: str
    match: bool
    probability: float
    score: float

    def lines(self) -> list[tuple[str, str]]:
        """See `Result`."""
        verdict = "a match" if self.match else "no match"
        return [("text", self.text), ("verdict", f"{verdict} ({percent(self.probability)})")]


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Ranking(Result):
    """Scores of texts with images: the larger, the better they fit.

    Attributes:
      texts: [N].
      names: of the images, [M].
      scores: float32 [N, M].
    """

    texts: tuple[str, ...]
    names: tuple[str, ...]
    scores: np.ndarray

    def images_of(self, text: int) -> list[tuple[int, float]]:
        """(number of an image, score) for a text, the best one first."""
        return _order(self.scores[text])

    def texts_of(self, image: int) -> list[tuple[int, float]]:
        """(number of a text, score) for an image, the best one first."""
        return _order(self.scores[:, image])

    def lines(self) -> list[tuple[str, str]]:
        """See `Result`."""
        return [
            (
                text,
                ", ".join(f"{self.names[i]} {x:.3f}" for i, x in self.images_of(n)[:SHOWN]),
            )
            for n, text in enumerate(self.texts)
        ]


def _order(scores: np.ndarray) -> list[tuple[int, float]]:
    best = np.argsort(-scores, kind="stable").tolist()
    return [(i, float(scores[i])) for i in best]


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Embedding(Result):
    """States of the last layer.

    Attributes:
      text: as it was given.
      words: as the text has them, special tokens left out.
      word_states: float32 [words, D], the mean over a word's pieces.
      boxes: float32 [R, 4] xyxy in pixels of the image, row 0 the whole image's.
      region_states: float32 [R, Dv].
      pooled: float32 [P]; None where the model has no pooler.
    """

    text: str
    words: tuple[str, ...]
    word_states: np.ndarray
    boxes: np.ndarray
    region_states: np.ndarray
    pooled: np.ndarray | None

    def lines(self) -> list[tuple[str, str]]:
        """See `Result`."""
        pooled = "none" if self.pooled is None else str(self.pooled.shape)
        return [
            ("text", self.text),
            ("words", f"{self.word_states.shape}"),
            ("regions", f"{self.region_states.shape}"),
            ("pooled", pooled),
        ]


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Attention(Result):
    """Attention of all layers and heads.

    Attributes:
      text: as it was given.
      tokens: word pieces, special tokens included.
      boxes: float32 [R, 4] xyxy in pixels of the image, row 0 the whole image's.
      maps: {which stream: float32 [layers, heads, queries, keys]}. A single-stream model has
        "joint", over tokens, regions and what ends the row; a two-stream model "text", "image",
        "text_to_image" and "image_to_text" (queries are of the first), the last two per connection.
      hidden: {which stream: float32 [layers + 1, positions, width]}, {} unless asked for.
    """

    text: str
    tokens: tuple[str, ...]
    boxes: np.ndarray
    maps: Mapping[str, np.ndarray]
    hidden: Mapping[str, np.ndarray]

    def lines(self) -> list[tuple[str, str]]:
        """See `Result`."""
        shapes = {**self.maps, **{f"hidden {name}": x for name, x in self.hidden.items()}}
        return [("tokens", " ".join(self.tokens))] + [
            (name, f"{array.shape}") for name, array in shapes.items()
        ]
