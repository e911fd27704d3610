"""Heads on the trunk's states, and their construction as data: `HeadSpec`.

A checkpoint saves the spec of each of its heads, so that it can be opened without the objectives
that trained them.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from vl_models import layers, operations
from vl_models.dropout import Dropout
from vl_models.trunk import StateSizes


class MaskedLanguageHead(nn.Module):
    """BERT's masked-language head, decoder tied to the word table."""

    sizes: layers.LayerSizes

    @nn.compact
    def __call__(
        self,
        states: Float[Array, "N G D"],
        word_embedding: Float[Array, "V D"],
        *,
        train: bool = False,
    ) -> Float[Array, "N G V"]:
        del train  # no dropout
        x = operations.gelu(layers.dense(self.sizes.hidden, self.sizes, "transform")(states))
        x = layers.layer_norm("norm")(x).astype(self.sizes.dtype)
        bias = self.param("bias", nn.initializers.zeros, (word_embedding.shape[0],))
        table = word_embedding.astype(self.sizes.dtype)
        return operations.product("ngd,vd->ngv", x, table) + bias


_ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {"gelu": operations.gelu, "relu": nn.relu}


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
    def __call__(
        self, states: Float[Array, "*rows D"], *, train: bool = False
    ) -> Float[Array, "*rows outputs"]:
        activation = _ACTIVATIONS[self.activation]
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
    def __call__(
        self, states: Float[Array, "*rows D"], *, train: bool = False
    ) -> Float[Array, "*rows outputs"]:
        def linear(x: Array, features: int, name: str) -> Array:
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
    def __call__(
        self, states: Float[Array, "*rows D"], *, train: bool = False
    ) -> Float[Array, "*rows outputs"]:
        x = Dropout(self.dropout)(states, train=train)
        return layers.dense(self.outputs, self.sizes, "classifier")(x).astype(jnp.float32)


class Pointer(nn.Module):
    """How well each region fits each token: a scaled product of projections, [N, T, R] float32.

    Attributes:
      sizes: of the text stream.
      width: of the projections.
    """

    sizes: layers.LayerSizes
    width: int

    @nn.compact
    def __call__(
        self,
        text: Float[Array, "N T D"],
        regions: Float[Array, "N R Dv"],
        *,
        train: bool = False,
    ) -> Float[Array, "N T R"]:
        del train  # no dropout
        query = layers.dense(self.width, self.sizes, "query")(text)
        key = layers.dense(self.width, self.sizes, "key")(regions)
        return operations.product("ntw,nrw->ntr", query, key) * self.width**-0.5


_MODULES: Mapping[str, type[nn.Module]] = {
    "linear": Linear,
    "classifier": Classifier,
    "weight_norm": WeightNormClassifier,
    "tied_decoder": MaskedLanguageHead,
    "pointer": Pointer,
}
READS = ("text", "regions", "pooled")
# Arrays that have an entry per output, and the axis of these: {module: {path in the head: axis}}.
# Those of "weight_norm" share one gain, so no output can be taken by itself; a "pointer" has none.
_OUTPUT_AXES: Mapping[str, Mapping[str, int]] = {
    "linear": {"classifier/kernel": 1, "classifier/bias": 0},
    "classifier": {"classifier/kernel": 1, "classifier/bias": 0},
    "weight_norm": {},
    "tied_decoder": {"bias": 0},
    "pointer": {},
}


@dataclasses.dataclass(frozen=True)
class HeadSpec:
    """How a head is built, and what its outputs mean.

    Attributes:
      module: "linear", "classifier", "weight_norm", "tied_decoder", whose outputs are the word
        pieces, or "pointer", whose outputs are the regions.
      reads: "text", "regions" or "pooled": the states that it is applied to.
      options: of the module: outputs, width, activation...
      named_by: the list of the data set that its outputs are of, "answers" or "labels"; or empty.
      names: this list in the head's order, where it is known.
    """

    module: str
    reads: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    named_by: str = ""
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.module not in _MODULES:
            raise ValueError(f"module must be one of {sorted(_MODULES)}, found {self.module!r}")
        if self.reads not in READS:
            raise ValueError(f"reads must be one of {READS}, found {self.reads!r}")

    def build(self, trunk: StateSizes) -> nn.Module:
        """The head on a trunk, whose `sizes` and `region_sizes` tell the widths."""
        sizes = trunk.region_sizes if self.reads == "regions" else trunk.sizes
        return _MODULES[self.module](sizes, **self.options)

    @property
    def output_axes(self) -> Mapping[str, int]:
        """{path within the head: axis of the outputs} of arrays with an entry per output."""
        return _OUTPUT_AXES[self.module]

    @property
    def tied(self) -> bool:
        """Whether it also multiplies with the word table, whose pieces are its outputs."""
        return self.module == "tied_decoder"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self) | dict(options=dict(self.options), names=list(self.names))

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "HeadSpec":
        """Inverse of `to_dict`."""
        return cls(**{**saved, "names": tuple(saved["names"])})


def specs(saved: Mapping[str, Mapping[str, Any]]) -> dict[str, HeadSpec]:
    """{head: its spec} from what a checkpoint saved, {head: `HeadSpec.to_dict()`}."""
    return {name: HeadSpec.from_dict(spec) for name, spec in saved.items()}
