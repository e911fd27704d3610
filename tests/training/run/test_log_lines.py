"""Log lines: losses that are sums stand beside their means, values there are none of are null."""

import json
import math

from training.run import metrics


def test_a_loss_that_is_a_sum_stands_beside_its_mean():
    window, clock = metrics.Window(), metrics.Clock()
    window.add({"loss": (150.0, 2.0), "loss/examples/vqa": (150.0, 2.0)})
    line = metrics.train_line(window, clock, None, {"examples/vqa": (100, "answer")})
    assert line["train/examples/vqa_loss_per_answer"] == 0.75
    assert line["train/loss"] == 75
    text = metrics.console_line(1, 10, line | {"train/learning_rate": 1e-3}, None)
    assert "loss 75.0000 | vqa 75.000 (0.7500 per answer) | lr 1.00e-03" in text
    plain = metrics.train_line(window, clock, None) | {"train/learning_rate": 1e-3}
    assert "vqa 75.000 | lr" in metrics.console_line(1, 10, plain, None)


def test_what_has_no_value_is_null(tmp_path):
    writer = metrics.Writer(tmp_path, after_step=-1)
    writer.write(3, {"evals/v/accuracy": None, "evals/v/loss": math.nan, "evals/v/x": 1.0})
    writer.write(5, {"train/loss": 1.0})
    writer.close()
    first = json.loads((tmp_path / metrics.FILE).read_text().splitlines()[0])
    assert (first["evals/v/accuracy"], first["evals/v/loss"]) == (None, None)
    values = {"evals/v/accuracy": None, "evals/v/loss": None, "evals/v/x": 1.0}
    assert metrics.evaluations(tmp_path) == [(3, values)]
