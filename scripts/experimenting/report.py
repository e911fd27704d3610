"""What came out of a table's runs, as Markdown, CSV and a picture.

A cell is the mean over the seeds that are done, with their standard deviation; a run that died is
told in the cell and below the table, and is part of no mean.
"""

import csv
import dataclasses
import io
import math
import os
import pathlib
import shlex
import statistics
from collections.abc import Mapping, Sequence

from scipy import stats

from core.progress import atomic_file
from scripts.experimenting import declared, runner

_COLOURS = ("#1f4e79", "#c55a11", "#548235", "#7f7f7f", "#7030a0", "#bf9000")


@dataclasses.dataclass(frozen=True)
class Measured:
    """A cell with what is known of it.

    Attributes:
      trial: its trial.
      cell: its declaration.
      values: {seed: value}, of the runs that are done.
      prior: what guessing reaches, None where nothing tells.
      died: seeds that ended without a result.
      asked: seeds that were asked for.
    """

    trial: declared.Trial
    cell: declared.Cell
    values: Mapping[int, float]
    prior: float | None
    died: Sequence[int]
    asked: int

    def text(self) -> str:
        """ "71.2 ± 0.4", with the number of seeds where it is not what was asked for."""
        if not self.values:
            return "died" if self.died else "–"
        found = list(self.values.values())
        text = f"{statistics.fmean(found):.1f}"
        if len(found) > 1:
            text += f" ± {statistics.stdev(found):.1f}"
        if self.died:
            text += f" ({len(found)} of {self.asked} seeds, {len(self.died)} died)"
        elif len(found) < self.asked:
            text += f" ({len(found)} of {self.asked} seeds)"
        return text


@dataclasses.dataclass(frozen=True)
class Difference:
    """A cell against the same of another trial, over the seeds that both have.

    Attributes:
      measured, against: the two.
      mean: of the differences.
      half: half of the 95 % interval (t distribution of the paired differences); None of one seed.
      seeds: how many.
      sure: whether the mean is more than twice its standard error; None of one seed.
    """

    measured: Measured
    against: Measured
    mean: float
    half: float | None
    seeds: int
    sure: bool | None


def collect(plan: runner.Plan, failed: Mapping[str, str]) -> list[Measured]:
    """The cells of a plan as far as its runs are done."""
    found = []
    for trial in plan.trials:
        jobs = {seed: plan.job(trial.name, seed) for seed in plan.seeds}
        results = {seed: result for seed, job in jobs.items() if (result := job.result)}
        died = [seed for seed, job in jobs.items() if job.name in failed]
        for i, cell in enumerate(trial.cells):
            scale = 100 if cell.share else 1
            values = {
                seed: scale * result["cells"][i]["value"]
                for seed, result in results.items()
                if result["cells"][i]["value"] is not None
            }
            priors = [result["cells"][i]["prior"] for result in results.values()]
            known = [scale * prior for prior in priors if prior is not None]
            prior = statistics.fmean(known) if known else None
            found.append(Measured(trial, cell, values, prior, died, len(plan.seeds)))
    return found


def differences(measured: Sequence[Measured]) -> list[Difference]:
    """Each cell of a trial that is compared with another."""
    by_trial: dict[str, list[Measured]] = {}
    for one in measured:
        by_trial.setdefault(one.trial.name, []).append(one)
    found = []
    for one in measured:
        if one.trial.against not in by_trial:
            continue
        other = by_trial[one.trial.against][by_trial[one.trial.name].index(one)]
        seeds = sorted(one.values.keys() & other.values.keys())
        if seeds:
            found.append(paired(one, other, [one.values[s] - other.values[s] for s in seeds]))
    return found


def paired(one: Measured, other: Measured, values: Sequence[float]) -> Difference:
    """The mean of paired differences, with its interval."""
    mean, count = statistics.fmean(values), len(values)
    if count == 1:
        return Difference(one, other, mean, None, 1, None)
    error = statistics.stdev(values) / math.sqrt(count)
    half = float(stats.t.ppf(0.975, count - 1)) * error
    return Difference(one, other, mean, half, count, abs(mean) > 2 * error)


def markdown(
    plan: runner.Plan, measured: Sequence[Measured], failed: Mapping[str, str], command: str
) -> str:
    """The table, the differences, and how they were made."""
    rows = list(dict.fromkeys(one.cell.row for one in measured))
    columns = list(dict.fromkeys(one.cell.column for one in measured))
    cells = {(one.cell.row, one.cell.column): one.text() for one in measured}
    priors: dict[str, list[float]] = {}
    for one in measured:
        if one.prior is not None:
            priors.setdefault(one.cell.row, []).append(one.prior)
    # A row of one metric has one prior; in others the columns measure different things.
    head = [plan.table.corner, *(["prior"] if priors else []), *columns]
    lines = [f"# {plan.table.title}", "", _row(head), "|---" * len(head) + "|"]
    for row in rows:
        prior = [_prior(priors.get(row, []))] if priors else []
        lines.append(_row([row, *prior, *(cells.get((row, column), "") for column in columns)]))
    count = len(plan.seeds)
    seeds = f"Mean ± standard deviation of {count} seeds" if count > 1 else "One seed (--seeds=3)"
    lines += ["", f"{seeds}; shares in per cent."]
    if plan.table.notes:
        lines += ["", plan.table.notes]
    if found := differences(measured):
        lines += ["", "## Differences", ""]
        lines += [_row(["", "less", "difference", "95 % interval", "over twice its error"])]
        lines += ["|---" * 5 + "|"]
        lines += [_row(_difference(one)) for one in found]
    if failed:
        lines += ["", "## Runs that died", ""]
        lines += [f"- {name}: {reason}" for name, reason in failed.items()]
    return "\n".join([*lines, "", "## How", "", *_how(plan, command)]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _prior(values: Sequence[float]) -> str:
    low, high = min(values, default=math.nan), max(values, default=math.nan)
    if not values:
        return ""
    return f"{low:.1f}" if high - low < 0.05 else f"{low:.1f}–{high:.1f}"


def _difference(one: Difference) -> list[str]:
    measured, against = one.measured, one.against
    interval = "one seed"
    if one.half is not None:
        interval = f"{one.mean - one.half:+.1f} to {one.mean + one.half:+.1f} ({one.seeds} seeds)"
    sure = {None: "", True: "yes", False: "no"}[one.sure]
    names = [f"{m.cell.row}, {m.cell.column}" for m in (measured, against)]
    return [*names, f"{one.mean:+.1f}", interval, sure]


def _how(plan: runner.Plan, command: str) -> list[str]:
    attempts = [a for job in plan.jobs() for a in job.attempts]
    cpu = sum(a["cpu_seconds"] for a in attempts)
    done = [job.attempts for job in plan.jobs() if job.result is not None]
    walls = sorted(sum(a["wall_seconds"] for a in run) for run in done if run)
    commits = list(dict.fromkeys(a["commit"] for a in attempts))
    lines = [f"    {command}", "", f"- Commit {', '.join(commits) or runner.commit()}."]
    if len(commits) > 1:
        lines[-1] += " **Runs of several commits stand beside each other.**"
    if walls:
        lines.append(
            f"- {len(walls)} runs, {cpu / 60:.0f} CPU minutes in all; a run took "
            f"{statistics.median(walls):.0f} s at the median, {walls[-1]:.0f} s at most, on a "
            f"machine of {os.cpu_count()} cores."
        )
    return lines


def table_csv(plan: runner.Plan, measured: Sequence[Measured]) -> str:
    """A line a cell and seed: values as they were measured, without rounding."""
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    out.writerow(("trial", "seed", "row", "column", "metric", "state", "value", "prior",
                  "cpu_seconds", "wall_seconds", "commit"))  # fmt: skip
    for one in measured:
        for seed in plan.seeds:
            attempts = plan.job(one.trial.name, seed).attempts
            state = "done" if seed in one.values else "died" if seed in one.died else "not run"
            scale = 100 if one.cell.share else 1
            out.writerow((
                one.trial.name, seed, one.cell.row, one.cell.column, one.cell.metric, state,
                one.values[seed] / scale if seed in one.values else "",
                "" if one.prior is None else one.prior / scale,
                round(sum(a["cpu_seconds"] for a in attempts), 1),
                round(sum(a["wall_seconds"] for a in attempts), 1),
                attempts[-1]["commit"] if attempts else "",
            ))  # fmt: skip
    return file.getvalue()


def draw(plan: runner.Plan, measured: Sequence[Measured], path: pathlib.Path) -> None:
    """Draws a line a row: means with standard deviations, and a tick at the prior."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = list(dict.fromkeys(one.cell.row for one in measured))
    columns = list(dict.fromkeys(one.cell.column for one in measured))
    height = 1.2 + max(0.16 * len(columns), 0.35) * len(rows) + 0.25 * math.ceil(len(columns) / 3)
    figure = Figure(figsize=(8, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for k, column in enumerate(columns):
        colour, label = _COLOURS[k % len(_COLOURS)], column
        for one in measured:
            if one.cell.column != column or not one.values:
                continue
            values = list(one.values.values())
            y = rows.index(one.cell.row) + 0.7 * ((k + 0.5) / len(columns) - 0.5)
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            mean = statistics.fmean(values)
            axes.errorbar(mean, y, xerr=spread, fmt="o", ms=4, capsize=2, color=colour, label=label)
            if one.prior is not None:
                axes.plot([one.prior], [y], "|", ms=9, color="#444444")
            label = "_"
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("mean ± standard deviation; | what guessing reaches")
    axes.grid(axis="x", alpha=0.3)
    figure.suptitle(plan.table.title, fontsize=10)
    if len(columns) > 1 and axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")


def write(plan: runner.Plan, failed: Mapping[str, str], argv: Sequence[str]) -> str:
    """Writes OUT/table.md, .csv and .png; returns the Markdown."""
    measured = collect(plan, failed)
    text = markdown(plan, measured, failed, "python " + shlex.join(argv))
    for name, content in (("table.md", text), ("table.csv", table_csv(plan, measured))):
        with atomic_file(plan.out / name) as temporary:
            temporary.write_text(content)
    draw(plan, measured, plan.out / "table.png")
    return text
