"""Objectives: one file = one kind (inputs, corruption, head, loss, metrics), one class in it.

A run's objectives are instances: `config.objectives = {name: {kind, ...}}`. Streams list their
names; the kind is the file's name, and its options are declared in `objectives/options/<kind>.py`.
Losses and metrics go by the instance's name, so a run may have two of a kind.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from core.errors import ConfigError
from objectives import options

if TYPE_CHECKING:
    from objectives import base

_PARTS = {
    "assemble", "base", "detection", "instances", "losses", "masking", "model", "options",
    "shared_heads",
}  # fmt: skip


def known() -> list[str]:
    """All kinds of objectives."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _PARTS)


def find(kind: str) -> type["base.Objective"]:
    """The `Objective` that file `objectives/<kind>.py` defines.

    Raises:
      ConfigError: no such kind; lists the known ones.
    """
    if kind not in known():
        raise ConfigError("no such kind of objective", expected=f"one of {known()}", found=kind)
    parent = importlib.import_module("objectives.base").Objective
    module = importlib.import_module(f"objectives.{kind}")
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, parent)
        and value.__module__ == module.__name__
    )
    return found


def of_block(name: str, block: Mapping[str, Any] | ConfigDict) -> type["base.Objective"]:
    """The class of an instance, its options checked.

    Args:
      name: of the objective.
      block: `config.objectives.<name>`.

    Raises:
      ConfigError: an unknown kind, or an option that is not what it must be.
    """
    options.require(name, block)
    return find(options.kind_of(name, block))


def build(
    name: str, block: Mapping[str, Any] | ConfigDict, data_info: "base.DataInfo"
) -> "base.Objective":
    """An objective of a config; arguments and errors as `of_block`."""
    return of_block(name, block)(name, block, data_info)
