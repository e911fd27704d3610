"""Does the caption belong to the image? (VL-BERT's relationship task, ViLBERT's alignment.)"""

import jax.numpy as jnp

from core.errors import ConfigError
from input_pipeline.schema import TEXT_KEYS
from objectives import base, losses, masking
from vl_models.heads import HeadSpec


class Alignment(base.Objective):
    """Swaps captions of a share of the rows and tells which match, from the pooled state."""

    phase = base.Phase.SWAP_TEXTS
    abilities = frozenset({base.Ability.SCORE_PAIRS, base.Ability.JUDGE_PAIRS})

    def head(self, trunk):
        del trunk
        return HeadSpec("linear", "pooled", dict(outputs=2))

    def corrupt(self, batch, keys):
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
            raise ConfigError(f"{self.name} reads the pooled state: set config.model.pooler=True")
        return head(outputs["pooled"])

    def loss(self, logits, batch):
        return (losses.cross_entropy(logits, batch["alignment_label"]) * batch["_weight"]).sum()

    def metrics(self, logits, batch):
        right = jnp.argmax(logits, -1) == batch["alignment_label"]
        weight = batch["_weight"]
        return {self.metric("accuracy"): ((right * weight).sum(), weight.sum())}

    def pair_scores(self, logits):
        """Log-odds of a match; class 1 is one."""
        return logits[:, 1] - logits[:, 0]

    def pair_matches(self, logits):
        return jnp.argmax(logits, -1) == 1
