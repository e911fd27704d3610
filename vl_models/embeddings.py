"""How boxes and features become vectors: geometry and appearance embeddings."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float, Int, Key
from ml_collections import ConfigDict

from core.checks import each, number
from vl_models import operations
from vl_models.dropout import Dropout
from vl_models.layers import LayerSizes, dense, layer_norm


@dataclasses.dataclass(frozen=True)
class Geometry:
    """How the numbers of a box are centred and spread before they are embedded.

    Of VL-BERT the numbers are its centre and its sides, of ViLBERT its corners and its area, as
    shares of the image; each becomes (number - offset) * scale. The defaults of `vlbert` and
    `vilbert` are the published values, at which a small model hardly sees where a box is.

    Attributes:
      offset, scale: of (centres, sides), or of (corners, area).
      base: VL-BERT's wavelengths are base^(i / n), i < n.
    """

    offset: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)
    base: float = 1000.0

    @classmethod
    def of(cls, block: ConfigDict | Mapping[str, Any]) -> "Geometry":
        """Of `config.model.geometry`."""
        return cls(tuple(block["offset"]), tuple(block["scale"]), block.get("base", cls.base))

    def spread(self, numbers: list[Float[Array, "N R"]], first: int) -> Float[Array, "N R n"]:
        """The numbers side by side, the `first` ones by offset[0] and scale[0]."""
        rest = len(numbers) - first
        offset = jnp.array((self.offset[0],) * first + (self.offset[1],) * rest)
        scale = jnp.array((self.scale[0],) * first + (self.scale[1],) * rest)
        return (jnp.stack(numbers, axis=-1) - offset) * scale


VLBERT = Geometry(scale=(100.0, 100.0))  # percent (released code)
VILBERT = Geometry()

GEOMETRY = dict(
    offset=each(number(), lengths=(2,)),
    scale=each(number(), lengths=(2,)),
    base=number(above=1),
)


def geometry_embedding(
    boxes: Float[Array, "N R 4"],
    image_size: Float[Array, "N 2"],
    width: int,
    geometry: Geometry = VLBERT,
) -> Float[Array, "N R width"]:
    """Sines and cosines of box centre and size (VL-BERT, released code).

    Args:
      boxes: xyxy in pixels.
      image_size: (height, width) in pixels.
      width: of the embedding, a multiple of 8; the original's is 2048 (256 wavelengths).
      geometry: how the numbers are spread, and the base; the original's: percent, 1000.

    Returns:
      float32: for each of centre x, centre y, width, height as shares p of the image,
      all sines, then all cosines, of (p - offset) * scale / base^(i / (width / 8)).
    """
    count = width // 8
    x1, y1, x2, y2 = jnp.moveaxis(boxes.astype(jnp.float32), -1, 0)
    h, w = (image_size[:, i, None].astype(jnp.float32) for i in (0, 1))
    numbers = [(x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h]
    wavelengths = geometry.base ** (jnp.arange(count, dtype=jnp.float32) / count)
    angles = geometry.spread(numbers, 2)[..., None] / wavelengths
    waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return waves.reshape(*boxes.shape[:-1], width)


def torch_linear_init(
    key: Key[Array, ""], shape: tuple[int, int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "width_in width_out"]:
    """PyTorch's default for Linear: U(-1/√fan_in, 1/√fan_in), for kernels [in, out]."""
    limit = shape[0] ** -0.5
    return jax.random.uniform(key, shape, dtype, -limit, limit)


class RegionEmbedding(nn.Module):
    """Appearance and geometry of a region → D (VL-BERT, "visual feature embedding").

    Attributes:
      sizes: of the trunk.
      feature_dim: F, width of the appearance features.
      geometry_dim: width of the geometry embedding.
      geometry: how a box's numbers are spread.
      feature_gain: factor of the initial kernel's rows that read the features (original: 1).
    """

    sizes: LayerSizes
    feature_dim: int
    geometry_dim: int
    geometry: Geometry = VLBERT
    feature_gain: float = 1.0

    @nn.compact
    def __call__(
        self,
        regions: Float[Array, "N R F"],
        boxes: Float[Array, "N R 4"],
        image_size: Float[Array, "N 2"],
        region_mask: Bool[Array, "N R"],
        region_masked: Bool[Array, "N R"] | None,
        *,
        train: bool,
    ) -> Float[Array, "N R D"]:
        """Args:
          regions: appearance features.
          boxes: xyxy in pixels.
          image_size: (height, width) in pixels.
          region_mask: True at real regions.
          region_masked: regions whose appearance is hidden.
          train: whether dropout is on.

        Returns:
          States, zero at padded rows.
        """
        sizes = self.sizes
        appearance = regions.astype(sizes.dtype)
        if region_masked is not None:
            # The mask vector starts at zero and is trained, as in the original.
            hidden = self.param("mask", nn.initializers.zeros, (self.feature_dim,))
            appearance = jnp.where(region_masked[..., None], hidden.astype(sizes.dtype), appearance)
        geometry = geometry_embedding(boxes, image_size, self.geometry_dim, self.geometry)
        x = jnp.concatenate([geometry.astype(sizes.dtype), appearance], axis=-1)
        x = Dropout(sizes.dropout)(x, train=train)
        limit = x.shape[-1] ** -0.5
        x = nn.Dense(
            sizes.hidden,
            dtype=sizes.dtype,
            kernel_init=self._kernel,
            bias_init=lambda key, shape, dtype: jax.random.uniform(
                key, shape, dtype, -limit, limit
            ),
            name="projection",
        )(x)
        return jnp.where(region_mask[..., None], nn.relu(x), 0)

    def _kernel(
        self, key: Key[Array, ""], shape: tuple[int, int], dtype: DTypeLike
    ) -> Float[Array, "width_in width_out"]:
        kernel = torch_linear_init(key, shape, dtype)
        if self.feature_gain == 1:
            return kernel
        return kernel.at[self.geometry_dim :].multiply(self.feature_gain)


def location(
    boxes: Float[Array, "N R 4"], image_size: Float[Array, "N 2"], geometry: Geometry = VILBERT
) -> Float[Array, "N R 5"]:
    """ViLBERT's five numbers of a box: corners and area as shares of the image.

    Args:
      boxes: xyxy in pixels.
      image_size: (height, width) in pixels.
      geometry: how they are spread; the original's: not at all.

    Returns:
      float32: x1/w, y1/h, x2/w, y2/h, area/(w·h).
    """
    x1, y1, x2, y2 = jnp.moveaxis(boxes.astype(jnp.float32), -1, 0)
    h, w = (image_size[:, i, None].astype(jnp.float32) for i in (0, 1))
    area = (x2 - x1) * (y2 - y1) / (w * h)
    return geometry.spread([x1 / w, y1 / h, x2 / w, y2 / h, area], 4)


class LocatedRegions(nn.Module):
    """Appearance and location of a region → D, each through a linear layer (ViLBERT §3.1).

    Hidden regions have their features set to zero; their location stays.
    """

    sizes: LayerSizes
    segments: int = 0
    geometry: Geometry = VILBERT

    @nn.compact
    def __call__(self, rows: Mapping[str, Array], *, train: bool) -> Float[Array, "N R D"]:
        """Args: rows: the image keys of a batch, [N, R, …]; train: whether dropout is on."""
        sizes, regions = self.sizes, rows["regions"].astype(self.sizes.dtype)
        if rows.get("region_masked") is not None:
            regions = jnp.where(rows["region_masked"][..., None], 0, regions)
        x = dense(sizes.hidden, sizes, "projection")(regions).astype(jnp.float32)
        place = location(rows["boxes"], rows["image_size"], self.geometry)
        x = x + dense(sizes.hidden, sizes, "location")(place)
        if self.segments:  # the single-stream model tells regions from text by segment 1
            init = nn.initializers.normal(sizes.init_range)
            x = x + self.param("segment", init, (self.segments, sizes.hidden))[1]
        x = layer_norm("norm")(x)
        x = Dropout(sizes.dropout)(x, train=train)
        return x.astype(sizes.dtype)


def _still_at_zero(
    looked_up: Float[Array, "*rows D"], ids: Int[Array, "*rows"]
) -> Float[Array, "*rows D"]:
    """No gradient where the id is 0."""
    return jnp.where((ids == 0)[..., None], jax.lax.stop_gradient(looked_up), looked_up)


class WordTable(nn.Module):
    """Word vectors, looked up in the type of matrix products, in which decoders read them, too.

    Attributes:
      sizes: of the stream of texts.
      vocab_size: V.
    """

    sizes: LayerSizes
    vocab_size: int

    def setup(self) -> None:
        init = nn.initializers.normal(self.sizes.init_range)
        self.embedding = self.param("embedding", init, (self.vocab_size, self.sizes.hidden))

    def __call__(self, ids: Int[Array, "*any"]) -> Float[Array, "*any D"]:
        """Rows as float32; NaN where there is no such id."""
        return operations.look_up(self.embedding, ids, self.sizes.dtype)


class TextEmbedding(nn.Module):
    """BERT's: word + position + segment, norm, dropout.

    Attributes:
      sizes: of the text stream.
      vocab_size, positions, segments: rows of the tables.
      tasks: rows of the task table (12-in-1's task tokens), 0 = none.
      padding_rows: position 0 and segment 0 learn nothing either (the paper's baseline).
    """

    sizes: LayerSizes
    vocab_size: int
    positions: int
    segments: int = 2
    tasks: int = 0
    padding_rows: bool = False

    def setup(self) -> None:
        init = nn.initializers.normal(self.sizes.init_range)

        def table(rows: int) -> nn.Embed:
            return nn.Embed(rows, self.sizes.hidden, embedding_init=init)

        self.word = WordTable(self.sizes, self.vocab_size)
        self.position = table(self.positions)
        self.segment = table(self.segments)
        if self.tasks:
            self.task = table(self.tasks)
        self.norm = layer_norm()
        self.dropout = Dropout(self.sizes.dropout)

    def __call__(
        self,
        text_ids: Int[Array, "N T"],
        segment_ids: Int[Array, "N T"],
        task_id: Int[Array, " N"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "N L D"]:
        """Embeds tokens: L = T, or with task ids T + 1, the task's row at 1.

        The task's row has neither position nor segment; the other tokens keep theirs.
        """
        places = jnp.arange(text_ids.shape[1])
        # ViLBERT's word table has a padding row, 0, that learns nothing from being looked up.
        word = _still_at_zero(self.word(text_ids), text_ids)
        position, segment = self.position(places), self.segment(segment_ids)
        if self.padding_rows:
            position = _still_at_zero(position, places)
            segment = _still_at_zero(segment, segment_ids)
        x = word + position + segment
        if self.tasks:
            x = jnp.concatenate([x[:, :1], self.task(task_id)[:, None], x[:, 1:]], axis=1)
        x = self.dropout(self.norm(x), train=train)
        return x.astype(self.sizes.dtype)
