"""Mean losses and metrics of a stream's objectives over a whole split."""

import collections

import jax
import numpy as np

from objectives import masking


class Evaluator:
    """Corrupts with masks keyed by example, so that any batch size or mesh gives one number."""

    other_image = False

    def __init__(self, block, task, stream, place, seed):
        self._stream, self._place = stream, place
        name = block.stream

        @jax.jit
        def step(params, batch):
            keys = masking.row_keys(jax.random.key(seed), batch["example_index"])
            batch = task.corrupt(name, batch, keys)
            sums, metrics = task.sums(params, name, batch, train=False)
            weights = task.weights(name, batch)
            return metrics | {key: (value, weights[key]) for key, value in sums.items()}

        self._step = step

    def run(self, params) -> dict[str, float]:
        """{"<loss or metric>": mean over all examples}; 0 where nothing had a target."""
        totals = collections.defaultdict(lambda: np.zeros(2))
        for batch in self._stream.batches():
            for name, pair in jax.device_get(self._step(params, self._place(batch))).items():
                totals[name] += np.array(pair, np.float64)
        return {
            name.split("/", 1)[1]: float(total / weight) if weight else 0.0
            for name, (total, weight) in totals.items()
        }
