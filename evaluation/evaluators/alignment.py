"""Accuracy of telling an image's own caption from another image's; nothing is masked.

Each example gives two pairs: its own caption (a match) and a foreign one (no match), another
image's, or one that the data set says is false of the image.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from core.headings import PRIOR, Heading
from evaluation import bootstrap, evaluators
from evaluation.stream import EvaluationStream, Place
from objectives import base
from objectives.model import MultiTaskModel
from runtime import sharding


class Evaluator(evaluators.Evaluator):
    """Needs a stream with `negatives=True` and an objective that judges pairs."""

    @classmethod
    def check(cls, block: ConfigDict, model: MultiTaskModel) -> None:
        _judge(block, model)

    def __init__(
        self,
        block: ConfigDict,
        model: MultiTaskModel,
        stream: EvaluationStream,
        place: Place,
        seed: int,
    ):
        name = block.stream
        objective = _judge(block, model)
        self._stream, self._place, self._seed = stream, place, seed

        @jax.jit
        def step(params: PyTree, batch: base.Arrays) -> tuple[jax.Array, jax.Array, jax.Array]:
            outputs = model.outputs(params, name, batch, pairs=((0, 0), (1, 0)))
            logits = model.head(params, objective.head_name)(outputs["pooled"])
            match = objective.pair_matches(logits).reshape(-1, 2)
            right = jnp.stack([match[:, 0], ~match[:, 1]], -1)
            return right, batch["_weight"] > 0, batch["image_key"][:, 0]

        self._step = step

    def headings(self) -> dict[str, Heading]:
        text = "pairs told right as match or mismatch, nothing masked"
        return {
            "pair_accuracy": Heading(text, "share"),
            "pair_accuracy_low": Heading("lower end of its 95 % interval", "share"),
            "pair_accuracy_high": Heading("upper end of its 95 % interval", "share"),
            "pair_accuracy_own": Heading("matches told right", "share"),
            "pair_accuracy_foreign": Heading("mismatches told right", "share"),
        }

    def run(self, params: PyTree) -> dict[str, float | None]:
        """Accuracy (0 to 1) over all pairs with its 95 % interval, and over each kind alone."""
        found_right, image = [], []
        for batch in self._stream.batches():
            found, real, key = sharding.gathered(self._step(params, self._place(batch)))
            found_right.append(found[real])
            image.append(key[real])
        right = np.concatenate(found_right)
        low, high = bootstrap.interval(right.mean(-1), np.concatenate(image), self._seed)
        return {
            "pair_accuracy": float(right.mean()),
            f"pair_accuracy{PRIOR}": 0.5,  # half of the pairs are matches
            "pair_accuracy_low": low,
            "pair_accuracy_high": high,
            "pair_accuracy_own": float(right[:, 0].mean()),
            "pair_accuracy_foreign": float(right[:, 1].mean()),
        }


def _judge(block: ConfigDict, model: MultiTaskModel) -> base.Objective:
    """The first objective of the stream that judges pairs; raises ConfigError without one."""
    return base.able(model.streams[block.stream], base.Ability.JUDGE_PAIRS, block.stream)[0]
