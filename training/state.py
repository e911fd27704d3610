"""The train state: what a step reads and writes, and how it begins."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from runtime import sharding
from training import optimizer as optimizers


@flax.struct.dataclass
class TrainState:
    """step: int32 scalar, updates done; params: nested dict; opt_state: of the optimizer."""

    step: Any
    params: Any
    opt_state: Any


def init_params(task, seed: int, shapes):
    """Initial parameters, a function of the seed alone.

    Args:
      task: a `MultiTaskModel`.
      shapes: {stream: {key: array or shape [B, …]}}; one row each is enough and cheaper to trace.
    """
    rows = {
        stream: {key: jnp.zeros((1, *x.shape[1:]), x.dtype) for key, x in arrays.items()}
        for stream, arrays in shapes.items()
    }
    return task.init(jax.random.key(seed), rows)


class StateMaker:
    """Knows the state's shapes and shardings before any of it exists.

    Attributes:
      optimizer: an `optimizer.Optimizer`.
      params, state: trees of `jax.ShapeDtypeStruct` with shardings.
    """

    def __init__(self, task, config, shapes, mesh):
        """shapes: {stream: {key: array or shape [B, …]}} of a host batch."""
        self._task, self._seed, self._shapes = task, config.seed, shapes
        params = jax.eval_shape(lambda: init_params(task, config.seed, shapes))
        self.optimizer = optimizers.make(
            config.optimizer, params, config.total_steps, fixed=getattr(task, "fixed", ())
        )
        state = jax.eval_shape(self._begin, params)
        sharding.report_heads(config.model, mesh)
        self.state = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
            state,
            sharding.of_state(state, mesh),
        )
        self.params = self.state.params

    def _begin(self, params):
        step = jnp.zeros((), jnp.int32)
        return TrainState(step, params, self.optimizer.tx.init(params))

    def fresh(self) -> TrainState:
        """A state from scratch, each array born where it belongs."""
        shardings = jax.tree.map(lambda x: x.sharding, self.state)

        def make():
            return self._begin(init_params(self._task, self._seed, self._shapes))

        return jax.jit(make, out_shardings=shardings)()

    def around(self, params) -> TrainState:
        """A state at step 0 around given parameters (already placed as `self.params` says)."""
        shardings = jax.tree.map(lambda x: x.sharding, self.state)
        # Not jitted through: the parameters themselves must not be copied.
        state = jax.jit(self.optimizer.tx.init, out_shardings=shardings.opt_state)(params)
        step = jax.device_put(jnp.zeros((), jnp.int32), shardings.step)
        return TrainState(step, params, state)
