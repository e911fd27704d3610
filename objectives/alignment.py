"""Does the caption belong to the image? (VL-BERT's relationship task, ViLBERT's alignment.)"""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from core.errors import ConfigError
from input_pipeline.schema import TEXT_KEYS
from objectives import base, losses
from vl_models.heads import HeadSpec
from vl_models.trunk import Trunk


class Alignment(base.Objective):
    """Swaps the captions of a fraction of the rows; classifies match or mismatch (pooled state)."""

    title = "masked pairs told right as match or mismatch"
    phase = base.Phase.SWAP_TEXTS
    abilities = frozenset({base.Ability.SCORE_PAIRS, base.Ability.JUDGE_PAIRS})

    def head(self, trunk: Trunk) -> HeadSpec:
        del trunk
        return HeadSpec("linear", "pooled", dict(outputs=2))

    def corrupt(self, batch: base.Arrays, keys: base.Keys) -> dict[str, Any]:
        """Keeps the image's own caption (k = 0) or a foreign one (k = 1), K 2 → 1.

        Adds alignment_label int [B], 1 = match.

        Other losses go on counting mismatched rows, as in VL-BERT and ViLBERT, unless
        `drop_labels` (12-in-1): their inputs are masked all the same, since the presence of masks
        would give the label away.
        """
        if batch["text_ids"].shape[1] != 2:
            raise ConfigError(
                f"{self.name} needs another image's caption beside each: set "
                "config.streams.<name>.negatives=True"
            )
        swap = self.draw(keys, "swap", ()) < self.block.rate
        out = dict(batch, alignment_label=(~swap).astype(jnp.int32))
        if self.block.drop_labels:
            out["label_weight"] = (~swap).astype(jnp.float32)
        for key in TEXT_KEYS:
            if key in batch:
                own, other = batch[key][:, :1], batch[key][:, 1:]
                out[key] = jnp.where(swap[:, None, None], other, own)
        return out

    def weight(self, batch: base.Arrays) -> base.Scalar:
        return batch["_weight"].sum()

    def logits(
        self, head: base.Head, outputs: base.Arrays, batch: base.Arrays
    ) -> Float[Array, "N 2"]:
        return head(self.pooled(outputs))

    def loss(self, logits: Float[Array, "N 2"], batch: base.Arrays) -> base.Scalar:
        return (losses.cross_entropy(logits, batch["alignment_label"]) * batch["_weight"]).sum()

    def guesses(self, batch: base.Arrays) -> dict[str, tuple[Float[Array, "..."], base.Scalar]]:
        """The more frequent of match and mismatch."""
        weight = batch["_weight"]
        counts = losses.counts(batch["alignment_label"], weight, 2)
        return {self.metric("accuracy"): (counts, weight.sum())}

    def metrics(self, logits: Float[Array, "N 2"], batch: base.Arrays) -> dict[str, base.Pair]:
        right = jnp.argmax(logits, -1) == batch["alignment_label"]
        weight = batch["_weight"]
        return {self.metric("accuracy"): ((right * weight).sum(), weight.sum())}

    def pair_scores(self, logits: Float[Array, "N outputs"]) -> Float[Array, " N"]:
        """Log-odds of a match; class 1 is one."""
        return logits[:, 1] - logits[:, 0]

    def pair_matches(self, logits: Float[Array, "N outputs"]) -> Bool[Array, " N"]:
        return jnp.argmax(logits, -1) == 1
