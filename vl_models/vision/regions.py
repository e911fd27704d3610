"""Features of a picture's regions, trained with the model that reads them (VL-BERT, section 3.2).

Convolutions up to C4, RoIAlign, C5 on every region, and the mean of its cells. What surrounds them
is done here too, on the device: pictures come as bytes and go in as BGR minus mean, and a hidden
region is blanked in the picture, so that neither a region that overlaps it nor the whole image
shows it.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float, Shaped
from ml_collections import ConfigDict

from core.checks import Check, each, flag, one_of, whole
from vl_models.vision import resnet
from vl_models.vision.roi_align import roi_align

SOURCES = ("store", "pixels")
MODULES = ("trunk/vision/backbone", "trunk/vision/head")  # paths of the two parts
BGR_MEAN = (102.9801, 115.9465, 122.7717)  # of the 8-bit pictures that the detectors learned from
CELLS = 14  # of a region, each way

CHECKS: dict[str, Check] = dict(
    blocks=each(whole(1), lengths=(4,)),
    width=whole(1),
    stride_in_1x1=flag(),
    max_pool=one_of(*resnet.MAX_POOLS),
    dilated=flag(),
    frozen_stages=whole(0, most=5),
    frozen_norm=flag(),
    remat=flag(),
)
# The published network: ResNet-101 as it was trained on Visual Genome.
PUBLISHED = dict(
    blocks=resnet.BLOCKS[101],
    width=64,
    stride_in_1x1=True,
    max_pool="torch",
    dilated=True,
    frozen_stages=2,
    frozen_norm=True,
    remat=False,
)


def sizes_of(block: ConfigDict, dtype: DTypeLike) -> resnet.ResNetSizes:
    """Of `config.model.vision`.

    Args:
      block: has the fields of CHECKS; `width` is that of the stem and of res2.
      dtype: of products.
    """
    return resnet.ResNetSizes(
        blocks=tuple(block.blocks),
        stem=block.width,
        inner=block.width,
        outer=4 * block.width,
        stride_in_1x1=block.stride_in_1x1,
        max_pool=block.max_pool,
        dilated=block.dilated,
        frozen_stages=block.frozen_stages,
        frozen_norm=block.frozen_norm,
        dtype=dtype,
        remat=block.remat,
    )


def prepared(
    images: Shaped[Array, "N H W 3"], image_size: Float[Array, "N 2"]
) -> Float[Array, "N H W 3"]:
    """BGR minus mean, and zero where a picture ends before its canvas does.

    Args:
      images: uint8 RGB; floating numbers are prepared already and come back as they are.
      image_size: (height, width) of each picture in pixels.
    """
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images
    pixels = images[..., ::-1].astype(jnp.float32) - jnp.asarray(BGR_MEAN)
    rows, columns = (
        jnp.arange(images.shape[axis]) < image_size[:, axis - 1, None] for axis in (1, 2)
    )
    return jnp.where((rows[:, :, None] & columns[:, None, :])[..., None], pixels, 0)


def blanked(
    images: Float[Array, "N H W 3"],
    boxes: Float[Array, "N R 4"],
    hidden: Bool[Array, "N R"],
) -> Float[Array, "N H W 3"]:
    """Zero wherever a hidden region's box is, its last row and column included (released code)."""
    low_x, low_y, high_x, high_y = jnp.moveaxis(jnp.trunc(boxes), -1, 0)

    def covers(low: Array, high: Array, length: int) -> Float[Array, "N R length"]:
        at = jnp.arange(length)
        return ((at >= low[..., None]) & (at <= high[..., None])).astype(jnp.float32)

    rows = covers(low_y, high_y, images.shape[1]) * hidden[..., None]
    holes = jnp.einsum("nrh,nrw->nhw", rows, covers(low_x, high_x, images.shape[2])) > 0
    return jnp.where(holes[..., None], 0, images)


class RegionVision(nn.Module):
    """Appearance features of the regions of pictures.

    Attributes:
      sizes: of the network.
    """

    sizes: resnet.ResNetSizes

    def setup(self) -> None:
        self.backbone = resnet.Backbone(self.sizes)
        self.head = resnet.RegionHead(self.sizes)

    def __call__(
        self,
        images: Shaped[Array, "N H W 3"],
        boxes: Float[Array, "N R 4"],
        image_size: Float[Array, "N 2"],
        hidden: Bool[Array, "N R"] | None = None,
        instance_mask: Bool[Array, "N R s s"] | None = None,
    ) -> Float[Array, "N R C5"]:
        """Args:
          images: see `prepared`.
          boxes: xyxy in pixels of these pictures.
          image_size: (height, width) of each picture, without the padding of its canvas.
          hidden: regions that are blanked in the picture.
          instance_mask: cells of each region that show its object, s = CELLS; the others count as
            zero, in the mean too (VCR).

        Returns:
          float32; those of padded regions mean nothing.
        """
        images = prepared(images, image_size)
        if hidden is not None:
            images = blanked(images, boxes, hidden)
        c4 = self.backbone(images)
        cells = roi_align(c4, boxes, scale=1 / resnet.STRIDE, size=CELLS)
        c5 = self.head(cells.reshape(-1, *cells.shape[2:]))
        c5 = c5.reshape(*boxes.shape[:2], *c5.shape[1:]).astype(jnp.float32)
        if instance_mask is not None:
            if c5.shape[2] != CELLS:
                raise ValueError("instance masks need config.model.vision.dilated=True")
            c5 = c5 * instance_mask[..., None]
        return c5.mean((2, 3))
