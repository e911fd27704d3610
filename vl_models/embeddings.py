"""How boxes and features become vectors: geometry and appearance embeddings."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vl_models.layers import LayerSizes


def geometry_embedding(boxes: jax.Array, image_size: jax.Array, width: int) -> jax.Array:
    """Sines and cosines of box centre and size (VL-BERT, released code, base 1000).

    Args:
      boxes: [N, R, 4] xyxy in pixels.
      image_size: [N, 2] (height, width) in pixels.
      width: of the embedding, a multiple of 8; the original's is 2048 (256 wavelengths).

    Returns:
      [N, R, width] float32: for each of centre x, centre y, width, height in percent of the image,
      all sines, then all cosines, of p / 1000^(i / (width / 8)).
    """
    count = width // 8
    x1, y1, x2, y2 = jnp.moveaxis(boxes.astype(jnp.float32), -1, 0)
    h, w = (image_size[:, i, None].astype(jnp.float32) for i in (0, 1))
    numbers = [(x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h]
    percent = 100.0 * jnp.stack(numbers, axis=-1)
    wavelengths = 1000.0 ** (jnp.arange(count, dtype=jnp.float32) / count)
    angles = percent[..., None] / wavelengths
    waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return waves.reshape(*boxes.shape[:-1], width)


def torch_linear_init(key, shape, dtype=jnp.float32):
    """PyTorch's default for Linear: U(-1/√fan_in, 1/√fan_in), for kernels [in, out]."""
    limit = shape[0] ** -0.5
    return jax.random.uniform(key, shape, dtype, -limit, limit)


class RegionEmbedding(nn.Module):
    """Appearance and geometry of a region → D (VL-BERT, "visual feature embedding").

    Attributes:
      sizes: of the trunk.
      feature_dim: F, width of the appearance features.
      geometry_dim: width of the geometry embedding.
    """

    sizes: LayerSizes
    feature_dim: int
    geometry_dim: int

    @nn.compact
    def __call__(self, regions, boxes, image_size, region_mask, region_masked, *, train: bool):
        """Args:
          regions: [N, R, F]; boxes: [N, R, 4] pixels; image_size: [N, 2]; region_mask: bool [N, R].
          region_masked: bool [N, R] or None: regions whose appearance is hidden.
          train: whether dropout is on.

        Returns:
          [N, R, D], zero at padded rows.
        """
        sizes = self.sizes
        # The mask vector starts at zero and is trained, as in the original.
        hidden = self.param("mask", nn.initializers.zeros, (self.feature_dim,))
        appearance = regions.astype(sizes.dtype)
        if region_masked is not None:
            appearance = jnp.where(region_masked[..., None], hidden.astype(sizes.dtype), appearance)
        geometry = geometry_embedding(boxes, image_size, self.geometry_dim).astype(sizes.dtype)
        x = jnp.concatenate([geometry, appearance], axis=-1)
        x = nn.Dropout(sizes.dropout, deterministic=not train)(x)
        limit = x.shape[-1] ** -0.5
        x = nn.Dense(
            sizes.hidden,
            dtype=sizes.dtype,
            kernel_init=torch_linear_init,
            bias_init=lambda key, shape, dtype: jax.random.uniform(
                key, shape, dtype, -limit, limit
            ),
            name="projection",
        )(x)
        return jnp.where(region_mask[..., None], nn.relu(x), 0)
