"""Goodput: where the wall time of a run went, over all its attempts.

Every moment has one category, so that the seconds add up to the wall time:

  steps         training steps that count; their share of the whole is the goodput
  input         the loop blocked by the input
  startup       opening data, building the model, compiling
  restoring     reading a checkpoint
  evaluation
  checkpoints   the loop blocked by a save
  lost          from the checkpoint an attempt left behind to its end: done again by the next
  downtime      between the end of an attempt and the start of the next

An attempt may end at any moment: a checkpoint's meta holds the seconds at its save, and
WORKDIR/goodput.json (rewritten at each log line, save and evaluation) those when the attempt was
last known to run. What the second has more than the first was lost. An attempt that ended before it
had read its checkpoint counts as downtime.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from core.console import warn

PathLike = str | os.PathLike[str]

FILE = "goodput.json"
REMOTE_SECONDS = 30.0  # between two writes to gs://
CATEGORIES = (
    "steps",
    "input",
    "startup",
    "restoring",
    "evaluation",
    "checkpoints",
    "lost",
    "downtime",
)
# What comes after the checkpoint that is resumed from is done again: lost.
_REPEATED = ("steps", "input", "evaluation", "checkpoints")


class Ledger:
    """Seconds of a run by category, this attempt's included; starts in `startup`.

    Attributes:
      began: when the run began, seconds since 1970; of this attempt until `resume` is called.
      attempts: how many there were, with this one.
      seconds: {category: seconds}, without the category that is going on.
    """

    def __init__(self):
        self.began, self.attempts = time.time(), 1
        self.seconds = dict.fromkeys(CATEGORIES, 0.0)
        self._category, self._since = "startup", time.perf_counter()
        self._counting = True  # False: of a finished run, which nothing is added to
        self._written = float("-inf")

    def enter(self, category: str) -> str:
        """Counts time to `category` from now on; returns the category until now."""
        now = time.perf_counter()
        if self._counting:
            self.seconds[self._category] += now - self._since
        previous, self._category, self._since = self._category, category, now
        return previous

    @contextlib.contextmanager
    def during(self, category: str) -> Iterator[None]:
        """Context whose time counts to `category`."""
        previous = self.enter(category)
        try:
            yield
        finally:
            self.enter(previous)

    def resume(
        self, workdir: PathLike, saved: Mapping[str, Any] | None, *, done: bool = False
    ) -> None:
        """Adds what earlier attempts spent.

        Args:
          workdir: the run folder.
          saved: `state()` in the meta of the checkpoint that is continued; None: from scratch.
          done: whether no steps are left; a run that had finished then stays as it was.
        """
        attempt_began = self.began
        known = [state for state in (read(workdir), saved) if state]
        latest = max(known, key=lambda state: state["time"], default=None)
        if latest is None or (latest["finished"] and not saved):
            return  # a new run
        if latest["finished"] and done:
            self.began, self.attempts = latest["began"], latest["attempts"]
            self.seconds, self._counting = dict(latest["seconds"]), False
            return
        kept = saved or dict(seconds=dict.fromkeys(CATEGORIES, 0.0))
        for category in CATEGORIES:
            spent = latest["seconds"][category]
            if category in _REPEATED:
                useful = min(spent, kept["seconds"][category])
                self.seconds["lost"] += spent - useful
                spent = useful
            self.seconds[category] += spent
        self.attempts, self.began = latest["attempts"] + 1, latest["began"]
        gap = max(0.0, attempt_began - latest["time"])
        if latest["finished"]:
            self.began += gap  # extended with more steps: the time between is no downtime
        else:
            self.seconds["downtime"] += gap

    def state(self, *, finished: bool = False) -> dict[str, Any]:
        """JSON for a checkpoint's meta and for the file."""
        self.enter(self._category)
        return dict(
            began=round(self.began, 3),
            time=round(time.time(), 3),
            attempts=self.attempts,
            finished=finished,
            seconds={name: round(value, 3) for name, value in self.seconds.items()},
        )

    def write(self, workdir: PathLike, *, finished: bool = False) -> None:
        """Writes WORKDIR/goodput.json, whole or not at all; on the first process.

        On gs://, where a write is slow, at most every REMOTE_SECONDS.
        """
        path = epath.Path(workdir) / FILE
        remote = "://" in str(path)
        now = time.perf_counter()
        if remote and not finished and now - self._written < REMOTE_SECONDS:
            return
        self._written = now
        text = json.dumps(self.state(finished=finished)) + "\n"
        if remote:
            path.write_text(text)
        else:
            path.with_suffix(".tmp").write_text(text)
            path.with_suffix(".tmp").replace(path)

    def share(self) -> float:
        """Share of the wall time since the run began that steps took which count (0 to 1)."""
        self.enter(self._category)
        return self.seconds["steps"] / max(sum(self.seconds.values()), 1e-9)

    def figures(self) -> dict[str, float]:
        """For a log line: {"goodput/share": 0 to 1, "goodput/lost": seconds, …}."""
        share = self.share()
        return {"goodput/share": share} | {f"goodput/{k}": v for k, v in self.seconds.items()}

    def summary(self) -> dict[str, Any]:
        """The same for summary.json."""
        share = self.share()
        seconds = {name: round(value, 1) for name, value in self.seconds.items()}
        return dict(share=round(share, 4), attempts=self.attempts, seconds=seconds)

    def line(self) -> str:
        """The same for the console; categories below 0.05 % are left out."""
        share, whole = self.share(), max(sum(self.seconds.values()), 1e-9)
        shares = {name: 100 * value / whole for name, value in self.seconds.items()}
        where = ", ".join(f"{k} {v:.1f}%" for k, v in shares.items() if k != "steps" and v >= 0.05)
        attempts = f"{self.attempts} attempt{'s' * (self.attempts > 1)}"
        return f"goodput {100 * share:.1f}% of {whole:,.0f} s in {attempts}; {where}"


def read(workdir: PathLike) -> dict[str, Any] | None:
    """What WORKDIR/goodput.json holds; None where there is none, or a damaged one (told)."""
    path = epath.Path(workdir) / FILE
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_bytes().decode("utf-8"))
        numbers = [found["began"], found["time"], *(found["seconds"][name] for name in CATEGORIES)]
        if not all(isinstance(value, (int, float)) for value in [*numbers, found["attempts"]]):
            raise TypeError("values that are no numbers")
        return found | dict(finished=bool(found["finished"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        warn(
            f"{path} is damaged: {type(error).__name__}: {error}\n"
            "  the goodput counts from the checkpoint on"
        )
        return None
