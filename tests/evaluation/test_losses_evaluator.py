"""Means over a split: None where no example has a label, priors of guessing, means of sums."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.headings import Heading
from evaluation import evaluate
from evaluation.evaluators import losses


class Objective:
    """Its two outputs' labels are those of the batch, -1 unknown; output 0 is always predicted."""

    name, loss_terms, mean_loss = "task", (4, "answer"), "task_loss_per_answer"

    def guesses(self, batch):
        known = batch["label"] >= 0
        counts = jnp.zeros(2).at[jnp.maximum(batch["label"], 0)].add(known)
        return {
            "task_accuracy": (counts, known.sum()),
            "task_chance": (known.sum() / 2, known.sum()),
        }

    def headings(self):
        return {"task_accuracy": Heading("right", "share")}


class Model:
    def __init__(self):
        self.streams = {"s": [Objective()]}

    def corrupt(self, stream, batch, keys):
        return batch

    def sums(self, params, stream, batch, train):
        known = batch["label"] >= 0
        right = (batch["label"] == 0).sum()
        return {"s/task": 8.0 * known.sum()}, {"s/task_accuracy": (right, known.sum())}

    def weights(self, stream, batch):
        return {"s/task": (batch["label"] >= 0).sum()}


def evaluator(*labels):
    batches = [dict(label=np.array(row), example_index=np.arange(len(row))) for row in labels]
    made = losses.Evaluator(
        types.SimpleNamespace(stream="s", batch_size=2),
        Model(),
        types.SimpleNamespace(
            batches=lambda: iter(batches), split="val", steps_per_epoch=2, fingerprint=""
        ),
        jax.device_put,
        0,
    )
    made.split, made.examples = "val", 5
    return made


def test_priors_are_of_the_best_guess_over_all_batches():
    made = evaluator([0, 1], [1, 1], [-1, 0])
    for _ in range(2):  # the first evaluation and a later one
        assert made.run({}) == pytest.approx({
            "task": 8, "task_loss_per_answer": 2, "task_accuracy": 2 / 5,
            "task_accuracy_prior": 3 / 5, "task_chance_prior": 1 / 2,
        })  # fmt: skip
    values = evaluate.metrics_of({"validation": made}, {})
    line = evaluate.lines(7, values, {"validation": made})
    assert line.startswith(
        "step 7 validation (split 'val'): task 8, task_accuracy 40.0 % (prior 60.0 %)"
    )
    assert evaluate.splits_of({"validation": made}) == {"validation": dict(split="val", examples=5)}


def test_without_labels_there_is_no_value():
    made = evaluator([-1, -1])
    assert made.run({}) == dict(task=None, task_accuracy=None, task_loss_per_answer=None)
    values = evaluate.metrics_of({"validation": made}, {})
    assert evaluate.lines(0, values, {"validation": made}).endswith(
        "task no labels, task_accuracy no labels, task_loss_per_answer no labels"
    )
    assert evaluate.json_values(values | {"x": float("nan"), "y": 1.0}) == dict(
        dict.fromkeys(values), x=None, y=1.0
    )
