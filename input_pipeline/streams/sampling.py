"""The index plan: pure functions from (seed, stream, position) to rows, nothing else.

Examples of a stream are numbered by *position*, without end: draw d of batch size B holds the
positions d*B to d*B + B - 1. Every n positions make an epoch, in which each example comes once.
Hosts take slices of a batch, so the order does not depend on how many of them share it, and a
run goes on anywhere by knowing its draw.

Only raw bits of a counter-based generator are used: numpy keeps those the same forever, while
`Generator.permutation` may change with a release.
"""

import functools
import threading
import zlib

import numpy as np

from core.errors import DataError

CYCLE = 10_000  # positions over which a mixture has exactly its shares
WINDOW = 64  # draws at most within which examples of one bucket are batched together
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_lock = threading.Lock()


def _key(seed: int, name: str) -> int:
    """64 bits that differ by seed and name, the same in every process."""
    if not 0 <= seed < 2**32:
        raise DataError("seed out of range", expected="0 <= seed < 2**32", found=seed)
    return (seed << 32) | zlib.crc32(name.encode())


def random_bits(seed: int, name: str, counters: np.ndarray) -> np.ndarray:
    """Independent uint64 numbers, one per counter (splitmix64's finaliser).

    Args:
      seed: of the run.
      name: what they are for.
      counters: int array, e.g. positions or example indices.

    Returns:
      uint64, of the same shape.
    """
    with np.errstate(over="ignore"):
        z = np.asarray(counters).astype(np.uint64) * _GOLDEN
        for constant in (np.uint64(_key(seed, name)), np.uint64(0)):  # two rounds: key, counter
            z = z + constant + _GOLDEN
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
    return z


def _shuffled(seed: int, name: str, epoch: int, n: int) -> np.ndarray:
    key = np.asarray([_key(seed, name), epoch], np.uint64)
    return np.argsort(np.random.Philox(key=key).random_raw(n), kind="stable")


@functools.lru_cache(maxsize=8)
def _order(seed: int, stream: str, epoch: int, n: int, block: int) -> np.ndarray:
    if block <= 1:
        order = _shuffled(seed, stream, epoch, n)
    else:
        blocks = _shuffled(seed, stream, epoch, -(-n // block))
        order = (blocks[:, None] * block + np.arange(block)).ravel()
        order = order[order < n]
    order = order.astype(np.int32 if n < 2**31 else np.int64)
    order.setflags(write=False)
    return order


def order(seed: int, stream: str, epoch: int, n: int, block: int = 0) -> np.ndarray:
    """Permutation [n] of one epoch; with block > 1, blocks of neighbours are shuffled whole."""
    with _lock:  # else each reading thread would shuffle the same epoch
        return _order(seed, stream, epoch, n, block)


def rows_at(seed: int, stream: str, positions: np.ndarray, n: int, block: int = 0) -> np.ndarray:
    """Rows int64 of a source of n examples at endless positions, each once per epoch."""
    positions = np.asarray(positions, np.int64)
    rows, epochs = np.empty_like(positions), positions // n
    for epoch in np.unique(epochs).tolist():
        here = epochs == epoch
        rows[here] = order(seed, stream, epoch, n, block)[positions[here] % n]
    return rows


def positions_of(draw: int, batch: int) -> np.ndarray:
    """int64 [batch] positions of a draw."""
    return np.arange(draw * batch, (draw + 1) * batch, dtype=np.int64)


def draw_rows(seed: int, stream: str, draw: int, batch: int, n: int, block: int = 0) -> np.ndarray:
    """Rows int64 [batch] of a draw; epochs follow each other without a gap."""
    return rows_at(seed, stream, positions_of(draw, batch), n, block)


def shares(weights: tuple[float, ...]) -> np.ndarray:
    """int64 positions each source gets in a cycle, by largest remainder.

    Raises:
      DataError: a weight that is not positive, or so small that it gets no position.
    """
    w = np.asarray(weights, np.float64)
    if w.ndim != 1 or not len(w) or not np.isfinite(w).all() or (w <= 0).any():
        raise DataError(
            "mixture weights must be positive", expected="numbers > 0", found=list(weights)
        )
    exact = w / w.sum() * CYCLE
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: CYCLE - counts.sum()]] += 1
    if (counts == 0).any():
        raise DataError(
            "a mixture weight is too small to be met",
            expected=f"at least 1/{CYCLE} of the sum",
            found=list(weights),
            fix="raise it or leave the source out",
        )
    return counts


@functools.lru_cache(maxsize=64)
def _cycle(
    seed: int, stream: str, cycle: int, weights: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """(source int64 [CYCLE], its earlier occurrences within the cycle int64 [CYCLE])."""
    counts = shares(weights)
    source = np.repeat(np.arange(len(counts)), counts)
    source = source[_shuffled(seed, f"{stream}/mixture", cycle, CYCLE)]
    earlier = np.empty(CYCLE, np.int64)
    for s in range(len(counts)):
        earlier[source == s] = np.arange(counts[s])
    return source, earlier


def mixture(
    seed: int, stream: str, positions: np.ndarray, weights: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Distributes endless positions over several sources.

    Args:
      seed: of the run.
      stream: its name.
      positions: int64 [B].
      weights: share of each source, any positive scale; met exactly every CYCLE positions.

    Returns:
      (source int64 [B], position within that source int64 [B]); each source's positions count up
      without a gap, so that its examples come once per epoch of its own.
    """
    positions = np.asarray(positions, np.int64)
    counts, cycles = shares(tuple(weights)), positions // CYCLE
    source, within = np.empty_like(positions), np.empty_like(positions)
    for cycle in np.unique(cycles).tolist():
        here = cycles == cycle
        sources, earlier = _cycle(seed, stream, cycle, tuple(weights))
        at = positions[here] % CYCLE
        source[here] = sources[at]
        within[here] = cycle * counts[sources[at]] + earlier[at]
    return source, within


def host_slice(batch: int, index: int, count: int) -> slice:
    """The part of a global batch that host `index` of `count` reads.

    Raises:
      DataError: the batch cannot be shared evenly, or there is no such host.
    """
    if not 0 <= index < count:
        raise DataError("no such host", expected=f"0 <= index < {count}", found=index)
    if batch % count:
        raise DataError(
            "a batch cannot be shared by the hosts",
            expected=f"a batch size that {count} hosts divide",
            found=batch,
            fix="change the stream's batch_size",
        )
    size = batch // count
    return slice(index * size, (index + 1) * size)


def window_of(draw: int, batch: int, epoch: int) -> tuple[int, int]:
    """(first draw, number of draws) of the window that a draw belongs to.

    An epoch is cut into windows of equal length, up to one draw. None reaches over the draw in
    which the next epoch begins: the draws before that one hold the positions before it, as they
    do without windows.

    Args:
      draw: number of the batch.
      batch: its size.
      epoch: positions of an epoch; where there is none, those of a window.
    """
    number = draw * batch // epoch
    first, end = -(-number * epoch // batch), -(-(number + 1) * epoch // batch)
    draws = end - first
    windows = -(-draws // WINDOW)
    at = ((draw - first + 1) * windows - 1) // draws
    start, stop = at * draws // windows, (at + 1) * draws // windows
    return first + start, stop - start


def batches_by_bucket(
    seed: int, stream: str, first: int, batch: int, bucket: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a window into batches of examples that fit the same bucket.

    What does not fill a batch of its bucket goes into one of the next larger bucket.

    Args:
      seed: of the run.
      stream: its name.
      first: first draw of the window.
      batch: size of a batch.
      bucket: int [draws * batch], the smallest bucket of each position of the window.

    Returns:
      (int64 [draws, batch] places within the window, each once; int64 [draws] bucket of a draw).
    """
    places, buckets, left = [], [], np.empty(0, np.int64)
    for number in range(int(bucket.max()) + 1):
        here = np.concatenate([left, np.flatnonzero(bucket == number)])
        full = len(here) // batch
        places.append(here[: full * batch].reshape(full, batch))
        buckets += [number] * full
        left = here[full * batch :]
    order = _shuffled(seed, f"{stream}/buckets", first, len(buckets))
    return np.concatenate(places)[order], np.asarray(buckets, np.int64)[order]


def other_image_rows(
    seed: int, name: str, counters: np.ndarray, rows: np.ndarray, groups: "Groups"
) -> np.ndarray:
    """For each row a random row that belongs to another image, exactly uniform over those.

    Args:
      seed: of the run.
      name: of the stream.
      counters: int [B], position in training, example index in evaluation.
      rows: int [B].
      groups: rows by image.

    Returns:
      int64 [B].
    """
    start, size = groups.start[groups.group_of[rows]], groups.size[groups.group_of[rows]]
    others = (len(groups.sorted_rows) - size).astype(np.uint64)
    pick = (random_bits(seed, f"{name}/negatives", counters) % others).astype(np.int64)
    return groups.sorted_rows[np.where(pick < start, pick, pick + size)]


def foreign_rows(seed: int, name: str, counters: np.ndarray, foreign: np.ndarray) -> np.ndarray:
    """One row out of each list, any of its entries equally likely.

    Args:
      seed: of the run.
      name: of the stream.
      counters: int [B], position in training, example index in evaluation.
      foreign: int [B, width] rows, at least one each, padded with -1 at the end.

    Returns:
      int64 [B].
    """
    foreign = np.asarray(foreign)
    counts = (foreign >= 0).sum(1).astype(np.uint64)
    pick = (random_bits(seed, f"{name}/negatives", counters) % counts).astype(np.int64)
    return foreign[np.arange(len(foreign)), pick].astype(np.int64)


def subsets(
    seed: int, name: str, counters: np.ndarray, sizes: np.ndarray, count: int
) -> np.ndarray:
    """For each counter `count` different numbers below its size, every subset equally likely.

    Floyd's algorithm: what is drawn twice is replaced by the largest number that may be drawn.

    Args:
      seed: of the run.
      name: of what is drawn.
      counters: int [B], position in training, example index in evaluation.
      sizes: int [B], at least `count` each.
      count: of the numbers.

    Returns:
      int64 [count, B].
    """
    out = np.full((count, len(counters)), -1, np.int64)
    for i in range(count):
        last = (sizes - count + i).astype(np.int64)
        bits = random_bits(seed, f"{name}/{i}", counters)
        number = (bits % (last + 1).astype(np.uint64)).astype(np.int64)
        out[i] = np.where((out == number).any(0), last, number)
    return out


class Groups:
    """Rows sorted by image.

    Attributes:
      sorted_rows: int64 [n] usable rows, those of an image side by side.
      start, size: int64 [images] where an image's rows are in sorted_rows.
      group_of: int64 [largest row + 1], the image of a row.
    """

    def __init__(self, rows: np.ndarray, images: np.ndarray):
        """Groups `rows` [n] by `images` [n] (any integers)."""
        names, group = np.unique(images, return_inverse=True)
        self.sorted_rows = np.asarray(rows)[np.argsort(group, kind="stable")].astype(np.int64)
        self.size = np.bincount(group, minlength=len(names)).astype(np.int64)
        self.start = np.cumsum(self.size) - self.size
        self.group_of = np.zeros(int(np.max(rows)) + 1, np.int64)
        self.group_of[rows] = group

    def __len__(self) -> int:
        return len(self.size)


def derangement(seed: int, n: int) -> np.ndarray:
    """Fixed permutation int64 [n] without a fixed point: each of n images gets another one.

    Raises:
      DataError: there is only one.
    """
    if n < 2:
        raise DataError("no other image to choose", expected="at least 2 images", found=n)
    ring = _shuffled(seed, "derangement", 0, n)
    other = np.empty(n, np.int64)
    other[ring] = np.roll(ring, -1)
    return other
