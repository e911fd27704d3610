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


class RegionClassHead(nn.Module):
    """Class of a region: linear, GELU, linear, no norm (VL-BERT's masked RoI classification).

    Call: [N, R, D] states → [N, R, C] float32 logits.
    """

    sizes: layers.LayerSizes
    num_classes: int

    @nn.compact
    def __call__(self, states):
        x = layers.gelu(layers.dense(self.sizes.hidden, self.sizes, "transform")(states))
        return layers.dense(self.num_classes, self.sizes, "classifier")(x).astype(jnp.float32)


class AlignmentHead(nn.Module):
    """Does the text match the image? [N, D] pooled → [N, 2] float32 logits, 1 = match."""

    sizes: layers.LayerSizes

    @nn.compact
    def __call__(self, pooled):
        return layers.dense(2, self.sizes, "classifier")(pooled).astype(jnp.float32)
