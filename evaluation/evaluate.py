"""Every evaluator of a run on one set of parameters, and the report at a run's end."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from core import headings, remote
from core.console import say
from core.headings import PRIOR, Heading
from evaluation import passes, predict
from evaluation.evaluators import Evaluator
from evaluation.report.details import Measured
from runtime import sharding, signals


def metrics_of(
    evaluators: Mapping[str, Evaluator], params: PyTree, workdir: remote.Path | None = None
) -> dict[str, float | None]:
    """{"evals/<evaluator>/<metric>": value} of every evaluator; None where no label is known.

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
    found = dict[str, dict[str, float | None]]()
    for name, evaluator in evaluators.items():
        if name in found:
            continue
        if isinstance(evaluator, passes.PassEvaluator):
            together = {
                other: one
                for other, one in evaluators.items()
                if isinstance(one, passes.PassEvaluator) and one.of == evaluator.of
            }
            values = passes.run([*together.values()], params)
            found |= dict(zip(together, values, strict=True))
        else:
            found[name] = evaluator.run(params)
    return {
        f"evals/{name}/{metric}": value
        for name in evaluators
        for metric, value in found[name].items()
    }


def headings_of(evaluators: Mapping[str, Evaluator]) -> dict[str, Heading]:
    """{"evals/<evaluator>/<metric>": what it is for people}."""
    return {
        f"evals/{name}/{metric}": heading
        for name, evaluator in evaluators.items()
        for metric, heading in evaluator.headings().items()
    }


def splits_of(evaluators: Mapping[str, Evaluator]) -> dict[str, dict[str, Any]]:
    """{evaluator: {"split", "examples"}}: what each measures, by the data set's own name."""
    return {
        name: dict(split=evaluator.split, examples=evaluator.examples)
        for name, evaluator in evaluators.items()
        if evaluator.split
    }


def json_values(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """The values for JSON, which knows neither NaN nor infinity: null."""
    return {k: v if v is not None and math.isfinite(v) else None for k, v in values.items()}


def lines(
    step: int, values: Mapping[str, float | None], evaluators: Mapping[str, Evaluator]
) -> str:
    """Metrics for the console, one line per evaluator; shares in percent, with their priors.

    Args:
      step: that they are of.
      values: of `metrics_of`.
      evaluators: that measured them.
    """
    known, named = headings_of(evaluators), dict[str, list[str]]()
    for name, value in values.items():
        evaluator, metric = name.removeprefix("evals/").split("/", 1)
        if metric.endswith(PRIOR):
            continue
        heading = headings.of(name, known)
        text = f"{metric} {heading.shown(value)}"
        if value is not None and f"{name}{PRIOR}" in values:
            text += f" (prior {heading.shown(values[name + PRIOR])})"
        named.setdefault(evaluator, []).append(text)
    splits = splits_of(evaluators)
    return "\n".join(
        f"step {step} {evaluator}"
        + (f" (split {splits[evaluator]['split']!r})" if evaluator in splits else "")
        + ": "
        + ", ".join(texts)
        for evaluator, texts in named.items()
    )


def write_report(
    config: ConfigDict,
    workdir: remote.Path,
    predictors: Callable[[], Mapping[str, predict.Predictor]],
    params: PyTree,
    measured: Callable[[], Measured],
) -> None:
    """Shows a few predictions of a run that has just ended, beside its last metrics.

    It does so where `config.predict.examples` asks for them, and there is a stream that predicts
    and a split to evaluate.

    Args:
      config: of the run.
      workdir: its folder.
      predictors: predictors() → {stream: `predict.Predictor`}.
      params: of the model.
      measured: measured() → the last metrics and those before; asked for on the first process
        alone.
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
    params = sharding.gather_once(params, jax.sharding.get_mesh())
    try:
        shown = predict.some(config, found, params)
    except signals.Stopped:
        say("stopped by a signal before the report; the same command writes it")
        return
    if jax.process_index() == 0:
        path = predict.write_report(workdir, found, shown, measured(), config)
        say(f"report: {path}")
