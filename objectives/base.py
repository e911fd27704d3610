"""What an objective is, and how plain captions and text rows become token arrays."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from core.errors import ConfigError
from input_pipeline.schema import FIELDS, SpecialIds

Arrays = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Facts:
    """What objectives know of the data.

    Attributes:
      special: ids of the special tokens.
      max_text: T.
      feature_dim: F.
      num_classes: C of the detector, 0 without distributions.
      stored_mean: whether row 0 of the regions is their mean (else the detector's own feature).
      num_answers: entries of the answer list, 0 without one.
      answer_pieces: vocabulary ids of the word pieces of each answer.
      num_labels: classes that the data set's labels are of, 0 where it names none.
    """

    special: SpecialIds
    max_text: int
    feature_dim: int
    num_classes: int
    stored_mean: bool
    num_answers: int = 0
    answer_pieces: Sequence[Sequence[int]] = ()
    num_labels: int = 0


@dataclasses.dataclass(frozen=True)
class InitialValue:
    """What a parameter starts as, computed from others of a checkpoint.

    Attributes:
      array: of the parameter's shape.
      origin: path of the parameter that it is computed from.
      note: how, for the report.
      known: mask that broadcasts to the array, where only some entries could be computed.
      replaces: whether it stands above what the checkpoint has for the parameter itself.
    """

    array: np.ndarray
    origin: str
    note: str
    known: np.ndarray | None = None
    replaces: bool = False


class Objective:
    """One task on one stream.

    Attributes:
      name: its file's name; also of its loss.
      head_name: parameters are at `heads/<head_name>`; objectives may share a head.
      stage: corruption runs in this order (swap captions, mask words, mask regions).
      block: its part of the config.
      splits: whether the loss is a sum over examples, so that a batch may be cut in microbatches.
      whole_text: whether every token counts, so that no text may be cut to make room for regions.
      mirrors: whether what is to be learned holds of mirrored boxes and words, too.
      predicts: whether it has `predictions`: an answer to each example that stands for itself.
      pairs: static ((text, image), ...) of each example that the trunk is run on, a row each; None:
        whatever another objective of the stream says, else the first text with the first image.
      reads: keys of the batch that it learns from, beside texts and regions.
    """

    head_name: str
    stage: int
    splits: bool = True
    whole_text: bool = False
    mirrors: bool = True
    predicts: bool = False
    pairs: tuple[tuple[int, int], ...] | None = None
    reads: tuple[str, ...] = ()

    def __init__(self, name: str, block, facts: Facts):
        self.name, self.block, self.facts = name, block, facts

    @classmethod
    def assembler(cls, block) -> Callable[..., dict]:
        """assemble(table, rows, special, max_text) → text arrays; the stream's first task says."""
        del block
        return assemble_caption

    def need(self, batch: Arrays, key: str, **axes: int) -> None:
        """Checks that the stream's data have what the task reads.

        Args:
          batch: stream batch.
          key: of it.
          axes: sizes that the array must have, by axis letter.

        Raises:
          ValueError: there is no such array, or another number of texts or images.
        """
        field = FIELDS[key]
        if key not in batch:
            raise ValueError(
                f"objective {self.name!r} needs {key!r} ({field.meaning}), which this data set "
                f"does not have; its batches hold {sorted(batch)}"
            )
        found = dict(zip(field.axes.split(), batch[key].shape, strict=True))
        wrong = {letter: found[letter] for letter in axes if found[letter] != axes[letter]}
        if wrong:
            raise ValueError(
                f"objective {self.name!r} reads {axes} of an example's {key!r} [{field.axes}], "
                f"found {wrong}"
            )

    def head(self, trunk) -> Any:
        """The Linen module of the head; `trunk` tells the widths of what it reads."""
        raise NotImplementedError

    def warm_start(self) -> dict[str, str]:
        """{prefix of own parameters: prefix of others that a pre-trained model has instead}."""
        return {}

    def initial_values(self, arrays: Arrays, known: Arrays) -> dict[str, InitialValue]:
        """{path of a parameter: what it starts as}, where a copy (`warm_start`) does not say it.

        Args:
          arrays: {path: numpy array} of a checkpoint: as fitted to the model, else as it has them.
          known: {path: mask} where only some entries of an array came from the checkpoint.
        """
        return {}

    def corrupt(self, batch: Arrays, keys) -> dict:
        """The batch with inputs corrupted and targets added; `keys` key[B], one a row."""
        raise NotImplementedError

    def weight(self, batch: Arrays):
        """The loss's denominator, from the corrupted global batch alone: scalar."""
        raise NotImplementedError

    def logits(self, head: Callable, outputs: Arrays, batch: Arrays):
        """Head applied where there are targets; `head(*arrays)` holds its parameters and mode."""
        raise NotImplementedError

    def loss(self, logits, batch: Arrays):
        """The loss's numerator: scalar."""
        raise NotImplementedError

    def metrics(self, logits, batch: Arrays) -> dict:
        """{name: (sum, weight)}."""
        raise NotImplementedError

    def measure(self, head: Callable, outputs: Arrays, batch: Arrays) -> tuple:
        """(loss numerator, metrics) of the trunk's outputs, see `loss` and `metrics`."""
        logits = self.logits(head, outputs, batch)
        return self.loss(logits, batch), self.metrics(logits, batch)

    def predictions(self, logits, batch: Arrays) -> dict:
        """What is predicted of each example, small arrays {key: [B, …]}; labels may be missing.

        Raises:
          ValueError: the objective predicts nothing.
        """
        raise ValueError(
            f"objective {self.name!r} predicts nothing: it is a task to learn from, not to use"
        )

    def describe(self, row: Arrays, names: Sequence[str] = ()) -> dict:
        """One example's prediction as JSON values, with its `label` where that is known.

        Args:
          row: its entries of `predictions`, numpy arrays.
          names: of the answers or classes, by number; empty where they have none.
        """
        raise NotImplementedError


def check_options(name: str, block, options: Mapping[str, tuple]) -> None:
    """Raises ValueError where a field of an objective's block has none of its known values."""
    for field, known in options.items():
        if block[field] not in known:
            raise ConfigError(
                f"config.objectives.{name}.{field} must be one of {known}, found {block[field]!r}"
            )


def assemble_caption(table, rows: np.ndarray, special: SpecialIds, max_text: int) -> dict:
    """[CLS] pieces [SEP], cut to `max_text` with [SEP] kept, one segment.

    Args:
      table: text table with `gather(rows, width)`.
      rows: int [B].

    Returns:
      text_ids, text_mask, segment_ids, word_starts and, where marked, probe_mask: [B, 1, T].
    """
    columns = table.gather(rows, max_text - 2)
    ids, length = columns["ids"], np.minimum(columns["lengths"], max_text - 2)
    size, slots = len(rows), np.arange(max_text)

    def frame(inner, outer, dtype):
        out = np.full((size, max_text), outer, dtype)
        out[:, 1:-1] = inner
        return out

    end = slots == length[:, None] + 1
    mask = slots < length[:, None] + 2
    text = np.where(mask, frame(ids, special.pad, np.int32), special.pad)
    text[:, 0] = special.cls
    text[end] = special.sep
    starts = frame(columns["word_starts"], False, bool) & mask
    starts[:, 0] = True
    starts |= end
    out = dict(
        text_ids=text,
        text_mask=mask,
        segment_ids=np.zeros_like(text),
        word_starts=starts,
    )
    if columns.get("probe") is not None:
        out["probe_mask"] = frame(columns["probe"], False, bool) & mask & ~end
    return {name: array[:, None] for name, array in out.items()}


def assemble_plain(table, rows: np.ndarray, special: SpecialIds, max_text: int) -> dict:
    """`max_text` pieces from each row's start on through the following rows, no special tokens.

    VL-BERT's text-only corpus (released code): neither [CLS] nor [SEP], segment A.
    """
    columns = table.gather(rows, max_text, cyclic=True)
    ids = columns["ids"].astype(np.int32)
    mask = np.arange(max_text) < np.minimum(columns["lengths"], max_text)[:, None]
    starts = columns["word_starts"] & mask
    starts[:, 0] = True
    out = dict(
        text_ids=np.where(mask, ids, special.pad).astype(np.int32),
        text_mask=mask,
        segment_ids=np.zeros_like(ids),
        word_starts=starts,
    )
    return {name: array[:, None] for name, array in out.items()}
