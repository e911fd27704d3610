"""Non-maximum suppression in XLA, with fixed shapes and the greedy algorithm's own result."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

from vl_models.vision import boxes as box_ops


def single_precision(threshold: float) -> np.float32:
    """The largest float32 that is not above a threshold.

    A float32 is greater than it exactly if it is greater than the threshold itself, as the
    reference compares in double precision. (0.3 as the nearest float32 is above 0.3.)
    """
    nearest = np.float32(threshold)
    return np.nextafter(nearest, np.float32(-np.inf)) if float(nearest) > threshold else nearest


def nms(
    boxes: Float[Array, "N 4"],
    scores: Float[Array, " N"],
    threshold: float,
    limit: int,
    valid: Bool[Array, " N"] | None = None,
) -> tuple[Int[Array, " limit"], Bool[Array, " limit"]]:
    """Greedy non-maximum suppression.

    The box of the highest score is kept, of equal scores the first; boxes that overlap it by more
    than the threshold (intersection over union) are dropped; and so on with what is left. One turn
    of the loop is one box kept, so that the cost is `limit` passes over N boxes, and no table of
    N x N is made.

    Args:
      boxes: xyxy.
      scores: to rank them by.
      threshold: overlap above which the box of the lower score is dropped.
      limit: most boxes to keep.
      valid: boxes that take part; None: all.

    Returns:
      (index, kept): numbers of the boxes kept, by falling score, and which of these entries are
      boxes at all; the others are 0.
    """
    order = jnp.argsort(-scores, stable=True)
    ranked = boxes[order]
    area = box_ops.areas(ranked)
    place = jnp.arange(len(boxes), dtype=jnp.int32)
    most = single_precision(threshold)
    alive = jnp.ones(len(boxes), bool) if valid is None else valid[order]

    def first(alive: Array) -> Array:
        return jnp.min(jnp.where(alive, place, len(boxes)))

    def step(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        count, best, alive, kept = state
        box = ranked[best]
        sides = jnp.maximum(
            jnp.minimum(ranked[:, 2:], box[2:]) - jnp.maximum(ranked[:, :2], box[:2]), 0
        )
        common = sides[:, 0] * sides[:, 1]
        # Two empty boxes overlap by 0 / 0, which is not above the threshold: both stay.
        dropped = common / (area[best] + area - common) > most
        alive = alive & ~dropped & (place != best)
        return count + 1, first(alive), alive, kept.at[count].set(best)

    def unfinished(state: tuple[Array, Array, Array, Array]) -> Array:
        count, best, _, _ = state
        return (count < limit) & (best < len(boxes))

    none = jnp.zeros(limit, jnp.int32)
    count, _, _, kept = jax.lax.while_loop(
        unfinished, step, (jnp.int32(0), first(alive), alive, none)
    )
    mask = jnp.arange(limit) < count
    return jnp.where(mask, order[kept], 0).astype(jnp.int32), mask
