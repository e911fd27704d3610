import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from runtime import sharding
from vl_models.dropout import Dropout, random_words

SHAPE = (16, 65, 96)
SIZE = float(np.prod(SHAPE))


def drop(x, rate, key):
    return Dropout(rate).apply({}, x, train=True, rngs={"dropout": key})


def signs(key):
    """The words' lowest half as numbers around 0, of deviation 1."""
    return np.asarray(random_words(key, SHAPE) & 0xFFFF, np.float64) / 2**16 * 12**0.5 - 3**0.5


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_rate_is_met_and_the_mean_is_kept(rate):
    out = np.asarray(drop(jnp.ones(SHAPE), rate, jax.random.key(3)))
    dropped = (out == 0).mean()
    assert dropped == pytest.approx(rate, abs=4 * (rate * (1 - rate) / SIZE) ** 0.5)
    np.testing.assert_allclose(out[out != 0], 1 / (1 - rate), rtol=1e-6)


def test_words_are_even_and_unrelated_across_positions_and_keys():
    keys = [jax.random.key(0), jax.random.key(1), jax.random.fold_in(jax.random.key(0), 1)]
    words = [signs(key) for key in keys]
    limit = 4.5 / SIZE**0.5
    for bit in range(32):
        share = np.asarray(random_words(keys[0], SHAPE) >> bit & 1).mean()
        assert share == pytest.approx(0.5, abs=limit / 2)
    for a in words:
        assert abs(a.mean()) < limit
        for axis in range(3):
            for lag in (1, 2, 8):
                assert abs((a * np.roll(a, lag, axis)).mean()) < limit
        # How many elements of a row are dropped spreads as independent draws do.
        rows = (a < -1.38).sum(-1)  # a tenth
        assert rows.var() == pytest.approx(96 * 0.1 * 0.9, rel=0.15)
    for i in range(3):
        for j in range(i):
            for lag in (0, 1, 96):
                assert abs((words[i].ravel() * np.roll(words[j].ravel(), lag)).mean()) < limit


def test_every_mask_of_a_key_is_the_same_on_any_mesh():
    mesh = sharding.make_mesh(dict(data=2, fsdp=2, tensor=2))
    key, x = jax.random.key(5), jnp.ones(SHAPE)
    expected = jax.jit(drop, static_argnums=1)(x, 0.1, key)
    placed = jax.device_put(x, NamedSharding(mesh, PartitionSpec(("data", "fsdp"), None, "tensor")))
    found = jax.jit(drop, static_argnums=1)(placed, 0.1, key)
    assert len(found.sharding.device_set) == 8
    np.testing.assert_array_equal(found, expected)

    def of_own_rows(x):
        return drop(x, 0.1, key)

    rows = PartitionSpec(("data", "fsdp"))
    apart = jax.shard_map(
        of_own_rows, mesh=mesh, in_specs=rows, out_specs=rows, axis_names={"data", "fsdp"},
    )  # fmt: skip
    np.testing.assert_array_equal(jax.jit(apart)(placed), expected)


def test_evaluation_needs_no_randomness_and_rates_are_checked():
    x = jnp.ones((2, 3), jnp.bfloat16)
    assert Dropout(0.5).apply({}, x, train=False) is x
    assert Dropout(0.0).apply({}, x, train=True) is x
    assert drop(x, 0.5, jax.random.key(0)).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match=r"in \[0, 1\), found 1.0"):
        drop(x, 1.0, jax.random.key(0))
