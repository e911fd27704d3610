"""Objectives: one file = one task (inputs, corruption, head, loss, metrics).

A name in `config.streams.*.objectives` is the file's name; the file has one `Objective` subclass,
called `Task`.
"""

import importlib
import pkgutil

_PARTS = {"base", "losses", "masking", "model"}


def known() -> list[str]:
    """Names of all objectives."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _PARTS)


def find(name: str) -> type:
    """The class `Task` of file `objectives/<name>.py`.

    Raises:
      ValueError: no such objective; lists the known ones.
    """
    if name not in known():
        raise ValueError(f"unknown objective {name!r}, known: {known()}")
    return importlib.import_module(f"objectives.{name}").Task


def build(name: str, *args, **kwargs):
    """An objective by its name; errors as `find`."""
    return find(name)(*args, **kwargs)
