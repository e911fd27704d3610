import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from vl_models import operations


def test_gelu_is_exact():
    x = np.linspace(-6, 6, 97)
    expected = [v * 0.5 * (1 + math.erf(v / 2**0.5)) for v in x]
    np.testing.assert_allclose(operations.gelu(jnp.float32(x)), expected, rtol=2e-6, atol=1e-6)


def test_gelu_has_its_gradient_and_keeps_bfloat16_to_its_last_digit():
    x = jnp.linspace(-6, 6, 97)
    found = jax.vmap(jax.grad(operations.gelu))(x)
    expected = jax.vmap(jax.grad(lambda v: jax.nn.gelu(v, approximate=False)))(x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    half = x.astype(jnp.bfloat16)
    narrow, exact = operations.gelu(half), operations.gelu(half.astype(jnp.float32))
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_array_equal(narrow, exact.astype(jnp.bfloat16))


def test_a_product_sums_in_float32_and_its_backward_products_have_narrow_operands():
    keys = jax.random.split(jax.random.key(0), 3)
    x, y = (jax.random.normal(key, (3, 5, 8), jnp.bfloat16) for key in keys[:2])
    weights = jax.random.normal(keys[2], (3, 5, 5))

    def total(x, y):
        return (operations.product("nad,nbd->nab", x, y) * weights).sum()

    wide = [one.astype(jnp.float32) for one in (x, y)]
    exact = jnp.einsum("nad,nbd->nab", *wide)
    np.testing.assert_allclose(operations.product("nad,nbd->nab", x, y), exact, rtol=1e-6)
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


def test_rows_of_a_table_are_rounded_and_their_gradients_added_up_in_float32():
    table = jax.random.normal(jax.random.key(0), (5, 3))
    ids = jnp.array([[1, 1, 4], [1, 0, 1]])
    weights = jax.random.normal(jax.random.key(1), (2, 3, 3))

    def total(look_up):
        return jax.grad(lambda table: (look_up(table) * weights).sum())(table)

    def plain(table):
        return jnp.take(table, ids, axis=0)

    for dtype in (jnp.float32, jnp.bfloat16):
        rows = operations.look_up(table, ids, dtype)
        assert rows.dtype == jnp.float32
        np.testing.assert_array_equal(rows, plain(table.astype(dtype)).astype(jnp.float32))
        found = total(lambda table, dtype=dtype: operations.look_up(table, ids, dtype))
        np.testing.assert_array_equal(found, total(plain))
        with jax.set_mesh(jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))):
            split = jax.jit(functools.partial(operations.look_up, dtype=dtype))(table, ids)
        np.testing.assert_array_equal(split, rows)
