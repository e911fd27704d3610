"""What devices that share a batch send each other in a step: parameters before it, gradients after.

Each device differentiates the loss of its own rows and adds up what every use of a parameter gives
it, then the devices' sums are added, once for each parameter. Left to itself the partitioner adds
up each use apart: the word table's look-ups and its products with states.
"""

import math
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import PyTree

from runtime import paths, sharding
from runtime.sharding import SHARED

# (params, batch, *more) → ((loss, other sums over rows), gradients).
Gradient = Callable[..., tuple[Any, PyTree]]


def gather(params: PyTree, mesh: jax.sharding.Mesh, dtype: DTypeLike, shardings: PyTree) -> PyTree:
    """Parameters placed `sharding.for_use`.

    Without it the partitioner moves activations around instead, whose batch the same devices
    share. Gathered once a step and kept for the backward pass; the optimizer's state never is.
    Kernels and the table of words go in the type they are multiplied in, which halves what is sent
    and kept where that is bfloat16.

    Args:
      params: placed as `shardings` says.
      mesh: they lie on.
      dtype: of matrix products.
      shardings: of `sharding.of_state`.
    """

    def one(path: str, x: jax.Array, place: Any, use: Any) -> jax.Array:
        if not any(_shared(place.spec)):
            return x  # it is in place
        x = x.astype(dtype) if path.endswith(("/kernel", "/word/embedding")) else x
        return jax.lax.with_sharding_constraint(x, use)

    return paths.map_with_path(one, params, shardings, sharding.for_use(params, mesh))


def summed(
    gradient: Gradient,
    mesh: jax.sharding.Mesh,
    shardings: PyTree,
    *,
    separable: bool,
    dtype: DTypeLike = jnp.float32,
    frozen: Collection[str] = (),
) -> Gradient:
    """A gradient of the whole batch from one that may be of some rows alone.

    Args:
      gradient: of what `gather` gave, and rows {key: [B, …]}; what it returns are sums over rows.
      mesh: the batch and the parameters lie on.
      shardings: of the parameters, which the summed gradients get.
      separable: whether rows do not depend on each other.
      dtype: in which the devices' gradients are added up.
      frozen: paths of parameters whose gradient is zero, which nobody needs to send.

    Returns:
      A function like `gradient`, whose gradients are float32.
    """
    if math.prod(mesh.shape[axis] for axis in SHARED) == 1:
        dtype = jnp.float32  # nothing is added up
        separable = False

    def of_all(params: PyTree, batch: PyTree, *more: Any) -> tuple[Any, PyTree]:
        sums, grads = gradient(_wide(params), batch, *more)
        return sums, _placed(grads, mesh, shardings, dtype)

    def of_own_rows(params: PyTree, batch: PyTree, *more: Any) -> tuple[Any, PyTree]:
        sums, grads = gradient(_wide(params), batch, *more)
        grads = jax.tree.map(lambda g: _rounded(g, dtype, mesh), grads)
        grads = paths.map_with_path(
            lambda path, g, s: _reduced(g, s.spec, mesh, is_zero=path in frozen), grads, shardings
        )
        return jax.lax.psum(sums, SHARED), _wide(grads)

    def by_device(params: PyTree, batch: PyTree, *more: Any) -> tuple[Any, PyTree]:
        places = jax.tree.map(lambda s: P(*map(_named, _shared(s.spec))), shardings)
        return jax.shard_map(
            of_own_rows,
            mesh=mesh,
            in_specs=(P(), sharding.BATCH, *(P() for _ in more)),
            out_specs=(P(), places),
            axis_names=set(SHARED),  # `tensor` is the partitioner's
            check_vma=False,
        )(params, batch, *more)

    return by_device if separable else of_all


def _wide(tree: PyTree) -> PyTree:
    """In float32: of what was gathered in bfloat16, uses are added up in float32."""
    return jax.tree.map(lambda x: x.astype(jnp.float32), tree)


def _rounded(g: jax.Array, dtype: DTypeLike, mesh: jax.sharding.Mesh) -> jax.Array:
    """In the type that is sent.

    XLA for CPUs adds bfloat16 up in float32, and aborts on the way there where some axes of the
    mesh are the partitioner's: it gets float32 with the digits of the type.
    """
    if g.dtype == dtype or mesh.devices.ravel()[0].platform != "cpu":
        return g.astype(dtype)
    digits = jnp.finfo(dtype)
    return jax.lax.reduce_precision(g, digits.nexp, digits.nmant)


def _shared(spec: P) -> list[tuple[str, ...]]:
    """The axes of SHARED that split each dimension."""
    named = (part if isinstance(part, tuple) else (part,) for part in spec)
    return [tuple(axis for axis in part if axis in SHARED) for part in named]


def _named(axes: tuple[str, ...]) -> tuple[str, ...] | None:
    return axes or None


def _reduced(g: jax.Array, spec: P, mesh: jax.sharding.Mesh, *, is_zero: bool) -> jax.Array:
    """The devices' gradients added up: the part of the sum that `spec` gives to this device."""
    left, shape = [axis for axis in SHARED if mesh.shape[axis] > 1], list(g.shape)
    for dimension, axes in enumerate(_shared(spec)):
        shape[dimension] //= math.prod(mesh.shape[axis] for axis in axes)
        if axes and not is_zero:
            g = jax.lax.psum_scatter(g, axes, scatter_dimension=dimension, tiled=True)
            left = [axis for axis in left if axis not in axes]
    if is_zero:
        return jnp.zeros(shape, g.dtype)
    return jax.lax.psum(g, tuple(left)) if left else g


def _placed(grads: PyTree, mesh: jax.sharding.Mesh, shardings: PyTree, dtype: DTypeLike) -> PyTree:
    """Gradients placed as `shardings` says.

    In two steps, the sum first: else the partitioner splits the sums themselves over devices that
    share a batch, and moves activations for it.
    """
    grads = jax.tree.map(lambda g: g.astype(dtype), grads)
    grads = jax.lax.with_sharding_constraint(grads, sharding.for_use(grads, mesh))
    return jax.lax.with_sharding_constraint(_wide(grads), shardings)
