"""Heads on the trunk's states. One module each; an objective says which it uses."""

import flax.linen as nn
import jax.numpy as jnp

from vl_models import layers


class MaskedLanguageHead(nn.Module):
    """BERT's masked-language head, decoder tied to the word table.

    Call: [N, G, D] states and [V, D] table → [N, G, V] float32 logits.
    """

    sizes: layers.LayerSizes

    @nn.compact
    def __call__(self, states, word_embedding):
        x = layers.gelu(layers.dense(self.sizes.hidden, self.sizes, "transform")(states))
        x = layers.layer_norm("norm")(x).astype(self.sizes.dtype)
        bias = self.param("bias", nn.initializers.zeros, (word_embedding.shape[0],))
        logits = jnp.einsum(
            "ngd,vd->ngv",
            x,
            word_embedding.astype(self.sizes.dtype),
            preferred_element_type=jnp.float32,
        )
        return logits + bias


class Classifier(nn.Module):
    """Linear, GELU, optional norm, linear: [..., D] → [..., outputs] float32.

    VL-BERT's masked-region head (no norm), ViLBERT's masked-region and answer heads (norm).

    Attributes:
      sizes: of the stream it reads.
      outputs: classes, or the width of a regression.
      width: between the linear layers; None: D.
      norm: whether a norm stands before the last layer.
    """

    sizes: layers.LayerSizes
    outputs: int
    width: int | None = None
    norm: bool = False

    @nn.compact
    def __call__(self, states):
        width = self.width or self.sizes.hidden
        x = layers.gelu(layers.dense(width, self.sizes, "transform")(states))
        if self.norm:
            x = layers.layer_norm("norm")(x).astype(self.sizes.dtype)
        return layers.dense(self.outputs, self.sizes, "classifier")(x).astype(jnp.float32)


class Linear(nn.Module):
    """One linear layer: [..., D] → [..., outputs] float32."""

    sizes: layers.LayerSizes
    outputs: int

    @nn.compact
    def __call__(self, states):
        return layers.dense(self.outputs, self.sizes, "classifier")(states).astype(jnp.float32)
