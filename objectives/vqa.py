"""Visual question answering as classification over an answer list (VQA v2, Visual Genome QA, GQA).

VL-BERT (§4.2, released code) appends the answer as one masked word, `[CLS] question [SEP] [MASK]
[SEP]`, and reads its state; ViLBERT (§3.2) reads the fused pooled states of text and image.
"""

import jax
import jax.numpy as jnp
import numpy as np

from objectives import base
from vl_models import heads, layers

OPTIONS = {
    "form": ("masked_answer", "pooled"),
    "classifier": ("transform", "1fc", "2fc", "weight_norm"),
}


class Task(base.Objective):
    """Binary cross-entropy with soft scores, summed over answers, mean over questions.

    Block:
      form: "masked_answer" reads the state of [MASK], "pooled" the pooled state.
      classifier: "transform": linear, GELU, norm, linear (VL-BERT's "mlm" and 12-in-1's head);
        "1fc" and "2fc": VL-BERT's alternatives; "weight_norm": ViLBERT's first release.
      width: between the layers; 0: the width of the state, twice that in the pooled form.
      dropout: in the classifier.
      head: name of the parameters, "vqa" or "gqa" (their answer lists differ).
    """

    stage = 0
    mirrors = False  # "left" and "right" would have to change places in the answers, too

    def __init__(self, name, block, facts):
        super().__init__(name, block, facts)
        base.check_options("vqa", block, OPTIONS)
        self.whole_text = block.form == "masked_answer"  # the [MASK] stands at the end
        if not facts.num_answers:
            raise ValueError(
                f"objective {name!r} needs a data set with an answer list, such as data=vqa"
            )
        self.head_name = block.head

    @classmethod
    def assembler(cls, block):
        base.check_options("vqa", block, OPTIONS)
        return assemble_masked_answer if block.form == "masked_answer" else base.assemble_caption

    def head(self, trunk):
        block, outputs = self.block, self.facts.num_answers
        pooled = block.form == "pooled"
        state = trunk.pooled_width if pooled else trunk.sizes.hidden
        width = block.width or state * (2 if pooled else 1)
        if block.classifier == "1fc":
            return heads.Linear(trunk.sizes, outputs, dropout=block.dropout)
        if block.classifier == "2fc":
            return heads.Classifier(
                trunk.sizes,
                outputs,
                width,
                activation="relu",
                input_dropout=block.dropout,
                dropout=block.dropout,
            )
        if block.classifier == "weight_norm":
            return heads.WeightNormClassifier(trunk.sizes, outputs, width)
        return heads.Classifier(trunk.sizes, outputs, width, norm=True, dropout=block.dropout)

    def warm_start(self):
        """VL-BERT's answer word comes out of the masked-language head (released code)."""
        if self.block.form != "masked_answer" or self.block.classifier != "transform":
            return {}
        own, words = f"heads/{self.head_name}", "heads/masked_language"
        return {f"{own}/{part}": f"{words}/{part}" for part in ("transform", "norm")}

    def corrupt(self, batch, keys):
        del keys  # nothing is hidden
        return dict(batch)

    def weight(self, batch):
        return batch["_weight"].sum()

    def logits(self, head, outputs, batch):
        """[B, answers]."""
        if self.block.form == "pooled":
            if "pooled" not in outputs:
                raise ValueError("the pooled form reads a pooled state: set config.model.pooler")
            return head(outputs["pooled"])
        return head(layers.gather_rows(outputs["text"], batch["answer_position"])[:, 0])

    def loss(self, logits, batch):
        """Σ over answers of −y log σ(x) − (1 − y) log σ(−x) = softplus(x) − y·x."""
        picked = jnp.take_along_axis(logits, batch["answer_ids"], 1) * batch["answer_scores"]
        values = jax.nn.softplus(logits).sum(-1) - picked.sum(-1)
        return (values * batch["_weight"]).sum()

    def metrics(self, logits, batch):
        """The soft score of the best answer (VL-BERT's SoftAcc)."""
        best = jnp.argmax(logits, -1)[:, None]
        score = jnp.where(batch["answer_ids"] == best, batch["answer_scores"], 0).sum(-1)
        weight = batch["_weight"]
        return {f"{self.name}_accuracy": ((score * weight).sum(), weight.sum())}


def assemble_masked_answer(table, rows: np.ndarray, special, max_text: int) -> dict:
    """[CLS] question [SEP] [MASK] [SEP]; segment B from [MASK] on; a long question is cut.

    Returns:
      text_ids, text_mask, segment_ids, word_starts [B, 1, T] and answer_position [B, 1].
    """
    out = base.assemble_caption(table, rows, special, max_text - 2)
    out = {key: np.pad(array, ((0, 0), (0, 0), (0, 2))) for key, array in out.items()}
    out["text_ids"][~out["text_mask"]] = special.pad
    at = out["text_mask"].sum(-1, keepdims=True)  # [B, 1, 1]
    for offset, token in enumerate((special.mask, special.sep)):
        for key, value in (
            ("text_ids", token),
            ("text_mask", True),
            ("segment_ids", 1),
            ("word_starts", True),
        ):
            np.put_along_axis(out[key], at + offset, value, axis=-1)
    out["answer_position"] = at[..., 0].astype(np.int32)
    return out
