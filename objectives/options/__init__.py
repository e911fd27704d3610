"""Options of the objectives: one file of a kind's name, with OPTIONS, {name: default}, and CHECKS.

Configs take their blocks from here, so nothing here needs jax, numpy or data.
"""

import copy
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from core import checks as check
from core.errors import ConfigError

# What every objective has, whatever its kind.
COMMON = dict(
    weight=1.0,  # factor of its mean loss in the total
    head="",  # name of its head's parameters; empty: the objective's own name
)
_COMMON_CHECKS = dict(
    kind=check.text(),
    weight=check.number(least=0),
    head=check.pattern(r"[A-Za-z0-9_]*", "a name of letters, digits and _, or empty"),
)


def known() -> list[str]:
    """Kinds of objectives."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def of(kind: str) -> dict[str, Any]:
    """A new block of a kind's defaults.

    Raises:
      ConfigError: no such kind; lists the known ones.
    """
    return dict(kind=kind, **COMMON, **copy.deepcopy(_module(kind).OPTIONS))


def checks(kind: str) -> dict[str, check.Check]:
    """{option: what it must be}.

    Raises:
      ConfigError: no such kind; lists the known ones.
    """
    return _COMMON_CHECKS | _module(kind).CHECKS


def kind_of(name: str, block: Mapping[str, Any] | ConfigDict) -> str:
    """The kind of an objective; before blocks said it, an objective had its kind's name."""
    return block.get("kind", name)


def require(name: str, block: Mapping[str, Any] | ConfigDict) -> None:
    """Checks an objective's block, option by option.

    Args:
      name: of the objective.
      block: `config.objectives.<name>`; options that it lacks (in a config that was saved before
        there were such) are not checked.

    Raises:
      ConfigError: an unknown kind, or the first option that is not what it must be.
    """
    where, kind = f"config.objectives.{name}", kind_of(name, block)
    if kind not in known():
        raise ConfigError(
            "no such kind of objective", where=f"{where}.kind", expected=f"one of {known()}",
            found=repr(kind), fix=f"--{where}.kind=...",
        )  # fmt: skip
    wanted = {option: one for option, one in checks(kind).items() if option in block}
    check.require(where, block, wanted)


def completed(name: str, block: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """A saved block with the defaults of options that came later."""
    return of(kind_of(name, block)) | dict(block)


def _module(kind: str) -> Any:
    if kind not in known():
        raise ConfigError("no such kind of objective", expected=f"one of {known()}", found=kind)
    return importlib.import_module(f"objectives.options.{kind}")
