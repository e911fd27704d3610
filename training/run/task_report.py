"""What became of each task of a run: a table, and tasks.png, its score over the steps."""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from core import headings, remote, tables
from core.headings import PRIOR, Heading
from training.run import scores

FILE = "tasks.png"

Line = Mapping[str, Any]  # of metrics.jsonl


def collect(lines: Sequence[Line], metrics: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The course of each task, from the lines of a whole run.

    Args:
      lines: of metrics.jsonl.
      metrics: {task: "evals/<name>/<metric>"}.

    Returns:
      {task: {"metric", "scores": [[step, score], ...], "prior", None where none is told, "updates",
      "stops" and "goes": steps at which it stopped and went on}}, JSON.
    """
    found = {}
    for task, metric in metrics.items():
        own = [line for line in lines if f"tasks/{task}/{scores.SCORE}" in line]
        updates = [line[f"tasks/{task}/{scores.UPDATES}"] for line in _with(lines, task)]
        stops, goes = _switches(_with(lines, task, scores.STOPPED), task)
        found[task] = dict(
            metric=metric,
            scores=[[line["step"], line[f"tasks/{task}/{scores.SCORE}"]] for line in own],
            prior=own[-1].get(metric + PRIOR) if own else None,
            updates=updates[-1] if updates else 0,
            stops=stops,
            goes=goes,
        )
    return found


def _with(lines: Sequence[Line], task: str, what: str = scores.UPDATES) -> list[Line]:
    return [line for line in lines if f"tasks/{task}/{what}" in line]


def _switches(lines: Iterable[Line], task: str) -> tuple[list[int], list[int]]:
    """Steps at which a task stopped, and at which it went on."""
    stops, goes, before = [], [], 0.0
    for line in lines:
        now = line[f"tasks/{task}/{scores.STOPPED}"]
        if now != before:
            (stops if now else goes).append(line["step"])
        before = now
    return stops, goes


def table(tasks: Mapping[str, Mapping[str, Any]], known: Mapping[str, Heading]) -> str:
    """The tasks for people: scores before, best and last, updates, stops and goes.

    Args:
      tasks: of `collect`.
      known: {metric: heading}, which says the units.
    """
    rows = [("task", "score", "before", "best", "at step", "after", "prior", "updates", "rested")]
    for name, task in tasks.items():
        heading = headings.of(task["metric"], known)
        course = task["scores"]
        best = max((x for x in course if x[0]), key=lambda x: x[1], default=None)
        prior = task["prior"]
        rows.append(
            (
                name,
                task["metric"].removeprefix("evals/"),
                heading.shown(course[0][1]) if course and not course[0][0] else "",
                heading.shown(best[1]) if best else "",
                f"{best[0]:,}" if best else "",
                heading.shown(course[-1][1]) if course else "",
                heading.shown(prior) if prior is not None else "",
                f"{task['updates']:,}",
                _rests(task),
            )
        )
    return tables.columns(rows, right=range(2, 8))


def _rests(task: Mapping[str, Any]) -> str:
    """ "500–800, 1,200–": the steps between which a task rested."""
    ends = [f"{step:,}" for step in task["goes"]] + [""] * len(task["stops"])
    return ", ".join(f"{start:,}–{end}" for start, end in zip(task["stops"], ends, strict=False))


def draw(workdir: remote.Path, tasks: Mapping[str, Mapping[str, Any]]) -> remote.Path | None:
    """Draws WORKDIR/tasks.png: a panel a task, where it rested in grey, stop ▼ and go ▲ marked.

    Returns:
      Its path, or None where matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    columns = min(4, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, task) in zip(panels, tasks.items(), strict=False):
        steps = [step for step, _ in task["scores"]]
        values = [100 * value for _, value in task["scores"]]
        axes.plot(steps, values, marker="o", markersize=3, linewidth=1.2)
        at = dict(zip(steps, values, strict=True))
        end = max(steps, default=0)
        ends = [*task["goes"], *[end] * len(task["stops"])]
        for start, until in zip(task["stops"], ends, strict=False):
            axes.axvspan(start, until, color="0.9")
        for marker, colour, where in (("v", "C3", task["stops"]), ("^", "C2", task["goes"])):
            shown = [step for step in where if step in at]
            axes.plot(shown, [at[step] for step in shown], marker, color=colour, markersize=7)
        if task["prior"] is not None:
            axes.axhline(100 * task["prior"], color="0.5", linestyle=":", linewidth=1)
        axes.set_title(f"{name}: {task['metric'].rpartition('/')[2]}", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    for axes in panels[len(tasks) :]:
        axes.set_axis_off()
    figure.supxlabel("step", fontsize=8)
    figure.supylabel("%", fontsize=8)
    image = io.BytesIO()
    figure.savefig(image, dpi=120)
    path = workdir / FILE
    path.write_bytes(image.getvalue())
    return path
