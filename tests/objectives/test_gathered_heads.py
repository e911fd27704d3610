"""Heads at the narrowest width that a batch needs: as at the full width, whatever it is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import objectives
from configs import common
from input_pipeline.schema import SpecialIds
from objectives import base, masking
from runtime import sharding

ROWS, DIM, VOCAB, CLASSES = 3, 4, 11, 30
DATA_INFO = base.DataInfo(SpecialIds(0, 1, 2, 3, 4, VOCAB), 40, DIM, CLASSES, True)


def make(name, **changes):
    block = common.lock(common.objective_blocks())[name]
    block.update(changes)
    return objectives.build(name, block, DATA_INFO)


def words(rng, counts):
    """A batch with that many masked words a row, of at most 16; the last row only pads."""
    weight = (np.arange(16) < np.array(counts)[:, None, None]).astype(np.float32)
    weight[-1] = 0
    return dict(
        masked_positions=rng.integers(0, 40, (ROWS, 1, 16)),
        masked_targets=rng.integers(0, VOCAB, (ROWS, 1, 16)),
        masked_weight=weight,
        masked_dropped=np.zeros(ROWS, np.int32),
        _weight=np.array([1, 1, 0], np.float32),
    )


def regions(rng, counts):
    """A batch with that many masked regions an image, anywhere among 40."""
    weight = np.zeros((ROWS, 1, 40), np.float32)
    for row, count in enumerate(counts):
        weight[row, 0, rng.permutation(np.arange(1, 40))[:count]] = 1
    probs = rng.dirichlet(np.ones(3), (ROWS, 1, 40)).astype(np.float32)
    return dict(
        region_weight=weight,
        region_class_ids=rng.permuted(np.tile(np.arange(CLASSES), (ROWS, 1, 40, 1)), axis=-1)[
            ..., :2
        ],
        region_class_probs=probs[..., :2],
        region_rest_prob=probs[..., 2],
        region_target=rng.standard_normal((ROWS, 1, 40, DIM)).astype(np.float32),
    )


CASES = {
    "words": (make("masked_language"), words, "text", VOCAB),
    "words, mean a row": (
        make("masked_language", normalize="per_sample"), words, "text", VOCAB,
    ),
    "classes": (make("masked_region"), regions, "regions", CLASSES),
    "features": (
        make("masked_region", target="regression"), regions, "regions", DIM,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_loss_metrics_and_gradients_are_those_of_the_full_width(case):
    task, make_batch, stream, outputs = CASES[case]
    rng = np.random.default_rng(0)
    states = jnp.asarray(rng.standard_normal((ROWS, 40, DIM)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((DIM, outputs)), jnp.float32)
    table = jnp.asarray(rng.standard_normal((VOCAB, DIM)), jnp.float32)

    def run(measure, kernel, states, batch):
        def head(x, table=0.0):
            return jnp.tanh(x @ kernel) + jnp.sum(table)

        return measure(task, head, {stream: states, "word_embedding": table}, batch)

    grads = {
        measure: jax.jit(
            jax.value_and_grad(functools.partial(run, measure), argnums=(0, 1), has_aux=True)
        )
        for measure in (type(task).measure, base.Objective.measure)
    }
    for counts in ((2, 4, 16), (8, 5, 0), (9, 20, 3), (0, 0, 0)):
        batch = make_batch(rng, counts)
        narrow, full = (grad(kernel, states, batch) for grad in grads.values())
        assert np.abs(full[1][0]).sum() > 0 or not sum(counts)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6), narrow, full
        )


def test_the_width_is_the_narrowest_that_holds_the_fullest_row():
    assert masking.widths((4, 8, 16), 26) == [4, 8, 16, 26]
    assert masking.widths((4, 8, 16), 10) == [4, 10]
    assert masking.widths((16,), 8) == [8]

    def narrowest(counts):
        return masking.at_narrowest(lambda width: jnp.float32(width), counts, [4, 8, 26])

    width = jax.jit(narrowest)
    for most, expected in ((0, 4), (4, 4), (5, 8), (8, 8), (9, 26), (26, 26)):
        assert width(jnp.array([1, most, 0])) == expected
    with jax.set_mesh(sharding.make_mesh(dict(data=-1, fsdp=1, tensor=1))):
        assert jax.jit(lambda counts: narrowest(counts))(jnp.array([1, 2])) == 26
