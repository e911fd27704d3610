"""Which streams take part in a step, and whether each has an update of its own.

A function of the step and of a state that changes at evaluations alone and is saved with every
checkpoint: a resumed run takes the same streams as an unbroken one, and batches can be read ahead.

Where streams have updates of their own, a step is a round over those that take part (12-in-1's
batch-level round robin); learning rates, evaluations and checkpoints count rounds.
"""

import abc
import dataclasses
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from core.errors import ConfigError
from training import stop_and_go

WHERE = "config.stream_schedule"
# Learning rates of the updates of a step: "step", all have the step's; or, as in 12-in-1's released
# code, which steps its schedule after the first one, "released": the first has the one before.
RELEASED = "released"
RATES = ("step", RELEASED)


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a schedule is made of.

    Attributes:
      block: `config.stream_schedule`; `kind` is a key of KINDS.
      names: of the streams that are on, in the order of their updates.
      total_steps: of the run.
      seed: of the run.
      passes: {stream: batches that hold each of its examples once}; {} where no data is opened.
      scores: {stream: "evals/<name>/<metric>"}, of those that name one.
    """

    block: Mapping[str, Any]
    names: Sequence[str]
    total_steps: int
    seed: int = 0
    passes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    scores: Mapping[str, str] = dataclasses.field(default_factory=dict)


class StreamSchedule(abc.ABC):
    """What a schedule has; `make` builds one from `config.stream_schedule`.

    One that hears no evaluation has no state, and nothing to override but `streams`.

    Attributes:
      separate: whether each stream of a step has an update of its own; else one update has the
        losses of all.
      stops: whether evaluations stop streams.
    """

    separate: ClassVar[bool] = False
    stops: ClassVar[bool] = False

    @abc.abstractmethod
    def __init__(self, setting: Setting, saved: Mapping[str, Any]):
        """Arguments as of `make`; raises ConfigError where the streams do not fit."""

    @abc.abstractmethod
    def streams(self, step: int) -> Sequence[str]:
        """Streams that take part in a step.

        Args:
          step: number of steps before it.
        """

    def stopped(self, step: int) -> set[str]:
        """Streams that evaluations have stopped, after so many steps."""
        del step
        return set()

    def evaluated(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Receives the result of an evaluation, which may change the state.

        Args:
          step: steps done.
          metrics: {"evals/<name>/<metric>": value}; of some evaluations, where they have intervals
            of their own.
        """
        del step, metrics

    def state(self) -> dict[str, Any]:
        """JSON for a checkpoint's meta; `make` takes it back."""
        return {}


class AllStreams(StreamSchedule):
    """Every stream takes part in every step from its start on."""

    def __init__(self, setting: Setting, saved: Mapping[str, Any]):
        del saved
        starts = dict(setting.block.get("starts", ()))  # configs of earlier versions lack it
        total = setting.total_steps
        self._starts = {name: round(starts.get(name, 0) * total) for name in setting.names}
        if all(self._starts.values()):
            raise ConfigError(
                "no stream takes part in the first step",
                where=f"{WHERE}.starts",
                expected="at least one stream that starts at 0",
                found=f"{starts}",
                fix=f'--{WHERE}.starts="()", or turn another stream on (its batch_size)',
            )
        if late := [name for name, start in self._starts.items() if start >= total]:
            raise ConfigError(
                "a stream takes part in no step",
                where=f"{WHERE}.starts",
                expected=f"a start that leaves it one of {total} steps",
                found=f"{late[0]!r} at {starts[late[0]]}",
                fix=f"an earlier start, or --config.streams.{late[0]}.batch_size=0",
            )

    def streams(self, step: int) -> Sequence[str]:
        return tuple(name for name, start in self._starts.items() if step >= start)


class RoundRobin(AllStreams):
    """The same, with an update of each stream."""

    separate = True


class StopAndGo(RoundRobin):
    """The same, without the streams whose scores no longer get better; see `stop_and_go`."""

    stops = True

    def __init__(self, setting: Setting, saved: Mapping[str, Any]):
        super().__init__(setting, saved)
        if without := [name for name in setting.names if not setting.scores.get(name)]:
            raise ConfigError(
                "stop-and-go needs the score of each stream, by which it stops",
                where=f"config.streams.{without[0]}.score",
                expected="evals/<name>/<metric> of an evaluation of the stream",
                found="none",
                fix=f"--config.streams.{without[0]}.score=..., or --{WHERE}.kind=round_robin",
            )
        block = setting.block["stop_and_go"]
        fields = [field.name for field in dataclasses.fields(stop_and_go.Rule)]
        rule = stop_and_go.Rule(**{name: block[name] for name in fields})
        scores = {name: setting.scores[name] for name in setting.names}
        self._controllers = stop_and_go.Controllers(rule, scores, saved)

    def streams(self, step: int) -> Sequence[str]:
        """None, where all are stopped and the step is none of those between gaps."""
        return tuple(n for n in super().streams(step) if self._controllers.learns(n, step))

    def stopped(self, step: int) -> set[str]:
        return self._controllers.stopped(step)

    def evaluated(self, step: int, metrics: Mapping[str, float | None]) -> None:
        self._controllers.hear(step, metrics)

    def state(self) -> dict[str, Any]:
        return self._controllers.state()


class Sampled(StreamSchedule):
    """One stream a step, drawn by (seed, step) in proportion to batches^(1 / temperature).

    `batches` are those of a pass over the stream: at temperature 1 all streams are gone through
    equally often, at a high one all have as many updates. `shares` say otherwise.
    """

    separate = True

    def __init__(self, setting: Setting, saved: Mapping[str, Any]):
        del saved
        if starts := dict(setting.block["starts"]):
            raise ConfigError(
                "streams that are drawn have no starts",
                where=f"{WHERE}.starts",
                expected=f"() with {WHERE}.kind={setting.block['kind']!r}",
                found=f"{starts}",
                fix=f'--{WHERE}.starts="()", or --{WHERE}.kind=round_robin',
            )
        self._names, self._seed = tuple(setting.names), setting.seed
        given = dict(setting.block["shares"])
        if unknown := sorted(set(given) - set(setting.names)):
            raise ConfigError(
                "a share is given to a stream that is not on",
                where=f"{WHERE}.shares",
                expected=f"streams of {sorted(setting.names)}",
                found=repr(unknown[0]),
            )
        if given:
            never = [name for name in setting.names if not given.get(name)]
            if never:
                raise ConfigError(
                    "a stream is never drawn",
                    where=f"{WHERE}.shares",
                    expected=f"a share above 0 for each of {sorted(setting.names)}",
                    found=f"none for {never[0]!r}",
                    fix=f"add it, or --config.streams.{never[0]}.batch_size=0",
                )
            sizes = [given[name] for name in setting.names]
        else:
            power = 1 / setting.block["temperature"]
            sizes = [setting.passes.get(name, 1) ** power for name in setting.names]
        shares = np.array(sizes, np.float64) / np.sum(sizes)
        if (given or setting.passes) and shares.min() * setting.total_steps < 1:
            rare = setting.names[int(shares.argmin())]
            raise ConfigError(
                "a stream is hardly ever drawn",
                where=f"{WHERE}.shares" if given else f"{WHERE}.temperature",
                expected=f"a share of at least one of {setting.total_steps} steps",
                found=f"{shares.min():.2g} of them for {rare!r}",
                fix=f"--{WHERE}.temperature=2 or more, --{WHERE}.shares=..., or more steps",
            )
        self._bounds = np.cumsum(shares)

    def streams(self, step: int) -> Sequence[str]:
        drawn = np.random.default_rng([self._seed, zlib.crc32(b"streams"), step]).random()
        number = int(np.searchsorted(self._bounds, drawn, side="right"))
        return (self._names[min(number, len(self._names) - 1)],)


KINDS: dict[str, type[StreamSchedule]] = {
    "all": AllStreams,
    "round_robin": RoundRobin,
    "sampled": Sampled,
    "stop_and_go": StopAndGo,
}


def make(setting: Setting, saved: Mapping[str, Any] | None = None) -> StreamSchedule:
    """The schedule of a run.

    Args:
      setting: of the run.
      saved: `state()` in the meta of the checkpoint that is continued.

    Raises:
      ConfigError: an unknown kind, or streams that do not fit.
    """
    kind = setting.block["kind"]
    if kind not in KINDS:
        raise ConfigError(
            "unknown schedule of streams",
            where=f"{WHERE}.kind",
            expected=f"one of {sorted(KINDS)}",
            found=repr(kind),
        )
    return KINDS[kind](setting, saved or {})


def of_config(
    config,
    passes: Mapping[str, int] | None = None,
    saved: Mapping[str, Any] | None = None,
) -> StreamSchedule:
    """The schedule of a config, of the streams that are on; arguments as of `Setting` and `make`.

    Raises:
      ConfigError: as `make`.
    """
    on = [name for name, block in config.streams.items() if block.batch_size]
    order = list(dict.fromkeys(config.stream_schedule.get("order", ())))
    on = [*(name for name in order if name in on), *(name for name in on if name not in order)]
    scores = {name: config.streams[name].get("score", "") for name in on}
    setting = Setting(
        config.stream_schedule, on, config.total_steps, config.seed, passes or {}, scores
    )
    return make(setting, saved)


def is_separate(config) -> bool:
    """Whether each stream has updates of its own."""
    return KINDS[config.stream_schedule.kind].separate


def turns(schedule: StreamSchedule, step: int) -> Sequence[Sequence[str]]:
    """The streams of each update of a step."""
    taken = schedule.streams(step)
    return [(name,) for name in taken] if schedule.separate else [taken]


def plan(schedule: StreamSchedule, step: int, draws: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """{stream: draw} of each update from `step` on, as the schedule's state is now.

    A stream's draw goes up by one with each update that it takes part in.

    Args:
      schedule: of the run.
      step: steps done.
      draws: {stream: draw of its next batch}, of all streams.
    """
    draws = dict(draws)
    while True:
        for names in turns(schedule, step):
            taken = {name: draws[name] for name in names}
            yield taken
            draws |= {name: draw + 1 for name, draw in taken.items()}
        step += 1
