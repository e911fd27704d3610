"""One of several classes from the pooled state: SNLI-VE, NLVR2, one's own labels.

As 12-in-1 has them: SNLI-VE's three relations from the fused state of image and text; NLVR2's
true or false from the fused states of the sentence with each of two images, side by side.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float
from ml_collections import ConfigDict

from core.errors import ConfigError
from objectives import base, losses
from vl_models.heads import HeadSpec
from vl_models.layers import Pairs
from vl_models.trunk import Trunk


class Classification(base.Objective):
    """One class per example; one whose label is unknown (-1) counts in no loss and no metric.

    ViLBERT's released code trains SNLI-VE's pairs without a majority label to be of no class; here
    they are left out.

    Block:
      classes: C; 0: as many as the data set's labels are of.
      images: of an example; with 2 the pooled states of the text with either are concatenated.
      classifier: "1fc": one linear layer (SNLI-VE); "transform": linear, GELU, norm, linear, of
        twice the pooled width between (NLVR2).
      dropout: before the last layer; ViLBERT's is in its trunk.
      loss: "softmax" cross-entropy, or "sigmoid": binary cross-entropy, mean over classes
        (12-in-1).
      head: name of the parameters: "entailment" and "nlvr2" are the published ones.
    """

    title = "examples classified right"
    predicts = True
    abilities = frozenset({base.Ability.CLASSIFY})
    reads: tuple[str, ...] = ("label",)
    pairs: Pairs
    named_by = "labels"

    def __init__(self, name: str, block: ConfigDict, data_info: base.DataInfo):
        super().__init__(name, block, data_info)
        self.pairs = self._pairs()

    def _pairs(self) -> Pairs:
        return tuple((0, image) for image in range(self.block.images))

    def head(self, trunk: Trunk) -> HeadSpec:
        names = self.output_names
        classes = self.block.classes or len(names)
        if not classes:
            raise ConfigError(
                f"{self.where}.classes is 0, and the data set names no classes: set their number"
            )
        names = names if len(names) == classes else ()
        options = dict(outputs=classes, dropout=self.block.dropout)
        if self.block.classifier == "1fc":
            return HeadSpec("linear", "pooled", options, self.named_by, names)
        options |= dict(width=2 * trunk.pooled_width, norm=True)
        return HeadSpec("classifier", "pooled", options, self.named_by, names)

    def corrupt(self, batch: base.Arrays, keys: base.Keys) -> dict[str, Any]:
        del keys  # nothing is hidden
        self.need(batch, "label")
        self.need(batch, "text_ids", K=1)
        self.need(batch, self.appearance, M=self.block.images)
        return dict(batch)

    def weight(self, batch: base.Arrays) -> base.Scalar:
        return _weights(batch).sum()

    def logits(
        self, head: base.Head, outputs: base.Arrays, batch: base.Arrays
    ) -> Float[Array, "B C"]:
        """[B, C]."""
        pooled = self.pooled(outputs)
        return head(pooled.reshape(-1, len(self.pairs) * pooled.shape[-1]))

    def loss(self, logits: Float[Array, "B C"], batch: base.Arrays) -> base.Scalar:
        label = batch["label"][:, 0]
        if self.block.loss == "softmax":
            values = losses.cross_entropy(logits, jnp.maximum(label, 0))
        else:
            target = jax.nn.one_hot(label, logits.shape[-1])
            values = losses.binary_cross_entropy(logits, target).mean(-1)
        return (values * _weights(batch)).sum()

    def guesses(self, batch: base.Arrays) -> dict[str, tuple[Float[Array, "..."], base.Scalar]]:
        """The most frequent class."""
        label, weights = jnp.maximum(batch["label"][:, 0], 0), _weights(batch)
        classes = self.block.classes or len(self.output_names)
        return {self.metric("accuracy"): (losses.counts(label, weights, classes), weights.sum())}

    def metrics(self, logits: Float[Array, "B C"], batch: base.Arrays) -> dict[str, base.Pair]:
        weights = _weights(batch)
        right = jnp.argmax(logits, -1) == batch["label"][:, 0]
        return {self.metric("accuracy"): ((right * weights).sum(), weights.sum())}

    def predictions(self, logits: Float[Array, "B C"], batch: base.Arrays) -> dict[str, Array]:
        """Probabilities of the classes [B, C], and the label, -1 = unknown."""
        probability = jax.nn.softmax if self.block.loss == "softmax" else jax.nn.sigmoid
        return dict(probabilities=probability(logits), label=batch["label"][:, 0])

    def describe(self, row: base.Arrays, names: Sequence[str] = ()) -> dict[str, Any]:
        """{"class": number, "name", "probabilities", "label"}; the last where it is known.

        With loss="sigmoid" also {"activation": "sigmoid"}: they are of each class by itself then.
        """
        best = int(row["probabilities"].argmax())
        out: dict[str, Any] = {"class": best}
        if len(names):
            out["name"] = names[best]
        if self.block.loss == "sigmoid":
            out["activation"] = "sigmoid"
        return out | dict(probabilities=row["probabilities"].tolist()) | known_label(row)


def known_label(row: base.Arrays) -> dict[str, Any]:
    """{"label": number}, or {} where it is unknown."""
    return {"label": int(row["label"])} if row["label"] >= 0 else {}


def _weights(batch: base.Arrays) -> Float[Array, " B"]:
    """Weight of each example's label, [B]."""
    return batch["_weight"] * (batch["label"][:, 0] >= 0)
