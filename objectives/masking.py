"""Corruption of inputs on the device: pure functions of a batch and one random key a row.

A row's randomness depends on its own key alone, so the same example gets the same masks whatever
the batch size, microbatches or mesh.
"""

import jax
import jax.numpy as jnp


def row_keys(key, index):
    """One key a row: int[B] → key[B]."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)


def uniform(keys, shape) -> jax.Array:
    """[B, *shape] uniform numbers in [0, 1), row b from keys[b] alone."""
    return jax.vmap(lambda key: jax.random.uniform(key, shape))(keys)


def fold(keys, number: int):
    """The keys of another purpose: key[B] → key[B]."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def start_of_word(word_starts) -> jax.Array:
    """Index of the first piece of each piece's word: bool[..., T] → int[..., T]."""
    slots = jnp.arange(word_starts.shape[-1])
    return jax.lax.cummax(jnp.where(word_starts, slots, 0), axis=word_starts.ndim - 1)


def select_words(draw, maskable, word_starts, rate: float, cap: int):
    """Which pieces are targets: each word whole, independently, with probability `rate`.

    Args:
      draw: uniform [..., T]; a word's fate is the number at its first piece.
      maskable: bool [..., T].
      word_starts: bool [..., T]; all True gives token-level masking.
      rate: of words.
      cap: most pieces of a row. Later words that would pass it are left alone, whole.

    Returns:
      selected: bool [..., T]; dropped: int [...], pieces left alone because of the cap.
    """
    start = start_of_word(word_starts)

    def at_start(x):
        return jnp.take_along_axis(x, start, axis=-1)

    wanted = at_start(draw < rate) & maskable & at_start(maskable)
    over = wanted & (jnp.cumsum(wanted, axis=-1) > cap)
    first = jnp.argmax(over, axis=-1)[..., None]  # first piece over the cap; 0 if none
    limit = jnp.take_along_axis(start, first, axis=-1)
    fits = ~over.any(-1, keepdims=True) | (jnp.arange(draw.shape[-1]) < limit)
    selected = wanted & fits
    return selected, wanted.sum(-1) - selected.sum(-1)


def replace_tokens(text_ids, selected, action, random_ids, mask_id: int):
    """BERT's 80/10/10: [MASK], a random id, or the token itself.

    Args:
      text_ids, selected, random_ids: [..., T].
      action: uniform [..., T]: < 0.8 mask, < 0.9 random, else unchanged.
    """
    replaced = jnp.where(action < 0.8, mask_id, jnp.where(action < 0.9, random_ids, text_ids))
    return jnp.where(selected, replaced, text_ids)


def gather_targets(text_ids, selected, cap: int):
    """Positions of the selected tokens, at a static width G = cap.

    Returns:
      positions: int32 [..., G]; targets: int32 [..., G]; weights: float32 [..., G], 0 = unused.
    """
    positions = jnp.argsort(~selected, axis=-1, stable=True)[..., :cap].astype(jnp.int32)
    weights = jnp.take_along_axis(selected, positions, axis=-1).astype(jnp.float32)
    return positions, jnp.take_along_axis(text_ids, positions, axis=-1), weights


def whole_image_without(regions, region_masked, num_detected):
    """Row 0 as the mean of the regions that are not masked (VL-BERT, released code).

    Args:
      regions: [..., R, F], row 0 the mean of all `num_detected` regions, truncated ones included.
      region_masked: bool [..., R], False at row 0.
      num_detected: int [...].

    Returns:
      regions with row 0 = (N·mean − Σ_masked f) / (N − M + 1e-5), in the dtype of `regions`.
    """
    count = num_detected[..., None].astype(jnp.float32)
    masked = region_masked.astype(jnp.float32)
    removed = jnp.einsum(
        "...r,...rf->...f",
        masked.astype(regions.dtype),
        regions,
        preferred_element_type=jnp.float32,
    )
    left = count - masked.sum(-1, keepdims=True) + 1e-5
    mean = (count * regions[..., 0, :].astype(jnp.float32) - removed) / left
    mean = mean.astype(regions.dtype)[..., None, :]
    return jnp.concatenate([mean, regions[..., 1:, :]], axis=-2)
