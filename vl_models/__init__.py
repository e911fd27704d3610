"""Flax Linen trunks and heads. Imports nothing of the project but core.

A trunk module file has `build(model, spec) -> nn.Module`; of the fields that `config.model` has
beside those of all trunks, CHECKS, {field: Check}; and where fields were added since the first
version, LATER, {field: its value before}. Its name in `config.model.name` is the
file's name. Parameter paths are API: `trunk/layer_3/attention/query/kernel`.
"""

import copy
import importlib
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from core.checks import Check, number, text, whole
from vl_models.trunk import Trunk, TrunkSpec

# Fields that `config.model` has whatever the trunk.
COMMON = dict(
    name=text(empty=False),
    hidden=whole(1),
    layers=whole(1),
    heads=whole(1),
    intermediate=whole(1),
    positions=whole(5),
    init_range=number(0),
    dropout=number(0, below=1),
)


def known() -> list[str]:
    """Names of all trunks: modules here that define `build`; imports none of them."""
    return sorted(
        path.stem
        for folder in __path__
        for path in pathlib.Path(folder).glob("*.py")
        if path.stem != "__init__" and "\ndef build(" in path.read_text()
    )


def checks(name: str) -> dict[str, Check]:
    """{field of `config.model`, dotted where nested: what it must be} of a known trunk."""
    module = importlib.import_module(f"vl_models.{name}")
    return COMMON | getattr(module, "CHECKS", {})


def completed(model: Mapping[str, Any]) -> dict[str, Any]:
    """A model block with the fields that it lacks where an earlier version saved it."""
    if model.get("name") not in known():
        return dict(model)
    module = importlib.import_module(f"vl_models.{model['name']}")
    return copy.deepcopy(getattr(module, "LATER", {})) | dict(model)


def build_trunk(model: ConfigDict, spec: TrunkSpec) -> Trunk:
    """Builds the trunk of module `vl_models.<model.name>`.

    Args:
      model: `config.model`.
      spec: what the data, the streams and the run say of it.

    Raises:
      ValueError: no trunk of that name (lists the known ones), or sizes that do not fit together.
    """
    if model.name not in known():
        raise ValueError(f"config.model.name must be one of {known()}, found {model.name!r}")
    return importlib.import_module(f"vl_models.{model.name}").build(model, spec)
