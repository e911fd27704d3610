"""Dynamic stop-and-go of 12-in-1 (section 3.3): a task that no longer gets better rests.

A controller per task hears the task's score after each of its evaluations. Two in a row without a
relative gain stop the task: it then learns in every `gap`-th round alone, so that it is not
forgotten. A score that falls too far below the best lets it go on.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Rule:
    """When a task stops and goes; the defaults are the paper's and the released code's.

    Attributes:
      threshold: a score counts as better above (1 + threshold) · best.
      patience: evaluations without one that are still borne.
      cooldown: evaluations after a stop or a go that count as no failure.
      resume: a stopped task goes on below (1 - resume) · best.
      gap: a stopped task learns in rounds whose number, from 0, is a multiple of it.
      resets: rounds after which all controllers begin anew.
    """

    threshold: float = 0.001
    patience: int = 1
    cooldown: int = 1
    resume: float = 0.005
    gap: int = 4
    resets: tuple[int, ...] = ()


@dataclasses.dataclass
class Controller:
    """The state of one task; scores are at least 0 and higher is better.

    Attributes:
      best: the highest score that counted as a gain; None before the first one.
      failures: scores in a row without a gain.
      waits: evaluations of the cooldown that are left.
      stopped: whether the task rests.
      at: rounds done when it heard the last score.
    """

    best: float | None = None
    failures: int = 0
    waits: int = 0
    stopped: bool = False
    at: int = 0

    def hear(self, rule: Rule, score: float) -> None:
        """Takes the score of an evaluation; one that is no number counts as no gain."""
        finite = math.isfinite(score)
        if finite and (self.best is None or score > self.best * (1 + rule.threshold)):
            self.best, self.failures = score, 0
        else:
            self.failures += 1
        if self.waits > 0:
            self.waits, self.failures = self.waits - 1, 0
        fallen = finite and self.best is not None and score < self.best * (1 - rule.resume)
        if self.failures > rule.patience:
            self.stopped, self.waits, self.failures = True, rule.cooldown, 0
        elif self.stopped and fallen:
            self.stopped, self.waits, self.failures = False, rule.cooldown, 0

    def at_round(self, rule: Rule, done: int) -> "Controller":
        """This controller after `done` rounds, a new one where a reset lies in between."""
        if any(self.at < reset <= done for reset in rule.resets):
            return Controller(at=done)
        return self

    def state(self) -> dict[str, Any]:
        """JSON; `Controller(**state)` takes it back."""
        return dataclasses.asdict(self)


class Controllers:
    """The controllers of all tasks of a run."""

    def __init__(
        self, rule: Rule, metrics: Mapping[str, str], saved: Mapping[str, Mapping[str, Any]]
    ):
        """Begins anew, or as a checkpoint has it.

        Args:
          rule: of all tasks.
          metrics: {task: "evals/<name>/<metric>", its score}.
          saved: `state()` of a checkpoint, or {}.
        """
        self._rule, self._metrics = rule, dict(metrics)
        self._tasks = {name: Controller(**saved.get(name, {})) for name in metrics}

    def learns(self, task: str, step: int) -> bool:
        """Whether a task has an update in the round after `step` others."""
        controller = self._tasks[task].at_round(self._rule, step)
        return not controller.stopped or step % self._rule.gap == 0

    def stopped(self, step: int) -> set[str]:
        """The tasks that rest after `step` rounds."""
        tasks = self._tasks.items()
        return {name for name, one in tasks if one.at_round(self._rule, step).stopped}

    def hear(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Takes the scores that an evaluation after `step` rounds gave; others stay as they are.

        What an untrained model scores, at step 0, says nothing of a gain.
        """
        for name, metric in self._metrics.items():
            score = metrics.get(metric)
            if step and score is not None:
                controller = self._tasks[name].at_round(self._rule, step)
                controller.hear(self._rule, score)
                controller.at = step
                self._tasks[name] = controller

    def state(self) -> dict[str, Any]:
        """JSON: {task: state of its controller}."""
        return {name: one.state() for name, one in self._tasks.items()}
