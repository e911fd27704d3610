"""WORKDIR/summary.json and the table at the end of a run: metrics before and after training."""

from collections.abc import Mapping, Sequence
from typing import Any

from core import tables

# Metrics that say how the data was packed, not what was learned.
_BOOKKEEPING = ("filled", "mlm_over_cap")


def _by_evaluator(line: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """{"evals/validation/x": 1} → {"validation": {"x": 1}}."""
    out: dict[str, dict[str, float]] = {}
    for name, value in line.items():
        kind, _, rest = name.partition("/")
        evaluator, _, metric = rest.partition("/")
        if kind == "evals" and metric not in _BOOKKEEPING:
            out.setdefault(evaluator, {})[metric] = value
    return out


def _figures(line: Mapping[str, float], objectives: Sequence[str]) -> dict[str, Any]:
    """Metrics of one evaluation without their evaluators' names; the losses apart.

    Where two evaluators have a metric of the same name, the one made for it counts, not the one
    that runs the objectives: `mlm_accuracy` is the visual gain's, of whole words, and
    `alignment_accuracy` that of pairs without masks.
    """
    figures: dict[str, Any] = {"losses": {}}
    evaluators = _by_evaluator(line).values()
    for metrics in sorted(evaluators, key=lambda found: found.keys().isdisjoint(objectives)):
        for name, value in metrics.items():
            (figures["losses"] if name in objectives else figures)[name] = value
    return figures


def collect(
    lines: Sequence[Mapping[str, Any]],
    objectives: Sequence[str],
    priors: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """The final figures of a run from the lines of its metrics.jsonl.

    Args:
      lines: of the whole run, resumed parts included.
      objectives: names of the objectives, whose evaluation metrics are losses.
      priors: {slot: {"prior", "text_only"}}, shares of marked words that are guessed without the
        image, or {}.

    Returns:
      Accuracies as shares (0 to 1), visual_gain and its interval in points (0 to 100), losses in
      nats, of the last evaluation; `before`: the same at step 0; `train`: the last log line;
      examples_per_second: the median over the log lines.
    """
    evaluations = [x for x in lines if any(name.startswith("evals/") for name in x)]
    logged = [x for x in lines if "train/loss" in x]
    # The first line holds the compilation.
    rates = sorted(
        line["train/examples_per_second"]
        for line in logged[1:] or logged
        if "train/examples_per_second" in line
    )
    out = _figures(evaluations[-1], objectives) if evaluations else {}
    if rates:
        out["examples_per_second"] = rates[len(rates) // 2]
    if logged:
        out["train"] = {
            k.removeprefix("train/"): v
            for k, v in logged[-1].items()
            if k == "step" or k.startswith("train/")
        }
    if priors:
        out["priors"] = dict(priors)
    if evaluations and evaluations[0]["step"] == 0:
        out["before"] = _figures(evaluations[0], objectives)
    return out


def table(summary: Mapping[str, Any]) -> str:
    """Metrics before and after training, for people."""
    after = _flat(summary)
    before = _flat(summary.get("before", {}))
    if not after:
        return "no evaluation"
    rows = [("", "before", "after")]
    rows += [(name, _text(before.get(name)), _text(value)) for name, value in after.items()]
    lines = [tables.columns(rows, right=(1, 2))]
    for slot, guess in summary.get("priors", {}).items():
        lines.append(
            f"marked words, {slot}: the most frequent one is right in {100 * guess['prior']:.1f} %,"
            f" a text-only classifier in {100 * guess['text_only']:.1f} %"
        )
    return "\n".join(lines)


def _flat(figures: Mapping[str, Any]) -> dict[str, float]:
    """Losses and evaluation metrics of `_figures` in one dict."""
    other = ("before", "train", "priors", "losses", "examples_per_second", "elapsed_seconds")
    plain = {k: v for k, v in figures.items() if k not in other and isinstance(v, float)}
    return {f"loss {k}": v for k, v in figures.get("losses", {}).items()} | plain


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
