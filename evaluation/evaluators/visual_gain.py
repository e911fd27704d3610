"""Visual gain: masked-word accuracy with the example's own regions minus with another image's.

One word per example is masked, all its pieces and always by [MASK]; both accuracies are of the same
masks.
"""

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
LONGEST = 6  # pieces; longer words are not drawn


def choose_word(
    keys: base.Keys, candidate: Bool[Array, "B T"], word_starts: Bool[Array, "B T"]
) -> Bool[Array, "B T"]:
    """Draws one word per row, uniformly among the candidate words.

    Args:
      keys: key[B].
      candidate: bool [B, T], True at pieces of words that may be drawn.
      word_starts: bool [B, T].

    Returns:
      bool [B, T], the pieces of the chosen word; all False where no word may be drawn.
    """
    start = masking.start_of_word(word_starts)
    slots = jnp.arange(candidate.shape[-1])
    pieces = (start[:, None, :] == slots[None, :, None]).sum(-1)  # [B, T] of the word at a start
    allowed = candidate & word_starts & (pieces <= LONGEST)
    draw = jnp.where(allowed, masking.uniform(keys, (candidate.shape[-1],)), -1.0)
    best = jnp.argmax(draw, axis=-1)[:, None]
    return (start == best) & candidate & allowed.any(-1, keepdims=True)


def fill(
    model: MultiTaskModel,
    params: PyTree,
    stream: str,
    batch: base.Arrays,
    keys: base.Keys,
    special: SpecialIds,
    *,
    probe: bool,
) -> tuple[Bool[Array, "B T"], Int[Array, "B G"], Float[Array, "B G"], Float[Array, "B 2 G V"]]:
    """Masks one word per example and predicts it with the own image (m = 0) and another's (m = 1).

    Args:
      model: with an objective that fills in words.
      params: of the model.
      stream: whose objectives and lengths hold.
      batch: stream batch with M = 2.
      keys: key[B], which word.
      special: ids of the special tokens.
      probe: draw among the marked words only.

    Returns:
      chosen bool [B, T]; targets int [B, G] and weights [B, G] of its pieces; logits [B, 2, G, V].
    """
    # An alignment stream brings a foreign caption too; the image's own is the first.
    batch = {k: x[:, :1] if k in TEXT_KEYS else x for k, x in batch.items()}
    ids, starts = batch["text_ids"][:, 0], batch["word_starts"][:, 0]
    plain = (ids != special.cls) & (ids != special.sep) & batch["text_mask"][:, 0]
    candidate = plain & batch["probe_mask"][:, 0] if probe else plain
    chosen = choose_word(keys, candidate, starts)
    positions, targets, weights = masking.gather_targets(ids, chosen, LONGEST)
    masked = dict(batch, text_ids=jnp.where(chosen, special.mask, ids)[:, None])
    outputs = model.outputs(params, stream, masked, pairs=((0, 0), (0, 1)))
    index = jnp.repeat(positions, 2, axis=0)[..., None]
    states = jnp.take_along_axis(outputs["text"], index, axis=1)
    objective = base.able(model.streams[stream], base.Ability.FILL_WORDS, stream)[0]
    logits = model.head(params, objective.head_name)(states, outputs["word_embedding"])
    return chosen, targets, weights, logits.reshape(ids.shape[0], 2, LONGEST, -1)


class Evaluator(evaluators.Evaluator):
    """Needs a stream with two images per example: its own and another's.

    `config.evals.<name>`: words, "probe" (marked by the data set as visible only in the image) or
    "all"; rounds, words drawn per example.
    """

    checks: ClassVar[Mapping[str, Check]] = dict(words=one_of(*WORDS), rounds=whole(1))
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
        self._seed, self._words = seed, block.words
        special, name = stream.special, block.stream

        @jax.jit
        def step(params: PyTree, batch: base.Arrays, round_: int) -> tuple[Array, Array, Array]:
            key = jax.random.fold_in(jax.random.key(seed), round_)
            keys = masking.row_keys(key, batch["example_index"])
            chosen, targets, weights, logits = fill(
                model, params, name, batch, keys, special, probe=block.words == "probe"
            )
            best = jnp.argmax(logits, -1)
            right = ((best == targets[:, None]) | (weights[:, None] == 0)).all(-1)  # whole words
            drawn = chosen.any(-1) & (batch["_weight"] > 0)
            return right, drawn, batch["image_key"][:, 0]

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
        }

    def run(self, params: PyTree) -> dict[str, float | None]:
        """Accuracies (0 to 1), their difference in points with its 95 % interval; number of words.

        Raises:
          DataError: the split has no word to mask.
        """
        rights, images = [], []
        for round_ in range(self._rounds):
            for batch in self._stream.batches():
                if self._words == "probe" and "probe_mask" not in batch:
                    raise ConfigError(
                        "visual_gain with words='probe' needs a data set that marks probe words; "
                        "set config.evals.visual_gain.words=all"
                    )
                out = self._step(params, self._place(batch), round_)
                correct, drawn, key = sharding.gathered(out)
                rights.append(correct[drawn])
                images.append(key[drawn])
        right, image = np.concatenate(rights).astype(float), np.concatenate(images)
        if not len(right):
            raise DataError(f"visual_gain: no word to mask in the split (words={self._words!r})")
        own, other = right[:, 0], right[:, 1]
        low, high = bootstrap.interval(100 * (own - other), image, self._seed)
        return {
            "word_accuracy": float(own.mean()),
            "word_accuracy_other_image": float(other.mean()),
            "visual_gain": float(100 * (own - other).mean()),
            "visual_gain_low": low,
            "visual_gain_high": high,
            "words": float(len(own)),
        }
