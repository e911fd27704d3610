"""Corruption of inputs on the device: pure functions of a batch and one random key per row.

A row's randomness depends on its own key alone, so the same example gets the same masks whatever
the batch size, microbatches or mesh.
"""

import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, Key

LONGEST = 6  # pieces of a word that `choose_word` chooses


def row_keys(
    key: Key[Array, ""], index: Int[Array, " B"] | Int[np.ndarray, " B"]
) -> Key[Array, " B"]:
    """One key per row."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)


def uniform(keys: Key[Array, " B"], shape: tuple[int, ...]) -> Float[Array, "B ..."]:
    """[B, *shape] uniform numbers in [0, 1), row b from keys[b] alone."""
    return jax.vmap(lambda key: jax.random.uniform(key, shape))(keys)


def named(keys: Key[Array, " B"], name: str) -> Key[Array, " B"]:
    """Independent keys for a purpose of that name."""
    number = zlib.crc32(name.encode())
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def start_of_word(word_starts: Bool[Array, "*any T"]) -> Int[Array, "*any T"]:
    """Index of the first piece of each piece's word."""
    slots = jnp.arange(word_starts.shape[-1])
    return jax.lax.cummax(jnp.where(word_starts, slots, 0), axis=word_starts.ndim - 1)


def select_words(
    draw: Float[Array, "*any T"],
    maskable: Bool[Array, "*any T"],
    word_starts: Bool[Array, "*any T"],
    rate: float,
    cap: int,
) -> tuple[Bool[Array, "*any T"], Int[Array, "*any"]]:
    """Which pieces are targets: each word whole, independently, with probability `rate`.

    Args:
      draw: uniform [..., T]; a word is selected by the number at its first piece.
      maskable: bool [..., T].
      word_starts: bool [..., T]; all True gives token-level masking.
      rate: of words.
      cap: most pieces of a row. Later words that would pass it are left alone, whole.

    Returns:
      selected: bool [..., T]; dropped: int [...], pieces left alone because of the cap.
    """
    start = start_of_word(word_starts)

    def at_start(x: Array) -> Array:
        return jnp.take_along_axis(x, start, axis=-1)

    wanted = at_start(draw < rate) & maskable & at_start(maskable)
    over = wanted & (jnp.cumsum(wanted, axis=-1) > cap)
    first = jnp.argmax(over, axis=-1)[..., None]  # first piece over the cap; 0 if none
    limit = jnp.take_along_axis(start, first, axis=-1)
    fits = ~over.any(-1, keepdims=True) | (jnp.arange(draw.shape[-1]) < limit)
    selected = wanted & fits
    return selected, wanted.sum(-1) - selected.sum(-1)


def choose_word(
    draw: Float[Array, "*any T"],
    candidate: Bool[Array, "*any T"],
    word_starts: Bool[Array, "*any T"],
) -> Bool[Array, "*any T"]:
    """One word per row, any of the candidates equally likely.

    Args:
      draw: uniform [..., T]; the candidate with the largest number at its first piece is chosen.
      candidate: bool [..., T], True at pieces of words that may be chosen.
      word_starts: bool [..., T].

    Returns:
      bool [..., T], the pieces of the chosen word; all False where there is no candidate of up to
      LONGEST pieces.
    """
    start = start_of_word(word_starts)
    slots = jnp.arange(candidate.shape[-1])
    pieces = (start[..., None, :] == slots[:, None]).sum(-1)  # [..., T] of the word at a start
    allowed = candidate & word_starts & (pieces <= LONGEST)
    best = jnp.argmax(jnp.where(allowed, draw, -1.0), axis=-1)[..., None]
    return (start == best) & candidate & allowed.any(-1, keepdims=True)


def replace_tokens(
    text_ids: Int[Array, "*any T"],
    selected: Bool[Array, "*any T"],
    action: Float[Array, "*any T"],
    random_ids: Int[Array, "*any T"],
    mask_id: int,
) -> Int[Array, "*any T"]:
    """BERT's 80/10/10: [MASK], a random id, or the token itself.

    Args:
      text_ids, selected, random_ids: [..., T].
      action: uniform [..., T]: < 0.8 mask, < 0.9 random, else unchanged.
    """
    replaced = jnp.where(action < 0.8, mask_id, jnp.where(action < 0.9, random_ids, text_ids))
    return jnp.where(selected, replaced, text_ids)


def gather_targets(
    text_ids: Int[Array, "*any T"], selected: Bool[Array, "*any T"], cap: int
) -> tuple[Int[Array, "*any G"], Int[Array, "*any G"], Float[Array, "*any G"]]:
    """Positions of the selected tokens, at a static width G = cap.

    Returns:
      positions: int32 [..., G]; targets: int32 [..., G]; weights: float32 [..., G], 0 = unused.
    """
    positions = jnp.argsort(~selected, axis=-1, stable=True)[..., :cap].astype(jnp.int32)
    weights = jnp.take_along_axis(selected, positions, axis=-1).astype(jnp.float32)
    return positions, jnp.take_along_axis(text_ids, positions, axis=-1), weights


def widths(steps: tuple[int, ...], cap: int) -> list[int]:
    """Those of `steps` that are well below `cap`, and `cap`."""
    return [*(step for step in steps if 1.5 * step <= cap), cap]


def at_narrowest(run: Callable[[int], Any], counts: Int[Array, "..."], known: list[int]) -> Any:
    """run(width) at the narrowest of the `known` widths that no count passes.

    Heads are expensive and most rows have few targets; how many is only known on the device. On
    several devices the last is run: a branch would have to add up the devices' gradients of the
    word table by itself, apart from those of its look-ups.

    Args:
      run: function of a static width whose results have the same shapes at any width. It reads that
        many targets of each row; they stand first.
      counts: int [...], targets of each row.
      known: ascending, see `widths`; no count passes the last. Each is compiled for.
    """
    if len(known) == 1 or jax.sharding.get_abstract_mesh().size > 1:
        return run(known[-1])
    number = sum((counts.max() > width).astype(jnp.int32) for width in known[:-1])
    # switch would reserve memory for the residuals of every branch: they are recomputed instead.
    return jax.lax.switch(
        number, [jax.checkpoint(functools.partial(run, width)) for width in known]
    )


def example_weight(batch: Mapping[str, Any]) -> Float[Array, " B"]:
    """Weight of each example's labels: 0 for padding rows and dropped labels."""
    return batch["_weight"] * batch.get("label_weight", 1.0)


def overlaps(
    boxes: Float[Array, "*any R 4"], region_mask: Bool[Array, "*any R"], threshold: float
) -> Bool[Array, "*any R R"]:
    """Pairs of regions that overlap by more than `threshold` (ViLBERT's released IoU).

    Args:
      boxes: [..., R, 4] xyxy pixels, counted inclusive ("+1"); row 0, the whole image, overlaps
        with nothing.
      region_mask: bool [..., R].

    Returns:
      bool [..., R, R], symmetric, True on the diagonal of real regions.
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    size = high - low + 1
    area = size[..., 0] * size[..., 1]
    inner = (
        jnp.minimum(high[..., :, None, :], high[..., None, :, :])
        - jnp.maximum(low[..., :, None, :], low[..., None, :, :])
        + 1
    )
    inner = jnp.maximum(inner, 0)
    inner = inner[..., 0] * inner[..., 1]
    iou = inner / (area[..., :, None] + area[..., None, :] - inner)
    real = region_mask & (jnp.arange(boxes.shape[-2]) > 0)
    return (iou > threshold) & real[..., :, None] & real[..., None, :]


def whole_image_row(
    regions: Float[Array, "*any R F"],
    hidden: Bool[Array, "*any R"],
    num_detected: Int[Array, "*any"],
    marked: Bool[Array, "*any R"],
    rule: str,
) -> Float[Array, "*any R F"]:
    """Row 0 recomputed from regions of which some are hidden.

    Args:
      regions: [..., R, F], row 0 the mean of all `num_detected` regions, cut ones included.
      hidden: bool [..., R], False at row 0.
      num_detected: N, int [...].
      marked: bool [..., R], regions that overlap with a target; "released" alone reads it.
      rule: "unmasked": (N·mean − Σ_hidden f) / (N − M + 1e-5), VL-BERT's released code;
        "zeroed": (N·mean − Σ_hidden f) / N, hidden ones count as zeros (first ViLBERT release);
        "released": the same sum / slots of the row that are not marked, padding included
        (12-in-1's release); "stored": as it is.

    Returns:
      regions with row 0 replaced, in their own dtype.
    """
    if rule == "stored":
        return regions
    count = num_detected[..., None].astype(jnp.float32)
    removed = jnp.einsum(
        "...r,...rf->...f",
        hidden.astype(regions.dtype),
        regions,
        preferred_element_type=jnp.float32,
    )
    if rule == "unmasked":
        below = count - hidden.sum(-1, keepdims=True) + 1e-5
        # N·mean − Σ is then only the rounding error of a bfloat16 mean, amplified.
        nothing_left = count <= hidden.sum(-1, keepdims=True)
    elif rule == "zeroed":
        below = jnp.maximum(count, 1)
    else:
        below = jnp.maximum(regions.shape[-2] - 1 - marked.sum(-1, keepdims=True), 1)
    mean = (count * regions[..., 0, :].astype(jnp.float32) - removed) / below
    if rule == "unmasked":
        mean = jnp.where(nothing_left, 0.0, mean)
    mean = mean.astype(regions.dtype)[..., None, :]
    return jnp.concatenate([mean, regions[..., 1:, :]], axis=-2)
