"""The official accuracy of answers to questions, from the annotators' raw answers.

The `losses` evaluator's `vqa_accuracy` is the mean soft score of the training targets, which only
answers of the list can have; here any answer is compared, by the rule of its data set
(`Question.accuracy`): that of ten annotators in VQA v2, else both sides normalised.
"""

from jaxtyping import PyTree
from ml_collections import ConfigDict

from core.errors import ConfigError
from evaluation import evaluators, predict
from evaluation.stream import EvaluationStream, Place
from input_pipeline.datasets.reading import answers
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
        self._predictor = predict.Predictor(model, block.stream, stream, place)

    def run(self, params: PyTree) -> dict[str, float]:
        """Accuracy of all questions and of each type of answer (yes/no, number, other), 0 to 1."""
        found = {row["id"]: row["answer"] for row in self._predictor.run(params)}
        asked = (record for record in self._records() if record.text_id in found)
        result = answers.evaluate(found, asked)
        kinds = {kind: share for kind, share in result["perAnswerType"].items() if kind}
        return {"accuracy": result["overall"] / 100} | {
            f"accuracy_{kind}": share / 100 for kind, share in sorted(kinds.items())
        }
