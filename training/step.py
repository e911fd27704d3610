"""One train step: corrupt, split, differentiate, update.

Imports no TensorFlow and no input pipeline: it can be measured wherever JAX runs.
"""

import zlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int, Key, PyTree

from objectives import masking
from runtime import exchange, paths, sharding
from training import optimizer as optimizers
from training import used_heads
from training.optimizer import Optimizer
from training.state import Batch, Model, Pair, TrainState

Draw = Int[Array, ""] | int
UNTOUCHED = "untouched"  # heads that an update does not use stay as they are
# Or, as in 12-in-1's released code, their gradients are zero once they have been used: their
# moments decay, and by these they go on moving.
UNUSED_HEADS = (UNTOUCHED, "released")


class Turn(NamedTuple):
    """Where an update of one stream stands in its step, int32 scalars.

    Attributes:
      step: steps done before.
      rate_step: step whose learning rate it has, counted from 1.
    """

    step: Draw
    rate_step: Draw


def row_keys(seed: int, stream: str, draw: Draw, rows: int) -> Key[Array, " B"]:
    """Keys of a batch's corruption, one per row: a function of (seed, stream, draw, row).

    Threefry, so that masks do not depend on the mesh.
    """
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(stream.encode()))
    key = jax.random.fold_in(key, draw)
    return masking.row_keys(key, jnp.arange(rows))


def make_train_step(
    model: Model,
    optimizer: Optimizer,
    mesh: jax.sharding.Mesh,
    shardings: PyTree,
    *,
    seed: int,
    accumulate: int,
    reduce_dtype: DTypeLike = jnp.float32,
    skip_nonfinite: bool = False,
    rates: Mapping[str, float] | None = None,
    unused_heads: str = UNTOUCHED,
) -> Callable[..., tuple[TrainState, dict]]:
    """Compiles (state, batch, draws, turn=None) → (state, metrics); the state's buffers are reused.

    The loss is Σ scale · sum / weight over all losses of all streams, with weights of the whole
    corrupted global batch, taken before it is split into microbatches: accumulation gives the
    gradient of the big batch.

    Args:
      model: what is trained.
      optimizer: see `optimizer.make`.
      mesh: see `sharding.make_mesh`.
      shardings: tree like the state.
      seed: of corruption and dropout.
      accumulate: microbatches per step.
      reduce_dtype: in which gradients are added up over devices.
      skip_nonfinite: whether a step whose loss or gradient is not finite changes nothing but the
        step's number.
      rates: {stream: factor of the learning rate}, of updates of a stream by itself.
      unused_heads: what such an update does with the heads of other streams, one of UNUSED_HEADS.

    Returns:
      A function of state, batch {stream: global arrays}, draws {stream: int32 scalar}, and, where
      the update is one of several of a step, its `Turn`. The metrics are {"pairs": {name: (sum,
      weight)}, "group_norms": {group: gradient norm}}.
    """

    def corrupt(stream: str, arrays: Batch, draw: Draw) -> Batch:
        keys = row_keys(seed, stream, draw, len(arrays["_weight"]))
        keys = jax.lax.with_sharding_constraint(keys, sharding.over_batch(mesh))
        return model.corrupt(stream, arrays, keys)

    def train_step(
        state: TrainState,
        batch: Mapping[str, Batch],
        draws: Mapping[str, Draw],
        turn: Turn | None = None,
    ) -> tuple[TrainState, dict[str, Any]]:
        step = state.step if turn is None else turn.step
        batch = {stream: corrupt(stream, arrays, draws[stream]) for stream, arrays in batch.items()}
        weights: dict[str, Float[Array, ""]] = {}
        for stream, arrays in batch.items():
            weights |= model.weights(stream, arrays)
        dropout_rng = jax.random.fold_in(jax.random.key(seed), step)

        def loss_fn(
            params: PyTree,
            micro: Mapping[str, Batch],
            weights: Mapping[str, Float[Array, ""]],
            rng: Key[Array, ""],
        ) -> tuple[Float[Array, ""], tuple[dict[str, Array], dict[str, Pair]]]:
            params = _stop(params, optimizer.frozen)
            sums: dict[str, Float[Array, ""]] = {}
            metrics: dict[str, Pair] = {}
            for stream, arrays in micro.items():
                parts, more = model.sums(params, stream, arrays, train=True, dropout_rng=rng)
                sums |= parts
                metrics |= more
            return model.total(sums, weights), (sums, metrics)

        grad_fn = exchange.summed(
            jax.value_and_grad(loss_fn, has_aux=True),
            mesh,
            shardings.params,
            separable=model.separable,
            dtype=reduce_dtype,
            frozen=optimizer.frozen,
        )
        used = exchange.gather(state.params, mesh, model.dtype, shardings.params)

        def one(index: Draw, micro: Mapping[str, Batch]) -> tuple[Any, PyTree]:
            rng = jax.random.fold_in(dropout_rng, index)
            return grad_fn(used, micro, weights, rng)

        if accumulate == 1:
            (loss, (sums, metrics)), grads = one(0, batch)
        else:
            micro = sharding.microbatches(batch, accumulate, mesh)
            first = jax.tree.map(lambda x: x[0], micro)
            zeros = jax.tree.map(
                lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(one, 0, first)
            )

            def add(total: PyTree, item: tuple[Draw, Mapping[str, Batch]]) -> tuple[PyTree, None]:
                return jax.tree.map(jnp.add, total, one(*item)), None

            steps = (jnp.arange(accumulate), micro)
            ((loss, (sums, metrics)), grads), _ = jax.lax.scan(add, zeros, steps)

        if turn is None:
            norms = group_norms(grads, optimizer.frozen)
            updates, opt_state = optimizer.tx.update(grads, state.opt_state, state.params)
            params = jax.tree.map(jnp.add, state.params, updates)
        else:
            params, opt_state, norms = update_alone(state, grads, batch, turn)
        norm = jnp.sqrt(sum(x**2 for x in norms.values()))
        if skip_nonfinite:
            finite = jnp.isfinite(loss) & jnp.isfinite(norm)
            params, opt_state = jax.tree.map(
                lambda new, old: jnp.where(finite, new, old),
                (params, opt_state),
                (state.params, state.opt_state),
            )

        one_ = jnp.float32(1)
        pairs = {"loss": (loss, one_)}
        pairs |= {f"loss/{name}": (value, weights[name]) for name, value in sums.items()}
        pairs |= metrics
        pairs["gradient_norm"] = (norm, one_)
        pairs = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), pairs)
        return TrainState(step + 1, params, opt_state), dict(pairs=pairs, group_norms=norms)

    def update_alone(
        state: TrainState, grads: PyTree, streams: Collection[str], turn: Turn
    ) -> tuple[PyTree, PyTree, dict[str, Float[Array, ""]]]:
        """Parameters, optimizer state and norms after an update of one stream by itself."""
        [stream] = streams
        heads = model.heads_of(stream)
        told = optimizers.Turn(turn.rate_step, (rates or {}).get(stream, 1.0))
        norms = group_norms(used_heads.only(grads, heads), optimizer.frozen)
        old = state.params, state.opt_state
        if unused_heads == UNTOUCHED:
            grads, params, opt_state = used_heads.only((grads, *old), heads)
        else:
            params, opt_state = old
        updates, opt_state = optimizer.tx.update(grads, opt_state, params, turn=told)
        new = jax.tree.map(jnp.add, params, updates), opt_state
        if unused_heads == UNTOUCHED:
            params, opt_state = used_heads.merged(old, new)
        else:
            params, opt_state = used_heads.begun(new, old, state.opt_state, heads)
        return params, opt_state, norms

    return jax.jit(
        train_step, donate_argnums=0, out_shardings=(shardings, sharding.replicated(mesh))
    )


def _stop(params: PyTree, frozen: Collection[str]) -> PyTree:
    """No gradient is computed for frozen parameters."""
    return paths.map_with_path(
        lambda path, x: jax.lax.stop_gradient(x) if path in frozen else x, params
    )


def group_norms(
    grads: PyTree, frozen: Collection[str] = frozenset()
) -> dict[str, Float[Array, ""]]:
    """L2 norm of the gradient of each group of trained parameters: {"trunk/layer_3": scalar}."""
    squares: dict[str, Float[Array, ""]] = {}
    for path, g in paths.flatten(grads).items():
        if path not in frozen:
            group = paths.group_of(path)
            squares[group] = squares.get(group, 0.0) + jnp.sum(jnp.square(g))
    return {group: jnp.sqrt(value) for group, value in squares.items()}
