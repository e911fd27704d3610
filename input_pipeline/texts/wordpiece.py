"""A small deterministic WordPiece trainer.

The trainer of the `tokenizers` library breaks ties by the order of a randomly seeded hash table:
two runs, or two hosts, would get different vocabularies from the same texts. This one merges the
most frequent pair, ties in alphabetical order, and takes seconds for some ten thousand words.
"""

import collections
import heapq
import itertools
from collections.abc import Iterable

from core.errors import DataError

MAX_ALPHABET = 1000  # rarer characters become [UNK]


def train(words: Iterable[str], size: int) -> list[str]:
    """Learns pieces by merging frequent neighbours.

    Args:
      words: basic tokens, with repetition.
      size: most pieces to return, single characters included.

    Returns:
      Pieces, those inside words with "##": the characters, then the merges in order.

    Raises:
      DataError: no words, or `size` does not even hold the characters.
    """
    counts = collections.Counter(words)
    if not counts:
        raise DataError(
            "no words to train a vocabulary on", expected="training texts", found="0 words"
        )
    symbols = collections.Counter()
    for word, count in counts.items():
        for i, character in enumerate(word):
            symbols[character if i == 0 else "##" + character] += count
    ranked = sorted(symbols, key=lambda s: (-symbols[s], s))[:MAX_ALPHABET]
    if len(ranked) > size:
        raise DataError(
            "the vocabulary size is too small",
            expected=f"vocab_size >= {104 + len(ranked)} (104 special pieces, then the characters)",
            found=104 + size,
            fix="raise --config.data.vocab_size",
        )
    alphabet = set(ranked)
    split, weights = [], []
    for word in sorted(counts):
        parts = [character if i == 0 else "##" + character for i, character in enumerate(word)]
        if alphabet.issuperset(parts):
            split.append(parts)
            weights.append(counts[word])

    pairs = collections.Counter()
    places = collections.defaultdict(set)
    for index, parts in enumerate(split):
        for pair in itertools.pairwise(parts):
            pairs[pair] += weights[index]
            places[pair].add(index)
    heap = [(-count, pair) for pair, count in pairs.items()]
    heapq.heapify(heap)
    pieces, known = sorted(alphabet), set(alphabet)
    while heap and len(pieces) < size:
        count, pair = heapq.heappop(heap)
        if -count != pairs[pair]:  # an outdated entry; the current one is in the heap too
            continue
        if count == 0:
            continue
        merged = pair[0] + pair[1].removeprefix("##")
        if merged not in known:  # two pairs can make the same piece
            known.add(merged)
            pieces.append(merged)
        changed = collections.Counter()
        for index in sorted(places.pop(pair)):
            parts = split[index]
            joined = _merge(parts, pair, merged)
            for old in itertools.pairwise(parts):
                changed[old] -= weights[index]
            for new in itertools.pairwise(joined):
                changed[new] += weights[index]
                places[new].add(index)
            split[index] = joined
        for neighbour, change in changed.items():
            if change:
                pairs[neighbour] += change
                heapq.heappush(heap, (-pairs[neighbour], neighbour))
    return pieces


def _merge(parts: list[str], pair: tuple[str, str], merged: str) -> list[str]:
    joined, i = [], 0
    while i < len(parts):
        if i + 1 < len(parts) and (parts[i], parts[i + 1]) == pair:
            joined.append(merged)
            i += 2
        else:
            joined.append(parts[i])
            i += 1
    return joined
