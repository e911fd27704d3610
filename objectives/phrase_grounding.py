"""Phrase grounding: each word that speaks of an object points at the object's region.

Data sets with boxes for phrases have it: the embedded scenes, Flickr30k Entities, Visual Genome's
region descriptions. A token's score of a region is the product of their projected final states; a
softmax over the regions of the image, without row 0, is held against the region that shows the
object. No original has this objective: it teaches a small model early which region a word is about,
what masked words alone take thousands of steps for.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float
from ml_collections import ConfigDict

from core.errors import ConfigError
from objectives import base, losses
from vl_models.heads import HeadSpec
from vl_models.trunk import Trunk


class PhraseGrounding(base.Objective):
    """Cross-entropy over the regions of an image, mean over the tokens whose region is known."""

    title = "words that point at the right region"
    reads = ("phrase_region",)

    def head(self, trunk: Trunk) -> HeadSpec:
        """Raises ConfigError where words are to be tagged, and the trunk does not read tags."""
        if self.block.tagged and not trunk.grounds_words:
            raise ConfigError(
                "a model whose words carry no regions cannot have tagged rows",
                where=f"{self.where}.tagged",
                expected="0 with this model",
                found=self.block.tagged,
            )
        return HeadSpec("pointer", "text", dict(width=self.block.width))

    def head_positions(self, text: int, regions: int) -> int:
        return text + regions

    def check_stream(self, stream: str, block: ConfigDict) -> None:
        """As of all objectives; tags would tell a caption from another image's, which has none."""
        super().check_stream(stream, block)
        if self.block.tagged and block.negatives:
            raise ConfigError(
                "tagged words give away which captions are the image's own",
                where=f"{self.where}.tagged",
                expected=f"0, or config.streams.{stream}.negatives=False",
                found=self.block.tagged,
            )

    def corrupt(self, batch: base.Arrays, keys: base.Keys) -> dict[str, Any]:
        """Adds token_region and hides the targets of a share `tagged` of the rows."""
        self.need(batch, "phrase_region")
        if not self.block.tagged:
            return dict(batch)
        tagged = (self.draw(keys, "tag words", ()) < self.block.tagged)[:, None, None]
        region = batch["phrase_region"]
        return dict(
            batch,
            token_region=jnp.where(tagged, region, 0),
            phrase_region=jnp.where(tagged, 0, region),
        )

    def weight(self, batch: base.Arrays) -> base.Scalar:
        return _weights(batch).sum()

    def logits(
        self, head: base.Head, outputs: base.Arrays, batch: base.Arrays
    ) -> Float[Array, "N T R"]:
        """[N, T, R]; -inf at padded regions and at the whole image."""
        which = "lower_" if self.block.states == "lower" else ""
        scores = head(outputs[f"{which}text"], outputs[f"{which}regions"])
        shown = batch["region_mask"][:, 0] & (jnp.arange(scores.shape[-1]) > 0)
        return jnp.where(shown[:, None], scores, -jnp.inf)

    def loss(self, logits: Float[Array, "N T R"], batch: base.Arrays) -> base.Scalar:
        weights = _weights(batch)
        # Where nothing is asked, the scores of an image without regions would be -inf throughout.
        logits = jnp.where(weights[..., None] > 0, logits, 0.0)
        values = losses.cross_entropy(logits, batch["phrase_region"][:, 0])
        return (values * weights).sum()

    def guesses(self, batch: base.Arrays) -> dict[str, tuple[Float[Array, "..."], base.Scalar]]:
        """Any region of the image."""
        weights = _weights(batch)
        regions = jnp.maximum(batch["region_mask"][:, 0].sum(-1) - 1, 1)
        return {self.metric("accuracy"): ((weights / regions[:, None]).sum(), weights.sum())}

    def metrics(self, logits: Float[Array, "N T R"], batch: base.Arrays) -> dict[str, base.Pair]:
        right = losses.is_best(logits, batch["phrase_region"][:, 0])
        weights = _weights(batch)
        return {self.metric("accuracy"): ((right * weights).sum(), weights.sum())}


def _weights(batch: base.Arrays) -> Float[Array, "B T"]:
    """[B, T]: 1 at tokens whose region is known."""
    return (batch["phrase_region"][:, 0] > 0) * batch["_weight"][:, None]
