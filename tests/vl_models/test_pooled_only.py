"""Pooled states alone, and streams that never meet: the same numbers for less work."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import vl_models
from configs import models

PAIRS = ((0, 0), (0, 1), (1, 0), (1, 1))


def made(model, **changes):
    """(trunk, batch of two examples with two texts and two images, parameters)."""
    block = ConfigDict(models.block(model, "mini", connections=1, pooler=True))
    block.update(layers=2)
    if model == "vilbert":
        block.connect.update(text_at=(1,), **changes)
    spec = vl_models.TrunkSpec(
        vocab_size=40, feature_dim=6, text_only=False, masked_regions=False, dtype=jnp.float32
    )
    trunk, rng = vl_models.build_trunk(block, spec), np.random.default_rng(0)
    text_mask, region_mask = np.ones((2, 2, 5), bool), np.ones((2, 2, 4), bool)
    text_mask[1, 1, 3:] = region_mask[1, 1, 2:] = False
    batch = dict(
        text_ids=jnp.asarray(rng.integers(5, 40, (2, 2, 5)) * text_mask, jnp.int32),
        text_mask=jnp.asarray(text_mask),
        segment_ids=jnp.zeros((2, 2, 5), jnp.int32),
        regions=jnp.asarray(rng.standard_normal((2, 2, 4, 6)), jnp.float32),
        boxes=jnp.asarray(np.sort(rng.uniform(0, 90, (2, 2, 4, 4))), jnp.float32),
        region_mask=jnp.asarray(region_mask),
        image_size=jnp.full((2, 2, 2), 100.0),
    )
    params = jax.jit(lambda key: trunk.init(key, batch, train=False))(jax.random.key(0))
    return trunk, batch, params


@pytest.mark.parametrize(
    "model",
    ["vilbert", *(pytest.param(m, marks=pytest.mark.slow) for m in ("vlbert", "single_stream"))],
)
def test_the_last_layer_may_leave_all_but_the_first_position_out(model):
    trunk, batch, params = made(model)

    def run(**options):
        return trunk.apply(params, batch, train=False, pairs=PAIRS, **options)

    alone, whole = jax.jit(lambda: (run(pooled_only=True), run()))()
    pooled = {name for name in whole if name.startswith("pooled")}
    assert set(alone) == pooled | {"word_embedding"}
    for name in pooled:
        np.testing.assert_allclose(alone[name], whole[name], atol=1e-5, err_msg=name)
    cost = [
        jax.jit(lambda alone=alone: run(pooled_only=alone)["pooled"]).lower().cost_analysis()
        for alone in (True, False)
    ]
    assert cost[0]["flops"] < 0.8 * cost[1]["flops"]


@pytest.mark.parametrize("pooled_only", [True, False])
def test_without_connections_a_pair_is_the_states_of_its_text_and_its_image(pooled_only):
    trunk, batch, params = made("vilbert", coattention=False)

    def run(pairs):
        return trunk.apply(params, batch, train=False, pairs=pairs, pooled_only=pooled_only)

    together, one = jax.jit(lambda: (run(PAIRS), [run((pair,)) for pair in PAIRS]))()
    for name in set(together) - {"word_embedding"}:
        each = np.stack([np.asarray(out[name]) for out in one], 1)
        np.testing.assert_allclose(
            together[name], each.reshape(-1, *each.shape[2:]), atol=1e-5, err_msg=name
        )
    cost = [jax.jit(lambda n=n: run(PAIRS[:n])["pooled"]).lower().cost_analysis() for n in (1, 4)]
    assert cost[1]["flops"] < 1.2 * cost[0]["flops"]  # texts and images run once
