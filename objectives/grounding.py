"""Referring expressions: which region does a text mean? (RefCOCO, RefCOCO+, RefCOCOg.)

Each candidate is scored from its final state and judged by its overlap (intersection over union)
with the referred object's box. VL-BERT (§4.2) trains on yes or no, ViLBERT (§3.2) in its released
code on the overlap itself. The whole image is a candidate in both.

Where the data offer options (Visual7W, GuessWhat), the option chosen must be the right one itself,
whatever overlaps it (12-in-1).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from objectives import base, losses
from vl_models.heads import HeadSpec
from vl_models.trunk import Trunk


class Grounding(base.Objective):
    """Binary cross-entropy over the candidates of an expression.

    Block:
      classifier: "transform": linear, GELU, linear (VL-BERT); "1fc": one linear layer (ViLBERT).
      dropout: before the last layer (VL-BERT 0, ViLBERT 0.1).
      target: "binary": overlap > 0.5 (VL-BERT); "soft": the overlap, 0 below 0.5 (ViLBERT).
      normalize: "candidates": mean over all candidates of the batch (VL-BERT); "examples": summed
        over an expression's candidates, mean over expressions (ViLBERT).
      hit: a choice counts as right with an overlap "at_least_half" (>= 0.5, VL-BERT's test) or
        "over_half" (> 0.5, ViLBERT's); options of the data are right or wrong.
    """

    title = "right choices"
    predicts = True
    abilities = frozenset({base.Ability.LOCATE})
    reads = ("region_iou",)

    def head(self, trunk: Trunk) -> HeadSpec:
        del trunk
        module = "linear" if self.block.classifier == "1fc" else "classifier"
        return HeadSpec(module, "regions", dict(outputs=1, dropout=self.block.dropout))

    def head_positions(self, text: int, regions: int) -> int:
        del text
        return regions

    def warm_start(self) -> dict[str, str]:
        """VL-BERT starts from the head that classifies masked regions (released code)."""
        if self.block.classifier != "transform":
            return {}
        return {f"heads/{self.head_name}/transform": "heads/masked_region/transform"}

    def corrupt(self, batch: base.Arrays, keys: base.Keys) -> dict[str, Any]:
        del keys  # nothing is hidden
        self.need(batch, "region_iou", M=1)
        return dict(batch)

    def weight(self, batch: base.Arrays) -> base.Scalar:
        if self.block.normalize == "examples":
            return _known(batch).sum()
        return self._weights(batch).sum()

    def logits(
        self, head: base.Head, outputs: base.Arrays, batch: base.Arrays
    ) -> Float[Array, "B R"]:
        """[B, R], padding included: `best` leaves it out, and it has no weight in the loss."""
        return head(outputs["regions"])[..., 0]

    def loss(self, logits: Float[Array, "B R"], batch: base.Arrays) -> base.Scalar:
        overlap = batch["region_iou"][:, 0]
        if self.block.target == "binary":
            target = (overlap > 0.5).astype(jnp.float32)
        else:
            target = jnp.where(overlap >= 0.5, overlap, 0.0)
        return (losses.binary_cross_entropy(logits, target) * self._weights(batch)).sum()

    def metrics(self, logits: Float[Array, "B R"], batch: base.Arrays) -> dict[str, base.Pair]:
        """Share of right choices, and of expressions that have a right candidate at all."""
        weight, right = _known(batch), self._right(batch) & candidates(batch)
        chosen = jnp.take_along_axis(right, best(logits, batch)[:, None], axis=1)[:, 0]
        return {
            self.metric("accuracy"): ((chosen * weight).sum(), weight.sum()),
            self.metric("upper_bound"): ((right.any(-1) * weight).sum(), weight.sum()),
        }

    def shares(self) -> dict[str, str]:
        bound = "examples with a right candidate among the regions"
        return super().shares() | {self.metric("upper_bound"): bound}

    def guesses(self, batch: base.Arrays) -> dict[str, tuple[Float[Array, "..."], base.Scalar]]:
        """Any of the candidates."""
        offered, weight = candidates(batch), _known(batch)
        share = (self._right(batch) & offered).sum(-1) / jnp.maximum(offered.sum(-1), 1)
        return {self.metric("accuracy"): ((share * weight).sum(), weight.sum())}

    def _right(self, batch: base.Arrays) -> Bool[Array, "B R"]:
        """Regions that are right to choose."""
        if "option_region" in batch:
            region = jnp.take_along_axis(
                batch["option_region"], jnp.maximum(batch["label"], 0), axis=1
            )
            return jnp.arange(batch["region_mask"].shape[-1]) == region
        overlap = batch["region_iou"][:, 0]
        return (overlap >= 0.5) if self.block.hit == "at_least_half" else (overlap > 0.5)

    def predictions(self, logits: Float[Array, "B R"], batch: base.Arrays) -> dict[str, Array]:
        """The best candidate: its row, box in the batch's pixels, probability, option if any."""
        row = best(logits, batch)
        box = jnp.take_along_axis(batch["boxes"][:, 0], row[:, None, None], axis=1)[:, 0]
        score = jnp.take_along_axis(logits, row[:, None], axis=1)[:, 0]
        found = dict(region=row, box=box, score=jax.nn.sigmoid(score))
        if "option_region" in batch:
            found["option"] = jnp.argmax(batch["option_region"] == row[:, None], axis=-1)
        return found

    def describe(self, row: base.Arrays, names: Sequence[str] = ()) -> dict[str, Any]:
        """{"region": row, 0 = whole image; "box": xyxy; "score": probability of this one alone}.

        Where the data offer options also {"option": number of the one chosen, from 0}.
        """
        found = dict(region=int(row["region"]), box=row["box"].tolist(), score=float(row["score"]))
        return found | ({"option": int(row["option"])} if "option" in row else {})

    def _weights(self, batch: base.Arrays) -> Float[Array, "B R"]:
        """[B, R]: 1 at candidates."""
        return candidates(batch) * _known(batch)[:, None]


def _known(batch: base.Arrays) -> Float[Array, " B"]:
    """Weight of each expression, [B]: 0 where its target is unknown (no overlap at all)."""
    return batch["_weight"] * (batch["region_iou"][:, 0].max(-1) > 0)


def candidates(batch: base.Arrays) -> Bool[Array, "B R"]:
    """Regions that may be chosen, bool [B, R]: all real ones where the data name none."""
    mask = batch["region_mask"]
    if "candidate_mask" in batch:
        mask = mask & batch["candidate_mask"]
    return mask[:, 0]


def best(logits: Float[Array, "B R"], batch: base.Arrays) -> Int[Array, " B"]:
    """The best candidate, int [B], row of the regions; never a padded one.

    In the original a padded row scores as a region of zeros does, and may win.
    """
    return jnp.argmax(jnp.where(candidates(batch), logits, -jnp.inf), axis=-1)
