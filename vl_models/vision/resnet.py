"""ResNet (He et al. 2016) as region detectors use it: stages up to C4, and C5 as a head on regions.

Feature maps are [N, H, W, C]. BatchNorm is the detectors' "frozen" one: its mean and variance are
parameters that never change, so that a batch has no statistics and a picture's features do not
depend on its neighbours. Parameters are float32; products run in `dtype`.

Paths: `stem`, `res2/block_0/conv1`, …, `res4/…` and `res5/…` (the names of Detectron), each
convolution with `kernel` [h, w, in, out] and the norm's `scale`, `bias`, `mean` and `variance`.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike
from jaxtyping import Float, Int

EPSILON = 1e-5  # of BatchNorm
PIXEL_SPREAD = 64.0  # standard deviation of 8-bit pixels, roughly
STRIDE = 16  # pixels of a picture to a cell of C4
# Blocks of res2 to res5, by the network's number of layers.
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
STAGES = ("res2", "res3", "res4")  # of the backbone
MAX_POOLS = ("torch", "caffe")
_AXES = ("NHWC", "HWIO", "NHWC")


@dataclasses.dataclass(frozen=True)
class ResNetSizes:
    """What tells one ResNet from another.

    Attributes:
      blocks: of res2, res3, res4 and res5, see `BLOCKS`.
      stem: channels of the first convolution.
      inner: channels within a block of res2; each stage has twice as many as the one before.
      outer: channels that res2 puts out, doubled in the same way.
      stride_in_1x1: a stage is narrowed by its first 1x1 convolution (Caffe, the published models)
        or by the 3x3 (torchvision).
      max_pool: "torch" (a border of one cell, rounded down) or "caffe" (no border, rounded up).
      dilated: res5 keeps its size, its 3x3 convolutions dilated by two; else it is halved.
      frozen_stages: lowest stages that do not train: 1 is the stem, 2 res2 as well, ..., 5 all.
      frozen_norm: whether the norms' scale and bias do not train either.
      dtype: of products.
      remat: whether the backward pass computes each block again, to save memory.
    """

    blocks: tuple[int, int, int, int] = BLOCKS[101]
    stem: int = 64
    inner: int = 64
    outer: int = 256
    stride_in_1x1: bool = True
    max_pool: str = "torch"
    dilated: bool = True
    frozen_stages: int = 2
    frozen_norm: bool = True
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    def __post_init__(self) -> None:
        if self.max_pool not in MAX_POOLS:
            raise ValueError(f"max_pool must be one of {MAX_POOLS}, found {self.max_pool!r}")
        if len(self.blocks) != 4:
            raise ValueError(f"blocks are those of res2 to res5, found {self.blocks}")

    @property
    def c4(self) -> int:
        """Channels of C4."""
        return self.outer * 4

    @property
    def c5(self) -> int:
        """Channels of C5, the width of a region's features."""
        return self.outer * 8


class ConvNorm(nn.Module):
    """A convolution without bias, and the fixed norm after it.

    Attributes:
      features: output channels.
      size: of the kernel.
      stride, dilation: see `nn.Conv`; the border is that of an output as large as the input.
      frozen_norm, dtype: see `ResNetSizes`.
      gain: initial scale of the norm.
      spread: initial standard deviation of the norm, of what the convolution is expected to give.
    """

    features: int
    size: int
    stride: int = 1
    dilation: int = 1
    frozen_norm: bool = True
    dtype: DTypeLike = jnp.float32
    gain: float = 1.0
    spread: float = 1.0

    @nn.compact
    def __call__(self, x: Float[Array, "N H W C"]) -> Float[Array, "N h w features"]:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        one = (self.features,)
        scale = self.param("scale", nn.initializers.constant(self.gain), one)
        bias = self.param("bias", nn.initializers.zeros, one)
        mean = lax.stop_gradient(self.param("mean", nn.initializers.zeros, one))
        variance = lax.stop_gradient(
            self.param("variance", nn.initializers.constant(self.spread**2), one)
        )
        if self.frozen_norm:
            scale, bias = lax.stop_gradient(scale), lax.stop_gradient(bias)
        # The norm is linear and does not change: the kernel takes its factor, no pass over x.
        factor = scale * lax.rsqrt(variance + EPSILON)
        border = self.dilation * (self.size // 2)
        y = lax.conv_general_dilated(
            x.astype(self.dtype),
            (kernel * factor).astype(self.dtype),
            window_strides=(self.stride, self.stride),
            padding=[(border, border)] * 2,
            rhs_dilation=(self.dilation, self.dilation),
            dimension_numbers=_AXES,
        )
        return y + (bias - mean * factor).astype(self.dtype)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution, added to the block's input.

    Attributes:
      sizes: of the network.
      inner, outer: channels within and at the end.
      stride, dilation: of the block.
    """

    sizes: ResNetSizes
    inner: int
    outer: int
    stride: int = 1
    dilation: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "N H W C"], extents: Int[Array, "N 2"] | None = None
    ) -> Float[Array, "N h w outer"]:
        """`extents`: rows and columns of x that are of the pictures, see `Backbone`."""

        def conv(name: str, features: int, size: int, **options: Any) -> ConvNorm:
            sizes = self.sizes
            return ConvNorm(
                features, size, frozen_norm=sizes.frozen_norm, dtype=sizes.dtype, name=name,
                **options,
            )  # fmt: skip

        first, second = (self.stride, 1) if self.sizes.stride_in_1x1 else (1, self.stride)
        y = nn.relu(conv("conv1", self.inner, 1, stride=first)(x))
        y = blanked(y, extents if first == 1 else halved(extents))
        y = nn.relu(conv("conv2", self.inner, 3, stride=second, dilation=self.dilation)(y))
        # From scratch a block starts as the identity where its norms train: fixed statistics do
        # not keep the sum of many blocks from growing.
        y = conv("conv3", self.outer, 1, gain=1.0 if self.sizes.frozen_norm else 0.0)(y)
        if self.stride != 1 or x.shape[-1] != self.outer:
            x = conv("shortcut", self.outer, 1, stride=self.stride)(x)
        return nn.relu(y + x)


class Stage(nn.Module):
    """The blocks of a stage.

    Attributes:
      sizes: of the network.
      number: 2 to 5.
      stride: of its first block.
      dilation: of all its 3x3 convolutions.
    """

    sizes: ResNetSizes
    number: int
    stride: int = 1
    dilation: int = 1

    def setup(self) -> None:
        wider = 2 ** (self.number - 2)
        # Block by block: what the backward pass keeps of a stage is each block's input.
        block = nn.remat(Bottleneck) if self.sizes.remat else Bottleneck
        self.block = [
            block(
                self.sizes,
                self.sizes.inner * wider,
                self.sizes.outer * wider,
                self.stride if i == 0 else 1,
                self.dilation,
            )
            for i in range(self.sizes.blocks[self.number - 2])
        ]

    def __call__(
        self, x: Float[Array, "N H W C"], extents: Int[Array, "N 2"] | None = None
    ) -> Float[Array, "N h w outer"]:
        """`extents`: rows and columns of x that are of the pictures, see `Backbone`."""
        for number, block in enumerate(self.block):
            x = block(x, extents)
            if number == 0 and self.stride == 2:
                extents = halved(extents)
        return x


def halved(extents: Int[Array, "N 2"] | None) -> Int[Array, "N 2"] | None:
    """Cells along each side after a step of two, rounded up."""
    return None if extents is None else (extents + 1) // 2


def blanked(
    x: Float[Array, "N H W C"], extents: Int[Array, "N 2"] | None
) -> Float[Array, "N H W C"]:
    """Zero beyond so many rows and columns of each map, as a convolution's border is."""
    if extents is None:
        return x
    rows = jnp.arange(x.shape[1]) < extents[:, :1]
    columns = jnp.arange(x.shape[2]) < extents[:, 1:]
    return jnp.where((rows[:, :, None] & columns[:, None])[..., None], x, 0)


def max_pool(x: Float[Array, "N H W C"], kind: str) -> Float[Array, "N h w C"]:
    """3x3 windows two cells apart: see `ResNetSizes.max_pool`.

    The side n becomes (n + 1) // 2 ("torch") or max(1, n // 2) ("caffe": (n - 3) / 2 rounded up,
    and one).
    """

    def border(n: int) -> tuple[int, int]:
        return (1, 1) if kind == "torch" else (0, 2 * max(1, n // 2) + 1 - n)

    return nn.max_pool(x, (3, 3), (2, 2), padding=(border(x.shape[1]), border(x.shape[2])))


def pooled_extents(extents: Int[Array, "N 2"] | None, kind: str) -> Int[Array, "N 2"] | None:
    """Cells along each side after `max_pool`."""
    if kind == "torch" or extents is None:
        return halved(extents)
    return jnp.maximum(1, extents // 2)


def c4_extents(extents: Int[Array, "N 2"] | None, kind: str) -> Int[Array, "N 2"] | None:
    """Cells of C4 along each side, of pictures of these heights and widths."""
    return halved(halved(pooled_extents(halved(extents), kind)))


class Backbone(nn.Module):
    """A picture's C4: stem and res2 to res4.

    Attributes:
      sizes: of the network.
    """

    sizes: ResNetSizes

    def setup(self) -> None:
        sizes = self.sizes
        self.stem = ConvNorm(
            sizes.stem,
            7,
            2,
            frozen_norm=sizes.frozen_norm,
            dtype=sizes.dtype,
            spread=PIXEL_SPREAD,
        )
        self.res2 = Stage(sizes, 2)
        self.res3 = Stage(sizes, 3, stride=2)
        self.res4 = Stage(sizes, 4, stride=2)

    def __call__(
        self, images: Float[Array, "N H W 3"], extents: Int[Array, "N 2"] | None = None
    ) -> Float[Array, "N h w C4"]:
        """C4 of a batch.

        Args:
          images: BGR minus mean, in the published models.
          extents: height and width of pictures that are padded on the right and below: C4 is then
            what each has by itself, and zero beyond. None: the padding is a part of the picture, as
            in the published models' batches, where it reaches into the cells along the border.
        """
        frozen = self.sizes.frozen_stages
        extents = halved(extents)
        x = blanked(nn.relu(self.stem(images)), extents)
        x = max_pool(x, self.sizes.max_pool)
        extents = pooled_extents(extents, self.sizes.max_pool)
        for number, stage in enumerate((self.res2, self.res3, self.res4), start=1):
            # Nothing below needs a gradient: the backward pass ends here.
            x = stage(lax.stop_gradient(x) if number == frozen else x, extents)
            extents = halved(extents) if number > 1 else extents
        x = blanked(x, extents)
        return lax.stop_gradient(x) if frozen > len(STAGES) else x


class RegionHead(nn.Module):
    """A region's C5, from its cells of C4.

    Attributes:
      sizes: of the network.
    """

    sizes: ResNetSizes

    def setup(self) -> None:
        dilated = self.sizes.dilated
        self.res5 = Stage(self.sizes, 5, 1 if dilated else 2, 2 if dilated else 1)

    def __call__(self, cells: Float[Array, "N H W C4"]) -> Float[Array, "N h w C5"]:
        """h, w: H and W where the stage is dilated, else half of them, rounded up."""
        x = self.res5(cells)
        return lax.stop_gradient(x) if self.sizes.frozen_stages > len(STAGES) + 1 else x


def fixed(sizes: ResNetSizes, backbone: str, head: str) -> tuple[str, ...]:
    """Regexes of the parameters that must not train, not even decay.

    Args:
      sizes: of the network.
      backbone, head: paths of the two modules.
    """
    arrays = "scale|bias|mean|variance" if sizes.frozen_norm else "mean|variance"
    parts = [*(f"{backbone}/{stage}" for stage in ("stem", *STAGES)), head]
    return (
        *(f"{part}/.*" for part in parts[: sizes.frozen_stages]),
        f"({backbone}|{head})/.*/({arrays})",
    )
