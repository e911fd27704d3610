"""The alignment evaluator on a model whose answers are known."""

import types

import jax.numpy as jnp
import made_objectives
import numpy as np
import pytest
from ml_collections import ConfigDict

import objectives
from evaluation.evaluators import alignment
from objectives import options


class FixedTask:
    """Says "match" where the first token is even."""

    objective = objectives.build(
        "alignment", ConfigDict(options.of("alignment")), made_objectives.DATA_INFO
    )
    streams = types.MappingProxyType({"captions": [objective]})

    def outputs(self, params, stream, batch, pairs):
        assert pairs == ((0, 0), (1, 0))
        return {"pooled": batch["text_ids"][:, :, 0].reshape(-1, 1)}

    def head(self, params, name):
        assert name == "alignment"
        return lambda x: jnp.concatenate([x % 2, 1 - x % 2], -1).astype(jnp.float32)


class Stream:
    def batches(self):
        first = [[2, 3], [2, 2], [3, 3], [4, 5]]  # own, foreign; even is "match"
        for start, weight in ((0, [1, 1]), (2, [1, 0])):
            ids = np.zeros((2, 2, 3), np.int32)
            ids[:, :, 0] = first[start : start + 2]
            key = np.array([[start], [start + 1]], np.int32)
            yield {"text_ids": ids, "_weight": np.array(weight, np.float32), "image_key": key}


def test_every_pair_of_real_examples_counts_once():
    block = types.SimpleNamespace(stream="captions")
    evaluator = alignment.Evaluator(block, FixedTask(), Stream(), lambda batch: batch, 0)
    found = evaluator.run({})
    # own: right, right, wrong; foreign: right, wrong, right; the padding row does not count
    assert found["pair_accuracy_own"] == pytest.approx(2 / 3)
    assert found["pair_accuracy_foreign"] == pytest.approx(2 / 3)
    assert found["pair_accuracy"] == pytest.approx(4 / 6)
    assert 0.5 <= found["pair_accuracy_low"] < 4 / 6 < found["pair_accuracy_high"] <= 1


def test_a_stream_without_the_objective_is_refused():
    task = types.SimpleNamespace(streams={"captions": []})
    with pytest.raises(ValueError, match=r"config\.streams\.captions\.objectives"):
        alignment.Evaluator(types.SimpleNamespace(stream="captions"), task, None, None, 0)
