"""Evaluators: named measurements of parameters on a whole split, each example counted once.

A name in `config.evals.<name>.evaluator` is the file's name; the file has one class `Evaluator`.
"""

import abc
import importlib
import pkgutil
from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import PyTree
from ml_collections import ConfigDict

from core import remote
from core.checks import Check, text, whole
from core.errors import ConfigError
from core.headings import Heading
from evaluation.stream import EvaluationStream, Place
from objectives.model import MultiTaskModel

# What every evaluation's block has.
COMMON = dict(
    evaluator=text(empty=False),
    stream=text(empty=False),
    split=text(empty=False),
    batch_size=whole(1),
)


class Evaluator(abc.ABC):
    """Measures parameters of a model on a split.

    Attributes:
      checks: {option: what it must be} of its block, beside COMMON.
      other_image: whether the stream must bring a second image, another example's (M = 2).
      distractors: whether the stream must bring the couples that an example is contrasted with.
      files: folder in the run folder that it writes files to; "" for none.
      folder: WORKDIR/<files>/<its name in the config> where files are to be written (eval mode);
        None where they are not (training).
      split: the data set's own name of what is measured; set by whoever builds the evaluator.
      examples: of the split.
    """

    checks: ClassVar[Mapping[str, Check]] = {}
    other_image: ClassVar[bool] = False
    distractors: ClassVar[bool] = True
    files: ClassVar[str] = ""
    folder: remote.Path | None = None
    split: str = ""
    examples: int = 0

    @classmethod
    def check(cls, block: ConfigDict, model: MultiTaskModel) -> None:
        """Raises ConfigError where the streams or objectives of a model do not fit."""
        del block, model

    @abc.abstractmethod
    def __init__(
        self,
        block: ConfigDict,
        model: MultiTaskModel,
        stream: EvaluationStream,
        place: Place,
        seed: int,
    ):
        """Checks that the stream has what is measured; compiles nothing yet.

        Args:
          block: its part of `config.evals`.
          model: whose parameters are measured.
          stream: the examples.
          place: puts a host batch on the devices.
          seed: of masks and resampling; every run of a config draws the same ones.

        Raises:
          ConfigError: the stream or its objectives do not fit.
        """

    @abc.abstractmethod
    def run(self, params: PyTree) -> dict[str, float | None]:
        """{metric: value} of parameters; every process of a job must call it.

        A metric that no example of the split has a label for is None. `<metric>_prior` is what
        guessing reaches of it.
        """

    def headings(self) -> dict[str, Heading]:
        """What its metrics are for people."""
        return {}


def known() -> list[str]:
    """Names of all evaluators."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def load(name: str) -> type[Evaluator]:
    """The class `Evaluator` of file `evaluation/evaluators/<name>.py`.

    Raises:
      ConfigError: unknown evaluator; lists the known ones.
    """
    if name not in known():
        raise ConfigError(f"unknown evaluator {name!r}, known: {known()}")
    return importlib.import_module(f"evaluation.evaluators.{name}").Evaluator
