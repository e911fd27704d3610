"""Visual question answering as classification over an answer list (VQA v2, Visual Genome QA, GQA).

VL-BERT (§4.2, released code) appends the answer as one masked word, `[CLS] question [SEP] [MASK]
[SEP]`, and reads its state; ViLBERT (§3.2) reads the fused pooled states of text and image.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from core.errors import ConfigError, DataError
from input_pipeline.schema import SpecialIds
from objectives import assemble, base, losses
from vl_models import layers
from vl_models.heads import HeadSpec
from vl_models.trunk import Trunk

TOP = 5  # answers that a prediction names
_WORDS = "trunk/embeddings/word/embedding"


class AnswerQuestions(base.Objective):
    """Binary cross-entropy with soft scores, summed over answers, mean over questions.

    Block:
      form: "masked_answer" reads the state of [MASK], "pooled" the pooled state.
      classifier: "transform": linear, GELU, norm, linear (VL-BERT's "mlm" and 12-in-1's head);
        "1fc" and "2fc": VL-BERT's alternatives; "weight_norm": ViLBERT's first release.
      classifier_init: the last layer of a run that starts from a checkpoint: "words", each answer
        as the mean of the embeddings of its word pieces (VL-BERT, released code), or "random"
        (ViLBERT). From scratch it is random, as the word embeddings are themselves.
      width: between the layers; 0: the width of the state, twice that in the pooled form.
      dropout: in the classifier.
      head: name of the parameters; the published ones are "vqa" and "gqa" (their lists differ).
    """

    title = "questions answered right, by the soft scores of the answers"
    predicts = True
    abilities = frozenset({base.Ability.ANSWER})
    reads = ("answer_ids", "answer_scores")
    named_by = "answers"
    flip_invariant = False  # "left" and "right" would have to change places in the answers, too

    def __init__(self, name: str, block: ConfigDict, data_info: base.DataInfo):
        super().__init__(name, block, data_info)
        self.whole_text = block.form == "masked_answer"  # the [MASK] stands at the end
        if not data_info.lists.answers:
            raise DataError(
                f"objective {name!r} needs a data set with an answer list, such as data=vqa"
            )

    @classmethod
    def assembler(cls, block: ConfigDict) -> assemble.Assembler:
        return assemble_masked_answer if block.form == "masked_answer" else assemble.caption

    def head(self, trunk: Trunk) -> HeadSpec:
        block = self.block
        pooled = block.form == "pooled"
        state = trunk.pooled_width if pooled else trunk.sizes.hidden
        width = block.width or state * (2 if pooled else 1)
        if block.classifier_init == "words" and not (
            self._of_masked_word() and width == trunk.sizes.hidden
        ):
            raise ConfigError(
                f"{self.where}.classifier_init='words' needs form='masked_answer',"
                " classifier='transform' and the width of the word embeddings "
                f"({trunk.sizes.hidden}); found {block.form!r}, {block.classifier!r} and {width}\n"
                f"  fix: --{self.where}.classifier_init=random"
            )
        module, options = "classifier", dict[str, Any](outputs=len(self.output_names))
        if block.classifier == "1fc":
            module, options = "linear", options | dict(dropout=block.dropout)
        elif block.classifier == "2fc":
            options |= dict(
                width=width, activation="relu", input_dropout=block.dropout, dropout=block.dropout
            )
        elif block.classifier == "weight_norm":
            module, options = "weight_norm", options | dict(width=width)
        else:
            options |= dict(width=width, norm=True, dropout=block.dropout)
        reads = "pooled" if pooled else "text"
        return HeadSpec(module, reads, options, self.named_by, self.output_names)

    def warm_start(self) -> dict[str, str]:
        """VL-BERT predicts the answer with the masked-language head (released code)."""
        if not self._of_masked_word():
            return {}
        own, words = f"heads/{self.head_name}", "heads/masked_language"
        return {f"{own}/{part}": f"{words}/{part}" for part in ("transform", "norm")}

    def _of_masked_word(self) -> bool:
        """Whether the head is the masked-language head, with answers in place of words."""
        return self.block.form == "masked_answer" and self.block.classifier == "transform"

    def initial_values(
        self, arrays: base.Arrays, known: base.Arrays
    ) -> dict[str, base.InitialValue]:
        """Each answer as its words, in place of the decoder that is the word table."""
        if self.block.classifier_init != "words" or _WORDS not in arrays:
            return {}
        pieces, layer = self.data_info.lists.answer_pieces, f"heads/{self.head_name}/classifier"
        kernel, has = mean_words(arrays[_WORDS], known.get(_WORDS), pieces)
        count = f"{len(pieces):,}" if has.all() else f"{has.sum():,} of {len(pieces):,}"
        note = f"from the word embeddings of {count} answers"
        return {
            f"{layer}/kernel": base.InitialValue(
                kernel, _WORDS, note, known=None if has.all() else has[None]
            ),
            f"{layer}/bias": base.InitialValue(np.zeros(len(pieces), np.float32), _WORDS, note),
        }

    @property
    def loss_terms(self) -> tuple[int, str]:
        return len(self.output_names), "answer"

    def corrupt(self, batch: base.Arrays, keys: base.Keys) -> dict[str, Any]:
        del keys  # nothing is hidden
        return dict(batch)

    def weight(self, batch: base.Arrays) -> base.Scalar:
        return _weights(batch).sum()

    def logits(
        self, head: base.Head, outputs: base.Arrays, batch: base.Arrays
    ) -> Float[Array, "B A"]:
        """[B, answers]."""
        if self.block.form == "pooled":
            return head(self.pooled(outputs))
        return head(layers.gather_rows(outputs["text"], batch["answer_position"])[:, 0])

    def loss(self, logits: Float[Array, "B A"], batch: base.Arrays) -> base.Scalar:
        """Σ over answers of −y log σ(x) − (1 − y) log σ(−x) = softplus(x) − y·x."""
        picked = jnp.take_along_axis(logits, batch["answer_ids"], 1) * batch["answer_scores"]
        values = jax.nn.softplus(logits).sum(-1) - picked.sum(-1)
        return (values * _weights(batch)).sum()

    def metrics(self, logits: Float[Array, "B A"], batch: base.Arrays) -> dict[str, base.Pair]:
        """The soft score of the best answer (VL-BERT's SoftAcc)."""
        best = jnp.argmax(logits, -1)[:, None]
        score = jnp.where(batch["answer_ids"] == best, batch["answer_scores"], 0).sum(-1)
        weight = _weights(batch)
        return {self.metric("accuracy"): ((score * weight).sum(), weight.sum())}

    def guesses(self, batch: base.Arrays) -> dict[str, tuple[Float[Array, "..."], base.Scalar]]:
        """The one answer that scores best over all questions."""
        weight = _weights(batch)
        scores = batch["answer_scores"] * weight[:, None]
        sums = losses.counts(jnp.maximum(batch["answer_ids"], 0), scores, len(self.output_names))
        return {self.metric("accuracy"): (sums, weight.sum())}

    def predictions(self, logits: Float[Array, "B A"], batch: base.Arrays) -> dict[str, Array]:
        """The best answers, the best one first, and their probabilities: [B, TOP]."""
        return self.ranked(logits, TOP)

    def ranked(self, logits: Float[Array, "B A"], count: int) -> dict[str, Array]:
        """The `count` best answers as `predictions` tells them, or all where there are fewer."""
        best, answer = jax.lax.top_k(logits, min(count, logits.shape[-1]))
        return dict(answers=answer, probabilities=jax.nn.sigmoid(best))

    def describe(self, row: base.Arrays, names: Sequence[str] = ()) -> dict[str, Any]:
        """{"answer", "probability", "top": [[answer, probability], ...]}."""
        pairs = zip(row["answers"].tolist(), row["probabilities"].tolist(), strict=True)
        top = [[names[answer], probability] for answer, probability in pairs]
        return dict(answer=top[0][0], probability=top[0][1], top=top)


def _weights(batch: base.Arrays) -> Float[Array, " B"]:
    """Weight of each question, [B]: 0 where it comes without answers."""
    return batch["_weight"] * (batch["answer_ids"][:, 0] >= 0)


def mean_words(
    table: Float[np.ndarray, "V D"],
    known: Bool[np.ndarray, "V 1"] | None,
    pieces: Sequence[Sequence[int]],
) -> tuple[Float[np.ndarray, "D answers"], Bool[np.ndarray, " answers"]]:
    """The mean embedding of each answer's word pieces.

    Args:
      table: [V, D].
      known: bool [V, 1], pieces that have an embedding; None: all.
      pieces: ids of each answer's pieces.

    Returns:
      float32 [D, answers]; bool [answers], whether an answer has any piece that counts.
    """
    means, has = np.zeros((len(pieces), table.shape[1]), np.float32), np.zeros(len(pieces), bool)
    for i, ids in enumerate(pieces):
        ids = [n for n in ids if known is None or known[n, 0]]
        if ids:
            means[i], has[i] = table[ids].astype(np.float32).mean(0), True
    return means.T, has


def assemble_masked_answer(
    table: assemble.TextTable, rows: np.ndarray, special: SpecialIds, max_text: int
) -> dict[str, np.ndarray]:
    """[CLS] question [SEP] [MASK] [SEP]; segment B from [MASK] on; a long question is cut.

    Returns:
      text_ids, text_mask, segment_ids, word_starts [B, 1, T] and answer_position [B, 1].
    """
    out = assemble.caption(table, rows, special, max_text - 2)
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
