"""Nested parameters as flat {path: array}, and back."""

from collections.abc import Mapping
from typing import Any

from flax import traverse_util


def flatten(params: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dict → {"a/b/c": leaf}."""
    return traverse_util.flatten_dict(params, sep="/")


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `flatten`."""
    return traverse_util.unflatten_dict(dict(flat), sep="/")
