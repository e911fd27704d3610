"""The optimizers of the originals, as optax transformations.

They differ from optax's own: in AdamW epsilon is added to the uncorrected root of the second
moment, and decay acts on the already updated value, times the same learning rate. The learning
rate belongs to the global batch as configured and is never rescaled by devices or accumulation.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jaxtyping import Float, Int, PyTree
from ml_collections import ConfigDict

from core.errors import ConfigError
from runtime import paths
from training import schedules

OPTIMIZERS = ("adamw", "radam", "sgd")


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """What a train step needs of it.

    Attributes:
      tx: the transformation, clipping included; frozen parameters get zero and have no moments.
      rate: learning rate of update u, counted from 1.
      frozen: paths of the parameters that do not train.
      decay: weight decay by path.
      factor: what the rate is multiplied by, by path.
    """

    tx: optax.GradientTransformationExtraArgs
    rate: schedules.Schedule
    frozen: frozenset[str]
    decay: Mapping[str, float]
    factor: Mapping[str, float]


class Moments(NamedTuple):
    """Mean and square float32, like the parameters (square: not for SGD), and updates so far.

    `count` is an int32 scalar; where heads have fewer updates than the trunk, {"trunk": int32,
    "heads": {name: int32}}.
    """

    count: PyTree  # not tuple.count: a name in checkpoints
    mean: PyTree
    square: PyTree


@dataclasses.dataclass(frozen=True)
class Turn:
    """What the optimizer is told of an update that is one of several of a step.

    Attributes:
      rate_step: int32 scalar, step whose learning rate it has, counted from 1.
      factor: of that rate.
    """

    rate_step: Int[Array, ""] | int
    factor: float


def make(
    block: ConfigDict,
    params: PyTree,
    total_steps: int,
    fixed: Sequence[str] = (),
    *,
    by_head: bool = False,
) -> Optimizer:
    """The optimizer of `config.optimizer`.

    Args:
      block: `config.optimizer`.
      params: nested dict of parameters or of their shapes.
      total_steps: optimizer steps of the run.
      fixed: regexes of parameters that the model keeps as they are, beside `block.freeze`.
      by_head: whether each head counts its own updates: not all updates are of all heads.

    Raises:
      ValueError: unknown name or schedule, or a regex that matches no parameter.
    """
    names = list(paths.flatten(params))
    frozen = set().union(
        *paths.matching(block.freeze, names, where="config.optimizer.freeze"),
        *paths.matching(fixed, names, where="the model's fixed layers"),
    )
    if frozen == set(names):
        raise ConfigError("config.optimizer.freeze leaves no parameter to train")
    spared = set().union(*paths.matching(block.no_decay, names, where="config.optimizer.no_decay"))
    decay = {name: 0.0 if name in spared else block.weight_decay for name in names}
    factor = dict.fromkeys(names, 1.0)
    found = paths.matching(
        [pattern for pattern, _ in block.multipliers], names, where="config.optimizer.multipliers"
    )
    for (_, value), matched in reversed(list(zip(block.multipliers, found, strict=True))):
        factor.update(dict.fromkeys(matched, float(value)))  # reversed: the first match wins

    rate = schedules.build(block, total_steps)
    stages = [clip_by_global_norm(block.clip_norm)] if block.clip_norm else []
    if block.name == "adamw":
        stages.append(scale_by_adam(block.b1, block.b2, block.eps, block.correct_bias, by_head))
        stages.append(apply_rate(rate, factor, decay, decay_first=False))
    elif block.name == "radam":
        stages.append(scale_by_radam(block.b1, block.b2, block.eps, by_head))
        stages.append(apply_rate(rate, factor, decay, decay_first=True))
    elif block.name == "sgd":
        stages += [add_decay(decay), scale_by_momentum(block.b1, by_head)]
        stages.append(apply_rate(rate, factor, dict.fromkeys(names, 0.0), decay_first=False))
    else:
        raise ConfigError(
            f"optimizer.name must be one of {sorted(OPTIMIZERS)}, found {block.name!r}"
        )

    def labels(tree: PyTree) -> PyTree:
        return paths.map_with_path(lambda name, _: "freeze" if name in frozen else "train", tree)

    tx = optax.partition({"train": optax.chain(*stages), "freeze": optax.set_to_zero()}, labels)
    return Optimizer(tx, rate, frozenset(frozen), decay, factor)


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
    """Times limit / (norm + 1e-6) where that is below 1 (PyTorch's rule, as in the originals)."""

    def update(
        grads: PyTree, state: optax.EmptyState, params: PyTree = None
    ) -> tuple[PyTree, optax.EmptyState]:
        del params
        scale = jnp.minimum(1.0, limit / (optax.tree.norm(grads) + 1e-6))
        return jax.tree.map(lambda g: g * scale, grads), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _zeros(params: PyTree) -> PyTree:
    return jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)


def _average(old: PyTree, new: PyTree, beta: float) -> PyTree:
    return jax.tree.map(lambda m, x: beta * m + (1 - beta) * x.astype(jnp.float32), old, new)


def _moments(grads: PyTree, state: Moments, b1: float, b2: float) -> Moments:
    squares = jax.tree.map(jnp.square, grads)
    return Moments(
        _more(state.count), _average(state.mean, grads, b1), _average(state.square, squares, b2)
    )


def _zero(params: PyTree, by_head: bool) -> PyTree:
    """The count of no updates, see `Moments`."""
    zero = jnp.zeros((), jnp.int32)
    return dict(trunk=zero, heads=dict.fromkeys(params["heads"], zero)) if by_head else zero


def _more(count: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x + 1, count)


def _by_path(count: PyTree, function: Callable[[Array], Any]) -> Callable[[str], Any]:
    """`function` of the updates of the parameter at a path."""
    if not isinstance(count, dict):
        value = function(count)
        return lambda path: value
    trunk = function(count["trunk"])
    heads = {name: function(x) for name, x in count["heads"].items()}

    def of(path: str) -> Any:
        part, name, *_ = path.split("/")
        return heads[name] if part == "heads" else trunk

    return of


def _correction(beta: float, count: Int[Array, ""]) -> Float[Array, ""]:
    """1 - beta^count without the digits float32 would lose for beta near 1."""
    return -jnp.expm1(count * math.log(beta)) if beta else jnp.float32(1)


def scale_by_adam(
    b1: float, b2: float, eps: float, correct_bias: bool, by_head: bool = False
) -> optax.GradientTransformation:
    """c·m / (√v + eps), c = √(1 - b2ᵗ) / (1 - b1ᵗ), or 1 without bias correction."""

    def scale_after(count: Int[Array, ""]) -> Float[Array, ""]:
        if not correct_bias:
            return jnp.float32(1)
        return jnp.sqrt(_correction(b2, count)) / _correction(b1, count)

    def update(grads: PyTree, state: Moments, params: PyTree = None) -> tuple[PyTree, Moments]:
        del params
        state = _moments(grads, state, b1, b2)
        scale = _by_path(state.count, scale_after)
        direction = paths.map_with_path(
            lambda path, m, v: scale(path) * m / (jnp.sqrt(v) + eps), state.mean, state.square
        )
        return direction, state

    return optax.GradientTransformation(_init_both(by_head), update)


def _init_both(by_head: bool) -> Callable[[PyTree], Moments]:
    def init(params: PyTree) -> Moments:
        return Moments(_zero(params, by_head), _zeros(params), _zeros(params))

    return init


def _rectification(b2: float) -> Float[np.ndarray, " t"]:
    """r_t·√(1 - b2ᵗ) of RAdam for t = 0, 1, …; 0 where the average is too short to rectify.

    Worked out here in float64 because ρ_t is a small difference of large numbers. The table ends
    where b2ᵗ has vanished and r_t is constant.
    """
    t = np.arange(1, math.ceil(40 / (1 - b2)) + 1, dtype=np.float64)
    limit = 2 / (1 - b2) - 1
    power = b2**t
    length = limit - 2 * t * power / (1 - power)
    long = np.maximum(length, 5)
    ratio = (long - 4) / (limit - 4) * (long - 2) / long * limit / (limit - 2)
    return np.concatenate([[0], np.where(length >= 5, np.sqrt((1 - power) * ratio), 0)])


def scale_by_radam(
    b1: float, b2: float, eps: float, by_head: bool = False
) -> optax.GradientTransformation:
    """RAdam (Liu et al. 2020): the rectified step, or m / (1 - b1ᵗ) while ρ_t < 5."""
    table = _rectification(b2).astype(np.float32)

    def rule_after(count: Int[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        rectified = jnp.asarray(table)[jnp.minimum(count, len(table) - 1)]
        return rectified, _correction(b1, count)

    def update(grads: PyTree, state: Moments, params: PyTree = None) -> tuple[PyTree, Moments]:
        del params
        state = _moments(grads, state, b1, b2)
        rule = _by_path(state.count, rule_after)

        def direction(path: str, m: Array, v: Array) -> Array:
            rectified, correction = rule(path)
            step = jnp.where(rectified > 0, rectified * m / (jnp.sqrt(v) + eps), m)
            return step / correction

        return paths.map_with_path(direction, state.mean, state.square), state

    return optax.GradientTransformation(_init_both(by_head), update)


def scale_by_momentum(momentum: float, by_head: bool = False) -> optax.GradientTransformation:
    """m ← momentum·m + g (PyTorch's SGD, no dampening); `b1` of the config is the momentum."""

    def init(params: PyTree) -> Moments:
        return Moments(_zero(params, by_head), _zeros(params), ())

    def update(grads: PyTree, state: Moments, params: PyTree = None) -> tuple[PyTree, Moments]:
        del params
        mean = jax.tree.map(lambda m, g: momentum * m + g, state.mean, grads)
        return mean, Moments(_more(state.count), mean, ())

    return optax.GradientTransformation(init, update)


def add_decay(decay: Mapping[str, float]) -> optax.GradientTransformation:
    """g + decay·p, the coupled L2 penalty of SGD; `decay` by parameter path."""

    def update(
        grads: PyTree, state: optax.EmptyState, params: PyTree
    ) -> tuple[PyTree, optax.EmptyState]:
        grads = paths.map_with_path(lambda name, g, p: g + decay[name] * p, grads, params)
        return grads, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def apply_rate(
    rate: schedules.Schedule,
    factor: Mapping[str, float],
    decay: Mapping[str, float],
    *,
    decay_first: bool,
) -> optax.GradientTransformation:
    """Direction → update: p ← p - lr·d, and p ← p - lr·decay·p after it (or before it).

    The rate is that of the updates it has seen, or of the `turn` that `update` is told of.

    Args:
      rate: learning rate of update u, counted from 1.
      factor: of the learning rate, by parameter path.
      decay: weight decay by parameter path.
      decay_first: RAdam's order; else decay acts on the updated value.
    """

    def init(params: PyTree) -> optax.ScaleByScheduleState:
        del params
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))

    def update(
        directions: PyTree,
        state: optax.ScaleByScheduleState,
        params: PyTree,
        *,
        turn: Turn | None = None,
        **others: Any,
    ) -> tuple[PyTree, optax.ScaleByScheduleState]:
        del others  # of other transformations
        count = state.count + 1
        base = rate(count) if turn is None else rate(turn.rate_step) * turn.factor

        def change(name: str, direction: Array, p: Array) -> Array:
            lr = base * factor[name]

            def decayed(x: Array) -> Array:
                return x - lr * decay[name] * x

            # The difference of the two values, so that p + update rounds as the originals do.
            if decay_first:
                return decayed(p) - lr * direction - p
            return decayed(p - lr * direction) - p

        updates = paths.map_with_path(change, directions, params)
        return updates, optax.ScaleByScheduleState(count)

    return optax.GradientTransformationExtraArgs(init, update)
