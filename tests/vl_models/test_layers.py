import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vl_models import layers

SIZES = layers.LayerSizes(hidden=32, heads=2, intermediate=128, dropout=0.1)


def test_gelu_is_exact():
    x = np.linspace(-6, 6, 97)
    expected = [v * 0.5 * (1 + math.erf(v / 2**0.5)) for v in x]
    np.testing.assert_allclose(layers.gelu(jnp.float32(x)), expected, rtol=2e-6, atol=1e-6)


def test_gelu_has_its_gradient_and_keeps_bfloat16_to_its_last_digit():
    x = jnp.linspace(-6, 6, 97)
    found = jax.vmap(jax.grad(layers.gelu))(x)
    expected = jax.vmap(jax.grad(lambda v: jax.nn.gelu(v, approximate=False)))(x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    half = x.astype(jnp.bfloat16)
    narrow, exact = layers.gelu(half), layers.gelu(half.astype(jnp.float32))
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_array_equal(narrow, exact.astype(jnp.bfloat16))


@pytest.mark.slow
def test_a_product_sums_in_float32_and_its_backward_products_have_narrow_operands():
    keys = jax.random.split(jax.random.key(0), 3)
    x, y = (jax.random.normal(key, (3, 5, 8), jnp.bfloat16) for key in keys[:2])
    weights = jax.random.normal(keys[2], (3, 5, 5))

    def total(x, y):
        return (layers.product("nad,nbd->nab", x, y) * weights).sum()

    wide = [one.astype(jnp.float32) for one in (x, y)]
    exact = jnp.einsum("nad,nbd->nab", *wide)
    np.testing.assert_allclose(layers.product("nad,nbd->nab", x, y), exact, rtol=1e-6)
    found, expected = jax.grad(total, (0, 1))(x, y), jax.grad(total, (0, 1))(*wide)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == jnp.bfloat16
        np.testing.assert_allclose(one, other, rtol=2e-2, atol=4e-2)
    program = jax.jit(jax.grad(total, (0, 1))).lower(x, y).as_text()
    operands = [line for line in program.splitlines() if "dot_general" in line]
    assert operands
    assert all("xf32>, tensor" not in line for line in operands)
    for one, other in zip(jax.grad(total, (0, 1))(*wide), expected, strict=True):
        np.testing.assert_array_equal(one, other)


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
