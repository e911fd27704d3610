"""Does the model tell an image's caption from a foreign one? Nothing is masked here.

Each example is two pairs: its own caption (a match) and another image's (none). Where the data set
names captions that are false of the image, as `scenes` does, the foreign one is among those.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from evaluation import bootstrap
from objectives import base


class Evaluator:
    """Needs a stream with `negatives=True` and an objective that judges pairs."""

    other_image = False

    def __init__(self, block, task, stream, place, seed):
        name = block.stream
        objective = base.able(task.streams[name], base.Ability.JUDGE_PAIRS, name)[0]
        self._stream, self._place, self._seed = stream, place, seed

        @jax.jit
        def step(params, batch):
            outputs = task.outputs(params, name, batch, pairs=((0, 0), (1, 0)))
            logits = task.head(params, objective.head_name)(outputs["pooled"])
            match = objective.pair_matches(logits).reshape(-1, 2)
            right = jnp.stack([match[:, 0], ~match[:, 1]], -1)
            return right, batch["_weight"] > 0, batch["image_key"][:, 0]

        self._step = step

    def run(self, params) -> dict[str, float]:
        """Accuracy over all pairs with its 95 % interval, and of both kinds apart (0 to 1)."""
        right, image = [], []
        for batch in self._stream.batches():
            out = self._step(params, self._place(batch))
            if jax.process_count() > 1:
                out = multihost_utils.process_allgather(out, tiled=True)
            found, real, key = map(np.asarray, out)
            right.append(found[real])
            image.append(key[real])
        right = np.concatenate(right)
        low, high = bootstrap.interval(right.mean(-1), np.concatenate(image), self._seed)
        return {
            "alignment_accuracy": float(right.mean()),
            "alignment_accuracy_low": low,
            "alignment_accuracy_high": high,
            "alignment_accuracy_own": float(right[:, 0].mean()),
            "alignment_accuracy_foreign": float(right[:, 1].mean()),
        }
