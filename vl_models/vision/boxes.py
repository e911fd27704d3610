"""Boxes of a detector: anchors, and the deltas that move one box onto another (R-CNN, Girshick
et al. 2014, appendix C).

A box is xyxy in pixels with continuous corners: its width is x2 - x1, without Caffe's + 1.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

# A side grows by this factor at most, so that no exponential overflows.
LARGEST_GROWTH = math.log(1000.0 / 16)


def cell_anchors(sizes: Sequence[int | float], ratios: Sequence[int | float]) -> np.ndarray:
    """Anchors of one cell, around the origin: every size with each ratio, in this order.

    Args:
      sizes: sides in pixels of the squares that have the anchors' areas.
      ratios: height / width.

    Returns:
      float32 [sizes * ratios, 4] xyxy.
    """
    corners = []
    for size in sizes:
        for ratio in ratios:
            width = math.sqrt(size**2.0 / ratio)
            height = ratio * width
            corners.append([-width / 2, -height / 2, width / 2, height / 2])
    return np.asarray(corners, np.float32)


def grid_anchors(cell: np.ndarray, rows: int, columns: int, stride: int) -> np.ndarray:
    """Anchors of a whole feature map, each around the upper left corner of its cell.

    Args:
      cell: [A, 4] of `cell_anchors`.
      rows, columns: of the map.
      stride: pixels a cell.

    Returns:
      float32 [rows * columns * A, 4], cell by cell, row by row.
    """
    y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    shifts = np.stack([x, y, x, y], -1).reshape(-1, 1, 4).astype(np.float32) * stride
    return (shifts + cell).reshape(-1, 4)


def _centered(boxes: Array) -> tuple[Array, Array, Array, Array]:
    """x and y of the centres, widths, heights."""
    x1, y1, x2, y2 = jnp.moveaxis(boxes, -1, 0)
    width, height = x2 - x1, y2 - y1
    return x1 + 0.5 * width, y1 + 0.5 * height, width, height


def decode(
    deltas: Float[Array, "*rows 4"],
    boxes: Float[Array, "*#rows 4"],
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
) -> Float[Array, "*rows 4"]:
    """The boxes that deltas make of boxes.

    Args:
      deltas: shifts of the centre in sides of the box, logarithms of the sides' growth; both times
        `weights`.
      boxes: to be moved.
      weights: of x, y, width and height.
    """
    x, y, width, height = _centered(boxes)
    dx, dy, dw, dh = (
        part / weight for part, weight in zip(jnp.moveaxis(deltas, -1, 0), weights, strict=True)
    )
    x, y = dx * width + x, dy * height + y
    width = jnp.exp(jnp.minimum(dw, LARGEST_GROWTH)) * width
    height = jnp.exp(jnp.minimum(dh, LARGEST_GROWTH)) * height
    return jnp.stack(
        [x - 0.5 * width, y - 0.5 * height, x + 0.5 * width, y + 0.5 * height], axis=-1
    )


def encode(
    targets: Float[Array, "*rows 4"],
    boxes: Float[Array, "*rows 4"],
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
) -> Float[Array, "*rows 4"]:
    """The deltas by which `decode` makes `targets` of `boxes`; both need sides above 0."""
    x, y, width, height = _centered(boxes)
    to_x, to_y, to_width, to_height = _centered(targets)
    parts = (
        (to_x - x) / width,
        (to_y - y) / height,
        jnp.log(to_width / width),
        jnp.log(to_height / height),
    )
    return jnp.stack([part * weight for part, weight in zip(parts, weights, strict=True)], axis=-1)


def clip(boxes: Float[Array, "*rows 4"], size: Float[Array, "*#rows 2"]) -> Float[Array, "*rows 4"]:
    """Boxes cut off at the borders of pictures of `size` (height, width)."""
    limit = jnp.stack([size[..., 1], size[..., 0]] * 2, axis=-1)
    return jnp.clip(boxes, 0, limit)


def nonempty(boxes: Float[Array, "*rows 4"], side: float = 0.0) -> Bool[Array, "*rows"]:
    """Whether both sides are longer than `side`."""
    return jnp.all(boxes[..., 2:] - boxes[..., :2] > side, axis=-1)


def areas(boxes: Float[Array, "*rows 4"]) -> Float[Array, "*rows"]:
    """Width times height."""
    sides = boxes[..., 2:] - boxes[..., :2]
    return sides[..., 0] * sides[..., 1]


def overlaps(first: Float[Array, "N 4"], second: Float[Array, "K 4"]) -> Float[Array, "N K"]:
    """Intersection over union of every pair; 0 where both boxes are empty."""
    low = jnp.maximum(first[:, None, :2], second[None, :, :2])
    high = jnp.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = jnp.maximum(high - low, 0)
    common = sides[..., 0] * sides[..., 1]
    union = areas(first)[:, None] + areas(second)[None] - common
    return jnp.where(union > 0, common / jnp.where(union > 0, union, 1), 0)
