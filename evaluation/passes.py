"""Evaluators that go over a split batch by batch: those of one split go together, in one program.

What two of them compute alike, the trunk above all, is in that program once.
"""

import abc
import functools
from collections.abc import Sequence
from typing import Any

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from core.progress import Progress
from evaluation import evaluators
from evaluation.stream import EvaluationStream, Place
from objectives import base


class PassEvaluator(evaluators.Evaluator):
    """An evaluator that looks at each batch of its split once, alone or beside others.

    Attributes:
      stream: the split's examples.
      place: puts a host batch on the devices.
    """

    def __init__(self, block: ConfigDict, stream: EvaluationStream, place: Place):
        self.stream, self.place, self._block = stream, place, block

    @property
    def of(self) -> tuple[str, ...]:
        """What it goes over; those that go over the same can go together."""
        block, stream = self._block, self.stream
        return block.stream, stream.split, str(block.batch_size), stream.fingerprint

    @abc.abstractmethod
    def begin(self) -> None:
        """Forgets what it has seen before."""

    @abc.abstractmethod
    def measure(self, params: PyTree, batch: base.Arrays) -> PyTree:
        """What is needed of a batch; compiled."""

    @abc.abstractmethod
    def take(self, batch: base.Arrays, out: PyTree) -> None:
        """Looks at what `measure` gave of a batch, which is on the devices."""

    @abc.abstractmethod
    def end(self) -> dict[str, float | None]:
        """{metric: value} of all batches."""

    def run(self, params: PyTree) -> dict[str, float | None]:
        (values,) = run([self], params)
        return values


def run(members: Sequence[PassEvaluator], params: PyTree) -> list[dict[str, float | None]]:
    """The metrics of each member, all of one split in batches of one size."""
    step, stream = _step(*members), members[0].stream
    progress = Progress(f"evaluate {stream.split}", stream.steps_per_epoch, unit="batches")
    for member in members:
        member.begin()
    for host in stream.batches():
        batch = members[0].place(host)
        for member, out in zip(members, step(params, batch), strict=True):
            member.take(batch, out)
        if jax.process_index() == 0:
            progress.add()
    return [member.end() for member in members]


@functools.lru_cache(maxsize=8)  # evaluators of a run meet in few ways
def _step(*members: PassEvaluator) -> Any:
    @jax.jit
    def step(params: PyTree, batch: base.Arrays) -> tuple[PyTree, ...]:
        return tuple(member.measure(params, batch) for member in members)

    return step
