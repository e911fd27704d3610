"""Does the caption belong to the image? (VL-BERT's relationship task, ViLBERT's alignment.)"""

import jax.numpy as jnp

from core.errors import ConfigError
from input_pipeline.schema import TEXT_KEYS
from objectives import base, losses, masking
from vl_models import heads


class Task(base.Objective):
    """Swaps captions of a share of the rows and tells which match, from the pooled state."""

    head_name = "alignment"
    stage = 0

    def head(self, trunk):
        return heads.Linear(trunk.sizes, 2)

    def corrupt(self, batch, keys):
        """Keeps the image's own caption (k = 0) or a foreign one (k = 1), K 2 → 1.

        Adds alignment_label int [B], 1 = match.

        Other losses go on counting mismatched rows, as in VL-BERT and ViLBERT, unless
        `drop_labels` (12-in-1): their inputs are masked all the same, since the presence of masks
        would give the label away.
        """
        if batch["text_ids"].shape[1] != 2:
            raise ConfigError(
                "alignment needs another image's caption beside each: set "
                "config.streams.<name>.negatives=True"
            )
        swap = masking.uniform(masking.fold(keys, 5), ()) < self.block.rate
        out = dict(batch, alignment_label=(~swap).astype(jnp.int32))
        if self.block.drop_labels:
            out["label_weight"] = (~swap).astype(jnp.float32)
        for key in TEXT_KEYS:
            if key in batch:
                own, other = batch[key][:, :1], batch[key][:, 1:]
                out[key] = jnp.where(swap[:, None, None], other, own)
        return out

    def weight(self, batch):
        return batch["_weight"].sum()

    def logits(self, head, outputs, batch):
        if "pooled" not in outputs:
            raise ConfigError("alignment reads the pooled state: set config.model.pooler=True")
        return head(outputs["pooled"])

    def loss(self, logits, batch):
        return (losses.cross_entropy(logits, batch["alignment_label"]) * batch["_weight"]).sum()

    def metrics(self, logits, batch):
        right = jnp.argmax(logits, -1) == batch["alignment_label"]
        weight = batch["_weight"]
        return {"alignment_accuracy": ((right * weight).sum(), weight.sum())}
