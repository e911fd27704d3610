"""Transformer layers of BERT (Devlin et al. 2019), shared by every trunk and head.

Post-LayerNorm, exact erf-GELU, LayerNorm epsilon 1e-12. Parameters, LayerNorm, softmax and the
residual sums before a norm are float32; matrix products run in `dtype`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float, Int, Shaped

from vl_models import operations
from vl_models.dropout import Dropout

# What the backward pass finds kept of a layer, by `config.remat`; the rest is computed again there.
REMAT = {
    "none": None,  # all activations
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # products with parameters
    "full": jax.checkpoint_policies.nothing_saveable,  # its input alone
}

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
      remat: key of REMAT.
    """

    hidden: int
    heads: int
    intermediate: int
    dropout: float = 0.0
    init_range: float = 0.02
    dtype: DTypeLike = jnp.float32
    remat: str = "none"

    def __post_init__(self) -> None:
        if self.remat not in REMAT:
            raise ValueError(f"config.remat must be one of {sorted(REMAT)}, found {self.remat!r}")


def rematerialised(run: Callable[..., Any], policy: str) -> Callable[..., Any]:
    """`run(module, *arrays)` whose activations the backward pass computes again, by REMAT."""
    return run if policy == "none" else nn.remat(run, policy=REMAT[policy])


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


def gather_rows(x: Float[Array, "N S D"], index: Int[Array, "N G"]) -> Float[Array, "N G D"]:
    """Rows x[n, index[n, g]]."""
    return jnp.take_along_axis(x, index[..., None], axis=1)


# Static (text index k, image index m) of each pair of an example.
Pairs = tuple[tuple[int, int], ...]
FIRST_PAIR: Pairs = ((0, 0),)

# Keys of a stream batch that have one entry per text (axis K) and one per image (axis M).
BY_TEXT = ("text_ids", "text_mask", "segment_ids", "token_region")
BY_IMAGE = ("regions", "boxes", "image_size", "region_mask", "region_masked")


def flatten_entries(batch: Mapping[str, Array], keys: Sequence[str]) -> dict[str, Array]:
    """[B, K or M, …] → [B·K or B·M, …] for the given keys that the batch has."""
    return {k: batch[k].reshape(-1, *batch[k].shape[2:]) for k in keys if k in batch}


def pick_entries(
    x: Shaped[Array, "rows ..."], index: Sequence[int], entries: int
) -> Shaped[Array, "pairs ..."]:
    """Rows of pairs: [B·entries, …] → [B·P, …] with entry index[p] of each example."""
    if tuple(index) == tuple(range(entries)):
        return x
    x = x.reshape(-1, entries, *x.shape[1:])[:, jnp.array(index)]
    return x.reshape(-1, *x.shape[2:])


def expand_pairs(batch: Mapping[str, Array], pairs: Pairs) -> dict[str, Array]:
    """Rows of (text, image) pairs: [B, K, …] and [B, M, …] → {key: [B·P, …]}.

    Args:
      batch: stream batch.
      pairs: static ((text index k, image index m), …).
    """
    texts, images = zip(*pairs, strict=True)
    out = {}
    for keys, index in ((BY_TEXT, texts), (BY_IMAGE, images)):
        for key, rows in flatten_entries(batch, keys).items():
            out[key] = pick_entries(rows, index, batch[key].shape[1])
    return out


def attend(
    query: Float[Array, "N L heads width"],
    key: Float[Array, "N S heads width"],
    value: Float[Array, "N S heads width"],
    mask: Bool[Array, "N S"],
    drop: Callable[[Array], Array],
) -> tuple[Float[Array, "N L heads width"], Float[Array, "N heads L S"]]:
    """Scaled dot-product attention; scores and probabilities are float32.

    Args:
      query, key, value: of each head.
      mask: True where a key may be seen.
      drop: dropout of the probabilities.

    Returns:
      Mixed values, and the probabilities before dropout.
    """
    scores = operations.product("nlhd,nshd->nhls", query, key)
    bias = jnp.where(mask, 0.0, MASKED_SCORE)[:, None, None, :]
    probs = jax.nn.softmax(scores / query.shape[-1] ** 0.5 + bias, axis=-1)
    return jnp.einsum("nhls,nshd->nlhd", drop(probs).astype(value.dtype), value), probs


class Attention(nn.Module):
    """Multi-head attention with its output projection, residual and norm.

    Queries come from `x`, keys and values from `context` (self-attention: the same array).

    Attributes:
      sizes: of the stream of `x`; its heads share `inner`.
      inner: width of queries, keys and values together; None: D.
    """

    sizes: LayerSizes
    inner: int | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "N L D"],
        context: Float[Array, "N S Dc"],
        context_mask: Bool[Array, "N S"],
        *,
        train: bool,
        gate_by: Float[Array, "N Dg"] | None = None,
    ) -> tuple[Float[Array, "N L D"], Float[Array, "N heads L S"]]:
        """Args:
          x: queries and residual.
          context: keys and values.
          context_mask: True where a key may be seen.
          train: whether dropout is on.
          gate_by: where given, scales queries and keys by 1 + sigmoid of a linear map of it
            (12-in-1's dynamic attention).

        Returns:
          States and the attention probabilities before dropout.
        """
        sizes = self.sizes
        inner = self.inner or sizes.hidden
        width = inner // sizes.heads

        def split(name: str, states: Array) -> Array:
            projected = dense(inner, sizes, name)(states)
            if gate_by is not None and name != "value":
                gate = 1 + nn.sigmoid(dense(inner, sizes, f"{name}_gate")(gate_by))
                projected = projected * gate[:, None]
            return projected.reshape(*states.shape[:2], sizes.heads, width)

        query, key, value = split("query", x), split("key", context), split("value", context)
        drop = functools.partial(Dropout(sizes.dropout), train=train)
        mixed, probs = attend(query, key, value, context_mask, drop)
        out = dense(sizes.hidden, sizes, "output")(mixed.reshape(*x.shape[:2], inner))
        out = Dropout(sizes.dropout)(out, train=train)
        return layer_norm("norm")(out.astype(jnp.float32) + x).astype(sizes.dtype), probs


class FeedForward(nn.Module):
    """Two linear layers with GELU between, residual and norm."""

    sizes: LayerSizes

    @nn.compact
    def __call__(self, x: Float[Array, "N L D"], *, train: bool) -> Float[Array, "N L D"]:
        sizes = self.sizes
        inner = operations.gelu(dense(sizes.intermediate, sizes, "intermediate")(x))
        out = dense(sizes.hidden, sizes, "output")(inner)
        out = Dropout(sizes.dropout)(out, train=train)
        return layer_norm("norm")(out.astype(jnp.float32) + x).astype(sizes.dtype)


class Layer(nn.Module):
    """One BERT layer: self-attention, then feed-forward. Returns states and probabilities."""

    sizes: LayerSizes

    def setup(self) -> None:
        self.attention = Attention(self.sizes)
        self.mlp = FeedForward(self.sizes)

    def __call__(
        self,
        x: Float[Array, "N L D"],
        mask: Bool[Array, "N L"],
        *,
        train: bool,
        gate_by: Float[Array, "N Dg"] | None = None,
        first_only: bool = False,
    ) -> tuple[Float[Array, "N Q D"], Float[Array, "N heads Q L"]]:
        """Args:
        x: states.
        mask: True at real positions.
        train: whether dropout is on.
        gate_by: see `Attention`.
        first_only: work the state of the first position out alone, Q = 1; else Q = L.
        """

        def run(
            layer: "Layer", x: Array, mask: Array, gate_by: Array | None
        ) -> tuple[Array, Array]:
            queries = x[:, :1] if first_only else x
            x, probs = layer.attention(queries, x, mask, train=train, gate_by=gate_by)
            return layer.mlp(x, train=train), probs

        return rematerialised(run, self.sizes.remat)(self, x, mask, gate_by)


class Pooler(nn.Module):
    """act(W h₀ + b) of the first position.

    Attributes:
      width: of the output; None: D.
      activation: tanh (BERT) or ReLU (ViLBERT).
    """

    sizes: LayerSizes
    width: int | None = None
    activation: Callable[[Array], Array] = jnp.tanh

    @nn.compact
    def __call__(self, x: Float[Array, "N L D"]) -> Float[Array, "N width"]:
        width = self.width or self.sizes.hidden
        return self.activation(dense(width, self.sizes, "dense")(x[:, 0]))
