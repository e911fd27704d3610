"""Data sets: one file (or folder) each. `prepare` finds one by its name in the config."""

import importlib
import pkgutil

from core.errors import DataError
from input_pipeline.datasets.reading.prepared import Prepared

# Modules beside the data sets that are not one themselves.
_HELPERS = ("options", "reading", "records")


def known() -> list[str]:
    """Names of all data sets."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _HELPERS)


def prepare(data_config) -> Prepared:
    """Makes a data set ready: downloads, generates or checks whatever it is made of.

    Args:
      data_config: the `data` block of a config; `data_config.dataset` names the module here, of
        which `prepare(data_config)` is called.

    Raises:
      DataError: no such data set, or what its module finds wrong.
    """
    name = data_config.dataset
    if name not in known():
        raise DataError(
            "unknown data set",
            where="--config.data.dataset",
            expected=f"one of {known()}",
            found=repr(name),
            fix="choose one, or add input_pipeline/datasets/<name>.py with a `prepare`",
        )
    return importlib.import_module(f"{__name__}.{name}").prepare(data_config)
