"""A trunk's states and attention maps, cut to what is real of an example and named."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from vl_models.trunk import Trunk

JOINT, TEXT, IMAGE = "joint", "text", "image"


def of_words(
    states: np.ndarray, batch: Mapping[str, np.ndarray], names: Sequence[str]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Words of a caption, [CLS] and [SEP] left out, and the mean of their pieces' states.

    Args:
      states: [T, D].
      batch: entries of an example.
      names: word pieces by id.

    Returns:
      The words, and float32 [words, D].
    """
    length = int(batch["text_mask"][0].sum())
    ids = batch["text_ids"][0][1 : length - 1].tolist()
    starts = np.flatnonzero(batch["word_starts"][0][1 : length - 1])
    stops = [*starts[1:].tolist(), len(ids)]
    spans = list(zip(starts.tolist(), stops, strict=True))
    words = tuple("".join(names[i].removeprefix("##") for i in ids[a:b]) for a, b in spans)
    return words, np.stack([states[1 + a : 1 + b].mean(0) for a, b in spans])


def named(captured: Any, what: str) -> dict[str, Any]:
    """What a trunk captured, {which stream: [B, layers, …]}.

    Args:
      captured: `outputs[what]` of a trunk, per layer.
      what: "attention" or "hidden".
    """

    def stacked(per_layer: Sequence[Any]) -> Any:
        return jnp.stack(per_layer, axis=1).astype(jnp.float32)

    if not isinstance(captured, Mapping):
        return {JOINT: stacked(captured)}
    found = {name: stacked(captured[name]) for name in (TEXT, IMAGE) if captured[name]}
    if what == "attention" and captured["connection"]:
        to_image, to_text = zip(*captured["connection"], strict=True)
        found |= {"text_to_image": stacked(to_image), "image_to_text": stacked(to_text)}
    return found


def real_positions(trunk: Trunk, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{which stream: positions of an example that are no padding}."""
    text, regions = batch["text_mask"][0], batch["region_mask"][0]
    if trunk.packs:  # text | regions | [END]
        joint = np.arange(int(text.sum() + regions.sum()) + 1)
    else:
        joint = np.flatnonzero(np.concatenate([text, regions]))
    return {JOINT: joint, TEXT: np.flatnonzero(text), IMAGE: np.flatnonzero(regions)}


def maps(
    attention: Mapping[str, np.ndarray], real: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """{which: [layers, heads, queries, keys]} without padding.

    Args:
      attention: {which: [layers, heads, queries, keys]}.
      real: of `real_positions`.
    """
    found = {}
    for name, array in attention.items():
        query, _, key = name.partition("_to_")
        found[name] = array[:, :, real[query]][..., real[key or query]]
    return found


def hidden(
    layers: Mapping[str, np.ndarray], real: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """{which: [layers, positions, D]} without padding."""
    return {name: array[:, real[name]] for name, array in layers.items()}
