"""The train state: what a step reads and writes, and how it begins."""

from collections.abc import Collection, Mapping
from typing import Any, Protocol, runtime_checkable

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Key, PyTree
from ml_collections import ConfigDict

from runtime import sharding
from training import optimizer as optimizers
from training import stream_schedule


@flax.struct.dataclass
class TrainState:
    """The state, or a tree like it of shapes or shardings.

    Attributes:
      step: int32 scalar, updates done.
      params: nested dict.
      opt_state: of the optimizer.
    """

    step: PyTree
    params: PyTree
    opt_state: PyTree


Batch = Mapping[str, Array]  # of one stream
Pair = tuple[Float[Array, ""], Float[Array, ""]]  # sum and weight of a mean


@runtime_checkable
class Model(Protocol):
    """What is trained: `objectives.model.MultiTaskModel`, which explains its methods."""

    @property
    def dtype(self) -> DTypeLike: ...
    @property
    def separable(self) -> bool: ...
    def init(self, rng: Key[Array, ""], batch: Mapping[str, Batch], /) -> PyTree: ...
    def heads_of(self, stream: str, /) -> Collection[str]: ...
    def corrupt(self, stream: str, batch: Batch, keys: Key[Array, " B"], /) -> Batch: ...
    def weights(self, stream: str, batch: Batch, /) -> dict[str, Float[Array, ""]]: ...
    def sums(
        self,
        params: PyTree,
        stream: str,
        batch: Batch,
        /,
        *,
        train: bool,
        dropout_rng: Key[Array, ""] | None = None,
    ) -> tuple[dict[str, Float[Array, ""]], dict[str, Pair]]: ...
    def total(
        self, sums: Mapping[str, Float[Array, ""]], weights: Mapping[str, Float[Array, ""]], /
    ) -> Float[Array, ""]: ...


def init_params(model: Model, seed: int, shapes: Mapping[str, Mapping[str, Any]]) -> PyTree:
    """Initial parameters, a function of the seed alone.

    Args:
      model: gives them.
      seed: of the run.
      shapes: {stream: {key: array or shape [B, …]}}; one row each is enough and cheaper to trace.
    """
    rows = {
        stream: {key: jnp.zeros((1, *x.shape[1:]), x.dtype) for key, x in arrays.items()}
        for stream, arrays in shapes.items()
    }
    return model.init(jax.random.key(seed), rows)


class StateMaker:
    """Knows the state's shapes and shardings before any of it exists.

    Attributes:
      optimizer: an `optimizer.Optimizer`.
      params, state: trees of `jax.ShapeDtypeStruct` with shardings.
    """

    def __init__(
        self,
        model: Model,
        config: ConfigDict,
        shapes: Mapping[str, Mapping[str, Any]],
        mesh: jax.sharding.Mesh,
    ):
        """shapes: {stream: {key: array or shape [B, …]}} of a host batch."""
        self._model, self._seed, self._shapes = model, config.seed, shapes
        params = jax.eval_shape(lambda: init_params(model, config.seed, shapes))
        self.optimizer = optimizers.make(
            config.optimizer,
            params,
            config.total_steps,
            fixed=getattr(model, "fixed", ()),
            by_head=stream_schedule.is_separate(config),
        )
        state = jax.eval_shape(self._begin, params)
        sharding.report_heads(config.model, mesh)
        over = sharding.SHARED if config.shard_state else ("fsdp",)
        self.state = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
            state,
            sharding.of_state(state, mesh, over=over),
        )
        self.params = self.state.params

    def _begin(self, params: PyTree) -> TrainState:
        step = jnp.zeros((), jnp.int32)
        return TrainState(step, params, self.optimizer.tx.init(params))

    def fresh(self) -> TrainState:
        """A state from scratch, each array born where it belongs."""
        shardings = jax.tree.map(lambda x: x.sharding, self.state)

        def make() -> TrainState:
            return self._begin(init_params(self._model, self._seed, self._shapes))

        return jax.jit(make, out_shardings=shardings)()

    def from_params(self, params: PyTree) -> TrainState:
        """A state at step 0 with given parameters (already placed as `self.params` says)."""
        shardings = jax.tree.map(lambda x: x.sharding, self.state)
        # Not jitted through: the parameters themselves must not be copied.
        state = jax.jit(self.optimizer.tx.init, out_shardings=shardings.opt_state)(params)
        step = jax.device_put(jnp.zeros((), jnp.int32), shardings.step)
        return TrainState(step, params, state)
