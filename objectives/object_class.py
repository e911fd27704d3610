"""The class of every object, from its region's final state, beside the choices of VCR.

VL-BERT (§4.2, released code): it keeps the visual branch from forgetting what it sees.
"""

import jax.numpy as jnp

from objectives import base, losses
from vl_models.heads import HeadSpec


class ObjectClass(base.Objective):
    """Cross-entropy over classes, mean over labelled regions, in every pair an image stands in.

    Block:
      classes: COCO's 80 and the background in VCR, 81; the whole image is background, 0.
    """

    reads = ("region_label",)

    def head(self, trunk):
        del trunk
        return HeadSpec("classifier", "regions", dict(outputs=self.block.classes))

    def head_positions(self, text, regions):
        del text
        return regions

    def warm_start(self):
        """VL-BERT starts from the head that told a masked region's class (released code)."""
        return {f"heads/{self.head_name}/transform": "heads/masked_region/transform"}

    def corrupt(self, batch, keys):
        del keys  # nothing is hidden
        self.need(batch, "region_label", M=1)
        return dict(batch)

    def weight(self, batch):
        return _weights(batch).sum()

    def logits(self, head, outputs, batch):
        """[B, P, R, C]."""
        logits = head(outputs["regions"])
        return logits.reshape(len(batch["_weight"]), -1, *logits.shape[1:])

    def loss(self, logits, batch):
        label = jnp.maximum(batch["region_label"], 0)
        label = jnp.broadcast_to(label, logits.shape[:-1])
        values = losses.cross_entropy(logits, label).mean(1)
        return (values * _weights(batch)).sum()

    def metrics(self, logits, batch):
        right = (jnp.argmax(logits, -1) == batch["region_label"]).mean(1)
        weights = _weights(batch)
        return {self.metric("accuracy"): ((right * weights).sum(), weights.sum())}


def _weights(batch):
    """[B, R]: 1 at regions with a label."""
    labelled = batch["region_mask"] & (batch["region_label"] >= 0)
    return labelled[:, 0] * batch["_weight"][:, None]
