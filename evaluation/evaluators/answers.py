"""The official accuracy of answers to questions, from the annotators' raw answers.

The `losses` evaluator's `vqa_accuracy` is the mean soft score of the training targets, which only
answers of the list can have; here any answer is compared, by the rule of its data set
(`Question.accuracy`): that of ten annotators in VQA v2, else both sides normalised.
"""

import collections
import dataclasses
import sys
from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from core.errors import ConfigError
from core.headings import PRIOR, Heading
from evaluation import passes, predict
from evaluation.stream import EvaluationStream, Place
from input_pipeline.datasets.reading import answers
from input_pipeline.datasets.records import Question
from objectives import base
from objectives.model import MultiTaskModel


class Evaluator(passes.PassEvaluator):
    """Needs a stream of questions whose first objective answers them.

    Questions that were left out of the split (data.on_missing=skip) do not count.
    """

    def __init__(
        self,
        block: ConfigDict,
        model: MultiTaskModel,
        stream: EvaluationStream,
        place: Place,
        seed: int,
    ):
        del seed  # nothing is drawn
        if stream.records is None or not stream.answers:
            raise ConfigError(
                f"the answers evaluator needs a data set of questions, such as data=vqa; stream "
                f"{block.stream!r} has none"
            )
        super().__init__(block, stream, place)
        self._records = stream.records
        self._truth: dict[str, _Truth] = {}  # of all questions that have answers, once it is read
        self._priors: dict[str, float] | None = None
        self._kinds: list[str] = []
        self._predictor = predict.Predictor(model, block.stream, stream, place)

    def headings(self) -> dict[str, Heading]:
        text = "questions answered right, by the data set's own rule"
        return {"accuracy": Heading(text, "share")} | {
            f"accuracy_{kind}": Heading(f"of the questions of type {kind}", "share")
            for kind in self._kinds
        }

    def begin(self) -> None:
        self._found: dict[str, str] = {}

    def measure(self, params: PyTree, batch: base.Arrays) -> PyTree:
        return self._predictor.traced(params, batch, measured=False)

    def take(self, batch: base.Arrays, out: PyTree) -> None:
        self._found.update((row["id"], row["answer"]) for row, _ in self._predictor.read(out))

    def end(self) -> dict[str, float | None]:
        """Accuracy of all questions and of each type of answer (yes/no, number, other), 0 to 1.

        Questions that come without an answer do not count; None where all do.
        """
        if not self._truth:
            self._truth = {
                one.text_id: _Truth.of(one)
                for one in self._records()
                if one.text_id in self._found and one.labelled
            }
        if not self._truth:
            return {"accuracy": None}
        shares = _shares({name: self._found[name] for name in self._truth}, self._truth.values())
        self._kinds = [name.removeprefix("accuracy_") for name in shares if name != "accuracy"]
        if self._priors is None:
            self._priors = _priors(self._truth.values())
        return shares | self._priors


@dataclasses.dataclass(frozen=True, slots=True)
class _Truth:
    """What is compared with predictions of a question: a tenth of the memory of its record."""

    text_id: str
    question_type: str
    answer_type: str
    main: str  # the main answer; empty: it has none
    scored: answers.Scored

    @classmethod
    def of(cls, question: Question) -> "_Truth":
        texts = (question.question_type, question.answer_type)
        main = question.answers[0].text if question.answers else ""
        return cls(question.text_id, *map(sys.intern, (*texts, main)), question.scored)

    def accuracy(self, prediction: str) -> float:
        return self.scored.accuracy(prediction)


def _shares(predictions: Mapping[str, str], asked: Iterable[_Truth]) -> dict[str, float]:
    """Accuracies, 0 to 1, of all questions and of each type of answer."""
    result = answers.evaluate(predictions, asked)
    kinds = {kind: share for kind, share in result["perAnswerType"].items() if kind}
    return {"accuracy": result["overall"] / 100} | {
        f"accuracy_{kind}": share / 100 for kind, share in sorted(kinds.items())
    }


def _priors(asked: Iterable[_Truth]) -> dict[str, float]:
    """What the most frequent main answer reaches: of all questions, and of each type."""
    groups = collections.defaultdict(list, {"": list(asked)})
    for question in groups[""]:
        if question.answer_type:
            groups[question.answer_type].append(question)
    found = {}
    for kind, group in groups.items():
        mains = collections.Counter(question.main for question in group if question.main)
        if mains:
            ((guess, _),) = mains.most_common(1)
            share = np.mean([question.accuracy(guess) for question in group])
            found[f"accuracy{'_' * bool(kind)}{kind}{PRIOR}"] = float(share)
    return found
