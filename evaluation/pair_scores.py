"""How well texts and images fit: scores of every text of a batch with every image of it."""

import itertools

from jaxtyping import Array, Float, PyTree

from core.errors import ConfigError
from objectives import base
from objectives.model import MultiTaskModel

# What of a batch is read of a text, and of an image.
TEXT_KEYS = ("text_ids", "text_mask", "segment_ids")
IMAGE_KEYS = ("regions", "region_scale", "boxes", "region_mask", "image_size")


def of_grid(
    model: MultiTaskModel,
    objective: base.Objective,
    params: PyTree,
    stream: str,
    batch: base.Arrays,
) -> Float[Array, "B K M"]:
    """Scores of each example's K texts with its M images.

    What a trunk works out below the first place where text and image meet runs once per text and
    once per image.

    Args:
      model: of which the objective is.
      objective: scores pairs.
      params: of the model.
      stream: whose lengths hold.
      batch: TEXT_KEYS [B, K, …] and IMAGE_KEYS [B, M, …].

    Raises:
      ConfigError: the model has no pooled state.
    """
    count, width = batch["text_ids"].shape[1], batch["regions"].shape[1]
    pairs = tuple(itertools.product(range(count), range(width)))
    outputs = model.outputs(params, stream, batch, pairs=pairs, pooled_only=True)
    if "pooled" not in outputs:
        raise ConfigError("ranking reads the pooled state: set config.model.pooler=True")
    logits = model.head(params, objective.head_name)(outputs["pooled"])
    return objective.pair_scores(logits).reshape(-1, count, width)
