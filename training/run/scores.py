"""The scores of the tasks of a run: the newest of each, and their mean.

A task is a stream that names its `score`, the metric that says how well it is done. Scores of
different tasks are put on one scale by what guessing reaches: (score - prior) / (1 - prior), the
share of what guessing leaves.
"""

import math
from collections.abc import Mapping
from typing import Any

from core.errors import ConfigError
from core.headings import PRIOR

MEAN = "tasks/mean"  # the mean, among the values of an evaluation
SCORE, STOPPED, UPDATES = "score", "stopped", "updates"  # tasks/<stream>/<one of these>


class Scores:
    """The newest score of each task.

    Attributes:
      tasks: their names.
    """

    def __init__(self, metrics: Mapping[str, str], saved: Mapping[str, float] | None = None):
        """Starts without scores, or with those of a checkpoint.

        Args:
          metrics: {task: "evals/<name>/<metric>"}.
          saved: `state()`.
        """
        self._metrics, self._newest = dict(metrics), dict(saved or {})
        self.tasks = tuple(metrics)

    def take(self, values: Mapping[str, float | None], *, whole: bool) -> dict[str, float]:
        """Takes the values of an evaluation.

        Args:
          values: {"evals/<name>/<metric>": value}.
          whole: whether they are of all evaluations, so that every score is among them.

        Returns:
          {"tasks/<task>/score": value} of the tasks with a new score, and their mean over the
          newest scores of all, where each task has one.

        Raises:
          ConfigError: a task has no such metric.
        """
        found = {}
        for task, metric in self._metrics.items():
            value = values.get(metric)
            if value is not None and math.isfinite(value):
                self._newest[task] = normalised(value, values.get(metric + PRIOR))
                found[f"tasks/{task}/{SCORE}"] = value
            elif whole and metric not in values:
                raise ConfigError(
                    "the score of a stream is a metric that there is not",
                    where=f"config.streams.{task}.score",
                    expected=f"one of {sorted(v for v in values if not v.endswith(PRIOR))}",
                    found=repr(metric),
                )
        if found and set(self._newest) == set(self._metrics):
            found[MEAN] = sum(self._newest.values()) / len(self._newest)
        return found

    def state(self) -> dict[str, Any]:
        """JSON for a checkpoint's meta: {task: its newest score, normalised}."""
        return dict(self._newest)


def normalised(value: float, prior: float | None) -> float:
    """A share above what guessing reaches, as a share of what guessing leaves."""
    prior = prior if prior is not None and prior < 1 else 0.0
    return (value - prior) / (1 - prior)


def of_config(config) -> dict[str, str]:
    """{task: its metric} of the streams that are on."""
    return {
        name: block.score
        for name, block in config.streams.items()
        if block.batch_size and block.get("score", "")
    }
