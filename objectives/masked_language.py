"""Masked language modelling: with visual clues on captions, plain on text-only rows.

VL-BERT masks whole words, ViLBERT single pieces; otherwise they are the same.
"""

import math
from typing import Any

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int, Shaped
from ml_collections import ConfigDict

from objectives import base, losses, masking
from vl_models import layers
from vl_models.heads import HeadSpec
from vl_models.trunk import Trunk

WIDTHS = (4, 8, 16)  # targets per row that the head is compiled for, beside the cap
GATHERED = ("masked_positions", "masked_targets", "masked_weight")


class MaskedLanguage(base.Objective):
    """Predicts masked words from the states at their positions (VL-BERT §3.3, task 1)."""

    title = "masked pieces of words predicted right"
    phase = base.Phase.MASK_WORDS
    abilities = frozenset({base.Ability.FILL_WORDS})

    def __init__(self, name: str, block: ConfigDict, data_info: base.DataInfo):
        super().__init__(name, block, data_info)
        self.cap = math.ceil(block.cap * data_info.max_text)
        if block.get("words") == "marked":
            self.reads = ("probe_kind",)
            self.cap = min(masking.LONGEST, data_info.max_text)

    def head(self, trunk: Trunk) -> HeadSpec:
        del trunk
        return HeadSpec("tied_decoder", "text")

    def head_positions(self, text: int, regions: int) -> int:
        del regions
        return masking.widths(WIDTHS, min(text, self.cap))[0]

    def corrupt(self, batch: base.Arrays, keys: base.Keys) -> dict[str, Any]:
        """Adds masked_positions, masked_targets, masked_weight [B, K, G] and masked_dropped [B]."""
        if self.block.get("words") == "marked":  # configs saved by earlier versions lack it
            return self._mask_marked(batch, keys)
        special, ids = self.data_info.special, batch["text_ids"]
        shape = ids.shape[1:]
        plain = (ids != special.cls) & (ids != special.sep) & (ids != special.pad)
        starts = batch["word_starts"] if self.block.whole_word else jnp.ones_like(plain)
        selected, dropped = masking.select_words(
            self.draw(keys, "which words", shape),
            plain & batch["text_mask"],
            starts,
            self.block.rate,
            self.cap,
        )
        # One action per word, but each piece draws its own random id. [PAD] is never drawn: in the
        # original it vanishes from the sequence and shifts the labels after it.
        action = jnp.take_along_axis(
            self.draw(keys, "mask, replace or keep", shape), masking.start_of_word(starts), axis=-1
        )
        draw = self.draw(keys, "random words", shape)
        random_ids = (draw * (special.vocab_size - 1)).astype(jnp.int32)
        random_ids = jnp.where(random_ids >= special.pad, random_ids + 1, random_ids)
        masked = masking.replace_tokens(ids, selected, action, random_ids, special.mask)
        return self._with_targets(batch, masked, selected, dropped.sum(-1))

    def _mask_marked(self, batch: base.Arrays, keys: base.Keys) -> dict[str, Any]:
        """The same of one marked word of each text."""
        self.need(batch, "probe_kind")
        ids, marked = batch["text_ids"], batch["probe_kind"] > 0
        draw = self.draw(keys, "which words", ids.shape[1:])
        selected = masking.choose_word(draw, marked, batch["word_starts"])
        masked = jnp.where(selected, self.data_info.special.mask, ids)
        return self._with_targets(batch, masked, selected, jnp.zeros(len(ids), jnp.int32))

    def _with_targets(
        self,
        batch: base.Arrays,
        masked: Int[Array, "B K T"],
        selected: Bool[Array, "B K T"],
        dropped: Int[Array, " B"],
    ) -> dict[str, Any]:
        positions, targets, weights = masking.gather_targets(batch["text_ids"], selected, self.cap)
        return dict(
            batch,
            text_ids=masked,
            masked_positions=positions,
            masked_targets=targets,
            masked_weight=weights * masking.example_weight(batch)[:, None, None],
            masked_dropped=dropped,
        )

    def fill_marked(
        self, batch: base.Arrays, count: int
    ) -> tuple[base.Arrays, Int[Array, "B G"], Float[Array, "B G"]]:
        """Hides every marked piece (`probe_kind`) of each example's text.

        Args:
          batch: with one text per example.
          count: G, the most pieces of a text that are hidden.

        Returns:
          The batch, whose `logits` are of these pieces in their order; their positions, and 1 where
          there is one.
        """
        self.need(batch, "probe_kind", K=1)
        ids, marked = batch["text_ids"], batch["probe_kind"] > 0
        masked = jnp.where(marked, self.data_info.special.mask, ids)
        positions, targets, weights = masking.gather_targets(ids, marked, count)
        hidden = dict(batch, text_ids=masked, masked_positions=positions, masked_targets=targets)
        return hidden, positions[:, 0], weights[:, 0]

    def weight(self, batch: base.Arrays) -> base.Scalar:
        return losses.denominator(_rows(batch["masked_weight"]), self.block.normalize)

    def logits(
        self, head: base.Head, outputs: base.Arrays, batch: base.Arrays
    ) -> Float[Array, "N G V"]:
        states = layers.gather_rows(outputs["text"], _rows(batch["masked_positions"]))
        return head(states, outputs["word_embedding"])

    def loss(self, logits: Float[Array, "N G V"], batch: base.Arrays) -> base.Scalar:
        values = losses.cross_entropy(logits, _rows(batch["masked_targets"]))
        return losses.numerator(values, _rows(batch["masked_weight"]), self.block.normalize)

    def measure(
        self, head: base.Head, outputs: base.Arrays, batch: base.Arrays
    ) -> tuple[base.Scalar, dict[str, base.Pair]]:
        """As the base class, at no more positions per row than the batch's fullest row needs."""

        def at(width: int) -> tuple[base.Scalar, dict[str, base.Pair]]:
            cut = {key: batch[key][..., :width] for key in GATHERED}
            return super(MaskedLanguage, self).measure(head, outputs, {**batch, **cut})

        weight = batch["masked_weight"]
        known = masking.widths(WIDTHS, weight.shape[-1])
        return masking.at_narrowest(at, (weight > 0).sum(-1), known)

    def shares(self) -> dict[str, str]:
        over = "words over the cap of masked ones, left as they are"
        return {self.metric("accuracy", "mlm"): self.title, self.metric("over_cap", "mlm"): over}

    def guesses(self, batch: base.Arrays) -> dict[str, tuple[Float[Array, "..."], base.Scalar]]:
        """The most frequent piece."""
        weights = _rows(batch["masked_weight"])
        counts = losses.counts(
            _rows(batch["masked_targets"]), weights, self.data_info.special.vocab_size
        )
        return {self.metric("accuracy", "mlm"): (counts, weights.sum())}

    def metrics(self, logits: Float[Array, "N G V"], batch: base.Arrays) -> dict[str, base.Pair]:
        weights = _rows(batch["masked_weight"])
        right = losses.is_best(logits, _rows(batch["masked_targets"]))
        dropped = (batch["masked_dropped"] * batch["_weight"]).sum()
        return {
            self.metric("accuracy", "mlm"): ((right * weights).sum(), weights.sum()),
            self.metric("over_cap", "mlm"): (dropped, weights.sum() + dropped),
        }


def _rows(x: Shaped[Array, "B K G"]) -> Shaped[Array, "N G"]:
    """[B, K, G] → [B·K, G]: one row per text, as the trunk returns them."""
    return x.reshape(-1, x.shape[-1])
