"""Which streams take part in a step: draws count for those alone, and a resumed run agrees."""

import itertools
import json

import jax
import pytest

from configs import common, vlbert_pretrain
from core import remote
from core.errors import ConfigError
from runtime import sharding, signals
from tests.training import fakes, run_fake
from training import config_checks, loop, stream_schedule
from training.run import goodput

STEPS = 16


class StopAtEvaluation:
    """The text stream takes part in even steps, until the evaluation at step 6 stops it."""

    separate, stops = False, True

    def __init__(self, setting, saved):
        self._names, self._stopped = setting.names, saved.get("stopped", False)

    def streams(self, step):
        both = step % 2 == 0 and not self._stopped
        return self._names if both else ["captions"]

    def stopped(self, step):
        return {"text"} if self._stopped else set()

    def evaluated(self, step, metrics):
        self._stopped = self._stopped or step >= 6

    def state(self):
        return dict(stopped=self._stopped)


@pytest.fixture
def stopping(monkeypatch):
    monkeypatch.setitem(stream_schedule.KINDS, "stopping", StopAtEvaluation)


def train(folder, steps):
    changes = {"stream_schedule.kind": "stopping", "checkpoint.every": 2, "log_every": 1}
    config = fakes.config(total_steps=steps, **changes)
    config.optimizer.schedule = "step"  # another number of steps, the same rate
    mesh = sharding.make_mesh(config.mesh)
    seen = []

    def at_draw(draw):
        seen.append(draw)

    with jax.set_mesh(mesh), signals.StopSignal() as stop:
        parts = run_fake.parts(config, at_draw=at_draw)
        loop.train(config, remote.path(folder), parts, mesh, stop, goodput.Ledger())
    meta = json.loads((folder / "checkpoints" / str(steps) / "meta" / "metadata").read_text())
    return meta, run_fake.losses(folder)


def setting(kind="all", names=("captions", "text"), total_steps=10, **changes):
    block = common.stream_schedule_block() | dict(kind=kind)
    parts = {name: changes.pop(name) for name in ("seed", "passes", "scores") if name in changes}
    return stream_schedule.Setting(block | changes, list(names), total_steps, **parts)


def test_draws_of_streams_that_take_part():
    schedule = StopAtEvaluation(setting(), {})
    plan = stream_schedule.plan(schedule, 0, dict(captions=5, text=2))
    assert list(itertools.islice(plan, 4)) == [
        dict(captions=5, text=2), dict(captions=6), dict(captions=7, text=3), dict(captions=8),
    ]  # fmt: skip


def test_a_stream_that_stops_counts_no_batch_that_was_read_ahead(stopping, tmp_path):
    meta, lines = train(tmp_path / "whole", STEPS)
    # Steps 0, 2 and 4 have the text; the evaluation at step 6 ends it, though step 6 was read.
    draws = meta.get("meta", meta)["draws"]
    assert draws == dict(captions=STEPS, text=3)
    with_text = [line["step"] for line in lines if "train/loss/text/words" in line]
    assert with_text == [1, 3, 5]


def test_a_run_resumed_in_the_middle_repeats_an_unbroken_one(stopping, tmp_path):
    _, whole = train(tmp_path / "whole", STEPS)
    for steps in (4, 10, STEPS):
        _, lines = train(tmp_path / "parts", steps)
    evaluated = {"evals/table/spread", "evals/table/constant"}
    strip = [{k: v for k, v in line.items() if k not in evaluated} for line in lines]
    plain = [{k: v for k, v in line.items() if k not in evaluated} for line in whole]
    assert [line for line in strip if "train/loss" in line] == [
        line for line in plain if "train/loss" in line
    ]


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ConfigError, match=r"(?s)config\.stream_schedule\.kind.*\['all'.*'some'"):
        stream_schedule.make(setting("some"))


def test_all_streams_always():
    schedule = stream_schedule.make(setting())
    plan = stream_schedule.plan(schedule, 3, dict(captions=3, text=1))
    assert list(itertools.islice(plan, 2)) == [dict(captions=3, text=1), dict(captions=4, text=2)]


def test_a_stream_takes_part_from_its_start_on():
    schedule = stream_schedule.make(setting(starts=(("captions", 0.3),)))
    plan = stream_schedule.plan(schedule, 0, dict(captions=0, text=0))
    taken = list(itertools.islice(plan, 5))
    assert taken[:3] == [dict(text=0), dict(text=1), dict(text=2)]
    assert taken[3:] == [dict(captions=0, text=3), dict(captions=1, text=4)]


def test_starts_that_no_run_can_have_are_refused():
    late = setting(names=["captions"], starts=(("captions", 0.5), ("off", 0.1)))
    with pytest.raises(ConfigError, match=r"(?s)first step.*stream_schedule\.starts"):
        stream_schedule.make(late)
    config = vlbert_pretrain.get_config()
    config.stream_schedule.starts = (("caption", 0.5),)
    with pytest.raises(
        ConfigError, match=r"(?s)starts.*\['captions', 'cloze', 'text', 'truth'\].*'caption'"
    ):
        config_checks.check(config)


def test_a_round_has_an_update_of_each_stream_in_order():
    schedule = stream_schedule.make(setting("round_robin", starts=(("text", 0.2),)))
    plan = stream_schedule.plan(schedule, 0, dict(captions=0, text=0))
    assert list(itertools.islice(plan, 6)) == [
        dict(captions=0), dict(captions=1),
        dict(captions=2), dict(text=0), dict(captions=3), dict(text=1),
    ]  # fmt: skip


NAMES, PASSES = ("a", "b", "c"), dict(a=10, b=30, c=160)


def shares(total=4000, **changes):
    """Share of the steps that each stream has."""
    schedule = stream_schedule.make(setting("sampled", NAMES, total, passes=PASSES, **changes))
    drawn = [schedule.streams(step) for step in range(total)]
    assert all(len(one) == 1 for one in drawn)
    return [sum(name in one for one in drawn) / total for name in NAMES], drawn


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (0.05, 0.15, 0.8)),
        (dict(temperature=2.0), (0.149, 0.257, 0.594)),  # √10 : √30 : √160
        (dict(temperature=1e6), (1 / 3, 1 / 3, 1 / 3)),
        (dict(shares=(("c", 1), ("a", 2), ("b", 1))), (0.5, 0.25, 0.25)),
    ],
)
def test_streams_are_drawn_by_their_passes_or_shares(changes, expected):
    found, _ = shares(**changes)
    assert found == pytest.approx(expected, abs=0.03)


def test_what_is_drawn_is_a_function_of_seed_and_step():
    _, drawn = shares(total=200)
    again = stream_schedule.make(setting("sampled", NAMES, 200, passes=PASSES))
    assert [again.streams(step) for step in (7, 150, 7)] == [drawn[7], drawn[150], drawn[7]]
    assert shares(total=200, seed=1)[1] != drawn


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (dict(shares=(("a", 1), ("b", 1))), r"never drawn.*none for 'c'"),
        (dict(shares=(("a", 1), ("b", 0), ("c", 1))), r"never drawn.*none for 'b'"),
        (dict(shares=(("a", 1), ("d", 1))), r"not on.*'d'"),
        (dict(total_steps=10), r"hardly ever drawn.*temperature.*'a'"),
        (dict(starts=(("c", 0.5),)), r"no starts.*stream_schedule\.starts.*'c': 0\.5"),
    ],
)
def test_a_stream_that_is_never_drawn_is_refused(changes, told):
    steps = changes.pop("total_steps", 100)
    with pytest.raises(ConfigError, match=f"(?s){told}"):
        stream_schedule.make(setting("sampled", NAMES, steps, passes=PASSES, **changes))


def test_a_stream_that_starts_at_the_end_is_refused():
    with pytest.raises(ConfigError, match=r"(?s)takes part in no step.*'text' at 0\.99"):
        stream_schedule.make(setting("round_robin", starts=(("text", 0.99),)))
