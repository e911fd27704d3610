"""Annotations are checked while tests run: wrong shapes and types stop at the call."""

import jax
import jax.numpy as jnp
import jaxtyping
import pytest

from vl_models import embeddings, layers


def test_a_wrong_axis_is_told_where_it_comes_in():
    boxes, image_size = jnp.zeros((2, 3, 5)), jnp.ones((2, 2))
    with pytest.raises(jaxtyping.TypeCheckError, match="boxes"):
        embeddings.geometry_embedding(boxes, image_size, 8)


def test_axes_of_one_letter_agree_within_a_module():
    attention = layers.Attention(layers.LayerSizes(hidden=4, heads=2, intermediate=4))
    x, context, mask = jnp.zeros((1, 3, 4)), jnp.zeros((1, 5, 4)), jnp.ones((1, 4), bool)
    with pytest.raises(jaxtyping.TypeCheckError, match="context_mask"):
        attention.init(jax.random.key(0), x, context, mask, train=False)
