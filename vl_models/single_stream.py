"""The single-stream baseline of the ViLBERT paper: one BERT over text and regions side by side.

Unlike VL-BERT, text has no visual embedding, regions have no position, and nothing is packed.
"""

from collections.abc import Collection, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from vl_models import embeddings, layers, vilbert
from vl_models.trunk import TrunkSpec, check_capture, run_layers

CHECKS = {f"geometry.{name}": embeddings.GEOMETRY[name] for name in ("offset", "scale")}
LATER = vilbert.LATER


def build(model: ConfigDict, spec: TrunkSpec) -> "SingleStream":
    """The trunk of a config (`config.model`). A masked region is a zero feature.

    Raises:
      ValueError: text-only rows, which this model does not have.
    """
    if spec.text_only:
        raise ValueError("single_stream has no rows without an image: take the text stream out")
    return SingleStream(
        spec.layer_sizes(model, model),
        model.layers,
        spec.vocab_size,
        model.positions,
        embeddings.Geometry.of(model.geometry),
    )


class SingleStream(nn.Module):
    """The trunk; fills text, regions, pooled, word_embedding.

    Attributes:
      sizes: of all layers.
      num_layers: of them.
      vocab_size, positions: rows of the tables.
      geometry: how a box's numbers are spread.
    """

    sizes: layers.LayerSizes
    num_layers: int
    vocab_size: int
    positions: int
    geometry: embeddings.Geometry = embeddings.VILBERT

    packs = False  # whether rows are text | regions | [END] without gaps
    grounds_words = False
    image_margin = 0  # the box of the whole image is (0, 0, width, height)
    fixed = ()  # every parameter trains

    @property
    def pooled_width(self) -> int:
        """Width of the pooled state."""
        return self.sizes.hidden

    @property
    def region_sizes(self) -> layers.LayerSizes:
        """Of the region states: one stream has one width."""
        return self.sizes

    def setup(self) -> None:
        self.embeddings = embeddings.TextEmbedding(
            self.sizes, self.vocab_size, self.positions, padding_rows=True
        )
        self.regions = embeddings.LocatedRegions(self.sizes, segments=2, geometry=self.geometry)
        self.layer = [layers.Layer(self.sizes) for _ in range(self.num_layers)]
        self.pooler = layers.Pooler(self.sizes)

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
          batch: stream batch (see input_pipeline.schema).
          train: whether dropout is on.
          max_length: of no use here, text and regions keep their own places.
          pairs: static ((text index, image index), …) of each example.
          capture: "attention", "hidden".
          pooled_only: only the pooled state is wanted: the last layer leaves all but the first
            position out, and there is no text and regions.

        Returns:
          dict: text [N, T, D]; regions [N, R, D]; lower_text, lower_regions: the same after the
          first layer; pooled [N, D]; word_embedding [V, D]; attention and hidden by capture, over
          T + R positions.

        Raises:
          ValueError: unknown capture name.
        """
        del max_length
        check_capture(capture)
        rows = layers.expand_pairs(batch, pairs)
        text = self.embeddings(rows["text_ids"], rows["segment_ids"], train=train)
        x = jnp.concatenate([text, self.regions(rows, train=train)], axis=1)
        mask = jnp.concatenate([rows["text_mask"], rows["region_mask"]], axis=1)
        x, seen = run_layers(self.layer, x, mask, train=train, first_only=pooled_only)
        out = dict(pooled=self.pooler(x), word_embedding=self.embeddings.word.embedding)
        if not pooled_only:
            lower, width = seen["hidden"][1], text.shape[1]
            out |= dict(
                text=x[:, :width],
                regions=x[:, width:],
                lower_text=lower[:, :width],
                lower_regions=lower[:, width:],
            )
        return out | {name: seen[name] for name in capture}
