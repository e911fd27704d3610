"""Samples of a sequence that are evenly spaced over it."""

import numpy as np


def evenly_spaced(total: int, count: int | None) -> np.ndarray:
    """int64 [min(total, count)] evenly spaced indices below `total`; all of them for None."""
    if count is None or count >= total:
        return np.arange(total)
    return np.arange(count) * (total - 1) // max(count - 1, 1)
