"""VL-BERT (Su et al., ICLR 2020): one BERT over words and image regions.

A row of the sequence is `text | regions | [END]`, packed without gaps. Every word carries the
whole image (or the region it refers to) as its visual embedding; every region carries its own.
"""

from collections.abc import Collection, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int, Shaped
from ml_collections import ConfigDict

from core.checks import Check, flag, number, one_of, whole
from vl_models import embeddings, layers
from vl_models.dropout import Dropout
from vl_models.trunk import TrunkSpec, check_capture, run_layers
from vl_models.vision import regions, resnet

REGION_SEGMENT = 2  # segments 0 and 1 are BERT's A and B

CHECKS = dict(
    text_visual_gain=number(),
    region_visual_gain=number(),
    geometry_dim=Check("a multiple of 8", lambda value: whole(8).holds(value) and value % 8 == 0),
    pooler=flag(),
    region_feature_gain=number(0),
    **{f"geometry.{name}": one for name, one in embeddings.GEOMETRY.items()},
    features=one_of(*regions.SOURCES),
    **{f"vision.{name}": one for name, one in regions.CHECKS.items()},
)

# Fields that configs of earlier versions lack, as these had them: the published values.
LATER = dict(
    geometry=dict(offset=(0.0, 0.0), scale=(100.0, 100.0), base=1000.0),
    region_feature_gain=1.0,
    features="store",
    vision=regions.PUBLISHED,
)


def build(model: ConfigDict, spec: TrunkSpec) -> "VLBert":
    """The trunk of a config (`config.model`)."""
    vision = None
    if model.features == "pixels":
        vision = regions.sizes_of(model.vision, spec.dtype)
    return VLBert(
        sizes=spec.layer_sizes(model, model),
        num_layers=model.layers,
        vocab_size=spec.vocab_size,
        positions=model.positions,
        feature_dim=vision.c5 if vision else spec.feature_dim,
        geometry_dim=model.geometry_dim,
        text_visual_gain=model.text_visual_gain,
        region_visual_gain=model.region_visual_gain,
        with_pooler=model.pooler,
        geometry=embeddings.Geometry.of(model.geometry),
        region_feature_gain=model.region_feature_gain,
        text_only=spec.text_only,
        masked_regions=spec.masked_regions,
        vision_sizes=vision,
    )


class TextTables(nn.Module):
    """The embedding tables and learned vectors of the input."""

    sizes: layers.LayerSizes
    vocab_size: int
    positions: int
    text_visual_gain: float
    region_visual_gain: float
    text_only: bool
    masked_regions: bool

    def setup(self) -> None:
        init = nn.initializers.normal(self.sizes.init_range)
        hidden = self.sizes.hidden

        def table(rows: int) -> nn.Embed:
            return nn.Embed(rows, hidden, embedding_init=init)

        self.word = embeddings.WordTable(self.sizes, self.vocab_size)
        self.position = table(self.positions)
        self.segment = table(3)
        self.image_token = self.param("image_token", init, (hidden,))
        if self.masked_regions:
            self.mask_token = self.param("mask_token", init, (hidden,))
        self.end_token = self.param("end_token", init, (hidden,))
        if self.text_only:
            self.text_visual = self.param("text_visual", init, (hidden,))
        self.text_visual_norm = layers.layer_norm(gain=self.text_visual_gain)
        self.region_visual_norm = layers.layer_norm(gain=self.region_visual_gain)
        self.norm = layers.layer_norm()


class VLBert(nn.Module):
    """The trunk. See `build` for the attributes; fills text, regions, pooled, word_embedding.

    Attributes:
      vision_sizes: of the network that makes the features of regions out of pictures; None: they
        come with the batch.
    """

    sizes: layers.LayerSizes
    num_layers: int
    vocab_size: int
    positions: int
    feature_dim: int
    geometry_dim: int
    text_visual_gain: float
    region_visual_gain: float
    with_pooler: bool
    text_only: bool
    masked_regions: bool
    geometry: embeddings.Geometry = embeddings.VLBERT
    region_feature_gain: float = 1.0
    vision_sizes: resnet.ResNetSizes | None = None

    packs = True  # whether rows are text | regions | [END] without gaps
    grounds_words = True  # token_region
    image_margin = 1  # "image as a box" (released code)

    @property
    def fixed(self) -> tuple[str, ...]:
        """Regexes of the parameters of convolutions that must not train, not even decay."""
        if self.vision_sizes is None:
            return ()
        return resnet.fixed(self.vision_sizes, *regions.MODULES)

    @property
    def pooled_width(self) -> int:
        """Width of the pooled state."""
        return self.sizes.hidden

    @property
    def region_sizes(self) -> layers.LayerSizes:
        """Of the region states: one stream has one width."""
        return self.sizes

    def setup(self) -> None:
        self.embeddings = TextTables(
            self.sizes,
            self.vocab_size,
            self.positions,
            self.text_visual_gain,
            self.region_visual_gain,
            self.text_only,
            self.masked_regions,
        )
        self.regions = embeddings.RegionEmbedding(
            self.sizes,
            self.feature_dim,
            self.geometry_dim,
            self.geometry,
            self.region_feature_gain,
        )
        self.layer = [layers.Layer(self.sizes) for _ in range(self.num_layers)]
        if self.with_pooler:
            self.pooler = layers.Pooler(self.sizes)
        self.embedding_dropout = Dropout(self.sizes.dropout)
        if self.vision_sizes is not None:
            self.vision = regions.RegionVision(self.vision_sizes)

    def __call__(
        self,
        batch: Mapping[str, Array],
        *,
        train: bool,
        max_length: int | None = None,
        pairs: layers.Pairs = layers.FIRST_PAIR,
        capture: Collection[str] = (),
        pooled_only: bool = False,
    ) -> dict[str, Any]:
        """Runs the trunk on B·P rows (N).

        Args:
          batch: stream batch (see input_pipeline.schema); without regions its rows are text only.
          train: whether dropout is on.
          max_length: most text tokens + regions of a row of `batch`, at least T; L is one more,
            for [END]. None: T + R.
          pairs: static ((text index, image index), …) of each example.
          capture: what to return beside: "attention", "hidden".
          pooled_only: only the pooled state is wanted: the last layer leaves all but the first
            position out, and there is no text and regions.

        Returns:
          dict: text [N, T, D]; regions [N, R, D], zero at padded rows (not for text-only rows);
          lower_text, lower_regions: the same after the first layer; from pictures,
          region_features [B, M, R, F];
          word_embedding [V, D]; pooled [N, D] with the pooler; attention: tuple of
          [N, heads, L, L] and hidden: tuple of [N, L, D] by capture, in packed positions.

        Raises:
          ValueError: unknown capture name.
        """
        check_capture(capture)
        if self.vision_sizes is not None and "boxes" in batch:
            batch = self._seen(batch)
        rows = layers.expand_pairs(batch, pairs)
        text_mask = rows["text_mask"]
        text_length = text_mask.sum(-1, dtype=jnp.int32)
        if "regions" in rows:
            region_length = rows["region_mask"].sum(-1, dtype=jnp.int32)
            x, index = self._embed_pair(rows, text_length, max_length, train)
        else:
            region_length = jnp.zeros_like(text_length)
            x, index = self._embed_text(rows)
        x, mask = self._finish_embedding(x, index, rows, text_length, region_length, train)
        x, seen = run_layers(self.layer, x, mask, train=train, first_only=pooled_only)
        out = {"word_embedding": self.embeddings.word.embedding}
        if not pooled_only:
            out["text"] = x[:, : text_mask.shape[1]]
        if "regions" in rows and not pooled_only:
            slots = jnp.arange(rows["region_mask"].shape[1])
            index = jnp.minimum(text_length[:, None] + slots, x.shape[1] - 1)
            states, lower = layers.gather_rows(x, index), seen["hidden"][1]
            out["regions"] = jnp.where(rows["region_mask"][..., None], states, 0)
            out["lower_text"] = lower[:, : text_mask.shape[1]]
            out["lower_regions"] = layers.gather_rows(lower, index)
        if self.with_pooler:
            out["pooled"] = self.pooler(x)
        if self.vision_sizes is not None and "regions" in batch:
            out["region_features"] = batch["regions"]
        return out | {name: seen[name] for name in capture}

    def _seen(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """The batch with `regions` made of its pictures, once per picture and not per pair."""
        if "images" not in batch:
            raise ValueError("features='pixels' needs a batch with images")
        rows = layers.flatten_entries(batch, ("images", "region_instance_mask", *layers.BY_IMAGE))
        seen = self.vision(
            rows["images"],
            rows["boxes"],
            rows["image_size"],
            rows.get("region_masked"),
            rows.get("region_instance_mask"),
        )
        return {**batch, "regions": seen.reshape(*batch["boxes"].shape[:3], -1)}

    def _embed_pair(
        self,
        rows: Mapping[str, Array],
        text_length: Int[Array, " N"],
        max_length: int | None,
        train: bool,
    ) -> tuple[Float[Array, "N L D"], Int[Array, "1 L"]]:
        """Token + visual embedding of text and regions, packed, and the slot index."""
        tables = self.embeddings
        region_masked = rows.get("region_masked")
        states = self.regions(
            rows["regions"],
            rows["boxes"],
            rows["image_size"],
            rows["region_mask"],
            # What is hidden is missing from the picture already.
            region_masked if self.vision_sizes is None else None,
            train=train,
        )
        if "token_region" in rows:
            grounding = layers.gather_rows(states, rows["token_region"])
        else:
            grounding = states[:, :1]
        text = tables.word(rows["text_ids"]) + tables.text_visual_norm(grounding)
        token = tables.image_token
        if region_masked is not None:
            token = jnp.where(region_masked[..., None], tables.mask_token, token)
        regions = token + tables.region_visual_norm(states)

        length = text.shape[1] + regions.shape[1] + 1
        if max_length is not None:
            length = min(length, max_length + 1)
        index = jnp.arange(length)[None]
        text = _fit(text, length)
        shifted = jnp.clip(index - text_length[:, None], 0, regions.shape[1] - 1)
        x = jnp.where(
            (index < text_length[:, None])[..., None], text, layers.gather_rows(regions, shifted)
        )
        return x, index

    def _embed_text(
        self, rows: Mapping[str, Array]
    ) -> tuple[Float[Array, "N L D"], Int[Array, "1 L"]]:
        """The same for rows without an image: their visual embedding is one learned vector."""
        if not self.text_only:
            raise ValueError("a batch without regions needs a trunk built with text_only=True")
        tables = self.embeddings
        text = tables.word(rows["text_ids"]) + tables.text_visual_norm(tables.text_visual)
        length = text.shape[1] + 1
        return _fit(text, length), jnp.arange(length)[None]

    def _finish_embedding(
        self,
        x: Float[Array, "N L D"],
        index: Int[Array, "1 L"],
        rows: Mapping[str, Array],
        text_length: Int[Array, " N"],
        region_length: Int[Array, " N"],
        train: bool,
    ) -> tuple[Float[Array, "N L D"], Bool[Array, "N L"]]:
        """Adds [END], positions and segments, then norm and dropout; also the packed mask."""
        tables = self.embeddings
        text_length, end = text_length[:, None], (text_length + region_length)[:, None]
        in_text, is_end = index < text_length, index == end
        # All regions share the position after the text; [END] has the one after that.
        position = jnp.where(in_text, index, jnp.where(is_end, text_length + 1, text_length))
        segment = jnp.where(in_text, _fit(rows["segment_ids"], x.shape[1]), REGION_SEGMENT)
        # [END] has no visual embedding (released code; the paper's figure shows one).
        x = jnp.where(is_end[..., None], tables.end_token, x)
        x = tables.norm(x + tables.position(position) + tables.segment(segment))
        x = self.embedding_dropout(x, train=train)
        return x.astype(self.sizes.dtype), index <= end


def _fit(x: Shaped[Array, "N T *rest"], length: int) -> Shaped[Array, "N {length} *rest"]:
    """Cuts or zero-pads axis 1 to `length`."""
    x = x[:, :length]
    return jnp.pad(x, [(0, 0), (0, length - x.shape[1])] + [(0, 0)] * (x.ndim - 2))
