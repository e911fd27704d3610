"""What main.py does with trained parameters: the modes eval and predict."""

import json

import jax

from checkpoints import checkpoint
from core import remote
from core.console import say
from core.errors import ConfigError
from evaluation import evaluate as evaluation
from evaluation import predict as predictions
from evaluation.report.details import Measured
from runtime import sharding
from training import starts
from training.parts import Parts
from training.planning import assumed
from training.run import tracking


def require(config, workdir: remote.Path, mode: str) -> None:
    """Checks what a mode needs beside its data, before these are opened: they may take minutes.

    Raises:
      UserError: there are no parameters to begin with or to use, nothing that predicts, or a
        package that the run would miss.
    """
    if mode == "predict" and not predictions.streams_of(assumed.model(config)):
        raise ConfigError(
            "nothing to predict: the first objective of no stream in config.streams has "
            "predictions (pre-training objectives learn from what they hide)",
            fix="--mode=eval measures it",
        )
    if mode == "train":
        tracking.require(config.wandb)
        if not (workdir / checkpoint.FOLDER).exists():
            starts.require_init(config)
    elif mode in ("eval", "predict"):
        starts.require_trained(config, workdir)


def evaluate(config, workdir: remote.Path, parts: Parts, mesh) -> dict:
    """The eval mode: metrics of trained parameters; within `jax.set_mesh(mesh)`."""
    params, step, source = starts.trained(config, workdir, parts, mesh)
    say(f"evaluating step {step} of {source}")
    values = evaluation.metrics_of(parts.evaluators, params, workdir)
    say(evaluation.lines(step, values, parts.evaluators))
    result = dict(
        step=step, source=source, splits=evaluation.splits_of(parts.evaluators)
    ) | evaluation.json_values(values)
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def predict(config, workdir: remote.Path, parts: Parts, mesh) -> dict:
    """The predict mode: files and report of trained parameters; metrics where labels are.

    Within `jax.set_mesh(mesh)`.
    """
    predictors = parts.predictors()
    params, step, source = starts.trained(config, workdir, parts, mesh)
    params = sharding.gather_once(params, mesh)
    say(f"predicting with step {step} of {source}")
    answered = predictions.write(workdir, predictors, params)
    values = {}
    if any(predictions.labelled(predictor.stream) for predictor in predictors.values()):
        values = evaluation.metrics_of(parts.evaluators, params, workdir)
        say(evaluation.lines(step, values, parts.evaluators))
    if jax.process_index() == 0 and config.predict.examples:
        measured = Measured(
            values,
            known=evaluation.headings_of(parts.evaluators),
            splits=evaluation.splits_of(parts.evaluators),
            notes=[f"predictions of step {step} of {source}"],
        )
        path = predictions.write_browser(workdir, predictors, answered, measured, config)
        say(f"report: {path}")
    return dict(step=step, source=source) | values
