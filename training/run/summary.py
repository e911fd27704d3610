"""WORKDIR/summary.json and the table at the end of a run: metrics before and after training."""

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core import headings, tables
from core.headings import NO_LABELS, PRIOR, Heading

# Metrics that say how the data was packed, not what was learned.
_BOOKKEEPING = ("filled", "mlm_over_cap")
_EVALS = "evals/"


def flat_names(names: Sequence[str]) -> dict[str, str]:
    """What metrics are called without their evaluators: {"evals/validation/x": "x"}.

    One that several evaluators give keeps the evaluator's name, "validation/x" and "test/x": a name
    has one meaning.
    """
    metrics = collections.Counter(name.split("/", 2)[2] for name in names)
    out = {}
    for name in names:
        metric = name.split("/", 2)[2]
        out[name] = metric if metrics[metric] == 1 else name.removeprefix(_EVALS)
    return out


def _figures(
    line: Mapping[str, float | None], flat: Mapping[str, str], objectives: Sequence[str]
) -> dict[str, Any]:
    """Metrics of one evaluation; the losses apart."""
    figures: dict[str, Any] = {"losses": {}}
    for name, short in flat.items():
        metric = name.split("/", 2)[2]
        if name in line and metric not in _BOOKKEEPING:
            (figures["losses"] if metric in objectives else figures)[short] = line[name]
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
      nats, of the last evaluation, None where no example has a label; `<metric>_prior`: what
      guessing reaches; `before`: the same at step 0; `train`: the last log line;
      examples_per_second: the median over the log lines. Names as of `flat_names`.
    """
    evaluations = [x for x in lines if any(name.startswith(_EVALS) for name in x)]
    logged = [x for x in lines if "train/loss" in x]
    # The first line holds the compilation.
    rates = sorted(
        line["train/examples_per_second"]
        for line in logged[1:] or logged
        if "train/examples_per_second" in line
    )
    names = dict.fromkeys(k for line in evaluations for k in line if k.startswith(_EVALS))
    flat = flat_names(list(names))
    out = _figures(evaluations[-1], flat, objectives) if evaluations else {}
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
        out["before"] = _figures(evaluations[0], flat, objectives)
    return out


def table(summary: Mapping[str, Any], known: Mapping[str, Heading] | None = None) -> str:
    """Metrics before and after training, for people, beside what guessing reaches.

    Args:
      summary: of `collect`; with "splits", {evaluator: {"split", "examples"}}, it says of what.
      known: {"evals/<evaluator>/<metric>": heading}, which says the units.
    """
    after = _flat(summary)
    before = _flat(summary.get("before", {}))
    if not after:
        return "no evaluation"
    units = {short: (known or {})[name] for name, short in flat_names(list(known or {})).items()}
    shown = {k: v for k, v in after.items() if not k.endswith(PRIOR) and not _crossed(k)}
    priors = {k.removesuffix(PRIOR): v for k, v in after.items() if k.endswith(PRIOR)}
    rows = [("", "before", "after", *["prior"] * bool(priors))]
    for name, value in shown.items():
        heading = headings.of(name, units)
        cells = [heading.shown(before[name]) if name in before else "", heading.shown(value)]
        if priors:
            cells.append(heading.shown(priors[name]) if name in priors else "")
        rows.append((name, *cells))
    lines = [tables.columns(rows, right=(1, 2, 3)[: len(rows[0]) - 1])]
    for crossed in _cross_tables(after, units):
        lines += ["", crossed, ""]
    for name, what in summary.get("splits", {}).items():
        lines.append(f"{name}: split {what['split']!r}, {what['examples']:,} examples")
    if priors:
        lines.append("prior: the most frequent answer for all, or a choice at random")
    if None in after.values():
        lines.append(f"{NO_LABELS}: no example of the split has one for this metric")
    for slot, guess in summary.get("priors", {}).items():
        lines.append(
            f"marked words, {slot}: the most frequent one is right in {100 * guess['prior']:.1f} %,"
            f" a text-only classifier in {100 * guess['text_only']:.1f} %"
        )
    return "\n".join(lines)


def _crossed(name: str) -> bool:
    """Whether a metric is a cell of a table, `<table>/<row>/<column>`."""
    return name.count("/") == 2


def _cross_tables(
    figures: Mapping[str, float | None], units: Mapping[str, Heading]
) -> Iterator[str]:
    """The metrics that are cells, a table each; an interval stands with what it is of."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for name in filter(_crossed, figures):
        title, row, column = name.split("/")
        shown = headings.of(name, units).shown(figures[name])
        found.setdefault(title, {}).setdefault(row, {})[column] = shown
    for title, cells in found.items():
        for columns in cells.values():
            for column in [name for name in columns if f"{name}_low" in columns]:
                low, high = (columns.pop(f"{column}_{end}").split()[0] for end in ("low", "high"))
                columns[column] += f" ({low}–{high})"
        names = list(dict.fromkeys(column for columns in cells.values() for column in columns))
        rows = [(title.replace("_", " "), *names)]
        rows += [
            (row.replace("_", "/"), *(columns.get(name, "") for name in names))
            for row, columns in cells.items()
        ]
        yield tables.columns(rows, right=range(1, len(names) + 1))


def _flat(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """Losses and evaluation metrics of `_figures` in one dict."""
    other = (
        "before",
        "train",
        "priors",
        "losses",
        "examples_per_second",
        "elapsed_seconds",
        "best",
    )
    plain = {
        k: v for k, v in figures.items() if k not in other and (v is None or isinstance(v, float))
    }
    return {f"loss {k}": v for k, v in figures.get("losses", {}).items()} | plain
