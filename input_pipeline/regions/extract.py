"""Region features from pictures, with any model: the protocol that a model's adapter fills.

An adapter is a class outside the core install, numpy in and numpy out. A detector's regions, the
cells of a convolutional grid and the patches of a vision transformer are the same to it: boxes
with a feature each. The layout `pictures` runs it over folders of pictures into a region store:

  python -m input_pipeline.importers pictures val2017 --extractor my_module:MyDetector \
      --out STORE --ids number

`scripts/extract_efficientnet.py` is a worked example.
"""

import dataclasses
import functools
import importlib
import inspect
import json
from typing import Protocol

import numpy as np

from core.errors import DataError, ForeignError


@dataclasses.dataclass(frozen=True)
class Regions:
    """Regions of a picture of H x W pixels.

    Attributes:
      boxes: [n, 4] xyxy in pixels of the picture as it was handed over, n >= 1.
      features: [n, F].
      class_probs: [n, C] class distributions, rows sum to 1; None exactly if num_classes is 0.
      global_feature: [F] of the whole picture; None exactly if the adapter says "mean".
    """

    boxes: np.ndarray
    features: np.ndarray
    class_probs: np.ndarray | None = None
    global_feature: np.ndarray | None = None


class Extractor(Protocol):
    """A model. It is made once per process, without arguments but those of --extractor_options.

    Attributes:
      name: of model, weights and preprocessing, for the feature spec. Features of different names
        are never mixed, so change it with anything that changes the features.
      feature_dim: F.
      num_classes: C, background included; 0 without class distributions.
      background_class: column of class_probs that is the background, None without one.
      global_feature: "stored" if it gives a feature of the whole picture, else "mean": the mean of
        the regions' features is taken.
    """

    name: str
    feature_dim: int
    num_classes: int
    background_class: int | None
    global_feature: str

    def __call__(self, picture: np.ndarray) -> Regions:
        """The regions of one picture.

        Args:
          picture: uint8 [H, W, 3], RGB, upright.

        Raises:
          DataError: this picture has no regions; --on_bad skip leaves it out. Any other exception
            ends the run.
        """


def grid_boxes(rows: int, columns: int, height: int, width: int) -> np.ndarray:
    """Boxes of the cells of a grid that covers a picture, row by row.

    For a model that resizes or squashes its input, cells are of the picture all the same; patches
    of a model that pads it are not, and need boxes of their own.

    Args:
      rows: cells from top to bottom.
      columns: cells from left to right.
      height: of the picture in pixels.
      width: of the picture in pixels.

    Returns:
      float32 [rows * columns, 4] xyxy in pixels.
    """
    y, x = np.linspace(0, height, rows + 1), np.linspace(0, width, columns + 1)
    top, left = np.meshgrid(y[:-1], x[:-1], indexing="ij")
    bottom, right = np.meshgrid(y[1:], x[1:], indexing="ij")
    return np.stack([left, top, right, bottom], -1).reshape(-1, 4).astype(np.float32)


@functools.lru_cache(maxsize=1)  # a model is loaded once per process, however often it is asked for
def load(name: str, options: str = "") -> Extractor:
    """The extractor of a "module:Class".

    Args:
      name: module, as Python would import it (from the working folder, too), and class.
      options: JSON object of the class's keyword arguments; empty: none.

    Raises:
      DataError: no such class, malformed options, or attributes that make no feature spec.
    """
    module, colon, attribute = name.partition(":")
    try:
        if not (module and colon and attribute):
            raise ValueError("no module:Class")
        made = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise DataError(
            "an extractor cannot be found",
            where=f"--extractor={name}",
            expected="module:Class, both of which exist",
            found=f"{type(error).__name__}: {error}",
            fix="check the spelling, the working folder, and that its packages are installed",
        ) from error
    try:
        arguments = json.loads(options or "{}")
        if not isinstance(arguments, dict):
            raise ValueError(f"{type(arguments).__name__}")
        inspect.signature(made).bind(**arguments)
    except (ValueError, TypeError) as error:
        raise DataError(
            "wrong options of an extractor",
            where=f"--extractor_options={options}",
            expected=f"a JSON object of arguments of {name}{inspect.signature(made)}",
            found=str(error),
        ) from error
    try:
        extractor = made(**arguments)
    except DataError:
        raise
    except Exception as error:
        raise ForeignError(f"extractor {name} cannot be made: {error!r}") from error
    rules = {
        "name": lambda v: isinstance(v, str) and v != "",
        "feature_dim": lambda v: isinstance(v, int) and v >= 1,
        "num_classes": lambda v: isinstance(v, int) and v >= 0,
        "background_class": lambda v: v is None or 0 <= v < extractor.num_classes,
        "global_feature": lambda v: v in ("mean", "stored"),
    }
    for field, holds in rules.items():
        value = getattr(extractor, field, "no such attribute")
        if not hasattr(extractor, field) or not holds(value):
            raise DataError(
                f"the attribute {field!r} of an extractor makes no feature spec",
                where=f"--extractor={name}",
                expected="the attributes that input_pipeline.regions.extract.Extractor lists",
                found=repr(value),
            )
    return extractor


def regions_of(extractor: Extractor, picture: np.ndarray, where: str) -> Regions:
    """What an extractor finds in a picture, checked against its attributes.

    Args:
      extractor: of `load`.
      picture: uint8 [H, W, 3], RGB, upright.
      where: for messages.

    Raises:
      DataError: the extractor's, of this picture.
      ForeignError: it fails, or gives something else than it declares. A mistake in the adapter and
        none of the picture's: no DataError, which --on_bad skip would pass over.
    """
    try:
        found = extractor(picture)
        _check(extractor, found, where)
    except (DataError, ForeignError):
        raise
    except Exception as error:
        raise ForeignError(f"extractor {extractor.name!r} fails at {where}: {error!r}") from error
    return found


def _check(extractor: Extractor, found: Regions, where: str) -> None:
    n = len(found.features)
    classes, stored = extractor.num_classes > 0, extractor.global_feature == "stored"
    shapes = {
        "boxes": (n, 4),
        "features": (n, extractor.feature_dim),
        "class_probs": (n, extractor.num_classes) if classes else None,
        "global_feature": (extractor.feature_dim,) if stored else None,
    }
    for field, expected in shapes.items():
        value = getattr(found, field)
        shape = None if value is None else np.shape(value)
        if shape != expected:
            raise ForeignError(
                f"{field} of extractor {extractor.name!r} have another shape than it declares\n"
                f"  where: {where}\n  expected: {expected}\n  found: {shape}"
            )
