"""Referring expressions: which region does a text mean? (RefCOCO, RefCOCO+, RefCOCOg.)

Each candidate is scored from its final state and judged by its overlap (intersection over union)
with the referred object's box. VL-BERT (§4.2) trains on yes or no, ViLBERT (§3.2) in its released
code on the overlap itself. The whole image is a candidate in both.
"""

import jax.numpy as jnp

from objectives import base, losses
from vl_models import heads

OPTIONS = {
    "classifier": ("transform", "1fc"),
    "target": ("binary", "soft"),
    "normalize": ("candidates", "examples"),
    "hit": ("at_least_half", "over_half"),
}


class Task(base.Objective):
    """Binary cross-entropy over the candidates of an expression.

    Block:
      classifier: "transform": linear, GELU, linear (VL-BERT); "1fc": one linear layer (ViLBERT).
      dropout: before the last layer (VL-BERT 0, ViLBERT 0.1).
      target: "binary": overlap > 0.5 (VL-BERT); "soft": the overlap, 0 below 0.5 (ViLBERT).
      normalize: "candidates": mean over all candidates of the batch (VL-BERT); "examples": summed
        over an expression's candidates, mean over expressions (ViLBERT).
      hit: a choice counts as right with an overlap "at_least_half" (>= 0.5, VL-BERT's test) or
        "over_half" (> 0.5, ViLBERT's).
    """

    head_name = "grounding"
    stage = 0

    def __init__(self, name, block, facts):
        super().__init__(name, block, facts)
        base.check_options(name, block, OPTIONS)

    def head(self, trunk):
        if self.block.classifier == "1fc":
            return heads.Linear(trunk.region_sizes, 1, dropout=self.block.dropout)
        return heads.Classifier(trunk.region_sizes, 1, dropout=self.block.dropout)

    def warm_start(self):
        """VL-BERT starts from the head that told a masked region's class (released code)."""
        if self.block.classifier != "transform":
            return {}
        return {"heads/grounding/transform": "heads/masked_region/transform"}

    def corrupt(self, batch, keys):
        del keys  # nothing is hidden
        self.need(batch, "region_iou", M=1)
        return dict(batch)

    def weight(self, batch):
        if self.block.normalize == "examples":
            return batch["_weight"].sum()
        return self._weights(batch).sum()

    def logits(self, head, outputs, batch):
        """[B, R], padding included: `best` leaves it out, and it has no weight in the loss."""
        return head(outputs["regions"])[..., 0]

    def loss(self, logits, batch):
        overlap = batch["region_iou"][:, 0]
        if self.block.target == "binary":
            target = (overlap > 0.5).astype(jnp.float32)
        else:
            target = jnp.where(overlap >= 0.5, overlap, 0.0)
        return (losses.binary_cross_entropy(logits, target) * self._weights(batch)).sum()

    def metrics(self, logits, batch):
        """Share of right choices, and of expressions that have a right candidate at all."""
        overlap, weight = batch["region_iou"], batch["_weight"]
        right = (overlap >= 0.5) if self.block.hit == "at_least_half" else (overlap > 0.5)
        right = (right & batch["region_mask"])[:, 0]
        chosen = jnp.take_along_axis(right, best(logits, batch)[:, None], axis=1)[:, 0]
        return {
            f"{self.name}_accuracy": ((chosen * weight).sum(), weight.sum()),
            f"{self.name}_upper_bound": ((right.any(-1) * weight).sum(), weight.sum()),
        }

    def _weights(self, batch):
        """[B, R]: 1 at candidates."""
        return batch["region_mask"][:, 0] * batch["_weight"][:, None]


def best(logits, batch):
    """The best candidate, int [B], row of the regions; never a padded one.

    In the original a padded row scores as a region of zeros does, and may win.
    """
    return jnp.argmax(jnp.where(batch["region_mask"][:, 0], logits, -jnp.inf), axis=-1)
