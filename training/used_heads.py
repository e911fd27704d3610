"""The part of a state that an update of some streams concerns: the trunk, and the heads they use.

Trees of parameters, gradients and moments are {"trunk": …, "heads": {name: …}} wherever they stand
in a state, so that heads are taken out of all of them, and put back, in the same way. What is taken
out costs no work: it has no gradient, and the optimizer does not see it.
"""

import functools
import math
import re
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from runtime import paths
from training.optimizer import Moments


def only(tree: PyTree, names: Collection[str]) -> PyTree:
    """The tree without the heads that are not among `names`."""
    return _map(lambda heads: {name: heads[name] for name in heads if name in names}, tree)


def merged(tree: PyTree, part: PyTree) -> PyTree:
    """The tree with the values of a part of it that `only` gave."""
    return _map(lambda heads, new: {name: new.get(name, heads[name]) for name in heads}, tree, part)


def begun(new: PyTree, old: PyTree, opt_state: PyTree, names: Collection[str]) -> PyTree:
    """The new tree, but for heads not among `names` that no update has used yet: these are as old.

    Args:
      new, old: trees of the same structure.
      opt_state: before the update; its counts by head say what has been used.
      names: of the heads that the update uses.
    """
    heads = count_of(opt_state)["heads"]

    def chosen(before: dict, after: dict) -> dict:
        return {
            name: after[name]
            if name in names
            else jax.tree.map(functools.partial(jnp.where, heads[name] > 0), after[name], x)
            for name, x in before.items()
        }

    return _map(chosen, old, new)


def costs(state: PyTree) -> str:
    """What heads cost of a state, with what the optimizer keeps of them, in words."""
    heads, whole = dict[str, int](), 0
    for path, x in paths.flatten(state).items():
        size = math.prod(x.shape) * x.dtype.itemsize
        whole += size
        if head := re.search(r"(?:^|/)heads/([^/]+)/", path):
            heads[head[1]] = heads.get(head[1], 0) + size
    parts = ", ".join(f"{name} {size / 2**20:.1f}" for name, size in sorted(heads.items()))
    return f"MiB of the state, of {whole / 2**20:.1f}, that heads cost: {parts}"


def count_of(opt_state: PyTree) -> Any:
    """How many updates a state of the optimizer has seen, see `optimizer.Moments`."""
    found = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, Moments))
    return next(one.count for one in found if isinstance(one, Moments))


def _map(function: Callable[..., dict], tree: PyTree, *others: PyTree) -> PyTree:
    """A tree with `function(heads, *heads of the others)` in place of the heads of each model."""

    def one(node: Any, *rest: Any) -> Any:
        if not _is_model(node):
            # Leaves beside the models: counters, which the newest tree has.
            return rest[-1] if rest else node
        heads = function(node["heads"], *(other["heads"] for other in rest))
        last = rest[-1] if rest else node
        return dict(last, heads=heads)

    return jax.tree.map(one, tree, *others, is_leaf=_is_model)


def _is_model(node: Any) -> bool:
    return isinstance(node, dict) and {"trunk", "heads"} <= set(node)
