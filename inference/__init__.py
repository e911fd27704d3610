"""Opens a checkpoint to ask it things: `load(place)`."""

from inference.loading import load
from inference.model import Model
from inference.tasks import TaskModel

__all__ = ["Model", "TaskModel", "load"]
