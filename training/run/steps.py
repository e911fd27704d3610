"""Runs compiled steps: one program per set of streams and sizes, each compiled when first met."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from core.console import say
from training.run import goodput, metrics


class StepRunner:
    """The train step with its compilations, which no figure of speed counts.

    Attributes:
      compiled: whether any step is done.
    """

    def __init__(
        self,
        train_step: Callable[..., tuple[Any, dict]],
        flops: Callable[[Mapping], float] | None,
        batch_sizes: Mapping[str, int],
        clock: metrics.Clock,
        ledger: goodput.Ledger,
    ):
        """Compiles nothing yet.

        Args:
          train_step: of `step.make_train_step`.
          flops: operations of an update with a batch, where they can be told.
          batch_sizes: {stream: examples of its global batch}.
          clock, ledger: where the time of steps and compilations counts.
        """
        self._train_step, self._flops = train_step, flops
        self._batch_sizes, self._clock, self._ledger = batch_sizes, clock, ledger
        self._programs: set[tuple] = set()
        self._done, self._first_ended, self._compiling = 0, 0.0, 0.0

    @property
    def compiled(self) -> bool:
        return bool(self._programs)

    def is_new(self, batch: Mapping[str, Mapping[str, jax.Array]]) -> bool:
        """Whether a batch needs a program of its own: other streams, or other sizes."""
        return _shape(batch) not in self._programs

    def __call__(
        self, state, batch: Mapping[str, Mapping[str, jax.Array]], draws, turn=None, last=True
    ):
        """One update; what is under way must be waited for before a batch that is new.

        Args:
          state, batch, draws: of the train step.
          turn: of an update that is one of several of a step.
          last: whether it is the last one of its step.

        Returns:
          The state and what the step measured, both perhaps still being worked out.
        """
        more = () if turn is None else (turn,)
        if not self.is_new(batch):
            state, out = self._train_step(state, batch, draws, *more)
            self._done += last
            examples = sum(self._batch_sizes[name] for name in batch)
            self._clock.step(examples, self._flops(batch) if self._flops else 0.0, steps=int(last))
            return state, out
        first, began = not self.compiled, time.perf_counter()
        self._ledger.enter("startup")
        state, out = self._train_step(state, batch, draws, *more)
        self._programs.add(_shape(batch))
        jax.block_until_ready(out)
        self._ledger.enter("steps")
        seconds = time.perf_counter() - began
        what = "first step" if first else "step with new sizes"
        what = what if turn is None else f"first update of {', '.join(batch)}"
        say(f"{what} with compilation: {seconds:.1f} s")
        if first:
            self._first_ended = time.perf_counter()
            self._clock.restart()
        else:
            self._done += last
            self._compiling += seconds
            self._clock.pause(seconds)
        return state, out

    def seconds_left(self, steps: int) -> float | None:
        """Time that so many more steps will take; None before the second one.

        Evaluations and checkpoints since the first step are part of the estimate.
        """
        if not self._done:
            return None
        spent = time.perf_counter() - self._first_ended - self._compiling
        return spent / self._done * steps


def _shape(batch: Mapping[str, Mapping[str, jax.Array]]) -> tuple:
    """What tells the program that a batch needs: its streams, and the sizes of their arrays."""
    return tuple(
        (name, *(x.shape for x in jax.tree.leaves(arrays))) for name, arrays in batch.items()
    )
