"""Where the time of a run went since it first began, over all its attempts.

Every moment has one category, so that the seconds add up to the wall time:

  steps         training steps that count; their share of the whole is the goodput
  input         the loop blocked by the input
  startup       opening data, building the model, compiling
  restoring     reading a checkpoint
  evaluation
  checkpoints   the loop blocked by a save
  lost          from the checkpoint an attempt left behind to its end: done again by the next
  downtime      between the end of an attempt and the start of the next

Nothing has to end in good order: a checkpoint's meta holds the seconds as they were when it was
saved, WORKDIR/goodput.json (written anew at each log line, save and evaluation) as they were when
the attempt was last alive. What the second has more than the first is what a kill lost. An attempt
that ended before it had read its checkpoint is part of the downtime.
"""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping

from etils import epath

FILE = "goodput.json"
REMOTE_SECONDS = 30.0
CATEGORIES = (
    "steps", "input", "startup", "restoring", "evaluation", "checkpoints", "lost", "downtime",
)  # fmt: skip
# Kept by a checkpoint; what came after it is done again.
_OF_STEPS = ("steps", "input", "evaluation", "checkpoints")


class Ledger:
    """Seconds of a run by category, this attempt's included; begins in `startup`."""

    def __init__(self):
        self.began, self.attempts = time.time(), 1  # of the whole run, once `resume` was called
        self.seconds = dict.fromkeys(CATEGORIES, 0.0)
        self._category, self._since = "startup", time.perf_counter()
        self._counts, self._written = True, float("-inf")

    def enter(self, category: str) -> str:
        """The moment belongs to `category` from now on; returns what it was before."""
        now = time.perf_counter()
        if self._counts:
            self.seconds[self._category] += now - self._since
        before, self._category, self._since = self._category, category, now
        return before

    @contextlib.contextmanager
    def during(self, category: str) -> Iterator[None]:
        """Context whose time belongs to `category`."""
        before = self.enter(category)
        try:
            yield
        finally:
            self.enter(before)

    def resume(self, workdir, saved: Mapping | None, *, done: bool = False) -> None:
        """Takes over what earlier attempts spent.

        Args:
          workdir: the run folder.
          saved: `state()` in the meta of the checkpoint that is continued; None: from scratch.
          done: whether there are no steps left: of a run that had finished nothing changes then.
        """
        here = self.began
        alive = max(filter(None, (read(workdir), saved)), key=lambda x: x["time"], default=None)
        if alive is None or (alive["finished"] and not saved):
            return  # nothing was there, or nothing of it is wanted
        if alive["finished"] and done:
            self.began, self.attempts = alive["began"], alive["attempts"]
            self.seconds, self._counts = dict(alive["seconds"]), False
            return
        kept = saved or dict(seconds=dict.fromkeys(CATEGORIES, 0.0))
        for category in CATEGORIES:
            spent = alive["seconds"][category]
            if category in _OF_STEPS:
                stays = min(spent, kept["seconds"][category])
                self.seconds["lost"] += spent - stays
                spent = stays
            self.seconds[category] += spent
        self.attempts, self.began = alive["attempts"] + 1, alive["began"]
        gap = max(0.0, here - alive["time"])
        if alive["finished"]:
            self.began += gap  # extended later on: nobody waited for it
        else:
            self.seconds["downtime"] += gap

    def state(self, *, finished: bool = False) -> dict:
        """JSON for a checkpoint's meta and for the file."""
        self.enter(self._category)
        return dict(
            began=round(self.began, 3),
            time=round(time.time(), 3),
            attempts=self.attempts,
            finished=finished,
            seconds={name: round(value, 3) for name, value in self.seconds.items()},
        )

    def write(self, workdir, *, finished: bool = False) -> None:
        """Writes WORKDIR/goodput.json, whole or not at all; on the first process.

        On gs://, where that takes its time, at most every REMOTE_SECONDS.
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
        """Of the wall time since the run began, spent on steps that count (0 to 1)."""
        self.enter(self._category)
        return self.seconds["steps"] / max(sum(self.seconds.values()), 1e-9)

    def figures(self) -> dict[str, float]:
        """Of a log line: {"goodput/share": 0 to 1, "goodput/lost": seconds since it began, …}."""
        share = self.share()
        return {"goodput/share": share} | {f"goodput/{k}": v for k, v in self.seconds.items()}

    def summary(self) -> dict:
        """The same for summary.json."""
        share = self.share()
        seconds = {name: round(value, 1) for name, value in self.seconds.items()}
        return dict(share=round(share, 4), attempts=self.attempts, seconds=seconds)

    def line(self) -> str:
        """The same for people; what is too little to see is left out."""
        share, whole = self.share(), max(sum(self.seconds.values()), 1e-9)
        shares = {name: 100 * value / whole for name, value in self.seconds.items()}
        where = ", ".join(f"{k} {v:.1f}%" for k, v in shares.items() if k != "steps" and v >= 0.05)
        attempts = f"{self.attempts} attempt{'s' * (self.attempts > 1)}"
        return f"goodput {100 * share:.1f}% of {whole:,.0f} s in {attempts}; {where}"


def read(workdir) -> dict | None:
    """What WORKDIR/goodput.json holds; None where there is none."""
    path = epath.Path(workdir) / FILE
    return json.loads(path.read_text()) if path.exists() else None
