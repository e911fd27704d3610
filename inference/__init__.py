"""Opens a checkpoint to ask it things: `load(place)`."""

from inference.model import Model, load

__all__ = ["Model", "load"]
