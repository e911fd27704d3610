"""What the loop is given: the model with its objectives, batches and evaluators of a run."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Parts:
    """Made by `setup.build`; tests make their own.

    Attributes:
      task: a `MultiTaskModel`.
      example: {stream: host arrays} of a batch at the streams' full sizes, for shapes.
      batches: batches(draws {stream: first draw}) → endless host batches {stream: arrays}, each
        stream's draw going up by one a step.
      fingerprints: {stream: digest of its data}; a run only continues with the same.
      evaluators: {name: object with run(params) → {metric: float}}.
      predictors: predictors() → {stream: `predict.Predictor`} of the streams that predict.
      facts: JSON saved with every checkpoint (feature spec, special ids, vocabulary file).
      priors: {slot: {"prior", "text_only"}}, how well marked words are guessed without the image.
      check_features: check_features(facts of a checkpoint, its place, vocabulary=True) raises
        where the checkpoint was trained on other features or, unless told not to look, with
        another vocabulary.
      flops: flops(parameter shapes) → function of a batch {stream: arrays}, the model operations of
        an update with it; or None.
    """

    task: Any
    example: Mapping[str, Mapping]
    batches: Callable[[Mapping[str, int]], Iterator[Mapping]]
    fingerprints: Mapping[str, str]
    evaluators: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    predictors: Callable[[], Mapping[str, Any]] = dict
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    priors: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    check_features: Callable[..., None] = lambda facts, where, vocabulary=True: None
    flops: Callable[[Any], Callable[[Mapping], float] | None] = lambda params: None
