"""Ranks and recalls of texts and images, from a matrix of scores.

A tie counts against the model: an own image that scores as high as n others has n of them before
it. So a model that gives every pair one score ranks last, in whatever order the data come.
"""

import numpy as np

from core.headings import PRIOR

RECALLS = (1, 5, 10)
IMAGES, TEXTS = "image_retrieval", "text_retrieval"  # what is ranked, in names of metrics


def of_images(scores: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Rank of each text's own image among all images, from 1.

    Args:
      scores: [N, M] of texts and images, higher is better.
      own: int [N], number of each text's image.

    Returns:
      int [N], 1 + other images that score as high as the own one or higher.
    """
    best = scores[np.arange(len(own)), own]
    return (scores >= best[:, None]).sum(1)


def of_texts(scores: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Rank of each image's best own text among the texts of others, from 1.

    Args:
      scores: [N, M] of texts and images, higher is better.
      own: int [N], number of each text's image; every image has one.

    Returns:
      int [M], 1 + texts of others that score as high as the best own one or higher.
    """
    own_scores = scores[np.arange(len(own)), own]
    best = np.full(scores.shape[1], -np.inf, scores.dtype)
    np.maximum.at(best, own, own_scores)
    own_ones = np.bincount(own[own_scores == best[own]], minlength=len(best))
    return 1 + (scores >= best).sum(0) - own_ones


def summary(name: str, ranks: np.ndarray) -> dict[str, float]:
    """Recalls (0 to 1), the median rank as ViLBERT's scripts have it (rounded down), the mean."""
    recalls = {f"{name}_r{k}": float((ranks <= k).mean()) for k in RECALLS}
    return recalls | {
        f"{name}_median_rank": float(np.floor(np.median(ranks))),
        f"{name}_mean_rank": float(ranks.mean()),
    }


def chance(own: np.ndarray, images: int) -> dict[str, float]:
    """{"<recall>_prior": what a ranking at random reaches}.

    Args:
      own: int [N], number of each text's image; every image has one.
      images: M, how many are ranked.
    """
    counts, texts = np.bincount(own, minlength=images), len(own)
    found = {}
    for k in RECALLS:
        found[f"{IMAGES}_r{k}{PRIOR}"] = min(1.0, k / images)
        # None of an image's n texts is among the first k of all: (N - n choose k) / (N choose k).
        missed = np.ones(images)
        for place in range(min(k, texts)):
            missed *= np.maximum(texts - counts - place, 0) / (texts - place)
        found[f"{TEXTS}_r{k}{PRIOR}"] = float(1 - missed.mean())
    return found
