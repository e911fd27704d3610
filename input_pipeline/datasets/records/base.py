"""What every record can do: say its images, become rows of a text table, be shown in a report."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from input_pipeline.datasets.reading.answers import AnswerVocabulary
from input_pipeline.texts.table_writer import Row

Box = tuple[float, float, float, float]  # xyxy in pixels of the image

HIT = 0.5  # overlap with the true box from which a predicted one is right


@dataclasses.dataclass(frozen=True)
class RowOptions:
    """How records become rows.

    Attributes:
      source: number of the split or file they are of, where several are joined.
      answers: the answer list, for questions.
      answer_form: what of an annotator's answer is looked up in it, one of `answers.FORMS`.
      kind: what is to be chosen, for questions with choices: "answers" or "rationales".
      classes: names of the objects' classes, the first of which has number 1.
      all_regions: whether an expression may mean any region of the store, and not just the
        record's candidates.
      joined_by: word between several objects that a text mentions together; empty: none.
      outlines: whether objects come with the cells of their outlines (`outlines`).
    """

    source: int = 0
    answers: AnswerVocabulary | None = None
    kind: str = ""
    classes: Sequence[str] = ()
    all_regions: bool = False
    answer_form: str = "normalized"
    joined_by: str = "and"
    outlines: bool = False


@dataclasses.dataclass(frozen=True)
class Shown:
    """A record beside what was predicted of it, for a report.

    Attributes:
      lines: (what, text).
      boxes: (xyxy of the first image, label, "true", "predicted", "mentioned" or "other").
      right: whether the prediction is; None where the truth is unknown.
      score: what the prediction counts in the accuracy, 0 to 1; None: 1 if right.
      text: what was asked or said.
      predicted: what was predicted, in a word or two.
      true: the same of the truth; empty where it is unknown or has no name.
      confidence: probability of the prediction, 0 to 1; None where the model gives none.
      groups: {what it is a kind of: the kind}, such as {"type of answer": "yes/no"}.
      images: ids of further images to show beside the record's own.
    """

    lines: Sequence[tuple[str, str]]
    boxes: Sequence[tuple[Sequence[float], str, str]] = ()
    right: bool | None = None
    score: float | None = None
    text: str = ""
    predicted: str = ""
    true: str = ""
    confidence: float | None = None
    groups: Mapping[str, str] = dataclasses.field(default_factory=dict)
    images: Sequence[str] = ()


class Record:
    """A base class without fields; `text_id`, `text` and `image_id` or `image_ids` are data.

    `row_version` counts the meanings that the rows of a kind of record have had: tables of another
    one are made again. (Without a type, since typed attributes are data.)
    """

    text_id: str
    row_version = 1

    @classmethod
    def version_of_rows(cls, kind: str) -> int:
        """`row_version` of the rows of a kind, see RowOptions."""
        del kind
        return cls.row_version

    @property
    def images(self) -> tuple[str, ...]:
        """Ids of its images in a region store."""
        return (self.image_id,)

    @property
    def labelled(self) -> bool:
        """Whether it tells what is right."""
        return True

    def rows(self, options: RowOptions) -> Iterator[Row]:
        """The rows of the text table that it becomes; mostly one."""
        first, *more = self.images
        yield Row(
            first,
            self.text,
            self.text_id,
            more_images=tuple(more),
            source=options.source,
            values=self.values(options),
        )

    def values(self, options: RowOptions) -> dict[str, Any]:
        """{key of the batch: numbers} that its row carries beside the text."""
        del options
        return {}

    def shown(self, prediction: Mapping[str, Any], kind: str = "") -> Shown:
        """What a report shows of it.

        Args:
          prediction: of `Objective.describe`, with its "id", or a line of a ranking.
          kind: as of RowOptions.
        """
        del kind
        if "rank" in prediction:
            return _ranked(getattr(self, "text", ""), prediction)
        text = ", ".join(f"{key} {value}" for key, value in prediction.items() if key != "id")
        return Shown([("predicted", text)], text=getattr(self, "text", ""))


def _ranked(text: str, prediction: Mapping[str, Any]) -> Shown:
    """A text for which images were ranked: right where its own one is the first."""
    rank, top = prediction["rank"], prediction["top"]
    bounds = ((1, "1"), (5, "2–5"), (10, "6–10"))
    return Shown(
        [
            ("text", text),
            ("its image", f"{prediction['image']}, rank {rank}"),
            ("first images, with scores", ", ".join(f"{name} {score:.2f}" for name, score in top)),
        ],
        right=rank == 1,
        text=text,
        predicted=f"rank {rank}",
        groups={"rank": next((name for most, name in bounds if rank <= most), "above 10")},
        images=[top[0][0]] if rank > 1 else [],
    )


def first_word(text: str) -> dict[str, str]:
    """{"type of question": its first word}, for questions that no data set sorts."""
    word, *_ = (*text.casefold().split(), "")
    return {"type of question": word} if word else {}


def flat(boxes: Sequence[Box]) -> list[float]:
    """Boxes one after the other."""
    return [number for box in boxes for number in box]


def sigmoid(score: float) -> str:
    """0.25 → "sigmoid score 25 %": of one output by itself, not a share of all."""
    return f"sigmoid score {percent(score)}"


def percent(share: float) -> str:
    """0.25 → "25 %"."""
    return f"{100 * share:.0f} %"
