"""Transformer layers of BERT (Devlin et al. 2019), shared by every trunk and head.

Post-LayerNorm, exact erf-GELU, LayerNorm epsilon 1e-12. Parameters, LayerNorm, softmax and the
residual sums before a norm are float32; matrix products run in `dtype`.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# Added to the attention scores of padded keys, as in the originals.
MASKED_SCORE = -10000.0


@dataclasses.dataclass(frozen=True)
class LayerSizes:
    """What one transformer layer needs to know.

    Attributes:
      hidden: D, width of the stream.
      heads: attention heads; D / heads is their width.
      intermediate: width of the feed-forward layer.
      dropout: rate at attention probabilities, attention output and feed-forward output.
      init_range: standard deviation of the normal initial values of kernels and tables.
      dtype: of matrix products.
    """

    hidden: int
    heads: int
    intermediate: int
    dropout: float = 0.0
    init_range: float = 0.02
    dtype: Any = jnp.float32


def dense(features: int, sizes: LayerSizes, name: str | None = None) -> nn.Dense:
    """A linear layer with BERT's initial values: normal kernel, zero bias."""
    return nn.Dense(
        features,
        dtype=sizes.dtype,
        kernel_init=nn.initializers.normal(sizes.init_range),
        name=name,
    )


def layer_norm(name: str | None = None, gain: float = 1.0) -> nn.LayerNorm:
    """LayerNorm in float32 whatever its input; `gain` is the initial scale."""
    # The one-pass variance of Flax's default loses digits that epsilon 1e-12 does not forgive.
    return nn.LayerNorm(
        epsilon=1e-12,
        dtype=jnp.float32,
        use_fast_variance=False,
        scale_init=nn.initializers.constant(gain),
        name=name,
    )


def gelu(x: jax.Array) -> jax.Array:
    """Exact GELU, x Φ(x)."""
    return jax.nn.gelu(x, approximate=False)


def gather_rows(x: jax.Array, index: jax.Array) -> jax.Array:
    """Rows x[n, index[n, g]]: [N, S, D] and int[N, G] → [N, G, D]."""
    return jnp.take_along_axis(x, index[..., None], axis=1)


class Attention(nn.Module):
    """Multi-head attention with its output projection, residual and norm.

    Queries come from `x`, keys and values from `context` (self-attention: the same array).
    """

    sizes: LayerSizes

    @nn.compact
    def __call__(self, x, context, context_mask, *, train: bool):
        """Args:
          x: [N, L, D] queries and residual.
          context: [N, S, D'] keys and values.
          context_mask: bool [N, S], True where a key may be seen.
          train: whether dropout is on.

        Returns:
          [N, L, D] and the attention probabilities [N, heads, L, S] before dropout.
        """
        sizes = self.sizes
        width = sizes.hidden // sizes.heads

        def split(name, states):
            projected = dense(sizes.hidden, sizes, name)(states)
            return projected.reshape(*states.shape[:2], sizes.heads, width)

        query, key, value = split("query", x), split("key", context), split("value", context)
        scores = jnp.einsum("nlhd,nshd->nhls", query, key, preferred_element_type=jnp.float32)
        bias = jnp.where(context_mask, 0.0, MASKED_SCORE)[:, None, None, :]
        probs = jax.nn.softmax(scores / width**0.5 + bias, axis=-1)
        dropped = nn.Dropout(sizes.dropout, deterministic=not train)(probs).astype(sizes.dtype)
        mixed = jnp.einsum("nhls,nshd->nlhd", dropped, value).reshape(*x.shape[:2], sizes.hidden)
        out = dense(sizes.hidden, sizes, "output")(mixed)
        out = nn.Dropout(sizes.dropout, deterministic=not train)(out)
        return layer_norm("norm")(out.astype(jnp.float32) + x).astype(sizes.dtype), probs


class FeedForward(nn.Module):
    """Two linear layers with GELU between, residual and norm: [N, L, D] → [N, L, D]."""

    sizes: LayerSizes

    @nn.compact
    def __call__(self, x, *, train: bool):
        sizes = self.sizes
        inner = gelu(dense(sizes.intermediate, sizes, "intermediate")(x))
        out = dense(sizes.hidden, sizes, "output")(inner)
        out = nn.Dropout(sizes.dropout, deterministic=not train)(out)
        return layer_norm("norm")(out.astype(jnp.float32) + x).astype(sizes.dtype)


class Layer(nn.Module):
    """One BERT layer: self-attention, then feed-forward. Returns states and probabilities."""

    sizes: LayerSizes

    @nn.compact
    def __call__(self, x, mask, *, train: bool):
        x, probs = Attention(self.sizes, name="attention")(x, x, mask, train=train)
        return FeedForward(self.sizes, name="mlp")(x, train=train), probs


class Pooler(nn.Module):
    """tanh(W h₀ + b) of the first position: [N, L, D] → [N, D] (BERT)."""

    sizes: LayerSizes

    @nn.compact
    def __call__(self, x):
        return jnp.tanh(dense(self.sizes.hidden, self.sizes, "dense")(x[:, 0]))
