"""Trained parameters put to use: metrics of every evaluator, predictions, and the report."""

import json

import jax

from input_pipeline import remote
from input_pipeline.schema import ConfigError
from training import metrics, predict, sharding, signals, starts
from training.metrics import say
from training.parts import Parts


def evaluate(config, workdir: remote.Path, parts: Parts, mesh) -> dict:
    """The eval mode: metrics of trained parameters; within `jax.set_mesh(mesh)`."""
    params, step, source = starts.trained(config, workdir, parts, mesh)
    say(f"evaluating step {step} of {source}")
    values = metrics_of(parts, params, workdir)
    say(metrics.evaluation_lines(step, values))
    result = dict(step=step, source=source) | values
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def write_predictions(config, workdir: remote.Path, parts: Parts, mesh) -> dict:
    """The predict mode: files and report of trained parameters; metrics where labels are.

    Within `jax.set_mesh(mesh)`.

    Raises:
      ConfigError: none of the streams predicts.
    """
    predictors = parts.predictors()
    if not predictors:
        raise ConfigError(
            "nothing to predict: the first objective of no stream in config.streams has "
            "predictions (pre-training objectives learn from what they hide)"
        )
    params, step, source = starts.trained(config, workdir, parts, mesh)
    params = sharding.gather_once(params, mesh)
    say(f"predicting with step {step} of {source}")
    shown = predict.write(config, workdir, predictors, params)
    values = {}
    if any(predict.labelled(predictor.stream) for predictor in predictors.values()):
        values = metrics_of(parts, params, workdir)
        say(metrics.evaluation_lines(step, values))
    if jax.process_index() == 0 and config.predict.examples:
        path = predict.write_report(config, workdir, predictors, shown, values)
        say(f"report: {path}")
    return dict(step=step, source=source) | values


def metrics_of(parts: Parts, params, workdir: remote.Path | None = None) -> dict[str, float]:
    """{"evals/<evaluator>/<metric>": value} of every evaluator.

    Args:
      parts: of the run.
      params: of its task.
      workdir: where evaluators that write files may write them; None: nowhere.

    Raises:
      signals.Stopped: the run is to stop.
    """
    if not parts.evaluators:
        return {}
    params = sharding.gather_once(params, jax.sharding.get_mesh())
    for name, evaluator in parts.evaluators.items():
        if workdir and hasattr(evaluator, "files"):
            evaluator.folder = workdir / evaluator.files / name
    return {
        f"evals/{name}/{metric}": value
        for name, evaluator in parts.evaluators.items()
        for metric, value in evaluator.run(params).items()
    }


def write_report(config, workdir: remote.Path, parts: Parts, params) -> None:
    """Shows a few predictions of a run that has just ended, beside its last metrics.

    It does so where `config.predict.examples` asks for them, and there is a stream that predicts
    and a split to evaluate.
    """
    evaluated = any(b.split in ("eval", config.data.eval_split) for b in config.evals.values())
    if not (config.predict.examples and evaluated):
        return
    predictors = parts.predictors()
    if not predictors:
        return
    try:
        shown = predict.some(config, predictors, params)
    except signals.Stopped:
        say("stopped by a signal before the report; the same command writes it")
        return
    if jax.process_index() == 0:
        lines = [line for line in metrics.read(workdir / metrics.FILE)
                 if any(name.startswith("evals/") for name in line)]  # fmt: skip
        figures = {k: v for k, v in (lines or [{}])[-1].items() if k.startswith("evals/")}
        path = predict.write_report(config, workdir, predictors, shown, figures)
        say(f"report: {path}")
