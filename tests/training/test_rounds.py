"""Updates of single streams: heads of others, learning rates, programs, and runs that resume."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core import remote
from evaluation import evaluators
from runtime import paths, sharding, signals
from tests.training import fakes, run_fake
from training import loop, step, stream_schedule, used_heads
from training.run import goodput, metrics, runfolder
from training.state import StateMaker

OTHER = "answers"  # head of the text stream


def made(unused_heads="untouched", rates=None, **changes):
    """(train step, state, mesh) of the fake task with two heads."""
    config = fakes.config(**{"stream_schedule.kind": "round_robin"} | changes)
    mesh = sharding.make_mesh(config.mesh, jax.devices()[:1])
    model = fakes.FakeTask(dropout=0.1, text_head=OTHER)
    with jax.set_mesh(mesh):
        maker = StateMaker(model, config, fakes.batches(config, 0), mesh)
        train = step.make_train_step(
            model,
            maker.optimizer,
            mesh,
            jax.tree.map(lambda x: x.sharding, maker.state),
            seed=0,
            accumulate=1,
            rates=rates,
            unused_heads=unused_heads,
        )
        return train, maker.fresh(), mesh


@pytest.fixture(scope="module")
def rounds():
    """`made` without decay and clipping, the text at half the rate, compiled once."""
    changes = {"optimizer.clip_norm": 0.0, "optimizer.weight_decay": 0.0}
    return made(rates=dict(text=0.5), **changes)


def update(train, state, mesh, stream, draw=0, number=0, rate_step=1):
    """The state after an update of one stream, and what it measured."""
    with jax.set_mesh(mesh):
        batch = sharding.place({stream: fakes.batch(stream, draw, 16)}, mesh)
        turn = step.Turn(np.int32(number), np.int32(rate_step))
        return train(jax.tree.map(jnp.copy, state), batch, {stream: np.int32(draw)}, turn)


def arrays(state):
    """{path: array} of everything that an update may change."""
    tree = dict(params=state.params, opt_state=state.opt_state)
    return {path: np.asarray(x) for path, x in paths.flatten(tree).items()}


def changed(before, after):
    """Paths whose arrays differ."""
    before, after = arrays(before), arrays(after)
    assert set(before) == set(after)
    return {path for path in before if not np.array_equal(before[path], after[path])}


def test_heads_of_other_streams_are_not_touched(rounds):
    train, state, mesh = rounds
    after, out = update(train, state, mesh, "captions")
    moved = changed(state, after)
    assert not [path for path in moved if OTHER in path]
    assert {path.split("/")[-3] for path in moved if "/words/" in path} >= {"heads"}
    assert "heads/words" in out["group_norms"]
    assert f"heads/{OTHER}" not in out["group_norms"]
    count = used_heads.count_of(after.opt_state)
    assert jax.tree.map(int, count) == dict(trunk=1, heads={"words": 1, OTHER: 0})
    after, _ = update(train, after, mesh, "text")
    count = used_heads.count_of(after.opt_state)
    assert jax.tree.map(int, count) == dict(trunk=2, heads={"words": 1, OTHER: 1})


def test_an_update_is_that_of_the_stream_alone(rounds):
    train, state, mesh = rounds
    alone, _ = update(train, state, mesh, "captions")
    with jax.set_mesh(mesh):
        batch = sharding.place({"captions": fakes.batch("captions", 0, 16)}, mesh)
        plain, _ = train(jax.tree.map(jnp.copy, state), batch, dict(captions=np.int32(0)))
    for path, x in paths.flatten(plain.params).items():
        if OTHER not in path:
            np.testing.assert_allclose(
                x, paths.flatten(alone.params)[path], rtol=1e-6, atol=1e-8, err_msg=path
            )


def test_a_head_that_is_used_late_is_corrected_by_its_own_updates(rounds):
    """Adam's first step has the size of the stream's rate, whatever the trunk has seen."""
    train, state, mesh = rounds
    for draw in range(5):
        state, _ = update(train, state, mesh, "captions", draw, draw, draw + 1)
    after, _ = update(train, state, mesh, "text", 0, 5, 4)
    moved = after.params["heads"][OTHER]["kernel"] - state.params["heads"][OTHER]["kernel"]
    # All but entries whose gradient is as small as epsilon; the rate's peak is after 3 of 12 steps.
    assert np.median(np.abs(moved)) == pytest.approx(0.5 * 0.02 * 8 / 9, rel=0.01)


def test_the_released_code_moves_a_head_on_once_it_was_used():
    train, begin, mesh = made("released", **{"optimizer.clip_norm": 0.0, "optimizer.b1": 0.5})
    state, _ = update(train, begin, mesh, "captions")
    first = changed(begin, state)
    assert not [path for path in first if OTHER in path]  # never used: untouched
    state, _ = update(train, state, mesh, "text")
    after, _ = update(train, state, mesh, "captions", 1, 1, 2)
    before, found = arrays(state), arrays(after)
    means = [path for path in found if "/mean/" in path and OTHER in path]
    assert means
    for path in means:
        np.testing.assert_allclose(found[path], 0.5 * before[path], rtol=1e-6)
    assert [path for path in changed(state, after) if path.startswith(f"params/heads/{OTHER}")]
    count = used_heads.count_of(after.opt_state)
    assert jax.tree.map(int, count["heads"]) == {"words": 3, OTHER: 2}


def test_an_update_has_the_rate_of_its_step(rounds):
    train, state, mesh = rounds
    slow, _ = update(train, state, mesh, "captions", rate_step=1)
    fast, _ = update(train, state, mesh, "captions", rate_step=3)
    zero, _ = update(train, state, mesh, "captions", rate_step=0)
    moved = [jax.tree.map(jnp.subtract, x.params, state.params) for x in (slow, fast, zero)]
    for a, b, none in zip(*map(jax.tree.leaves, moved), strict=True):
        np.testing.assert_allclose(3 * (12 - 3) / 9 * a, b, rtol=1e-3, atol=1e-6)
        assert not none.any()


def test_a_switch_of_streams_compiles_nothing_after_the_first_round(rounds):
    train, state, mesh = rounds
    for stream in ("captions", "text"):
        state, _ = update(train, state, mesh, stream)
    programs = train._cache_size()
    for number in range(3):
        for stream in ("captions", "text"):
            state, _ = update(train, state, mesh, stream, number, number, number + 1)
    assert train._cache_size() == programs
    assert int(state.step) == 3


class Falling(evaluators.Evaluator):
    """A score that stops the text stream after the evaluation at step 6, and lets it go at 14."""

    def __init__(self):
        self.step = 0
        self.scores = dict.fromkeys(range(2, 14, 2), 0.5) | {14: 0.4, 16: 0.6}

    def run(self, params):
        return {"accuracy": self.scores.get(self.step, 0.1), "rising": 0.01 * (1 + self.step)}


def train(folder, steps, **changes):
    """Lines of metrics.jsonl of a run with stop-and-go, and the meta of its last checkpoint."""
    names = {"captions": "rising", "text": "accuracy"}
    settings = {
        "stream_schedule.kind": "stop_and_go", "log_every": 1, "eval_every": 2,
        "checkpoint.every": 3, "checkpoint.best": "tasks/mean", "optimizer.schedule": "step",
        "eval_intervals": (("seldom", 7),),
    }  # fmt: skip
    config = fakes.config(total_steps=steps, **settings | changes)
    with config.unlocked():
        for stream, metric in names.items():
            config.streams[stream].score = f"evals/tasks/{metric}"
        config.streams.text.rate = 0.0
    mesh, evaluator = sharding.make_mesh(config.mesh, jax.devices()[:1]), Falling()
    with jax.set_mesh(mesh), signals.StopSignal() as stop:
        parts = run_fake.parts(config, text_head=OTHER)
        parts.evaluators.clear()
        parts.evaluators.update(tasks=evaluator, seldom=Falling())
        original = loop.Trainer.evaluate

        def evaluate(trainer, params, names=None):
            evaluator.step = trainer.step
            return original(trainer, params, names)

        loop.Trainer.evaluate = evaluate
        try:
            loop.train(config, remote.path(folder), parts, mesh, stop, goodput.Ledger())
        finally:
            loop.Trainer.evaluate = original
    meta = json.loads((folder / "checkpoints" / str(steps) / "meta" / "metadata").read_text())
    return metrics.read(folder / metrics.FILE), meta.get("meta", meta)


def test_a_run_stops_goes_and_resumes_in_the_middle_of_a_stop(tmp_path):
    lines, meta = train(tmp_path / "whole", 16)
    with_text = [line["step"] - 1 for line in lines if "train/loss/text/words" in line]
    assert with_text == [0, 1, 2, 3, 4, 5, 8, 12, 14, 15]
    assert meta["draws"] == dict(captions=16, text=10)
    resting = {line["step"]: line["tasks/text/stopped"] for line in lines if "tasks/mean" in line}
    assert [step for step, rests in resting.items() if rests] == [6, 8, 10, 12]
    assert meta["best"]["metric"] == "tasks/mean"
    assert meta["best"]["step"] == 16
    # One with an interval of its own also comes first and last, and is of no task.
    seldom = [line["step"] for line in lines if "evals/seldom/accuracy" in line]
    assert seldom == [0, 7, 14, 16]
    # A head's norm is that of its newest update, while its stream rests, too.
    norm = f"train/gradient_norm/heads/{OTHER}"
    norms = {line["step"]: line[norm] for line in lines if "train/loss" in line}
    assert norms[6] == norms[7] == norms[8] != norms[9]
    train(tmp_path / "parts", 8)  # a run that ends is evaluated, as the whole one is there
    halfway = _params(tmp_path / "parts")["heads"]
    again, parts_meta = train(tmp_path / "parts", 16)
    assert parts_meta["stream_schedule"] == meta["stream_schedule"]
    losses = [
        [metrics.untimed(line) for line in run if "train/loss" in line] for run in (lines, again)
    ]
    assert losses[0] == losses[1]
    heads = _params(tmp_path / "whole")["heads"]
    # Each stream has the rate of its own, the text none.
    np.testing.assert_array_equal(heads[OTHER]["kernel"], halfway[OTHER]["kernel"])
    assert not np.array_equal(heads["words"]["kernel"], halfway["words"]["kernel"])
    for path, x in paths.flatten(_params(tmp_path / "whole")).items():
        np.testing.assert_array_equal(x, paths.flatten(_params(tmp_path / "parts"))[path])


def _params(folder):
    from checkpoints import checkpoint

    return checkpoint.load_params(folder, prefer_best=False)[0]


def test_the_released_code_gives_the_first_update_of_a_step_the_rate_before():
    found = {}
    for rate in stream_schedule.RATES:
        run = types.SimpleNamespace(config=fakes.config(**{"stream_schedule.rate": rate}))
        trainer = types.SimpleNamespace(step=5, _run=run)
        turns = [loop.Trainer._turn(trainer, number) for number in (0, 1)]
        assert [int(turn.step) for turn in turns] == [5, 5]
        found[rate] = [int(turn.rate_step) for turn in turns]
    assert found == dict(step=[6, 6], released=[5, 6])


def test_a_run_of_rounds_goes_on_as_no_other():
    kinds = ("all", "round_robin", "stop_and_go")
    one, *others = (
        runfolder.identity(fakes.config(**{"stream_schedule.kind": kind}), {}) for kind in kinds
    )
    assert one != others[0] == others[1]
