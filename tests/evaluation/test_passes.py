"""Evaluators of one split go over it together, in one program; those of others by themselves."""

import types

import jax
import jax.numpy as jnp
import numpy as np

from evaluation import evaluate, evaluators, passes
from runtime import sharding


class Stream:
    """Batches of numbers, counted."""

    steps_per_epoch, num_examples = 3, 6

    def __init__(self, split):
        self.split, self.fingerprint, self.read = split, f"of {split}", 0

    def batches(self):
        for i in range(3):
            self.read += 1
            yield {"x": np.full((2, 64), i, np.float32)}


class Summed(passes.PassEvaluator):
    """Sums a power of what a costly product gives."""

    def __init__(self, stream, power, batch_size=2):
        block = types.SimpleNamespace(stream="s", batch_size=batch_size)
        super().__init__(block, stream, jax.device_put)
        self._power = power

    def begin(self):
        self._sum = 0.0

    def measure(self, params, batch):
        return ((batch["x"] @ params) ** self._power).sum()

    def take(self, batch, out):
        assert batch["x"].shape == (2, 64)
        self._sum += float(out)

    def end(self):
        return {"sum": self._sum}


class Alone(evaluators.Evaluator):
    def __init__(self):
        pass

    def run(self, params):
        return {"one": 1.0}


def test_evaluators_of_one_split_read_it_once():
    params = jnp.full((64, 64), 1 / 64)
    val, same, other = Stream("val"), Stream("val"), Stream("test")
    made = {
        "first": Summed(val, 1),
        "alone": Alone(),
        "other": Summed(other, 1),
        "second": Summed(same, 2),
        "larger": Summed(same, 1, batch_size=4),
    }
    with jax.set_mesh(sharding.make_mesh(dict(data=1, fsdp=1, tensor=1), jax.devices()[:1])):
        found = evaluate.metrics_of(made, params)
        again = evaluate.metrics_of(made, params)
    assert (val.read, other.read, same.read) == (6, 6, 6)  # the last by the larger one
    assert found == {
        "evals/first/sum": 384.0,
        "evals/alone/one": 1.0,
        "evals/other/sum": 384.0,
        "evals/second/sum": 640.0,
        "evals/larger/sum": 384.0,
    }
    assert [*found] == [f"evals/{name}/{'one' if name == 'alone' else 'sum'}" for name in made]
    assert again == found  # nothing is left of the time before
    assert made["second"].run(params) == {"sum": 640.0}


def test_what_two_evaluators_compute_alike_is_computed_once():
    params, batch = jnp.ones((64, 64)), {"x": jnp.ones((2, 64))}
    one, other = Summed(Stream("val"), 1), Summed(Stream("val"), 2)

    def products(*members):
        program = passes._step(*members).lower(params, batch).compile()
        return program.cost_analysis()["flops"]

    product = 2 * 2 * 64 * 64
    assert product < products(one) < 1.2 * product
    assert product < products(one, other) < 1.2 * product
