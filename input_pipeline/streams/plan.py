"""Which examples a draw holds, and in which bucket: pure functions of (seed, stream, draw)."""

import dataclasses
import functools
import threading
from collections.abc import Callable

import numpy as np

from core.console import say
from core.errors import DataError
from input_pipeline.streams import limits, sampling
from input_pipeline.streams.source import Source

_CHUNK = 4096  # examples whose lengths are found at a time

# group_of(rows [B], counters [B]) -> int [B], number of each example's group.
GroupOf = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class DrawSettings:
    """How a stream goes through its examples.

    Attributes:
      seed: of the run.
      batch_size: examples of the global batch, over all hosts.
      training: True: shuffled, endless, flipped; False: in order, each example once, the last
        batch padded with rows of weight 0.
      weights: shares of the table's sources in training; empty: by size.
      overfit: > 0: train on the first so many examples only.
      longest_text: word pieces that the model has positions for, 0: any number.
      image_margin: pixels by which the box of the whole image ends before the image does.
    """

    seed: int
    batch_size: int
    training: bool
    weights: tuple[float, ...] = ()
    overfit: int = 0
    image_margin: int = 0
    longest_text: int = 0


@dataclasses.dataclass(frozen=True)
class Draw:
    """The examples of a batch, or of a host's part of it.

    Attributes:
      rows: int64 [B] of the table.
      counters: int64 [B] of the host-side randomness: positions in training, rows in evaluation.
      weight: float32 [B], 0 for padding.
      bucket: sizes of the batch.
    """

    rows: np.ndarray
    counters: np.ndarray
    weight: np.ndarray
    bucket: limits.Bucket


class EvaluationPlan:
    """Each example once, in order; the last batch is padded with weight 0."""

    def __init__(self, rows: np.ndarray, batch_size: int, bucket: limits.Bucket):
        self._rows, self._batch_size, self._bucket = rows, batch_size, bucket

    def draw(self, number: int, shard: tuple[int, int]) -> Draw:
        """The part of draw `number` that host shard[0] of shard[1] reads."""
        part, examples = sampling.host_slice(self._batch_size, *shard), len(self._rows)
        positions = sampling.positions_of(number, self._batch_size)[part]
        weight = (positions < examples).astype(np.float32)
        rows = self._rows[np.minimum(positions, examples - 1)]
        return Draw(rows, rows, weight, self._bucket)


class TrainingPlan:
    """Endless epochs, each in an order of its own; with several groups, batches of one each."""

    def __init__(
        self,
        name: str,
        settings: DrawSettings,
        parts: list[np.ndarray],
        block: int,
        groups: tuple[limits.Bucket, ...],
        group_of: GroupOf,
    ):
        """Plans a stream.

        Args:
          name: of the stream.
          settings: how it goes through its examples.
          parts: int64 [n] rows of the table, one array per source of a mixture.
          block: neighbours that stay together when an epoch is shuffled.
          groups: sizes of kinds of batches, the stream's own last; a group's leftovers go into the
            next one.
          group_of: says which group an example belongs to.
        """
        self._name, self._settings, self._parts = name, settings, parts
        self._block, self._groups, self._group_of = block, groups, group_of
        self._lock = threading.Lock()
        # Two, since reading threads may be on both sides of a window's end.
        self._window = functools.lru_cache(maxsize=2)(self._plan_window)

    def draw(self, number: int, shard: tuple[int, int]) -> Draw:
        """The part of draw `number` that host shard[0] of shard[1] reads."""
        batch_size, bucket = self._settings.batch_size, self._groups[-1]
        part = sampling.host_slice(batch_size, *shard)
        if len(self._groups) == 1:
            positions = sampling.positions_of(number, batch_size)[part]
        else:
            # The sources of a mixture have epochs of their own.
            mixed = self._settings.weights
            epoch = sampling.WINDOW * batch_size if mixed else len(self._parts[0])
            first, draws = sampling.window_of(number, batch_size, epoch)
            with self._lock:  # else each reading thread would plan the same window
                positions, groups = self._window(first, draws)
            positions = positions[number - first, part]
            bucket = self._groups[groups[number - first]]
        weight = np.ones(len(positions), np.float32)
        return Draw(self._rows_at(positions), positions, weight, bucket)

    def _rows_at(self, positions: np.ndarray) -> np.ndarray:
        """int64 [B] rows of the table at endless positions."""
        seed, weights = self._settings.seed, self._settings.weights
        if len(self._parts) == 1:
            (rows,) = self._parts
            return rows[sampling.rows_at(seed, self._name, positions, len(rows), self._block)]
        out = np.empty_like(positions)
        source, within = sampling.mixture(seed, self._name, positions, weights)
        for s in np.unique(source).tolist():
            rows, here = self._parts[s], source == s
            name = f"{self._name}/{s}"
            out[here] = rows[sampling.rows_at(seed, name, within[here], len(rows), self._block)]
        return out

    def _plan_window(self, first: int, draws: int) -> tuple[np.ndarray, np.ndarray]:
        """(positions int64 [draws, batch], group's index int64 [draws]) of a window."""
        batch_size = self._settings.batch_size
        positions = np.arange(first * batch_size, (first + draws) * batch_size)
        group = np.empty_like(positions)
        for start in range(0, len(positions), _CHUNK):
            counters = positions[start : start + _CHUNK]
            group[start : start + _CHUNK] = self._group_of(self._rows_at(counters), counters)
        places, groups = sampling.batches_by_bucket(
            self._settings.seed, self._name, first, batch_size, group
        )
        return positions[places], groups


def split_by_source(
    source: Source, rows: np.ndarray, weights: tuple[float, ...], where: str
) -> tuple[list[np.ndarray], tuple[float, ...]]:
    """The examples of a mixture, apart; without weights, all in one.

    Kinds that the data set makes and that these few rows lack are told and left out.

    Args:
      source: of the examples.
      rows: int64 [n] of the table.
      weights: of a mixture, one per source.
      where: the stream, for messages.

    Returns:
      (rows [n] of each source that has some, their weights).

    Raises:
      DataError: weights that are no shares, or that do not fit the sources.
    """
    if not weights:
        return [rows], ()
    of_row = source.table.source[rows]
    parts = [rows[of_row == s] for s in range(len(weights))]
    empty = [s for s, part in enumerate(parts) if not len(part)]
    expected = len(source.kinds) or int(of_row.max()) + 1
    if len(weights) != expected or (empty and not source.kinds):
        what = "kinds of rows" if source.kinds else "files with examples"
        raise DataError(
            "mixture weights and corpora disagree",
            where=f"{where}, {source.table.origin}",
            expected=f"a weight for each of {expected} {what}",
            found=f"{len(weights)} weights; no examples for {empty}",
            fix=f"data.weights of {where} in the order of {list(source.kinds)}"
            if source.kinds
            else "one weight for each file of data.annotations or data.corpus",
        )
    sampling.shares(weights)
    if empty:
        lacking = ", ".join(repr(source.kinds[s]) for s in empty)
        say(f"data: {where}: {len(rows)} rows are too few to have {lacking}; left out")
    kept = [s for s in range(len(weights)) if s not in empty]
    return [parts[s] for s in kept], tuple(weights[s] for s in kept)
