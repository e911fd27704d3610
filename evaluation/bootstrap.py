"""Intervals of means over examples that share images."""

import numpy as np

RESAMPLES = 2000


def interval(values, image, seed: int) -> tuple[float, float]:
    """95 % interval of a mean, resampling images and not their examples.

    Args:
      values: float [N], one an example.
      image: int [N], the example's image.
      seed: of the resampling.
    """
    _, group = np.unique(image, return_inverse=True)
    count = np.bincount(group).astype(float)
    total = np.bincount(group, weights=values)
    draws = np.random.default_rng(seed).integers(len(count), size=(RESAMPLES, len(count)))
    means = total[draws].sum(-1) / count[draws].sum(-1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
