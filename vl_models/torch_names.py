"""Published PyTorch names and layouts ↔ ours. Arrays only, no files; tables: `published_names`."""

import re
from collections.abc import Mapping

import numpy as np

from vl_models.published_names import ALIASES, DEAD, RULES, Rule


def _rules(model: str) -> tuple[Rule, ...]:
    if model not in RULES:
        raise ValueError(f"no published names for model {model!r}, known: {sorted(RULES)}")
    return RULES[model]


def _match_layer(pattern: str, name: str) -> str | None:
    """The layer number where `name` fits a pattern with `{i}`, "" without one, else None."""
    match = re.fullmatch(re.escape(pattern).replace(r"\{i\}", r"(\d+)"), name)
    return None if match is None else "".join(match.groups())


def _find(rules, side: str, name: str) -> Rule | None:
    """The rule whose `side` pattern matches `name`, its layer number filled in."""
    for rule in rules:
        layer = _match_layer(getattr(rule, side), name)
        if layer is not None:
            torch, ours = (x.replace("{i}", layer) for x in (rule.torch, rule.ours))
            return Rule(torch, ours, rule.kind)
    return None


def from_torch(model: str, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Published names and layout → {our path: array}.

    Args:
      model: key of `RULES`.
      state: the state dict as numpy arrays; a leading "module." is accepted, dead parameters
        (`DEAD`) are dropped.

    Raises:
      KeyError: names that no rule covers; lists them all.
      ValueError: an alias whose array differs from the parameter it repeats.
    """
    rules, aliases = _rules(model), dict(ALIASES[model])
    state = {name.removeprefix("module."): array for name, array in state.items()}
    out, unknown = {}, []
    for name, array in state.items():
        if name in aliases:
            if not np.array_equal(array, state[aliases[name]]):
                raise ValueError(f"{name} is tied to {aliases[name]} but differs from it")
        elif any(_match_layer(dead.torch, name) is not None for dead in DEAD[model]):
            continue
        elif (rule := _find(rules, "torch", name)) is None:
            unknown.append(name)
        else:
            out[rule.ours] = rule.convert(np.asarray(array))
    if unknown:
        raise KeyError(f"no {model} parameter is called {', '.join(sorted(unknown))}")
    return out


def to_torch(model: str, flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{our path: array} → published names and layout, with aliases and dead parameters.

    Raises:
      KeyError: paths that no rule covers; lists them all.
    """
    rules = _rules(model)
    found = {path: _find(rules, "ours", path) for path in flat}
    unknown = sorted(path for path, rule in found.items() if rule is None)
    if unknown:
        raise KeyError(f"no published {model} name for {', '.join(unknown)}")
    out = {rule.torch: rule.restore(np.asarray(flat[path])) for path, rule in found.items()}
    for alias, name in ALIASES[model]:
        if name in out and any(key.startswith(alias.rsplit(".", 2)[0]) for key in out):
            out[alias] = out[name]
    for dead in DEAD[model]:
        for name in list(out):
            layer = _match_layer(dead.like, name)
            if layer is not None:
                out[dead.torch.replace("{i}", layer)] = np.zeros_like(out[name])
    return out
