"""Options of the `data` block: those of all data sets, and a file of a data set's name for its own.

Each has OPTIONS, {name: default}, and CHECKS, {name: Check}. Configs take their blocks from here,
so nothing here needs numpy or data. A data set without options of its own has no file.
"""

import copy
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from core.checks import Check
from input_pipeline.datasets.options import shared

# Names of the options that all data sets have, but for the data set itself.
SHARED = tuple(name for name in shared.OPTIONS if name != "dataset")
_HELPERS = ("shared",)
# Data sets of captions that tell the boxes of their phrases.
PHRASES = ("flickr30k_entities", "visual_genome_regions")


def known() -> list[str]:
    """Data sets with options of their own."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _HELPERS)


def of(dataset: str) -> dict[str, Any]:
    """A new block of a data set: the shared options and its own, at their defaults."""
    own = _module(dataset).OPTIONS if dataset in known() else {}
    return copy.deepcopy(shared.OPTIONS | own | dict(dataset=dataset))


def completed(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A saved `data` block with the defaults and names of options that came later."""
    known = of(saved["dataset"])
    block = {name: saved[name] for name in known if name in saved}
    if "records" in known and "task" in saved:  # its name before
        block["records"] = saved["task"]
    return known | block


def following(block: ConfigDict, names: Iterable[str]) -> ConfigDict:
    """References to fields of a block, in nested blocks to each of theirs.

    A field has the value of the block's, until it is given one of its own.
    """
    return ConfigDict(
        {
            name: following(block[name], block[name].keys())
            if isinstance(block[name], ConfigDict)
            else block.get_oneway_ref(name)
            for name in names
        }
    )


def checks(dataset: str) -> dict[str, Check]:
    """{option, or dotted name of a nested one: what it must be}."""
    return shared.CHECKS | (_module(dataset).CHECKS if dataset in known() else {})


def require_together(where: str, block: ConfigDict) -> None:
    """Checks options of a block that must fit each other.

    Args:
      where: the block, such as "config.data".
      block: each of its options is what it must be.

    Raises:
      ConfigError: some do not.
    """
    if block.dataset in known():
        getattr(_module(block.dataset), "require_together", lambda where, block: None)(where, block)


def _module(dataset: str) -> Any:
    return importlib.import_module(f"{__name__}.{dataset}")
