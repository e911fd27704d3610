"""Opens a checkpoint to ask it things: `load(place)`."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.loading import load
    from inference.model import Model
    from inference.tasks import TaskModel

__all__ = ["Model", "TaskModel", "load"]
_ROOMS = {"Model": "model", "TaskModel": "tasks", "load": "loading"}


def __getattr__(name: str) -> Any:
    # Imported when it is asked for: `python -m inference` listens for Ctrl-C first.
    if name in _ROOMS:
        return getattr(importlib.import_module(f"inference.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
