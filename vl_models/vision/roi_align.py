"""RoIAlign (He et al. 2017): the part of a feature map that a box covers, as so many cells.

A cell is the mean of bilinear samples on a regular grid, so that the weights of a row and of a
column are independent: RoIAlign is two small matrix products per box. They need neither gather nor
scatter, run on every device alike, and their gradient is exact and deterministic.
"""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float


def roi_align(
    features: Float[Array, "N H W C"],
    boxes: Float[Array, "N R 4"],
    *,
    scale: float,
    size: int = 14,
    samples: int = 1,
) -> Float[Array, "N R size size C"]:
    """Cuts boxes out of feature maps, without the later half-pixel offset ("aligned=False").

    A box starts at (x1, y1) · scale and is at least one cell wide and high; a sample further than
    one cell outside the map counts as zero, one within that cell as the border's. Worked out in
    float32 whatever the features, as the originals do. Boxes have no gradient.

    Args:
      features: feature maps.
      boxes: xyxy in pixels; they may reach past the picture.
      scale: cells per pixel, such as 1 / 16.
      size: cells of the result, each way.
      samples: of a cell, each way: 1 in VL-BERT; 0: as many as it takes that they are at most one
        cell of the map apart (adaptive, Detectron and torchvision).

    Returns:
      Of the features' dtype.
    """
    x1, y1, x2, y2 = jnp.moveaxis(lax.stop_gradient(boxes).astype(jnp.float32) * scale, -1, 0)
    rows = _weights(y1, y2, features.shape[1], size, samples)
    columns = _weights(x1, x2, features.shape[2], size, samples)
    wide = features.astype(jnp.float32)
    exact = dict(precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32)
    strips = jnp.einsum("nrph,nhwc->nrpwc", rows, wide, **exact)
    cells = jnp.einsum("nrqw,nrpwc->nrpqc", columns, strips, **exact)
    return cells.astype(features.dtype)


def _weights(
    low: Float[Array, "N R"], high: Float[Array, "N R"], length: int, size: int, samples: int
) -> Float[Array, "N R size length"]:
    """What each place of an axis of the map adds to each cell of each box.

    Args:
      low, high: ends of the boxes on this axis, in cells of the map.
      length: of the axis.
      size: cells of a box.
      samples: see `roi_align`.
    """
    side = jnp.maximum(high - low, 1.0)
    step = side / size  # of a cell
    cells = jnp.arange(size, dtype=jnp.float32)
    places = jnp.arange(length, dtype=jnp.float32)
    counts = jnp.full_like(side, samples) if samples else jnp.ceil(step)

    def sample(number: Array, total: Float[Array, "N R size length"]) -> Array:
        within = (number + 0.5) / counts
        at = low[..., None] + (cells + within[..., None]) * step[..., None]
        is_inside = (at >= -1) & (at <= length) & (number < counts)[..., None]
        at = jnp.clip(at, 0, length - 1)[..., None]
        # The weights of linear interpolation between the two nearest places.
        near = jnp.maximum(0, 1 - jnp.abs(at - places))
        return total + jnp.where(is_inside[..., None], near, 0)

    total = jnp.zeros((*side.shape, size, length), jnp.float32)
    most = samples or jnp.max(counts).astype(jnp.int32)
    total = lax.fori_loop(0, most, sample, total)
    return total / counts[..., None, None]
