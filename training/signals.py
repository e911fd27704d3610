"""Stopping in good order: SIGTERM, as schedulers and preemption send it, and Ctrl-C."""

import signal

import jax
from jax.experimental import multihost_utils


class StopSignal:
    """Context in which SIGTERM and the first SIGINT ask the loop to stop after its step.

    With several processes JAX's preemption service agrees on the step, so that all save the same.
    """

    def __init__(self):
        self._asked = False
        self._alone = jax.process_count() == 1

    def __enter__(self):
        if self._alone:
            self._old = {s: signal.signal(s, self._ask) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def _ask(self, number, frame):
        del frame
        self._asked = True
        print(f"{signal.Signals(number).name}: finishing the step and saving", flush=True)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C is immediate

    def reached(self, step: int) -> bool:
        """Whether to stop after `step`."""
        if self._alone:
            return self._asked
        return multihost_utils.reached_preemption_sync_point(step)

    def __exit__(self, *exception):
        if self._alone:
            for number, handler in self._old.items():
                signal.signal(number, handler)
