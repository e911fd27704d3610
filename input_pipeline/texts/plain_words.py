"""Cuts texts of printable ASCII into pieces by a table of the words seen so far.

Words come again and again: each is cut once by the `tokenizers` library, which takes ten times as
long for a text, and after that is looked up. Equal pieces, since such a text has no accents, no
control characters and no other blanks than spaces: what BERT's basic tokeniser makes of it are its
runs of letters and digits, in lower case, and its other characters one by one.
"""

import dataclasses
import re
import threading
from collections.abc import Callable, Sequence

import numpy as np

MOST = 2**20  # words of the table; a longer one is begun anew
_BREAK = "\n"  # between texts
_PARTS = re.compile(r"[a-z0-9]+|[^a-z0-9 ]")


@dataclasses.dataclass(frozen=True)
class Pieces:
    """Texts in pieces, side by side.

    Attributes:
      ids: int32 [pieces] of the vocabulary.
      word_starts: bool [pieces], True at the first piece of each basic token.
      lengths: int64 [texts], pieces of each.
    """

    ids: np.ndarray
    word_starts: np.ndarray
    lengths: np.ndarray

    def take(self, texts: np.ndarray) -> "Pieces":
        """The pieces of some texts, int [n], in that order."""
        lengths = self.lengths[texts]
        stops = np.cumsum(lengths)
        first = np.cumsum(self.lengths)[texts] - lengths
        at = np.repeat(first - (stops - lengths), lengths) + np.arange(lengths.sum())
        return Pieces(self.ids[at], self.word_starts[at], lengths)


def is_plain(text: str) -> bool:
    """Whether a text can be cut here."""
    return text.isascii() and text.isprintable()


class PlainWords:
    """A table of words and their pieces, which grows."""

    def __init__(self, cut: Callable[[Sequence[str]], list[list[int]]]):
        """An empty table; cut(words) gives the ids of words that are not in it."""
        self._cut, self._lock = cut, threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._numbers = {_BREAK: 0}
        self._ids = np.zeros(0, np.int32)
        self._counts = np.zeros(1, np.int64)

    def cut(self, texts: Sequence[str]) -> Pieces:
        """The pieces of plain texts."""
        if not texts:
            return Pieces(np.zeros(0, np.int32), np.zeros(0, bool), np.zeros(0, np.int64))
        words = _PARTS.findall(_BREAK.join(texts).lower())
        with self._lock:
            if len(self._numbers) > MOST:
                self._clear()
            self._learn(set(words) - self._numbers.keys())
            numbers = np.fromiter(map(self._numbers.__getitem__, words), np.int64, len(words))
            known, each = self._ids, self._counts
        counts = each[numbers]  # of a break: 0
        stops = np.cumsum(counts)
        firsts = (np.cumsum(each) - each)[numbers]
        total = int(counts.sum())
        ids = known[np.repeat(firsts - (stops - counts), counts) + np.arange(total)]
        starts = np.zeros(total, bool)
        starts[(stops - counts)[counts > 0]] = True
        ends = np.append(np.flatnonzero(numbers == 0), len(words))
        lengths = np.diff(np.append(0, stops)[ends], prepend=0)
        return Pieces(ids, starts, lengths)

    def _learn(self, words: set[str]) -> None:
        if not words:
            return
        found = self._cut(new := list(words))
        self._numbers.update(zip(new, range(len(self._numbers), 2**62), strict=False))
        self._counts = np.append(self._counts, [len(ids) for ids in found])
        more = np.asarray([i for ids in found for i in ids], np.int32)
        self._ids = np.concatenate([self._ids, more])
