"""Which streams take part in a step.

A function of the step and of a state that changes at evaluations alone and is saved with every
checkpoint: a resumed run takes the same streams as an unbroken one, and batches can be read ahead.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from core.errors import ConfigError


class StreamSchedule(Protocol):
    """What a schedule has; `make` builds one from `config.stream_schedule`."""

    def streams(self, step: int) -> Sequence[str]:
        """Streams that take part in an update; at least one.

        Args:
          step: number of updates before it.
        """
        ...

    def evaluated(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Receives the result of an evaluation, which may change the state.

        Args:
          step: updates done.
          metrics: {"evals/<name>/<metric>": value}.
        """
        ...

    def state(self) -> dict[str, Any]:
        """JSON for a checkpoint's meta; `make` takes it back."""
        ...


class AllStreams:
    """Every stream takes part in every step from its start on; there is no state."""

    def __init__(
        self,
        block: Mapping[str, Any],
        names: Sequence[str],
        total_steps: int,
        saved: Mapping[str, Any],
    ):
        del saved
        starts = dict(block.get("starts", ()))  # configs saved by earlier versions lack it
        self._starts = {name: round(starts.get(name, 0) * total_steps) for name in names}
        if min(self._starts.values()) > 0:
            raise ConfigError(
                "no stream takes part in the first step",
                where="config.stream_schedule.starts",
                expected="at least one stream that starts at 0",
                found=f"{starts}",
            )

    def streams(self, step: int) -> Sequence[str]:
        return tuple(name for name, start in self._starts.items() if step >= start)

    def evaluated(self, step: int, metrics: Mapping[str, float | None]) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {}


KINDS: dict[str, type[StreamSchedule]] = {"all": AllStreams}


def make(
    block: Mapping[str, Any],
    names: Sequence[str],
    total_steps: int,
    saved: Mapping[str, Any] | None = None,
) -> StreamSchedule:
    """The schedule of a run.

    Args:
      block: `config.stream_schedule`; `kind` is a key of KINDS.
      names: of the streams that are on.
      total_steps: of the run.
      saved: `state()` in the meta of the checkpoint that is continued.

    Raises:
      ConfigError: an unknown kind, or streams that do not fit.
    """
    kind = block["kind"]
    if kind not in KINDS:
        raise ConfigError(
            "unknown schedule of streams",
            where="config.stream_schedule.kind",
            expected=f"one of {sorted(KINDS)}",
            found=repr(kind),
        )
    return KINDS[kind](block, names, total_steps, saved or {})


def plan(schedule: StreamSchedule, step: int, draws: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """{stream: draw} of each update from `step` on, as the schedule's state is now.

    A stream's draw goes up by one with each update that it takes part in.

    Args:
      schedule: of the run.
      step: updates done.
      draws: {stream: draw of its next batch}, of all streams.
    """
    draws = dict(draws)
    while True:
        taken = {name: draws[name] for name in schedule.streams(step)}
        yield taken
        draws |= {name: draw + 1 for name, draw in taken.items()}
        step += 1
