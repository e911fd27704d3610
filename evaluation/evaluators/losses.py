"""Mean losses and metrics of a stream's objectives over a split, and what guessing reaches."""

import collections
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from core.headings import PRIOR, Heading
from evaluation import passes
from evaluation.stream import EvaluationStream, Place
from objectives import base, masking
from objectives.model import MultiTaskModel
from runtime import sharding


class Evaluator(passes.PassEvaluator):
    """Masks depend on the example alone: every batch size and mesh gives the same mean."""

    def __init__(
        self,
        block: ConfigDict,
        model: MultiTaskModel,
        stream: EvaluationStream,
        place: Place,
        seed: int,
    ):
        super().__init__(block, stream, place)
        self._priors: dict[str, float] | None = None
        name = block.stream
        self._objectives = model.streams[name]

        def step(params: PyTree, batch: base.Arrays) -> dict[str, base.Pair]:
            keys = masking.row_keys(jax.random.key(seed), batch["example_index"])
            batch = model.corrupt(name, batch, keys)
            sums, metrics = model.sums(params, name, batch, train=False)
            weights = model.weights(name, batch)
            return metrics | {key: (value, weights[key]) for key, value in sums.items()}

        # Apart from the pass, whose figures are the same to the last bit with it and without.
        @jax.jit
        def guess(batch: base.Arrays) -> dict[str, Any]:
            keys = masking.row_keys(jax.random.key(seed), batch["example_index"])
            batch = model.corrupt(name, batch, keys)
            return {
                key: found
                for objective in model.streams[name]
                for key, found in objective.guesses(batch).items()
            }

        self._measure, self._guess = step, guess

    def headings(self) -> dict[str, Heading]:
        return {
            name: heading
            for objective in self._objectives
            for name, heading in objective.headings().items()
        }

    def begin(self) -> None:
        self._totals: dict[str, np.ndarray] = collections.defaultdict(lambda: np.zeros(2))
        self._guesses: Any = None

    def measure(self, params: PyTree, batch: base.Arrays) -> dict[str, base.Pair]:
        return self._measure(params, batch)

    def take(self, batch: base.Arrays, out: dict[str, base.Pair]) -> None:
        for name, pair in jax.device_get(out).items():
            self._totals[name] += np.array(pair, np.float64)
        if self._priors is None:  # the same at every evaluation
            found, before = self._guess(batch), self._guesses
            self._guesses = jax.tree.map(jnp.add, before, found) if before else found

    def end(self) -> dict[str, float | None]:
        """{"<loss or metric>": mean over all examples}; None where none had a target."""
        if self._priors is None:
            self._priors = _best(sharding.gathered(self._guesses))
        out: dict[str, float | None] = {
            name.split("/", 1)[1]: float(total / weight) if weight else None
            for name, (total, weight) in self._totals.items()
        }
        for objective in self._objectives:
            total = out.get(objective.name)
            if objective.mean_loss:
                out[objective.mean_loss] = (
                    None if total is None else total / objective.loss_terms[0]
                )
        return out | self._priors


def _best(guesses: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """{"<metric>_prior": what the best guess reaches}."""
    return {
        f"{name}{PRIOR}": float(sums.max() / weight)
        for name, (sums, weight) in guesses.items()
        if weight
    }
