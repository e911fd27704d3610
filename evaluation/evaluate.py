"""Every evaluator of a run on one set of parameters, and the report at a run's end."""

from collections.abc import Callable, Mapping

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from core import remote
from core.console import say
from evaluation import predict
from evaluation.evaluators import Evaluator
from runtime import sharding, signals


def metrics_of(
    evaluators: Mapping[str, Evaluator], params: PyTree, workdir: remote.Path | None = None
) -> dict[str, float]:
    """{"evals/<evaluator>/<metric>": value} of every evaluator.

    Args:
      evaluators: by their names in the config.
      params: of the model.
      workdir: where evaluators that write files may write them; None: nowhere.

    Raises:
      signals.Stopped: the run is to stop.
    """
    if not evaluators:
        return {}
    params = sharding.gather_once(params, jax.sharding.get_mesh())
    for name, evaluator in evaluators.items():
        if workdir and evaluator.files:
            evaluator.folder = workdir / evaluator.files / name
    return {
        f"evals/{name}/{metric}": value
        for name, evaluator in evaluators.items()
        for metric, value in evaluator.run(params).items()
    }


def lines(step: int, values: Mapping[str, float]) -> str:
    """Metrics for the console, one line per evaluator.

    Args:
      step: that they are of.
      values: of `metrics_of`.
    """
    named: dict[str, list[str]] = {}
    for name, value in values.items():
        evaluator, metric = name.removeprefix("evals/").split("/", 1)
        named.setdefault(evaluator, []).append(f"{metric} {value:.4g}")
    return "\n".join(
        f"step {step} {evaluator}: " + ", ".join(texts) for evaluator, texts in named.items()
    )


def write_report(
    config: ConfigDict,
    workdir: remote.Path,
    predictors: Callable[[], Mapping[str, predict.Predictor]],
    params: PyTree,
    figures: Callable[[], Mapping[str, float]],
) -> None:
    """Shows a few predictions of a run that has just ended, beside its last metrics.

    It does so where `config.predict.examples` asks for them, and there is a stream that predicts
    and a split to evaluate.

    Args:
      config: of the run.
      workdir: its folder.
      predictors: predictors() → {stream: `predict.Predictor`}.
      params: of the model.
      figures: figures() → {"evals/<name>/<metric>": value}, the last ones; asked for on the first
        process alone.
    """
    evaluated = any(
        block.split in ("eval", config.streams[block.stream].data.eval_split)
        for block in config.evals.values()
    )
    if not (config.predict.examples and evaluated):
        return
    found = predictors()
    if not found:
        return
    try:
        shown = predict.some(config, found, params)
    except signals.Stopped:
        say("stopped by a signal before the report; the same command writes it")
        return
    if jax.process_index() == 0:
        path = predict.write_report(workdir, found, shown, figures())
        say(f"report: {path}")
