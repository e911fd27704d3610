"""The official accuracy of answers to questions, from the annotators' raw answers.

The `losses` evaluator's `vqa_accuracy` is the mean soft score of the training targets, which only
answers of the list can have; here any answer is compared, by the rule of its data set
(`Question.accuracy`): that of ten annotators in VQA v2, else both sides normalised.
"""

import collections
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from core.errors import ConfigError
from core.headings import PRIOR, Heading
from evaluation import evaluators, predict
from evaluation.stream import EvaluationStream, Place
from input_pipeline.datasets.reading import answers
from input_pipeline.datasets.records import Question
from objectives.model import MultiTaskModel


class Evaluator(evaluators.Evaluator):
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
        self._records = stream.records
        self._priors: dict[str, float] | None = None
        self._kinds: list[str] = []
        self._predictor = predict.Predictor(model, block.stream, stream, place)

    def headings(self) -> dict[str, Heading]:
        text = "questions answered right, by the data set's own rule"
        return {"accuracy": Heading(text, "share")} | {
            f"accuracy_{kind}": Heading(f"of the questions of type {kind}", "share")
            for kind in self._kinds
        }

    def run(self, params: PyTree) -> dict[str, float | None]:
        """Accuracy of all questions and of each type of answer (yes/no, number, other), 0 to 1.

        Questions that come without an answer do not count; None where all do.
        """
        found = {row["id"]: row["answer"] for row in self._predictor.run(params)}
        asked = [one for one in self._records() if one.text_id in found and one.labelled]
        if not asked:
            return {"accuracy": None}
        shares = _shares({one.text_id: found[one.text_id] for one in asked}, asked)
        self._kinds = [name.removeprefix("accuracy_") for name in shares if name != "accuracy"]
        if self._priors is None:
            self._priors = _priors(asked)
        return shares | self._priors


def _shares(predictions: Mapping[str, str], asked: Sequence[Question]) -> dict[str, float]:
    """Accuracies, 0 to 1, of all questions and of each type of answer."""
    result = answers.evaluate(predictions, asked)
    kinds = {kind: share for kind, share in result["perAnswerType"].items() if kind}
    return {"accuracy": result["overall"] / 100} | {
        f"accuracy_{kind}": share / 100 for kind, share in sorted(kinds.items())
    }


def _priors(asked: Sequence[Question]) -> dict[str, float]:
    """What the most frequent main answer reaches: of all questions, and of each type."""
    groups = collections.defaultdict(list, {"": list(asked)})
    for question in asked:
        if question.answer_type:
            groups[question.answer_type].append(question)
    found = {}
    for kind, group in groups.items():
        mains = collections.Counter(
            question.answers[0].text for question in group if question.answers
        )
        if mains:
            ((guess, _),) = mains.most_common(1)
            share = np.mean([question.accuracy(guess) for question in group])
            found[f"accuracy{'_' * bool(kind)}{kind}{PRIOR}"] = float(share)
    return found
