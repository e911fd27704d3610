"""What every trunk has in common: what it is built from, what it offers, what it can show."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, runtime_checkable

from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from vl_models import layers

CAPTURES = ("attention", "hidden")


@dataclasses.dataclass(frozen=True)
class TrunkSpec:
    """What a trunk is built from beside `config.model`: its data, its streams, its numerics.

    Attributes:
      vocab_size: V.
      feature_dim: F of the region store.
      text_only: whether rows without an image occur (VL-BERT adds their visual embedding).
      masked_regions: whether regions are ever masked (VL-BERT adds what stands in for them).
      dtype: of matrix products.
      remat: key of `layers.REMAT`.
    """

    vocab_size: int
    feature_dim: int
    text_only: bool
    masked_regions: bool
    dtype: DTypeLike
    remat: str = "none"

    def layer_sizes(self, block: ConfigDict, model: ConfigDict) -> layers.LayerSizes:
        """Sizes of a stream's layers.

        Args:
          block: has hidden, heads and intermediate: `config.model` or a stream's part of it.
          model: `config.model`, for what all streams share.
        """
        return layers.LayerSizes(
            hidden=block.hidden,
            heads=block.heads,
            intermediate=block.intermediate,
            dropout=model.dropout,
            init_range=model.init_range,
            dtype=self.dtype,
            remat=self.remat,
        )


@runtime_checkable
class StateSizes(Protocol):
    """What a head has to know of the trunk it stands on.

    Attributes:
      sizes: of the text states.
      region_sizes: of the region states.
    """

    @property
    def sizes(self) -> layers.LayerSizes: ...
    @property
    def region_sizes(self) -> layers.LayerSizes: ...


@runtime_checkable
class Trunk(StateSizes, Protocol):
    """A Flax module that turns a stream batch into states; see each trunk's `__call__`.

    Attributes:
      pooled_width: width of the pooled state.
      packs: whether rows are text | regions | [END] without gaps.
      grounds_words: whether words carry the region that `token_region` names.
      image_margin: pixels by which the box of the whole image, row 0 of `boxes`, ends before the
        image does; whoever makes batches writes that box.
      fixed: regexes of the parameters that must not train, not even decay.
    """

    @property
    def pooled_width(self) -> int: ...
    @property
    def packs(self) -> bool: ...
    @property
    def grounds_words(self) -> bool: ...
    @property
    def image_margin(self) -> int: ...
    @property
    def fixed(self) -> tuple[str, ...]: ...
    @property
    def init(self) -> Callable[..., Any]: ...
    @property
    def init_with_output(self) -> Callable[..., Any]: ...
    @property
    def apply(self) -> Callable[..., Any]: ...


def check_capture(capture: Collection[str]) -> None:
    """Raises ValueError where a trunk is asked to return something it does not have."""
    unknown = set(capture) - set(CAPTURES)
    if unknown:
        raise ValueError(f"capture must be among 'attention', 'hidden', found {unknown}")


def run_layers(
    stack: Sequence[layers.Layer],
    x: Float[Array, "N L D"],
    mask: Bool[Array, "N L"],
    *,
    train: bool,
    first_only: bool = False,
) -> tuple[Float[Array, "N Q D"], dict[str, tuple[Array, ...]]]:
    """Runs layers one after the other.

    Args:
      stack: the layers, first to last.
      x: input states.
      mask: True at real positions.
      train: whether dropout is on.
      first_only: of the last layer, only the first position's state is wanted, Q = 1; else Q = L.

    Returns:
      The last layer's states, and what can be captured: attention, [N, heads, L, L] per layer;
      hidden, [N, L, D] of the input and per layer.
    """
    attention, hidden = [], [x]
    for number, layer in enumerate(stack, start=1):
        alone = first_only and number == len(stack)
        x, probs = layer(x, mask, train=train, first_only=alone)
        attention.append(probs)
        hidden.append(x)
    return x, dict(attention=tuple(attention), hidden=tuple(hidden))
