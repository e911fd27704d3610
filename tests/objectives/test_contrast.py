"""Contrast: losses by hand, groups that do not fit, and its start from an alignment head."""

import jax.numpy as jnp
import made_objectives
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import common
from core.errors import ConfigError
from objectives import contrast, options

SCORES = np.array([[[2.0, 1.0], [0.0, -1.0]], [[0.0, 0.0], [0.0, 3.0]], [[9.0, 0.0], [0.0, 9.0]]])
WEIGHT = jnp.array([1.0, 1.0, 0.0])  # the last one pads the batch


def make(**changes):
    block = options.of("contrast") | dict(couples=2, head="ranking") | changes
    return contrast.Contrast("contrast", ConfigDict(block), made_objectives.DATA_INFO)


def test_loss_and_accuracy_by_hand():
    task, batch = make(), dict(_weight=WEIGHT)
    expected = 0.0
    for scores in SCORES[:2]:
        rows = np.log(np.exp(scores).sum(1)) - np.diag(scores)
        columns = np.log(np.exp(scores).sum(0)) - np.diag(scores)
        expected += (rows.mean() + columns.mean()) / 2
    assert float(task.loss(jnp.asarray(SCORES), batch)) == pytest.approx(expected, rel=1e-6)
    right, weight = task.metrics(jnp.asarray(SCORES), batch)["contrast_accuracy"]
    # First: caption 0 and image 0 choose right; second: a tie is not right, caption 1 and image 1.
    assert (float(right), float(weight)) == (0.5 + 0.5, 2)
    sums, weight = task.guesses(batch)["contrast_accuracy"]
    assert (float(sums), float(weight)) == (1, 2)


def test_scores_are_laid_out_captions_by_images():
    task = make(couples=3)
    assert task.pairs[:4] == ((0, 0), (0, 1), (0, 2), (1, 0))
    pooled = jnp.arange(18.0).reshape(18, 1)  # two groups
    scores = task.logits(lambda x: x, dict(pooled=pooled), {})
    assert scores.shape == (2, 3, 3)
    assert float(scores[1, 2, 0]) == 9 + 2 * 3
    np.testing.assert_array_equal(task.pair_scores(pooled), pooled[:, 0])


def test_groups_of_another_size_are_refused():
    stream = ConfigDict(common.stream_block(("contrast",), 2) | dict(couples=4))
    with pytest.raises(ConfigError, match=r"--config.streams.examples.couples=2"):
        make().check_stream("examples", stream)
    batch = dict(text_ids=jnp.zeros((1, 3, 4)), regions=jnp.zeros((1, 3, 2, 3)))
    with pytest.raises(ValueError, match=r"reads \{'K': 2\}.*'K': 3"):
        make().corrupt(batch, made_objectives.keys())


def test_the_head_may_start_as_log_odds():
    arrays = {"heads/alignment/classifier/kernel": np.array([[1.0, 3.0], [0.0, -1.0]]),
              "heads/alignment/classifier/bias": np.array([0.5, 0.0])}  # fmt: skip
    found = make(head_init="alignment").initial_values(arrays, {})
    kernel = found["heads/ranking/classifier/kernel"].array
    np.testing.assert_array_equal(kernel, [[2.0], [-1.0]])
    assert make().initial_values(arrays, {}) == {}
