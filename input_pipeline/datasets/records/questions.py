"""Open questions on an image, with soft scores of their answers."""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

from core.errors import DataError
from input_pipeline.datasets.reading import answers
from input_pipeline.datasets.records.base import Record, RowOptions, Shown, percent

RIGHT = 0.5  # official accuracy from which an answer is right


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer and its soft score, 0 to 1."""

    text: str
    score: float


@dataclasses.dataclass(frozen=True)
class Question(Record):
    """An open question on an image (VQA v2, Visual Genome QA, GQA).

    Attributes:
      text_id: question id.
      image_id: of the region store.
      text: the question.
      answers: distinct answers with soft scores; empty where the split has no labels.
      raw_answers: the annotators' answers as given (ten in VQA v2), for the official metric.
      question_type, answer_type: as the data set names them; empty where it does not.
    """

    text_id: str
    image_id: str
    text: str
    answers: tuple[Answer, ...] = ()
    raw_answers: tuple[str, ...] = ()
    question_type: str = ""
    answer_type: str = ""

    @property
    def labelled(self) -> bool:
        return bool(self.raw_answers or self.answers)

    def values(self, options: RowOptions) -> dict[str, Any]:
        """answer_ids and answer_scores, as far as the answers are listed.

        Raises:
          DataError: an answer with a score outside 0 to 1.
        """
        found: dict[int, float] = {}
        for answer in self.answers:
            if not 0 <= answer.score <= 1:
                raise DataError(
                    "the score of an answer is no share",
                    where=f"question {self.text_id!r}",
                    expected="0 to 1",
                    found=f"{answer.text!r}: {answer.score}",
                )
            label = options.answers.lookup(answer.text)
            if label >= 0 and answer.score > 0:
                found[label] = answer.score
        return {"answer_ids": list(found), "answer_scores": list(found.values())}

    def shown(self, prediction: Mapping[str, Any], kind: str = "") -> Shown:
        top = ", ".join(f"{answer} {percent(share)}" for answer, share in prediction["top"])
        lines = [("question", self.text), ("predicted", top)]
        given = self.raw_answers or tuple(answer.text for answer in self.answers)
        if not given:
            return Shown(lines)
        truth = given[0]
        if len(given) > 1:
            counts = collections.Counter(given).most_common()
            truth = ", ".join(f"{answer} ×{count}" for answer, count in counts)
        right = answers.accuracy(prediction["answer"], given) >= RIGHT
        return Shown([*lines, ("true", truth)], right=right)
