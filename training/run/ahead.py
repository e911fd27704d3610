"""Asynchronous dispatch: batches and steps ahead of time, so that devices never wait for the host.

JAX returns from a step before the devices are through with it. So batches are placed, and steps
dispatched, while the devices work on earlier ones, and what a step returned is looked at a little
later, when that waits for nothing.
"""

import collections
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np

from core.console import say
from runtime import sharding, watchdog
from training.run import divergence, goodput, metrics

IN_FLIGHT = 2  # batches placed, and steps dispatched, ahead of the one whose loss is looked at


def placed(
    batches: Iterator[tuple[Mapping[str, int], Mapping]],
    mesh: jax.sharding.Mesh,
    clock: metrics.Clock,
    ledger: goodput.Ledger,
) -> Iterator[tuple[dict, dict, dict]]:
    """(draws, example ids, placed batch) of each update, placing one batch ahead of its use.

    Each is a dict by stream, of the streams that take part in the update.

    Args:
      batches: ({stream: draw}, {stream: host arrays}) of each update.
      mesh: to place them on.
      clock, ledger: where the time counts that batches are waited for.
    """
    ready: collections.deque = collections.deque()
    while True:
        while len(ready) < IN_FLIGHT:
            asked = time.perf_counter()
            with ledger.during("input"):
                draws, batch = next(batches)
            clock.wait(time.perf_counter() - asked)
            ids = {name: np.asarray(arrays["example_index"]) for name, arrays in batch.items()}
            counters = {name: np.int32(draw) for name, draw in draws.items()}
            ready.append((counters, ids, sharding.place(batch, mesh)))
            watchdog.beat()
        yield ready.popleft()


class Results:
    """What steps returned, looked at when the devices are through with them.

    Attributes:
      window: `metrics.Window` of the steps that were looked at; the log line begins a new one.
      skips: `divergence.Skips` of the run.
      norms: {group: gradient norm} of the newest update that the group had.
    """

    def __init__(
        self, window: metrics.Window, skips: divergence.Skips, saved: Callable[[], Sequence[int]]
    ):
        """Begins with nothing under way.

        Args:
          window, skips: new ones, or as a checkpoint has them.
          saved: saved() → steps of the run's checkpoints, to be named where training diverges.
        """
        self.window, self.skips, self.norms = window, skips, {}
        self._saved, self._pending = saved, collections.deque()

    def add(self, step: int, draws: Mapping, ids: Mapping, out: Mapping) -> None:
        """Takes what a dispatched step will return; looks at steps far enough behind it.

        Raises:
          divergence.NonFiniteError: training diverged.
        """
        self._pending.append((step, draws, ids, out))
        self._look(IN_FLIGHT)

    def wait(self) -> None:
        """Waits for all steps under way and looks at them; raises as `add`."""
        self._look(0)

    def _look(self, ahead: int) -> None:
        """Adds up the metrics of all but the last `ahead` steps, waiting for those."""
        while len(self._pending) > ahead:
            step, draws, ids, out = self._pending.popleft()
            out = jax.device_get(out)
            loss, norm = out["pairs"]["loss"][0], out["pairs"]["gradient_norm"][0]
            if not self.skips.take(loss, norm):
                text = divergence.describe(step, draws, ids, out, self._saved())
                if self.skips.exhausted():
                    raise divergence.NonFiniteError(text)
                say(f"{text}\n  {self.skips}")
                continue
            self.window.add(out["pairs"])
            self.norms |= out["group_norms"]
