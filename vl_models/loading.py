"""Strict partial loading: each parameter is loaded or named as new, each source used or waived."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from flax import traverse_util


def flatten(params) -> dict[str, np.ndarray]:
    """Nested dict → {"a/b/c": leaf}."""
    return traverse_util.flatten_dict(params, sep="/")


def unflatten(flat: Mapping):
    """Inverse of `flatten`."""
    return traverse_util.unflatten_dict(dict(flat), sep="/")


def merge(initial, loaded: Mapping, *, new: Sequence[str] = (), unused: Sequence[str] = ()):
    """`initial` with the arrays of `loaded` in place.

    Args:
      initial: nested dict of parameters (or of shapes).
      loaded: {path: array}.
      new: regexes of paths that may keep their initial value.
      unused: regexes of loaded paths that may be dropped.

    Returns:
      Nested dict like `initial`, and the list of paths that kept their initial value.

    Raises:
      ValueError: missing, unused or differently shaped parameters that no regex allows; lists all.
    """
    target, loaded = flatten(initial), dict(loaded)

    def allowed(path, patterns):
        return any(re.fullmatch(pattern, path) for pattern in patterns)

    missing = sorted(set(target) - set(loaded))
    extra = sorted(set(loaded) - set(target))
    problems = [f"missing: {p}" for p in missing if not allowed(p, new)]
    problems += [f"not in the model: {p}" for p in extra if not allowed(p, unused)]
    problems += [
        f"shape: {p} is {np.shape(loaded[p])} in the checkpoint, {np.shape(target[p])} in the model"
        for p in sorted(set(target) & set(loaded))
        if np.shape(loaded[p]) != np.shape(target[p])
    ]
    if problems:
        raise ValueError("checkpoint does not fit the model:\n  " + "\n  ".join(problems))
    return unflatten({path: loaded.get(path, value) for path, value in target.items()}), missing
