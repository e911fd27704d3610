import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vl_models import layers

SIZES = layers.LayerSizes(hidden=32, heads=2, intermediate=128, dropout=0.1)


@pytest.mark.slow
def test_remat_keeps_values_and_gradients_and_saves_memory():
    depth = 3
    x = jax.random.normal(jax.random.key(0), (8, 24, 32))
    mask = jnp.arange(24) < jnp.arange(8)[:, None] + 10
    params = [
        layers.Layer(SIZES).init(jax.random.key(i), x, mask, train=False) for i in range(depth)
    ]

    def loss(params, x, remat):
        layer = layers.Layer(dataclasses.replace(SIZES, remat=remat))
        for i, values in enumerate(params):
            rngs = {"dropout": jax.random.key(i)}
            x, _ = layer.apply(values, x, mask, train=True, rngs=rngs)
        return (x**3).sum()

    def kept(remat):
        """Bytes that the forward pass leaves to the backward pass."""
        backward = jax.eval_shape(
            lambda params, x: jax.vjp(lambda p, x: loss(p, x, remat), params, x)[1], params, x
        )
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(backward))

    sizes = {remat: kept(remat) for remat in layers.REMAT}
    own = sum(leaf.nbytes for leaf in jax.tree.leaves((params, x)))
    layer_inputs = depth * x.nbytes
    # The CPU's compiler would join what is computed twice: what JAX keeps is counted.
    assert sizes["full"] < 1.3 * (own + layer_inputs), sizes
    assert sizes["full"] < 0.5 * sizes["dots"] < 0.4 * sizes["none"], sizes

    step = jax.jit(jax.value_and_grad(loss), static_argnums=2)
    expected = jax.tree.leaves(step(params, x, "none"))
    for remat in ("dots", "full"):
        for a, b in zip(jax.tree.leaves(step(params, x, remat)), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_an_unknown_remat_is_refused():
    with pytest.raises(ValueError, match=r"config.remat must be one of .*'dots'.* found 'some'"):
        dataclasses.replace(SIZES, remat="some")
