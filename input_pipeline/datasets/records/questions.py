"""Open questions on an image, with soft scores of their answers."""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

from core.errors import DataError
from input_pipeline.datasets.reading import answers
from input_pipeline.datasets.reading.answers import Scored
from input_pipeline.datasets.records.base import Record, RowOptions, Shown, first_word, percent

RIGHT = 0.5  # official accuracy from which an answer is right


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer and its soft score, 0 to 1."""

    text: str
    score: float


@dataclasses.dataclass(frozen=True)
class Question(Record):
    """An open question on an image (Visual Genome QA, GQA, one's own).

    Attributes:
      text_id: question id.
      image_id: of the region store.
      text: the question.
      answers: distinct answers with soft scores; empty where the split has no labels.
      raw_answers: the answers as given, for the accuracy.
      question_type, answer_type: as the data set names them; empty where it does not.
    """

    text_id: str
    image_id: str
    text: str
    answers: tuple[Answer, ...] = ()
    raw_answers: tuple[str, ...] = ()
    question_type: str = ""
    answer_type: str = ""

    row_version = 2
    official = False  # whether VQA v2's rule applies

    def accuracy(self, prediction: str) -> float:
        """The accuracy of an answer, 0 to 1; prediction and answers are normalised alike.

        Raises:
          DataError: the question has no answers.
        """
        return answers.accuracy(prediction, self._given, official=self.official)

    @property
    def scored(self) -> Scored:
        """The accuracy of any answer, where the question has some itself."""
        return answers.scored(self._given, self.official)

    @property
    def _given(self) -> tuple[str, ...]:
        return self.raw_answers or tuple(answer.text for answer in self.answers)

    @property
    def labelled(self) -> bool:
        return bool(self.raw_answers or self.answers)

    def values(self, options: RowOptions) -> dict[str, Any]:
        """answer_ids and answer_scores, as far as the answers are listed; without answers id -1.

        Raises:
          DataError: an answer with a score outside 0 to 1.
        """
        if not self.labelled:
            return {"answer_ids": [-1], "answer_scores": [0.0]}
        found: dict[int, float] = {}
        repeated = False  # several writings of one answer: their annotators count together
        for answer in self.answers:
            if not 0 <= answer.score <= 1:
                raise DataError(
                    "the score of an answer is no share",
                    where=f"question {self.text_id!r}",
                    expected="0 to 1",
                    found=f"{answer.text!r}: {answer.score}",
                )
            label = options.answers.lookup(answer.text, options.answer_form)
            if label >= 0 and answer.score > 0:
                repeated |= label in found
                found[label] = max(answer.score, found.get(label, 0.0))
        if repeated and self.raw_answers:
            given = [options.answers.lookup(raw, options.answer_form) for raw in self.raw_answers]
            for label in found:
                found[label] = answers.soft_score(given.count(label), len(given))
        return {"answer_ids": list(found), "answer_scores": list(found.values())}

    def shown(self, prediction: Mapping[str, Any], kind: str = "") -> Shown:
        top = ", ".join(f"{answer} {percent(share)}" for answer, share in prediction["top"])
        # Each answer by itself is right or wrong: these are no shares of one.
        lines = [("question", self.text), ("predicted, with sigmoid scores", top)]
        groups = {"type of question": self.question_type} if self.question_type else {}
        shown = Shown(
            lines,
            text=self.text,
            predicted=prediction["answer"],
            confidence=prediction["probability"],
            groups=({"type of answer": self.answer_type} if self.answer_type else {})
            | (groups or first_word(self.text)),
        )
        given = self._given
        if not given:
            return shown
        counts = collections.Counter(given).most_common()
        truth = given[0]
        if len(given) > 1:
            truth = ", ".join(f"{answer} ×{count}" for answer, count in counts)
        score = self.accuracy(prediction["answer"])
        return dataclasses.replace(
            shown,
            lines=[*lines, ("true", truth)],
            right=score >= RIGHT,
            score=score,
            true=counts[0][0],
        )


@dataclasses.dataclass(frozen=True)
class AnnotatedQuestion(Question):
    """A question with the answers of ten annotators, to which VQA v2's official rule applies."""

    official = True  # answers are compared to the letter where all annotators agree
