"""What a run is made of: the model with its objectives, batches and evaluators, and its folder."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from core import remote
from evaluation.evaluators import Evaluator
from evaluation.predict import Predictor
from runtime import signals
from training.run import goodput

Draws = Mapping[str, int]  # {stream: draw} of the streams that take part in an update
Batch = Mapping[str, Mapping[str, Any]]  # {stream: arrays}
Flops = Callable[[Any], Callable[[Batch], float] | None]  # of parameters' shapes, then of a batch


@dataclasses.dataclass(frozen=True)
class Parts:
    """Made by `setup.build`; tests make their own.

    Attributes:
      model: a `MultiTaskModel`.
      example: {stream: host arrays} of a batch at the streams' full sizes, for shapes.
      batches: batches(plan of draws, one entry per update) → (draws, host batch) of each update.
      passes: {stream: batches that hold each of its examples once}.
      fingerprints: {stream: digest of its data}; a run only continues with the same.
      evaluators: {name: what measures parameters on a split}.
      predictors: predictors() → {stream: predictor} of the streams that predict.
      loss_terms: {"<stream>/<objective>": (terms that its loss sums, what each is of)}, where there
        are several.
      data_metadata: JSON saved with every checkpoint (feature spec, special ids, vocabulary file).
      priors: {slot: {"prior", "text_only"}}, how well marked words are guessed without the image.
      check_data: check_data(metadata of a checkpoint, its place, vocabulary=True) raises where the
        checkpoint was trained on other features or, unless told not to look, with another
        vocabulary.
      flops: flops(parameter shapes) → function of a batch {stream: arrays}, the model operations of
        an update with it; or None.
    """

    model: Any
    example: Batch
    batches: Callable[[Iterator[Draws]], Iterator[tuple[Draws, Batch]]]
    fingerprints: Mapping[str, str]
    evaluators: Mapping[str, Evaluator] = dataclasses.field(default_factory=dict)
    predictors: Callable[[], Mapping[str, Predictor]] = dict
    loss_terms: Mapping[str, tuple[int, str]] = dataclasses.field(default_factory=dict)
    passes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    data_metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    priors: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    check_data: Callable[..., None] = lambda metadata, where, vocabulary=True: None
    flops: Flops = lambda params: None


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run is made of; see `loop.train`."""

    config: ConfigDict
    workdir: remote.Path
    parts: Parts
    mesh: jax.sharding.Mesh
    stop: signals.StopSignal
    ledger: goodput.Ledger
