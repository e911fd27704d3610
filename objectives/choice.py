"""Multiple choice: which of several pairs of text and image belong together?

VCR (VL-BERT §4.2, ViLBERT §3.2): a question with each of four answers, or an answered question
with each of four rationales, on one image; words that mention an object carry its region.
Retrieval (ViLBERT §3.2): a caption and its image against three pairs that do not fit.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float
from ml_collections import ConfigDict

from core.errors import ConfigError, DataError
from input_pipeline.schema import SpecialIds
from objectives import assemble, base, classification
from vl_models.heads import HeadSpec
from vl_models.layers import Pairs
from vl_models.published.heads import TWO_SEGMENTS
from vl_models.trunk import Trunk

# (text, image) of the four pairs of retrieval. Texts: the image's own caption, one of a random
# other image, one of an image that looks alike (a hard negative). Images: its own, a random other.
RETRIEVAL = ((0, 0), (1, 0), (0, 1), (2, 0))
_ALIGNMENT = "heads/alignment/classifier"
_SEGMENTS = "trunk/embeddings/segment/embedding"
_IMAGES = "trunk/regions/projection/kernel"


class Choice(classification.Classification):
    """One score per pair, from its pooled state; loss and accuracy over the pairs of an example.

    Block:
      pairs: "texts": each of `choices` texts with the one image; "retrieval": see RETRIEVAL.
      choices: texts of an example, K; 4 in VCR and in retrieval.
      cut_first: which part of a too long pair is cut where both are equally long, see `Texts`.
      loss: "softmax" cross-entropy over the pairs (ViLBERT, VL-BERT's paper), or "sigmoid": binary
        cross-entropy, mean over pairs (VL-BERT's released configs).
      classifier: "1fc": one linear layer; "2fc": linear, ReLU, linear (VL-BERT's alternative).
      width: between the layers of "2fc"; 0: the pooled state's.
      dropout: before each linear layer (VL-BERT 0.1; ViLBERT's is in its trunk).
      head: name of the parameters; the published ones are "choice" (VL-BERT's VCR) and "ranking"
        (12-in-1, one for VCR and retrieval).
      head_init: what a "1fc" starts as: "alignment", the log-odds of a match after the alignment
        head of the checkpoint, where it has one (VL-BERT's released code; its released checkpoints
        have none), or "random" (ViLBERT's).
      segment_b: "copy": the second segment's embedding starts as the first's where the checkpoint
        was trained on one segment alone (VL-BERT's VCR); "as_loaded" (ViLBERT).
    """

    title = "examples whose right pair is chosen"
    abilities = frozenset({base.Ability.CHOOSE})
    named_by = ""
    whole_text = True  # the assembler cuts question and choice; regions never cost words

    @classmethod
    def assembler(cls, block: ConfigDict) -> assemble.Assembler:
        if block.pairs == "retrieval":
            return assemble.caption
        return Texts(block.choices, block.cut_first)

    def __init__(self, name: str, block: ConfigDict, data_info: base.DataInfo):
        super().__init__(name, block, data_info)
        self.choices = block.choices
        if block.pairs == "retrieval":
            self.predicts = False  # negatives are resampled
            self.reads = ()  # the first pair is always the right one
            # With pairs="texts" the texts are not captions, so there is nothing to rank.
            self.abilities = frozenset({base.Ability.SCORE_PAIRS})

    def _pairs(self) -> Pairs:
        if self.block.pairs == "texts":
            return tuple((text, 0) for text in range(self.block.choices))
        if self.block.choices != len(RETRIEVAL):
            raise ConfigError(
                f"{self.where}.choices must be {len(RETRIEVAL)} with "
                f"pairs='retrieval', found {self.block.choices}"
            )
        return RETRIEVAL

    def head(self, trunk: Trunk) -> HeadSpec:
        block = self.block
        if block.classifier == "1fc":
            return HeadSpec("linear", "pooled", dict(outputs=1, dropout=block.dropout))
        if block.head_init == "alignment":
            raise ConfigError(
                f"{self.where}.head_init='alignment' is of one linear layer, "
                f"found classifier {block.classifier!r}\n"
                f"  fix: --{self.where}.head_init=random"
            )
        options = dict(
            outputs=1,
            width=block.width or trunk.pooled_width,
            activation="relu",
            input_dropout=block.dropout,
            dropout=block.dropout,
        )
        return HeadSpec("classifier", "pooled", options)

    def initial_values(
        self, arrays: base.Arrays, known: base.Arrays
    ) -> dict[str, base.InitialValue]:
        return self._log_odds(arrays) | self._second_segment(arrays, known)

    def _log_odds(self, arrays: base.Arrays) -> dict[str, base.InitialValue]:
        return log_odds(self.head_name, arrays) if self.block.head_init == "alignment" else {}

    def _second_segment(
        self, arrays: base.Arrays, known: base.Arrays
    ) -> dict[str, base.InitialValue]:
        """Captions are of one segment, so a model trained on them alone never saw the second.

        Its heads show whether it saw the second one; BERT, which has no images, saw both.
        """
        heads_there = {path.split("/")[1] for path in arrays if path.startswith("heads/")}
        trained = heads_there & TWO_SEGMENTS or _IMAGES not in arrays
        if self.block.segment_b != "copy" or trained or _SEGMENTS not in arrays:
            return {}
        table = arrays[_SEGMENTS].copy()
        table[1] = table[0]
        note = "segment B starts as segment A, which alone was trained"
        value = base.InitialValue(table, _SEGMENTS, note, known.get(_SEGMENTS), replaces=True)
        return {_SEGMENTS: value}

    def corrupt(self, batch: base.Arrays, keys: base.Keys) -> dict[str, Any]:
        """Adds retrieval's labels; mentions of regions that were cut off mean the whole image."""
        del keys  # nothing is hidden
        texts, images = (1 + max(numbers) for numbers in zip(*self.pairs, strict=True))
        self.need(batch, "text_ids", K=texts)
        self.need(batch, self.appearance, M=images)
        out = dict(batch)
        if self.block.pairs == "retrieval":
            out["label"] = jnp.zeros((len(batch["_weight"]), 1), jnp.int32)  # the first pair
        self.need(out, "label")
        if "token_region" in batch:
            row, mask = batch["token_region"], batch["region_mask"]
            there = jnp.take_along_axis(
                jnp.broadcast_to(mask, (*row.shape[:2], mask.shape[-1])), row, -1, mode="clip"
            )
            out["token_region"] = jnp.where(there & (row < mask.shape[-1]), row, 0)
        return out

    def logits(
        self, head: base.Head, outputs: base.Arrays, batch: base.Arrays
    ) -> Float[Array, "B P"]:
        """[B, P], one per pair."""
        return head(self.pooled(outputs)).reshape(-1, len(self.pairs))

    def guesses(self, batch: base.Arrays) -> dict[str, tuple[Float[Array, "..."], base.Scalar]]:
        """Any of the pairs."""
        weight = self.weight(batch)
        return {self.metric("accuracy"): (weight / len(self.pairs), weight)}

    def pair_scores(self, logits: Float[Array, "N outputs"]) -> Float[Array, " N"]:
        return logits[:, 0]

    def predictions(self, logits: Float[Array, "B P"], batch: base.Arrays) -> dict[str, Array]:
        """Logits, and their softmax whatever the loss, as leaderboards want them: [B, P]."""
        probabilities = jax.nn.softmax(logits)
        return dict(logits=logits, probabilities=probabilities, label=batch["label"][:, 0])

    def describe(self, row: base.Arrays, names: Sequence[str] = ()) -> dict[str, Any]:
        """{"choice": number, "probabilities", "logits", "label"}; the last where it is known."""
        return dict(
            choice=int(row["logits"].argmax()),
            probabilities=row["probabilities"].tolist(),
            logits=row["logits"].tolist(),
        ) | classification.known_label(row)


def log_odds(head: str, arrays: base.Arrays) -> dict[str, base.InitialValue]:
    """A pair's score as log p(match) − log p(no match): the difference of their logits.

    Args:
      head: name of a linear head with one output.
      arrays: of a checkpoint; {} comes of one without an alignment head.
    """
    if f"{_ALIGNMENT}/kernel" not in arrays:
        return {}
    out = {}
    for part in ("kernel", "bias"):
        logits = arrays[f"{_ALIGNMENT}/{part}"].astype(np.float32)
        out[f"heads/{head}/classifier/{part}"] = base.InitialValue(
            logits[..., 1:] - logits[..., :1],
            f"{_ALIGNMENT}/{part}",
            "match minus mismatch of the alignment head",
        )
    return out


@dataclasses.dataclass(frozen=True)
class Texts:
    """[CLS] question [SEP] choice [SEP] for each choice of a question.

    What is too long is cut piece by piece off the end of the longer part. On a tie ViLBERT cuts
    the choice, VL-BERT the question. Where the question comes with its answer, VL-BERT cuts the
    question down to one piece before the answer, and in a split without labels nothing at all. It
    keeps what one choice has cut off the question cut for the next ones; here choices do not
    depend on each other.

    Attributes:
      choices: K.
      cut_first: "choice" or "question".
    """

    choices: int
    cut_first: str = "choice"

    def width(self, table: assemble.TextTable, rows: np.ndarray, max_text: int) -> int:
        """T that a split needs: more than `max_text` where none of its texts may be cut.

        Args:
          table: see `__call__`.
          rows: int [n], all questions of the split.
          max_text: T of the stream.
        """
        question = table.gather(rows[:1], 1)
        if self.cut_first == "choice" or "second" not in question:
            return max_text
        if (table.values_of(rows)["label"] >= 0).any():
            return max_text
        longest = max(table.longest(rows + 1 + i) for i in range(self.choices))
        return max(max_text, table.longest(rows) + longest + 3)

    def __call__(
        self, table: assemble.TextTable, rows: np.ndarray, special: SpecialIds, max_text: int
    ) -> dict[str, np.ndarray]:
        """Text arrays of some questions.

        Args:
          table: text table; a question's choices are the rows after its own. Where words mention
            regions, `gather` also returns token_region [B, width].
          rows: int [B], of the questions.
          special: ids of the special tokens.
          max_text: T, special tokens included.

        Returns:
          text_ids, text_mask, segment_ids (1 in the choice and its [SEP]), word_starts and, where
          words mention regions, token_region: [B, K, T].

        Raises:
          DataError: a question with another number of choices.
        """
        rows = np.asarray(rows)
        found = table.followers(rows)
        if (found != self.choices).any():
            i = int(np.argmax(found != self.choices))
            raise DataError(
                "a question has another number of choices",
                where=f"example {table.text_id(int(rows[i]))!r}",
                expected=self.choices,
                found=int(found[i]),
                fix="set --config.objectives.<name>.choices of the stream's objective",
            )
        question, *choices = (table.gather(rows + i, max_text - 3) for i in range(self.choices + 1))
        if self.cut_first == "question" and "second" in question:
            question = table.gather(rows, max(max_text - 3, table.longest(rows)))
        texts = [self._joined(question, choice, special, max_text) for choice in choices]
        return {key: np.stack([text[key] for text in texts], axis=1) for key in texts[0]}

    def _joined(
        self,
        first: dict[str, np.ndarray],
        second: dict[str, np.ndarray],
        special: SpecialIds,
        max_text: int,
    ) -> dict[str, np.ndarray]:
        """Question and choice in one row, each array [B, T]."""
        room, slots = max_text - 3, np.arange(max_text)
        whole, two = first["lengths"][:, None], second["lengths"][:, None]
        if self.cut_first == "question":
            two = np.minimum(two, np.maximum(room - whole, (room + 1) // 2))
            one = np.minimum(whole, room - two)
        else:
            one = np.minimum(whole, np.maximum(room - two, (room + 1) // 2))
            two = np.minimum(two, room - one)
        in_first = (slots >= 1) & (slots <= one)
        in_second = (slots >= one + 2) & (slots < one + 2 + two)
        end = (slots == one + 1) | (slots == one + 2 + two)
        mask = slots <= one + 2 + two
        # Pieces of the first part: its beginning; with an answer, the question's and the answer's.
        pieces = np.broadcast_to(slots - 1, in_first.shape)
        if self.cut_first == "question" and "second" in first:
            before = first["second"][:, None]
            kept = np.maximum(np.minimum(before, 1), before - (whole - one))
            pieces = np.where(pieces < kept, pieces, pieces + before - kept)

        def spread(key: str, outer: int) -> np.ndarray:
            last = first[key].shape[1] - 1
            a = np.take_along_axis(first[key], np.clip(pieces, 0, last), axis=1)
            b = np.take_along_axis(second[key], np.clip(slots - one - 2, 0, room - 1), axis=1)
            return np.where(in_first, a, np.where(in_second, b, outer)).astype(first[key].dtype)

        text = np.where(end, special.sep, spread("ids", special.pad)).astype(np.int32)
        text[:, 0] = special.cls
        out = dict(
            text_ids=text,
            text_mask=mask,
            segment_ids=(mask & (slots >= one + 2)).astype(np.int32),
            word_starts=spread("word_starts", False) | end | (slots == 0),
        )
        if "token_region" in first:
            out["token_region"] = spread("token_region", 0).astype(np.int32)
        return out
