"""Visual gain: masked-word accuracy with the example's own regions minus with another image's.

One word per example is masked, all its pieces and always by [MASK]; both accuracies are of the same
masks.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, PyTree
from ml_collections import ConfigDict

from core.checks import Check, one_of, whole
from core.errors import ConfigError, DataError
from core.headings import Heading
from evaluation import bootstrap, evaluators
from evaluation.stream import EvaluationStream, Place
from input_pipeline.schema import TEXT_KEYS, SpecialIds
from objectives import base, masking
from objectives.model import MultiTaskModel
from runtime import sharding

WORDS = ("probe", "all")
HIDDEN = ("nothing", "named", "objects")
KINDS = 31  # of marked words that a data set may have


def fill(
    model: MultiTaskModel,
    params: PyTree,
    stream: str,
    batch: base.Arrays,
    keys: base.Keys,
    special: SpecialIds,
    *,
    probe: bool,
    hidden: str = "nothing",
) -> tuple[Bool[Array, "B T"], Int[Array, "B G"], Float[Array, "B G"], Float[Array, "B 2 G V"]]:
    """Masks one word per example and predicts it with the own image (m = 0) and another's (m = 1).

    Args:
      model: with an objective that fills in words.
      params: of the model.
      stream: whose objectives and lengths hold.
      batch: stream batch with M = 2.
      keys: key[B], which word.
      special: ids of the special tokens.
      probe: draw among the marked words only, each kind in a row as likely as the others.
      hidden: regions that the model does not see: those that show the object which the word speaks
        of ("named", with words that nobody matched to a region left out), or "objects", all but the
        whole image.

    Returns:
      chosen bool [B, T]; targets int [B, G] and weights [B, G] of its pieces; logits [B, 2, G, V].
    """
    # An alignment stream brings a foreign caption too; the image's own is the first.
    batch = {k: x[:, :1] if k in TEXT_KEYS else x for k, x in batch.items()}
    ids, starts = batch["text_ids"][:, 0], batch["word_starts"][:, 0]
    plain = (ids != special.cls) & (ids != special.sep) & batch["text_mask"][:, 0]
    if hidden == "named":
        plain &= batch["phrase_region"][:, 0] > 0
    candidate = plain & _of_one_kind(keys, batch["probe_kind"][:, 0]) if probe else plain
    draw = masking.uniform(keys, ids.shape[1:])
    chosen = masking.choose_word(draw, candidate, starts)
    positions, targets, weights = masking.gather_targets(ids, chosen, masking.LONGEST)
    masked = dict(batch, text_ids=jnp.where(chosen, special.mask, ids)[:, None])
    if hidden != "nothing":
        masked["region_mask"] = batch["region_mask"] & ~_unseen(batch, chosen, hidden)
    outputs = model.outputs(params, stream, masked, pairs=((0, 0), (0, 1)))
    index = jnp.repeat(positions, 2, axis=0)[..., None]
    states = jnp.take_along_axis(outputs["text"], index, axis=1)
    objective = base.able(model.streams[stream], base.Ability.FILL_WORDS, stream)[0]
    logits = model.head(params, objective.head_name)(states, outputs["word_embedding"])
    return chosen, targets, weights, logits.reshape(ids.shape[0], 2, masking.LONGEST, -1)


def _unseen(batch: base.Arrays, chosen: Bool[Array, "B T"], hidden: str) -> Bool[Array, "B 1 R"]:
    """The regions that a hidden word is filled in without; row 0 is the whole image."""
    rows = jnp.arange(batch["region_mask"].shape[-1])
    if hidden == "objects":
        return jnp.broadcast_to(rows > 0, (len(chosen), 1, len(rows)))
    named = (batch["phrase_region"][:, 0] * chosen).max(-1)
    return (rows == named[:, None])[:, None]


def _of_one_kind(keys: base.Keys, kinds: Int[Array, "B T"]) -> Bool[Array, "B T"]:
    """The marked pieces of one kind of a row, any of the row's kinds equally likely.

    Colours and shapes are in every caption, sizes and places in few: drawn alike, each kind is
    measured on enough words.
    """
    draw = masking.uniform(masking.named(keys, "kind"), (KINDS + 1,))
    of_piece = jnp.where(kinds > 0, jnp.take_along_axis(draw, kinds, axis=1), -1.0)
    return (of_piece == of_piece.max(-1, keepdims=True)) & (kinds > 0)


# What is said of each kind of marked words: `by_kind/<kind>/<column>`.
COLUMNS = {
    "words": Heading("words masked"),
    "own": Heading("filled in right", "share"),
    "other": Heading("the same with another image's regions", "share"),
    "within": Heading("right among the words of the kind", "share"),
    "within_low": Heading("lower end of its 95 % interval", "share"),
    "within_high": Heading("upper end of its 95 % interval", "share"),
    "prior": Heading("the most frequent word of the kind", "share"),
}


@dataclasses.dataclass(frozen=True)
class _Filled:
    """Words that were masked and filled in, one entry each.

    Attributes:
      right: float [N, 2], whether the word is right with the own image and with another's.
      within: float [N], whether it is the best among the words of its kind, own image.
      kind: int [N], number of its kind, from 1; 0: of none.
      word: int [N], vocabulary id of its first piece.
      image: int [N].
    """

    right: Float[np.ndarray, "N 2"]
    within: Float[np.ndarray, " N"]
    kind: Int[np.ndarray, " N"]
    word: Int[np.ndarray, " N"]
    image: Int[np.ndarray, " N"]

    def of_kind(self, number: int) -> "_Filled":
        """Those of one kind."""
        here = self.kind == number
        return _Filled(*(getattr(self, field.name)[here] for field in dataclasses.fields(self)))


class Evaluator(evaluators.Evaluator):
    """Needs a stream with two images per example: its own and another's.

    `config.evals.<name>`: words, "probe" (marked by the data set as visible only in the image) or
    "all"; rounds, words drawn per example; hidden, regions that the model does not see, see `fill`.
    """

    checks: ClassVar[Mapping[str, Check]] = dict(
        words=one_of(*WORDS), rounds=whole(1), hidden=one_of(*HIDDEN)
    )
    other_image = True

    def __init__(
        self,
        block: ConfigDict,
        model: MultiTaskModel,
        stream: EvaluationStream,
        place: Place,
        seed: int,
    ):
        self._stream, self._place, self._rounds = stream, place, block.rounds
        self._seed, self._words, self._hidden = seed, block.words, block.hidden
        self._kinds = stream.kinds if block.words == "probe" else {}
        special, name = stream.special, block.stream
        # Row 0: a word of no kind, whose first piece any piece may be.
        allowed = np.ones((1 + len(self._kinds), special.vocab_size), bool)
        for row, ids in zip(allowed[1:], self._kinds.values(), strict=True):
            if None not in ids:
                row[:] = False
                row[list(ids)] = True

        @jax.jit
        def step(params: PyTree, batch: base.Arrays, round_: int) -> tuple[Array, ...]:
            key = jax.random.fold_in(jax.random.key(seed), round_)
            keys = masking.row_keys(key, batch["example_index"])
            chosen, targets, weights, logits = fill(
                model,
                params,
                name,
                batch,
                keys,
                special,
                probe=block.words == "probe",
                hidden=block.hidden,
            )
            best = jnp.argmax(logits, -1)
            right = ((best == targets[:, None]) | (weights[:, None] == 0)).all(-1)  # whole words
            drawn = chosen.any(-1) & (batch["_weight"] > 0)
            kind = jnp.zeros(len(drawn), jnp.int32)
            if self._kinds:
                kind = (batch["probe_kind"][:, 0] * chosen).max(-1)
            of_kind = jnp.where(jnp.asarray(allowed)[kind], logits[:, 0, 0], -jnp.inf)
            within = jnp.argmax(of_kind, -1) == targets[:, 0]
            return right, within, kind, targets[:, 0], batch["image_key"][:, 0], drawn

        self._step = step

    def headings(self) -> dict[str, Heading]:
        marked = "words that only the image tells" if self._words == "probe" else "words"
        return {
            "word_accuracy": Heading(f"{marked}, masked, filled in right", "share"),
            "word_accuracy_other_image": Heading("the same with another image's regions", "share"),
            "visual_gain": Heading("visual gain, the difference of the two", "points"),
            "visual_gain_low": Heading("visual gain, lower end of its 95 % interval", "points"),
            "visual_gain_high": Heading("visual gain, upper end of its 95 % interval", "points"),
            "words": Heading("words masked"),
        } | {
            f"by_kind/{kind}/{column}": heading
            for kind in self._kinds
            for column, heading in COLUMNS.items()
        }

    def run(self, params: PyTree) -> dict[str, float | None]:
        """Accuracies (0 to 1), their difference in points with its 95 % interval; number of words.

        Where the data set has kinds of marked words, COLUMNS of each kind, too.

        Raises:
          DataError: the split has no word to mask.
        """
        filled = self._fill(params)
        if not len(filled.word):
            raise DataError(f"visual_gain: no word to mask in the split (words={self._words!r})")
        own, other = filled.right[:, 0], filled.right[:, 1]
        low, high = bootstrap.interval(100 * (own - other), filled.image, self._seed)
        found: dict[str, float | None] = {
            "word_accuracy": float(own.mean()),
            "word_accuracy_other_image": float(other.mean()),
            "visual_gain": float(100 * (own - other).mean()),
            "visual_gain_low": low,
            "visual_gain_high": high,
            "words": float(len(own)),
        }
        for number, (kind, ids) in enumerate(self._kinds.items(), start=1):
            of_kind = filled.of_kind(number)
            if len(of_kind.word):
                values = self._columns(of_kind, within=None not in ids)
                found |= {f"by_kind/{kind}/{column}": x for column, x in values.items()}
        return found

    def _fill(self, params: PyTree) -> _Filled:
        """Masks and fills in the words of the split."""
        parts = []
        for round_ in range(self._rounds):
            for batch in self._stream.batches():
                if self._words == "probe" and "probe_kind" not in batch:
                    raise ConfigError(
                        "visual_gain with words='probe' needs a data set that marks probe words; "
                        "set config.evals.visual_gain.words=all"
                    )
                if self._hidden == "named" and "phrase_region" not in batch:
                    raise ConfigError(
                        "visual_gain with hidden='named' needs a stream whose words are matched to "
                        "regions, as for the objective phrase_grounding; set "
                        "config.evals.visual_gain.hidden=nothing"
                    )
                out = self._step(params, self._place(batch), round_)
                *columns, drawn = sharding.gathered(out)
                parts.append([column[drawn] for column in columns])
        right, within, kind, word, image = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )
        return _Filled(right.astype(float), within.astype(float), kind, word, image)

    def _columns(self, filled: _Filled, *, within: bool) -> dict[str, float]:
        """COLUMNS of words of one kind; where a word has several pieces, none of `within`."""
        own, other = filled.right.mean(0)
        counts = np.unique(filled.word, return_counts=True)[1]
        found = dict(words=float(len(filled.word)), own=float(own), other=float(other))
        if within:
            low, high = bootstrap.interval(filled.within, filled.image, self._seed)
            found |= dict(within=float(filled.within.mean()), within_low=low, within_high=high)
        return found | dict(prior=float(counts.max() / counts.sum()))
