"""Dropout that is a function of (key, position): the same on any mesh, and nearly free.

A mask takes one hash per element, which XLA fuses into the product it belongs to. JAX's Threefry,
as independent of the mesh, is computed apart from it and took 7 % of a BERT-base step on a CPU;
JAX's faster generators draw other masks on another mesh.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Key, Shaped, UInt32


def _mix(x: UInt32[Array, "*any"]) -> UInt32[Array, "*any"]:
    """A bijection of uint32 that flips each output bit for about half of all flipped input bits.

    Multipliers and shifts: "lowbias32" of C. Wellons' search for integer hash functions (2018).
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def random_words(key: Key[Array, ""], shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """Random uint32 of a shape, each a function of the key and of its own position.

    Positions are mixed twice, with another word of the key before each time: the masks of two keys
    are not shifts of each other. Of a function that sees a device's own rows alone
    (`jax.shard_map`), the position is that in the rows of all devices.
    """
    words = jax.random.key_data(key).ravel()
    position = jnp.zeros(shape, jnp.uint32)
    if axes := jax.sharding.get_abstract_mesh().manual_axes:
        first = jax.lax.axis_index(axes).astype(jnp.uint32)
        position += first * jnp.uint32(math.prod(shape) % 2**32)
    stride = 1
    for axis in reversed(range(len(shape))):
        position += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
        stride = stride * shape[axis] % 2**32
    return _mix(_mix(position ^ words[0]) ^ words[-1])


class Dropout(nn.Module):
    """Sets elements to zero with probability `rate` and scales the others by 1 / (1 − rate).

    Attributes:
      rate: in [0, 1).
    """

    rate: float

    @nn.compact
    def __call__(self, x: Shaped[Array, "*any"], *, train: bool) -> Shaped[Array, "*any"]:
        """Args: x: any shape; train: whether it is on (needs the random stream "dropout")."""
        if not train or not self.rate:
            return x
        if not 0 < self.rate < 1:
            raise ValueError(f"a dropout rate must be in [0, 1), found {self.rate}")
        kept = 1 - self.rate
        words = random_words(self.make_rng("dropout"), x.shape)
        keep = words < jnp.uint32(round(kept * 2**32))
        return jnp.where(keep, x * (1 / kept), jnp.zeros_like(x))
