"""Evaluators: named measurements of parameters on a whole split, each example counted once.

A name in `config.evals.<name>.evaluator` is the file's name; the file has one class `Evaluator`.
"""

import importlib
import pkgutil

from core.errors import ConfigError


def known() -> list[str]:
    """Names of all evaluators."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def load(name: str) -> type:
    """The class `Evaluator` of file `training/evaluators/<name>.py`.

    It is made with
      block: its part of `config.evals`;
      task: a `MultiTaskModel`;
      stream: an evaluation stream: `batches()` yields padded host batches, `special` the ids;
      place: host stream batch → global device arrays;
      seed: of the masks; the same masks are drawn in every run of a config;
    has `run(params) → {metric: float}`, and says with `other_image` whether its stream must bring
    a second image for each example. One with an attribute `files` writes files: in eval mode its
    `folder` is set to WORKDIR/<files>/<its name in the config>, in training it has none.

    Raises:
      ValueError: unknown evaluator; lists the known ones.
    """
    if name not in known():
        raise ConfigError(f"unknown evaluator {name!r}, known: {known()}")
    return importlib.import_module(f"evaluation.evaluators.{name}").Evaluator
