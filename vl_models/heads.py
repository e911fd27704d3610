"""Heads on the trunk's states. One module each; an objective says which it uses."""

import flax.linen as nn
import jax.numpy as jnp

from vl_models import layers
from vl_models.dropout import Dropout


class MaskedLanguageHead(nn.Module):
    """BERT's masked-language head, decoder tied to the word table.

    Call: [N, G, D] states and [V, D] table → [N, G, V] float32 logits.
    """

    sizes: layers.LayerSizes

    @nn.compact
    def __call__(self, states, word_embedding, *, train: bool = False):
        del train  # no dropout
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
    """Linear, activation, optional norm, linear: [..., D] → [..., outputs] float32.

    VL-BERT's masked-region head (no norm) and answer heads, ViLBERT's masked-region and answer
    heads (norm).

    Attributes:
      sizes: of the stream it reads.
      outputs: classes, or the width of a regression.
      width: between the linear layers; None: D.
      norm: whether a norm stands before the last layer.
      activation: "gelu" or "relu".
      input_dropout: before the first layer.
      dropout: before the last layer.
    """

    sizes: layers.LayerSizes
    outputs: int
    width: int | None = None
    norm: bool = False
    activation: str = "gelu"
    input_dropout: float = 0.0
    dropout: float = 0.0

    @nn.compact
    def __call__(self, states, *, train: bool = False):
        activation = {"gelu": layers.gelu, "relu": nn.relu}[self.activation]
        x = Dropout(self.input_dropout)(states, train=train)
        x = layers.dense(self.width or self.sizes.hidden, self.sizes, "transform")(x)
        x = activation(x)
        if self.norm:
            x = layers.layer_norm("norm")(x).astype(self.sizes.dtype)
        x = Dropout(self.dropout)(x, train=train)
        return layers.dense(self.outputs, self.sizes, "classifier")(x).astype(jnp.float32)


class WeightNormClassifier(nn.Module):
    """Two weight-normalised linear layers with ReLU between: [..., D] → [..., outputs] float32.

    The answer head of ViLBERT's first release and of its baseline: each kernel is g · v / ‖v‖ with
    one scalar g for the whole matrix; dropout 0.5 before the last layer in training.
    """

    sizes: layers.LayerSizes
    outputs: int
    width: int

    @nn.compact
    def __call__(self, states, *, train: bool = False):
        def linear(x, features, name):
            v = self.param(
                f"{name}_direction", nn.initializers.kaiming_uniform(), (x.shape[-1], features)
            )
            norm = jnp.linalg.norm(v)
            g = self.param(f"{name}_gain", lambda key: jnp.linalg.norm(v))
            bias = self.param(f"{name}_bias", nn.initializers.zeros, (features,))
            return x @ (g * v / norm).astype(self.sizes.dtype) + bias

        x = nn.relu(linear(states, self.width, "transform"))
        x = Dropout(0.5)(x, train=train)
        return linear(x, self.outputs, "classifier").astype(jnp.float32)


class Linear(nn.Module):
    """Dropout and one linear layer: [..., D] → [..., outputs] float32."""

    sizes: layers.LayerSizes
    outputs: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, states, *, train: bool = False):
        x = Dropout(self.dropout)(states, train=train)
        return layers.dense(self.outputs, self.sizes, "classifier")(x).astype(jnp.float32)
