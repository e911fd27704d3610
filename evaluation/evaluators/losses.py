"""Mean losses and metrics of a stream's objectives over a whole split."""

import collections

import jax
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from evaluation import evaluators
from evaluation.stream import EvaluationStream, Place
from objectives import base, masking
from objectives.model import MultiTaskModel


class Evaluator(evaluators.Evaluator):
    """Masks depend on the example alone: every batch size and mesh gives the same mean."""

    def __init__(
        self,
        block: ConfigDict,
        model: MultiTaskModel,
        stream: EvaluationStream,
        place: Place,
        seed: int,
    ):
        self._stream, self._place = stream, place
        name = block.stream

        @jax.jit
        def step(params: PyTree, batch: base.Arrays) -> dict[str, base.Pair]:
            keys = masking.row_keys(jax.random.key(seed), batch["example_index"])
            batch = model.corrupt(name, batch, keys)
            sums, metrics = model.sums(params, name, batch, train=False)
            weights = model.weights(name, batch)
            return metrics | {key: (value, weights[key]) for key, value in sums.items()}

        self._step = step

    def run(self, params: PyTree) -> dict[str, float]:
        """{"<loss or metric>": mean over all examples}; 0 where nothing had a target."""
        totals: dict[str, np.ndarray] = collections.defaultdict(lambda: np.zeros(2))
        for batch in self._stream.batches():
            for name, pair in jax.device_get(self._step(params, self._place(batch))).items():
                totals[name] += np.array(pair, np.float64)
        return {
            name.split("/", 1)[1]: float(total / weight) if weight else 0.0
            for name, (total, weight) in totals.items()
        }
