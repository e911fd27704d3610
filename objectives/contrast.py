"""Contrast: which caption of several belongs to which image of as many?

Retrieval, trained as it is used: each caption chooses among the images of its group, and each image
among the captions. Four-way retrieval (`choice`) learns from three wrong pairs of a caption; with N
couples of caption and image every caption has N − 1 wrong images and every image N − 1 wrong
captions, from N² pairs, whose lower layers a two-stream trunk runs once per text and per image.
"""

import itertools
from typing import Any

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float
from ml_collections import ConfigDict

from core.errors import ConfigError
from objectives import base, choice, losses
from vl_models.heads import HeadSpec
from vl_models.trunk import Trunk


class Contrast(base.Objective):
    """One score per pair of a group, from its pooled state; softmax over images and over captions.

    Block:
      couples: N, captions of a group, and images; as many as the stream's `couples`.
      dropout: before the linear layer; ViLBERT's is in its trunk.
      head: name of the parameters: those of `choice`, whose head has the same shape.
      head_init: "alignment", the log-odds of a match after the alignment head of the checkpoint,
        where it has one, or "random".
    """

    title = "captions and images whose own one is chosen"
    pooled_only = True
    abilities = frozenset({base.Ability.SCORE_PAIRS})

    def __init__(self, name: str, block: ConfigDict, data_info: base.DataInfo):
        super().__init__(name, block, data_info)
        self.pairs = tuple(itertools.product(range(block.couples), range(block.couples)))

    def check_stream(self, stream: str, block: ConfigDict) -> None:
        super().check_stream(stream, block)
        if block.couples != self.block.couples:
            raise ConfigError(
                "a stream and its objective have groups of different sizes",
                where=f"config.streams.{stream}.couples",
                expected=f"{self.where}.couples, {self.block.couples}",
                found=block.couples,
                fix=f"--config.streams.{stream}.couples={self.block.couples}",
            )

    def head(self, trunk: Trunk) -> HeadSpec:
        del trunk
        return HeadSpec("linear", "pooled", dict(outputs=1, dropout=self.block.dropout))

    def initial_values(
        self, arrays: base.Arrays, known: base.Arrays
    ) -> dict[str, base.InitialValue]:
        del known
        wanted = self.block.head_init == "alignment"
        return choice.log_odds(self.head_name, arrays) if wanted else {}

    def corrupt(self, batch: base.Arrays, keys: base.Keys) -> dict[str, Any]:
        """Only checks: nothing is hidden, and caption k belongs to image k."""
        del keys
        self.need(batch, "text_ids", K=self.block.couples)
        self.need(batch, self.appearance, M=self.block.couples)
        return dict(batch)

    def weight(self, batch: base.Arrays) -> base.Scalar:
        return batch["_weight"].sum()

    def logits(
        self, head: base.Head, outputs: base.Arrays, batch: base.Arrays
    ) -> Float[Array, "B K M"]:
        """Of caption k with image m."""
        return head(self.pooled(outputs)).reshape(-1, self.block.couples, self.block.couples)

    def loss(self, logits: Float[Array, "B K M"], batch: base.Arrays) -> base.Scalar:
        """Mean cross-entropy of a group's captions over images and of its images over captions."""
        own = jnp.broadcast_to(jnp.arange(self.block.couples), logits.shape[:2])
        over_images = losses.cross_entropy(logits, own).mean(-1)
        over_captions = losses.cross_entropy(logits.swapaxes(1, 2), own).mean(-1)
        return ((over_images + over_captions) / 2 * batch["_weight"]).sum()

    def guesses(self, batch: base.Arrays) -> dict[str, tuple[Float[Array, "..."], base.Scalar]]:
        """Any of the group."""
        weight = self.weight(batch)
        return {self.metric("accuracy"): (weight / self.block.couples, weight)}

    def metrics(self, logits: Float[Array, "B K M"], batch: base.Arrays) -> dict[str, base.Pair]:
        """The share of captions that choose their image and of images that choose their caption."""
        own = jnp.broadcast_to(jnp.arange(self.block.couples), logits.shape[:2])
        both = losses.is_best(logits, own) + 0.0, losses.is_best(logits.swapaxes(1, 2), own) + 0.0
        right = (both[0].mean(-1) + both[1].mean(-1)) / 2
        weight = batch["_weight"]
        return {self.metric("accuracy"): ((right * weight).sum(), weight.sum())}

    def pair_scores(self, logits: Float[Array, "N outputs"]) -> Float[Array, " N"]:
        return logits[:, 0]
