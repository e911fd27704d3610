"""The class of every object, from its region's final state, beside the choices of VCR.

VL-BERT (§4.2, released code): it keeps the visual branch from forgetting what it sees.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from objectives import base, losses
from vl_models.heads import HeadSpec
from vl_models.trunk import Trunk


class ObjectClass(base.Objective):
    """Cross-entropy over classes, mean over labelled regions, in every pair an image stands in.

    Block:
      classes: COCO's 80 and the background in VCR, 81; the whole image is background, 0.
    """

    title = "objects whose class is predicted right"
    reads = ("region_label",)

    def head(self, trunk: Trunk) -> HeadSpec:
        del trunk
        return HeadSpec("classifier", "regions", dict(outputs=self.block.classes))

    def head_positions(self, text: int, regions: int) -> int:
        del text
        return regions

    def warm_start(self) -> dict[str, str]:
        """VL-BERT starts from the head that told a masked region's class (released code)."""
        return {f"heads/{self.head_name}/transform": "heads/masked_region/transform"}

    def corrupt(self, batch: base.Arrays, keys: base.Keys) -> dict[str, Any]:
        del keys  # nothing is hidden
        self.need(batch, "region_label", M=1)
        return dict(batch)

    def weight(self, batch: base.Arrays) -> base.Scalar:
        return _weights(batch).sum()

    def logits(
        self, head: base.Head, outputs: base.Arrays, batch: base.Arrays
    ) -> Float[Array, "B P R C"]:
        logits = head(outputs["regions"])
        return logits.reshape(len(batch["_weight"]), -1, *logits.shape[1:])

    def loss(self, logits: Float[Array, "B P R C"], batch: base.Arrays) -> base.Scalar:
        label = jnp.maximum(batch["region_label"], 0)
        label = jnp.broadcast_to(label, logits.shape[:-1])
        values = losses.cross_entropy(logits, label).mean(1)
        return (values * _weights(batch)).sum()

    def guesses(self, batch: base.Arrays) -> dict[str, tuple[Float[Array, "..."], base.Scalar]]:
        """The most frequent class."""
        weights = _weights(batch)
        label = jnp.maximum(batch["region_label"][:, 0], 0)
        counts = losses.counts(label, weights, self.block.classes)
        return {self.metric("accuracy"): (counts, weights.sum())}

    def metrics(self, logits: Float[Array, "B P R C"], batch: base.Arrays) -> dict[str, base.Pair]:
        right = (jnp.argmax(logits, -1) == batch["region_label"]).mean(1)
        weights = _weights(batch)
        return {self.metric("accuracy"): ((right * weights).sum(), weights.sum())}


def _weights(batch: base.Arrays) -> Float[Array, "B R"]:
    """[B, R]: 1 at regions with a label."""
    labelled = batch["region_mask"] & (batch["region_label"] >= 0)
    return labelled[:, 0] * batch["_weight"][:, None]
