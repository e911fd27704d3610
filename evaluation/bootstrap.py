"""Confidence intervals of means over examples that share images."""

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 2000


def interval(
    values: Float[np.ndarray, " N"], image: Int[np.ndarray, " N"], seed: int
) -> tuple[float, float]:
    """95 % bootstrap interval of a mean; images are resampled, with all their examples.

    Args:
      values: float [N], one per example.
      image: int [N], the example's image.
      seed: of the resampling.

    Returns:
      (low, high), the 2.5th and the 97.5th percentile.
    """
    _, group = np.unique(image, return_inverse=True)
    count = np.bincount(group).astype(float)
    total = np.bincount(group, weights=values)
    draws = np.random.default_rng(seed).integers(len(count), size=(RESAMPLES, len(count)))
    means = total[draws].sum(-1) / count[draws].sum(-1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
