"""Masked region classification with the detector's soft labels (VL-BERT §3.3, task 2)."""

import jax.numpy as jnp

from input_pipeline.schema import DataError
from objectives import base, losses, masking
from vl_models import heads


class Task(base.Objective):
    """Predicts the detector's class distribution of regions, most of them hidden."""

    head_name = "masked_region"
    stage = 2

    def __init__(self, name, block, facts):
        super().__init__(name, block, facts)
        losses.check_normalize(block.normalize)
        if not facts.num_classes:
            raise DataError(
                "masked_region needs the detector's class distributions",
                where="region store",
                expected="num_classes > 0 in its feature spec",
                found="0",
                fix="take masked_region out of config.streams.*.objectives (masked_language and "
                "alignment work without distributions), or import a store that has them",
            )
        if not facts.stored_mean:
            raise DataError(
                "masked_region hides regions from the whole-image row, which must be their mean",
                where="region store",
                expected="global_feature = mean in its feature spec",
                found="stored",
                fix="import the features with --global_feature=mean",
            )

    def head(self, sizes):
        return heads.RegionClassHead(sizes, self.facts.num_classes)

    def corrupt(self, batch, keys):
        """Adds region_masked bool [B, M, R] and region_weight [B, M, R]; recomputes row 0."""
        shape = batch["region_mask"].shape[1:]
        real = batch["region_mask"] & (jnp.arange(shape[-1]) > 0)  # the whole image never
        selected = real & (masking.uniform(masking.fold(keys, 3), shape) < self.block.rate)
        kept = masking.uniform(masking.fold(keys, 4), shape) < self.block.keep
        hidden = selected & ~kept
        return dict(
            batch,
            region_masked=hidden,
            region_weight=selected * batch["_weight"][:, None, None],
            # The original masks before it cuts regions, so that a cut region may be missing from
            # the mean; here only regions of the row are masked.
            regions=masking.whole_image_without(batch["regions"], hidden, batch["num_detected"]),
        )

    def weight(self, batch):
        return losses.denominator(_rows(batch["region_weight"]), self.block.normalize)

    def logits(self, head, outputs, batch):
        return head(outputs["regions"])

    def loss(self, logits, batch):
        values = losses.soft_cross_entropy(
            logits,
            _rows(batch["region_class_ids"], 2),
            _rows(batch["region_class_probs"], 2),
            _rows(batch["region_rest_prob"]),
        )
        return losses.numerator(values, _rows(batch["region_weight"]), self.block.normalize)

    def metrics(self, logits, batch):
        weights = _rows(batch["region_weight"])
        best = _rows(batch["region_class_ids"], 2)[..., 0]  # largest first
        right = jnp.argmax(logits, -1) == best
        return {"mvrc_accuracy": ((right * weights).sum(), weights.sum())}


def _rows(x, trailing: int = 1):
    """[B, M, …] → [B·M, …] with `trailing` axes after M."""
    return x.reshape(-1, *x.shape[-trailing:])
