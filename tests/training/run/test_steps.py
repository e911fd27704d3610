"""Steps and their compilations: which batches are new, and what counts in the time that is left."""

import jax.numpy as jnp
import pytest

from training.run import goodput, metrics, steps


class Time:
    """A clock that only moves when it is told to."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def runner(monkeypatch):
    """(step runner, seconds that its next step takes, clock of the log line)."""
    clock, lasts = Time(), [0.0]
    monkeypatch.setattr(steps.time, "perf_counter", clock.perf_counter)

    def train_step(state, batch, draws):
        clock.now += lasts[0]
        return state + 1, {}

    line = metrics.Clock()
    return steps.StepRunner(train_step, None, dict(a=4, b=2), line, goodput.Ledger()), lasts, line


def batch(**rows):
    return {name: {"x": jnp.zeros((count, 3))} for name, count in rows.items()}


def test_a_batch_of_other_streams_or_sizes_is_new(runner):
    run, _, line = runner
    assert not run.compiled
    assert run.is_new(batch(a=4))
    run(0, batch(a=4), {})
    assert run.compiled
    assert not run.is_new(batch(a=4))
    assert run.is_new(batch(a=8))
    assert run.is_new(batch(b=4))  # as large, of another stream
    assert run.is_new(batch(a=4, b=2))
    assert line.steps == 0  # compilations count in no speed


def test_compilations_are_no_part_of_the_time_that_is_left(runner):
    run, lasts, line = runner

    def step(seconds, **rows):
        lasts[0] = seconds
        run(0, batch(**rows), {})

    step(50.0, a=4)  # the first compilation
    assert run.seconds_left(10) is None
    step(2.0, a=4)
    assert run.seconds_left(10) == pytest.approx(20.0)
    step(30.0, a=8)  # compiled on the way: a step like the others, in no time
    assert run.seconds_left(10) == pytest.approx(10.0)
    step(4.0, a=8)
    assert run.seconds_left(10) == pytest.approx(20.0)
    assert (line.steps, line.examples) == (2, 8)
