"""The end of a run: its summary, tables and pictures."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax

from core import headings
from core.console import say
from evaluation import evaluate
from evaluation.report.details import Measured
from training.parts import Run
from training.run import metrics, plot, scores, task_report
from training.run import summary as summaries


@dataclasses.dataclass(frozen=True)
class Ending:
    """A run that is through.

    Attributes:
      run: it.
      step: steps done.
      elapsed: seconds of all its attempts.
      best: {"step", "metric", "value"} of the best checkpoint, or None.
    """

    run: Run
    step: int
    elapsed: float
    best: Mapping[str, Any] | None

    def summary(self) -> dict[str, Any]:
        """Final figures; {} but on the first process."""
        if jax.process_index() != 0:
            return {}
        run = self.run
        lines = metrics.read(run.workdir / metrics.FILE)
        names = {name.split("/")[1] for name in run.parts.model.loss_scale}
        tasks = task_report.collect(lines, scores.of_config(run.config))
        found = summaries.collect(lines, sorted(names), run.parts.priors)
        found |= dict(tasks=tasks) if tasks else {}
        return found | dict(
            step=self.step,
            total_steps=run.config.total_steps,
            elapsed_seconds=round(self.elapsed, 1),
            goodput=run.ledger.summary(),
            devices=f"{run.mesh.devices.size} × {run.mesh.devices.ravel()[0].device_kind}",
            mesh=dict(run.mesh.shape),
            best=self.best,
            splits=evaluate.splits_of(run.parts.evaluators),
        )

    def show(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json, prints the tables and draws the pictures; on the first process."""
        if jax.process_index() != 0:
            return
        workdir, known = self.run.workdir, evaluate.headings_of(self.run.parts.evaluators)
        path = workdir / "summary.json"
        path.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
        say(summaries.table(summary, known))
        made = [path, plot.draw(workdir)]
        if tasks := summary.get("tasks"):
            say(task_report.table(tasks, known))
            made.append(task_report.draw(workdir, tasks))
        say(self.run.ledger.line())
        say(f"done: {', '.join(map(str, made))}")

    def measured(self) -> Measured:
        """The last evaluation and that before training, for the report."""
        workdir, evaluators = self.run.workdir, self.run.parts.evaluators
        found = metrics.evaluations(workdir) or [(self.step, {})]
        curve, known = workdir / plot.FILE, evaluate.headings_of(evaluators)
        notes = [f"predictions and metrics of step {self.step}, the last one"]
        if best := self.best:
            value = headings.of(best["metric"], known).shown(best["value"])
            notes.append(f"the best checkpoint is of step {best['step']}: {best['metric']} {value}")
        return Measured(
            values=found[-1][1],
            before=found[0][1] if found[0][0] == 0 and len(found) > 1 else {},
            known=known,
            splits=evaluate.splits_of(evaluators),
            notes=notes,
            curve=curve.read_bytes() if curve.is_file() else None,
        )
