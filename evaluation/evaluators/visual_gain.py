"""What the image tells: masked-word accuracy with its own regions minus with another image's.

One word an example is masked, whole and always by [MASK]; both accuracies see the same masks.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from core.errors import ConfigError, DataError
from evaluation import bootstrap
from input_pipeline.schema import TEXT_KEYS
from objectives import base, masking

WORDS = ("probe", "all")
LONGEST = 6  # pieces; longer words are not drawn


def choose_word(keys, candidate, word_starts):
    """One word a row, uniformly among the candidate words.

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


def fill(task, params, stream: str, batch, keys, special, *, probe: bool):
    """Masks one word an example and fills it in with the own image (m = 0) and another's (m = 1).

    Args:
      task: a `MultiTaskModel`; params: its parameters; stream: whose objectives and lengths hold.
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
    outputs = task.outputs(params, stream, masked, pairs=((0, 0), (0, 1)))
    index = jnp.repeat(positions, 2, axis=0)[..., None]
    states = jnp.take_along_axis(outputs["text"], index, axis=1)
    objective = base.able(task.streams[stream], base.Ability.FILL_WORDS, stream)[0]
    logits = task.head(params, objective.head_name)(states, outputs["word_embedding"])
    return chosen, targets, weights, logits.reshape(ids.shape[0], 2, LONGEST, -1)


class Evaluator:
    """Needs a stream with two images an example: its own and another's.

    `config.evals.<name>`: words, "probe" (marked by the data set as visible only in the image) or
    "all"; rounds, words drawn an example.
    """

    other_image = True

    def __init__(self, block, task, stream, place, seed):
        if block.words not in WORDS:
            raise ConfigError(f"words must be one of {WORDS}, found {block.words!r}")
        self._stream, self._place, self._rounds = stream, place, block.rounds
        self._seed, self._words = seed, block.words
        special, name = stream.special, block.stream

        @jax.jit
        def step(params, batch, round_):
            key = jax.random.fold_in(jax.random.key(seed), round_)
            keys = masking.row_keys(key, batch["example_index"])
            chosen, targets, weights, logits = fill(task, params, name, batch, keys, special,
                                                    probe=block.words == "probe")  # fmt: skip
            best = jnp.argmax(logits, -1)
            right = ((best == targets[:, None]) | (weights[:, None] == 0)).all(-1)  # whole words
            drawn = chosen.any(-1) & (batch["_weight"] > 0)
            return right, drawn, batch["image_key"][:, 0]

        self._step = step

    def run(self, params) -> dict[str, float]:
        """Accuracies (0 to 1), their difference in points, its 95 % interval, and the words seen.

        Raises:
          DataError: nothing to mask: no probe words on the split.
        """
        right, image = [], []
        for round_ in range(self._rounds):
            for batch in self._stream.batches():
                if self._words == "probe" and "probe_mask" not in batch:
                    raise ConfigError(
                        "visual_gain with words='probe' needs a data set that marks probe words; "
                        "set config.evals.visual_gain.words=all"
                    )
                out = self._step(params, self._place(batch), round_)
                r, drawn, key = (np.asarray(multihost_utils.process_allgather(x, tiled=True))
                                 if jax.process_count() > 1 else np.asarray(x)
                                 for x in out)  # fmt: skip
                right.append(r[drawn])
                image.append(key[drawn])
        right, image = np.concatenate(right).astype(float), np.concatenate(image)
        if not len(right):
            raise DataError(f"visual_gain: no word to mask in the split (words={self._words!r})")
        own, other = right[:, 0], right[:, 1]
        low, high = bootstrap.interval(100 * (own - other), image, self._seed)
        return {
            "mlm_accuracy": float(own.mean()),
            "mlm_accuracy_other_image": float(other.mean()),
            "visual_gain": float(100 * (own - other).mean()),
            "visual_gain_low": low,
            "visual_gain_high": high,
            "words": float(len(own)),
        }
