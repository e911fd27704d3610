"""Evaluators that go over a split batch by batch: those of one split go together, in one program.

What two of them compute alike, the trunk above all, is in that program once.
"""

import functools
from collections.abc import Sequence
from typing import Any, Protocol

import jax
from jaxtyping import PyTree

from core.progress import Progress
from evaluation.stream import EvaluationStream, Place
from objectives import base


class Member(Protocol):
    """An evaluator that looks at each batch of a split once.

    Attributes:
      stream: the split's examples.
      place: puts a host batch on the devices.
    """

    stream: EvaluationStream
    place: Place

    def begin(self) -> None:
        """Forgets what it has seen before."""

    def measure(self, params: PyTree, batch: base.Arrays) -> PyTree:
        """What is needed of a batch; compiled."""

    def take(self, batch: base.Arrays, out: PyTree) -> None:
        """Looks at what `measure` gave of a batch, which is on the devices."""

    def end(self) -> dict[str, float | None]:
        """{metric: value} of all batches."""


def run(members: Sequence[Member], params: PyTree) -> list[dict[str, float | None]]:
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
def _step(*members: Member) -> Any:
    @jax.jit
    def step(params: PyTree, batch: base.Arrays) -> tuple[PyTree, ...]:
        return tuple(member.measure(params, batch) for member in members)

    return step
