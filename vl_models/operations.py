"""Operations with backward passes of their own, cheaper than those that JAX derives."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int


@jax.custom_vjp
def gelu(x: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """Exact GELU, x Φ(x) with Φ by erf as in the originals; worked out in float32."""
    return _gelu(x)[0]


def _normal_cdf(x: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """Φ(x) by erf.

    jax.nn.gelu takes erfc, which costs three times as much on a CPU, and whose extra digits are
    lost to rounding in the sums that follow.
    """
    return 0.5 * (1 + jax.lax.erf(x * 0.5**0.5))


def _gelu(x: Float[Array, "*any"]) -> tuple[Float[Array, "*any"], Float[Array, "*any"]]:
    wide = x.astype(jnp.float32)
    return (wide * _normal_cdf(wide)).astype(x.dtype), x


def _gelu_gradient(
    x: Float[Array, "*any"], gradient: Float[Array, "*any"]
) -> tuple[Float[Array, "*any"]]:
    """Φ(x) + x φ(x), from the input alone: nothing else is kept for the backward pass."""
    wide = x.astype(jnp.float32)
    slope = _normal_cdf(wide) + wide * jnp.exp(-0.5 * wide**2) * (2 * math.pi) ** -0.5
    return ((gradient * slope).astype(x.dtype),)


gelu.defvjp(_gelu, _gelu_gradient)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def product(subscripts: str, x: Float[Array, "*x"], y: Float[Array, "*y"]) -> Float[Array, "*xy"]:
    """`jnp.einsum` of two arrays of one dtype with a float32 result.

    Its backward products have operands of that dtype, too: JAX would multiply float32 gradients
    with what is half as wide, at the speed of float32.
    """
    return jnp.einsum(subscripts, x, y, preferred_element_type=jnp.float32)


def _product(subscripts: str, x: Array, y: Array) -> tuple[Array, tuple[Array, Array]]:
    return product(subscripts, x, y), (x, y)


def _product_gradient(
    subscripts: str, kept: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    x, y = kept
    _, pull_back = jax.vjp(functools.partial(jnp.einsum, subscripts), x, y)
    return pull_back(gradient.astype(x.dtype))


product.defvjp(_product, _product_gradient)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def look_up(
    table: Float[Array, "V D"], ids: Int[Array, "*any"], dtype: DTypeLike
) -> Float[Array, "*any D"]:
    """Rows of a float32 table, rounded to `dtype`; their gradients are added up in float32."""
    if jax.sharding.get_abstract_mesh().size > 1:
        # The devices have got the table in that type, see `runtime.exchange.gather`.
        return jnp.take(table.astype(dtype), ids, axis=0).astype(table.dtype)
    return jnp.take(table, ids, axis=0).astype(dtype).astype(table.dtype)


def _look_up(table: Array, ids: Array, dtype: DTypeLike) -> tuple[Array, tuple[Array, Array]]:
    return look_up(table, ids, dtype), (table, ids)


def _look_up_gradient(
    dtype: DTypeLike, kept: tuple[Array, Array], gradient: Array
) -> tuple[Array, None]:
    del dtype
    table, ids = kept
    _, pull_back = jax.vjp(lambda table: jnp.take(table, ids, axis=0), table)
    return *pull_back(gradient), None


look_up.defvjp(_look_up, _look_up_gradient)
