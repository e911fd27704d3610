"""RoIPool (Fast R-CNN, Girshick 2015): the maximum of every bin of a box, with Caffe's rounding.

The maximum over a rectangle of any size is that of four overlapping rectangles whose sides are
powers of two. Their maxima over the whole map are made once, so that a bin costs four look-ups.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int


def _round(x: Array) -> Array:
    """The nearest whole number, halves away from 0 as C's `round`."""
    return jnp.sign(x) * jnp.floor(jnp.abs(x) + 0.5)


def _splits(cells: int, bins: int) -> np.ndarray:
    """[cells + 2, bins, 2]: first cell, and the one after the last, of each bin of a span.

    A span is at most a cell longer than the map. Bins overlap where it is no multiple of them. The
    arithmetic is that of single precision, which decides where a bin ends; XLA would divide by
    multiplying.
    """
    number = np.arange(bins, dtype=np.float32)
    width = (np.arange(cells + 2, dtype=np.float32) / np.float32(bins))[:, None]
    ends = np.floor(number * width), np.ceil((number + 1) * width)
    return np.stack(ends, -1).astype(np.int32)


def _bins(low: Array, high: Array, splits: np.ndarray) -> tuple[Array, Array, Array]:
    """Bins of boxes along one axis: first cells and those after the last, each [n, bins], and
    whether a box fits `splits` [n].
    """
    start = _round(low).astype(jnp.int32)
    span = jnp.maximum(_round(high).astype(jnp.int32) - start + 1, 1)
    ends = jnp.take(splits, span, axis=0, mode="clip") + start[:, None, None]
    ends = jnp.clip(ends, 0, len(splits) - 2)
    return ends[..., 0], ends[..., 1], span < len(splits)


def _powers(low: Int[Array, "n b"], high: Int[Array, "n b"], levels: int) -> Array:
    """Largest power of two of cells, as its logarithm, that a bin holds."""
    length = high - low
    return sum((length >= 2**level).astype(jnp.int32) for level in range(1, levels))


def _maxima(features: Array, levels: tuple[int, int]) -> Array:
    """[levels y, levels x, H, W, C]: the maximum of the 2^y x 2^x cells from each on.

    Beyond the border there is nothing: entries whose rectangle passes it are never asked for.
    """

    def doubled(x: Array, axis: int, step: int) -> Array:
        return jnp.maximum(x, jnp.roll(x, -step, axis))

    rows = [features]
    for level in range(1, levels[0]):
        rows.append(doubled(rows[-1], 0, 2 ** (level - 1)))
    table = [jnp.stack(rows)]
    for level in range(1, levels[1]):
        table.append(doubled(table[-1], 2, 2 ** (level - 1)))
    return jnp.stack(table, axis=1)


def _levels(splits: np.ndarray) -> int:
    """Powers of two that the sides of bins may need."""
    return int((splits[..., 1] - splits[..., 0]).max()).bit_length()


def roi_pool(
    features: Float[Array, "H W C"],
    boxes: Float[Array, "N 4"],
    size: int,
    scale: float,
) -> Float[Array, "N size size C"]:
    """Maxima of `size` x `size` bins of every box.

    Args:
      features: one picture's map.
      boxes: xyxy in pixels of the picture. One that is longer than the map, by more than the cell
        that rounding adds, is NaN (see `boxes.clip`).
      size: bins along each side.
      scale: cells a pixel.

    Returns:
      The bins of each box, 0 where one lies outside the map altogether.
    """
    height, width, channels = features.shape
    rows, columns = _splits(height, size), _splits(width, size)
    levels = (_levels(rows), _levels(columns))
    x1, y1, x2, y2 = jnp.moveaxis(boxes * scale, -1, 0)
    top, bottom, low_enough = _bins(y1, y2, rows)
    left, right, narrow_enough = _bins(x1, x2, columns)
    down, across = _powers(top, bottom, levels[0]), _powers(left, right, levels[1])
    table = _maxima(features, levels).reshape(-1, channels)

    def at(row: Array, column: Array) -> Array:
        """Table entries [N, size, size, C] of rectangles from cells row [N, size], column."""
        place = (down[:, :, None] * levels[1] + across[:, None]) * height + row[:, :, None]
        return jnp.take(table, place * width + column[:, None], axis=0, mode="clip")

    below, beside = bottom - 2**down, right - 2**across
    found = jnp.maximum(
        jnp.maximum(at(top, left), at(below, left)), jnp.maximum(at(top, beside), at(below, beside))
    )
    empty = (bottom <= top)[:, :, None] | (right <= left)[:, None]
    found = jnp.where(empty[..., None], 0, found)
    return jnp.where((low_enough & narrow_enough)[:, None, None, None], found, jnp.nan)


def roi_pool_batch(
    features: Float[Array, "B H W C"], boxes: Float[Array, "B N 4"], size: int, scale: float
) -> Float[Array, "B N size size C"]:
    """`roi_pool` of every picture of a batch."""
    return jax.vmap(lambda f, b: roi_pool(f, b, size, scale))(features, boxes)
