"""Stopping in good order: SIGTERM, as schedulers and preemption send it, and Ctrl-C.

What SIGTERM waits for before the process exits 0:

  until the first step of this attempt is done   nothing, not even a compilation under way (with
                                                 several processes: up to 6 s)
  in a step                                      that step, and its save
  in an evaluation                               the batch it is at, and the save; the evaluation is
                                                 begun anew by the same command
  at the end of the run                          the last save and the summary

A step or batch of sizes that are new waits for its compilation, too. With several processes each
of them may get the signal, or one alone: they agree on the step or batch.

Ctrl-C, where the process is alone and steps are done, is taken for SIGTERM, and a second one ends
the process at once, in a save, too. Before the first step, in evaluation of a finished run and in
planning it is Python's KeyboardInterrupt, and the end of the process GRACE seconds later where that
is not heard, as in a compilation.
"""

import os
import signal
import threading
from collections.abc import Callable

import jax
from jax.experimental import multihost_utils

from core import interrupts
from core.console import say
from runtime import cluster, coordination

GRACE = 3.0  # seconds for Python to hear Ctrl-C
EARLY = "stopped by a signal with no new step to save: the same command continues"


class Stopped(Exception):
    """An evaluation is not to be finished."""


_active: list["StopSignal"] = []


def check() -> None:
    """Raises Stopped where the run is to stop. Called for each batch of an evaluation.

    All processes call it equally often.
    """
    if _active and _active[-1].reached():
        raise Stopped


class StopSignal:
    """Context of a run, in which SIGTERM and Ctrl-C are what they are above.

    `protect` tells that from now on there are steps to save.
    """

    def __init__(self, training: bool = True, kept: Callable[[], str] = lambda: ""):
        """Begins with nothing to save.

        Args:
          training: whether there will be; else SIGTERM ends the process, as everywhere.
          kept: kept() → what is saved so far, for the last words.
        """
        self._training, self._kept = training, kept
        self._alone = jax.process_count() == 1
        self._protected = self._asked = self._reached = False
        self._questions = 0
        self._old = {}
        self._left = threading.Event()

    def __enter__(self):
        # Python's own handlers wait for a compilation to end. What C writes to the pipe does not.
        self._pipe, self._end = os.pipe()
        os.set_blocking(self._end, False)
        self._old_end = signal.set_wakeup_fd(self._end, warn_on_full_buffer=False)
        if self._training:
            self._handle(signal.SIGTERM)
        threading.Thread(target=self._watch, daemon=True).start()
        _active.append(self)
        return self

    def _handle(self, number) -> None:
        self._old[number] = signal.signal(number, self._ask)

    def _watch(self) -> None:
        asked = False
        while number := os.read(self._pipe, 1):
            if number[0] == signal.SIGTERM and not self._protected:
                cluster.stop(EARLY)
            if number[0] == signal.SIGINT:
                if self._protected and self._alone:
                    if asked:
                        kept = "; ".join(filter(None, (self._kept(), "the same command continues")))
                        cluster.stop(f"{interrupts.AGAIN}\n  {kept}", interrupts.STATUS)
                elif not self._left.wait(GRACE):
                    cluster.stop(interrupts.TEXT, interrupts.STATUS)
            asked = True
        os.close(self._pipe)

    def _ask(self, number, frame):
        del frame
        asked, self._asked = self._asked, True
        # Before `protect`, `_watch` ends the process.
        if self._protected and not asked:
            say(f"{signal.Signals(number).name}: finishing the step and saving")

    def protect(self) -> None:
        """Begins to wait for steps; all processes call it after the same one."""
        if self._protected:
            return
        self._protected = True
        if self._alone:
            self._handle(signal.SIGINT)
        elif self._asked:
            cluster.stop(EARLY)
        else:
            jax.config.update("jax_enable_preemption_service", True)
            coordination.start_preemption_sync()  # takes SIGTERM from here

    def reached(self) -> bool:
        """Whether to stop now. All processes ask equally often, after the same work."""
        if self._protected and not self._reached:
            self._questions += 1
            self._reached = (
                self._asked
                if self._alone
                else multihost_utils.reached_preemption_sync_point(self._questions)
            )
        return self._reached

    def __exit__(self, *exception):
        self._left.set()
        _active.remove(self)
        signal.set_wakeup_fd(self._old_end)
        os.close(self._end)
        for number, handler in self._old.items():
            signal.signal(number, handler)
