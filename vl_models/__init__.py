"""Flax Linen trunks and heads. Imports nothing else from the project.

A trunk module file has `build(model, **sizes) -> nn.Module`; its name in `config.model.name` is the
file's name. Parameter paths are API: `trunk/layer_3/attention/query/kernel`.
"""

import importlib

TRUNKS = ("single_stream", "vilbert", "vlbert")


def build_trunk(name: str, *args, **kwargs):
    """Builds the trunk of module `vl_models.<name>`.

    Raises:
      ValueError: no trunk of that name; lists the known ones.
    """
    if name not in TRUNKS:
        raise ValueError(f"config.model.name must be one of {sorted(TRUNKS)}, found {name!r}")
    return importlib.import_module(f"vl_models.{name}").build(*args, **kwargs)
