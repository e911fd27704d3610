"""Flax Linen trunks and heads. Imports nothing else from the project.

A trunk module file has `build(model, spec) -> nn.Module`; its name in `config.model.name` is the
file's name. Parameter paths are API: `trunk/layer_3/attention/query/kernel`.
"""

import importlib
import pathlib

from ml_collections import ConfigDict

from vl_models.trunk import Trunk, TrunkSpec


def known() -> list[str]:
    """Names of all trunks: modules here that define `build`; imports none of them."""
    return sorted(
        path.stem
        for folder in __path__
        for path in pathlib.Path(folder).glob("*.py")
        if path.stem != "__init__" and "\ndef build(" in path.read_text()
    )


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
