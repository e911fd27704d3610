"""Parameter paths such as `trunk/layer_3/attention/query/kernel`: the names all rules speak."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from core.errors import ConfigError


def path_of(keys) -> str:
    """A JAX key path as "a/b/c"."""
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def flatten(tree) -> dict[str, Any]:
    """Any pytree as {path: leaf}, in tree order."""
    return {path_of(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def map_with_path(function: Callable, tree, *rest):
    """`function(path, leaf, *other leaves)` over a pytree."""
    return jax.tree_util.tree_map_with_path(
        lambda keys, leaf, *others: function(path_of(keys), leaf, *others), tree, *rest
    )


def group_of(path: str) -> str:
    """The part of the model a parameter belongs to: `trunk/layer_3`, `heads/masked_language`."""
    return "/".join(path.split("/")[:2])


def matching(patterns: Sequence[str], paths: Iterable[str], *, where: str) -> list[set[str]]:
    """The paths that each regex matches as a whole.

    Args:
      patterns: regexes for the full path.
      paths: all parameter paths.
      where: config field the patterns come from.

    Raises:
      ConfigError: a pattern matches nothing; names some of the paths there are.
    """
    paths, found = list(paths), []
    for pattern in patterns:
        found.append({path for path in paths if re.fullmatch(pattern, path)})
        if not found[-1]:
            shown = sorted(paths)[:: max(1, len(paths) // 8)]
            raise ConfigError(
                f"{where}: the regex {pattern!r} matches no parameter path as a whole; "
                f"the {len(paths)} paths look like " + ", ".join(shown)
            )
    return found
