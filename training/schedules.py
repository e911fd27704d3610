"""Learning-rate schedules as factors of the peak rate.

All are functions of u, the number of the optimizer step counted from 1. The originals step their
scheduler before the optimizer, so update u uses factor(u): the first update of a warm-up of W
steps runs at 1/W of the peak, and the last update of "triangle" at 0.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Num
from ml_collections import ConfigDict

from core.errors import ConfigError

Schedule = Callable[[Num[Array, ""] | int], Float[Array, ""]]


def triangle(warmup: int, total: int) -> Schedule:
    """Linear up to 1 at step `warmup`, then linear down to 0 at step `total`."""

    def factor(u: Num[Array, ""] | int) -> Float[Array, ""]:
        u = jnp.asarray(u, jnp.float32)
        down = jnp.maximum(0.0, (total - u) / max(total - warmup, 1))
        return jnp.where(u < warmup, u / max(warmup, 1), down)

    return factor


def step(warmup: int, milestones: tuple[int, ...], decay: float) -> Schedule:
    """Linear up to 1 at step `warmup`; multiplied by `decay` from each milestone on."""

    def factor(u: Num[Array, ""] | int) -> Float[Array, ""]:
        u = jnp.asarray(u, jnp.float32)
        passed = sum(jnp.where(u >= milestone, 1.0, 0.0) for milestone in milestones)
        return jnp.minimum(1.0, u / max(warmup, 1)) * decay**passed

    return factor


def build(block: ConfigDict, total_steps: int) -> Schedule:
    """The learning rate as a function of u, from `config.optimizer`.

    Raises:
      ValueError: unknown schedule, or a warm-up that does not end within the run.
    """
    if block.schedule == "triangle":
        if not 0 <= block.warmup_steps <= total_steps:
            raise ConfigError(
                f"optimizer.warmup_steps must be within 0 and total_steps = {total_steps}, "
                f"found {block.warmup_steps}; set --config.optimizer.warmup_steps"
            )
        factor = triangle(block.warmup_steps, total_steps)
    elif block.schedule == "step":
        factor = step(block.warmup_steps, tuple(block.milestones), block.decay)
    else:
        raise ConfigError(
            f"optimizer.schedule must be 'triangle' or 'step', found {block.schedule!r}"
        )
    return lambda u: block.lr * factor(u)
