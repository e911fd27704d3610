"""Finds images by id among millions: hashes in order, searched for many ids at once.

No dictionary of strings: that of 12 million ids takes a gigabyte and seconds in every process.
The arrays are part of a store's index (`index_file`) and can stay in its file. Whatever a hash
finds is compared with the id itself.
"""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import xxhash

from core.ids import PICTURES, without_suffix
from core.strings import PackedStrings

_PART = 2**14  # ids that are looked up at a time
_LONGEST = max(map(len, PICTURES))
# Arrays of the index: those of all ids, and those of ids with a picture's suffix, without it.
FIELDS = {
    "id_hashes": np.uint64,
    "id_rows": np.int32,
    "stem_hashes": np.uint64,
    "stem_rows": np.int32,
}


def _encoded(ids: Iterable[str]) -> list[bytes]:
    return [one.encode("utf-8", "surrogatepass") for one in ids]  # which no store has


_hash = xxhash.xxh3_64_intdigest


def _hashes(encoded: Sequence[bytes]) -> np.ndarray:
    return np.fromiter(map(_hash, encoded), np.uint64, len(encoded))


def _in_order(hashes: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(hashes, kind="stable")
    return hashes[order], rows[order].astype(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class IdLookup:
    """Rows of the ids of one folder.

    Attributes:
      keys: ids by row.
      hashes, rows: uint64 [N] in order, int32 [N] row of each.
      stem_hashes, stem_rows: the same of ids with a picture's suffix, hashed without it.
    """

    keys: PackedStrings
    hashes: np.ndarray
    rows: np.ndarray
    stem_hashes: np.ndarray
    stem_rows: np.ndarray

    @classmethod
    def of(cls, keys: PackedStrings) -> "IdLookup":
        """Makes it from the ids."""
        hashes, stems, at = np.empty(len(keys), np.uint64), list[int](), list[int]()
        for row, key in enumerate(keys):
            hashes[row] = _hash(key.encode())
            if "." in key[-_LONGEST:] and (stem := without_suffix(key)) != key:
                stems.append(_hash(stem.encode()))
                at.append(row)
        of_stems = _in_order(np.asarray(stems, np.uint64), np.asarray(at, np.int32))
        return cls(keys, *_in_order(hashes, np.arange(len(keys))), *of_stems)

    @classmethod
    def stored(cls, keys: PackedStrings, index: Mapping[str, np.ndarray]) -> "IdLookup | None":
        """The one of an index; None where it has none.

        Raises:
          ValueError: arrays that are none of these ids'.
        """
        if FIELDS.keys().isdisjoint(index):
            return None
        for name, dtype in FIELDS.items():
            if name not in index or index[name].dtype != dtype:
                raise ValueError(f"{name}: {np.dtype(dtype)} expected")
        for kind, most in (("id", len(keys)), ("stem", None)):
            hashes, rows = index[f"{kind}_hashes"], index[f"{kind}_rows"]
            if len(hashes) != len(rows) or (most is not None and len(rows) != most):
                raise ValueError(f"{kind}_rows: {len(rows)} of {len(hashes)}, {len(keys)} images")
            last = np.uint64(0)
            for start in range(0, len(rows), _PART):
                some, where = hashes[start : start + _PART], rows[start : start + _PART]
                if some[0] < last or (some[1:] < some[:-1]).any():
                    raise ValueError(f"{kind}_hashes: not in order from {start} on")
                if where.min() < 0 or where.max() >= len(keys):
                    raise ValueError(f"{kind}_rows: beyond {len(keys)} images")
                last = some[-1]
        return cls(keys, *(index[name] for name in FIELDS))

    def arrays(self) -> dict[str, np.ndarray]:
        """{name in an index: array}."""
        found = (self.hashes, self.rows, self.stem_hashes, self.stem_rows)
        return dict(zip(FIELDS, found, strict=True))

    def same_as(self, other: "IdLookup") -> bool:
        """Whether another one finds the same."""
        mine, others = self.arrays(), other.arrays()
        return all(np.array_equal(mine[name], others[name]) for name in FIELDS)

    def find(self, encoded: Sequence[bytes], hashes: np.ndarray) -> np.ndarray:
        """int64 [n] rows of ids, -1 where there is none.

        Args:
          encoded: the ids.
          hashes: uint64 [n] of them.
        """
        out = np.full(len(encoded), -1, np.int64)
        order = np.argsort(hashes)  # searched in order, neighbours are in the caches
        at = np.empty(len(hashes), np.int64)
        at[order] = np.searchsorted(self.hashes, hashes[order])
        hit = np.flatnonzero(at < len(self.hashes))
        hit = hit[self.hashes[at[hit]] == hashes[hit]]
        rows = self.rows[at[hit]].astype(np.int64)
        same = self._same(rows, [encoded[i] for i in hit.tolist()])
        out[hit[same]] = rows[same]
        for i in hit[~same].tolist():  # ids of one hash
            others = self.of_hash(self.hashes, self.rows, int(hashes[i]), int(at[i]))
            out[i] = next((row for row in others if self.keys.raw(row) == encoded[i]), -1)
        return out

    def _same(self, rows: np.ndarray, encoded: Sequence[bytes]) -> np.ndarray:
        """bool [n]: whether ids are those of rows."""
        ((data, ends),) = self.keys.parts
        starts = np.where(rows > 0, ends[rows - 1], 0)
        lengths = ends[rows] - starts
        same = lengths == np.fromiter(map(len, encoded), np.int64, len(encoded))
        (alike,) = np.nonzero(same)
        asked = np.frombuffer(b"".join([encoded[i] for i in alike.tolist()]), np.uint8)
        lengths = lengths[alike]
        stops = np.cumsum(lengths)
        at = np.repeat(starts[alike] - (stops - lengths), lengths) + np.arange(len(asked))
        different = np.flatnonzero(data[at] != asked)
        same[alike[np.searchsorted(stops, different, "right")]] = False
        return same

    @staticmethod
    def of_hash(hashes: np.ndarray, rows: np.ndarray, wanted: int, place: int) -> Iterator[int]:
        """Rows of all entries of a hash, from the first of them on."""
        while place < len(hashes) and hashes.item(place) == wanted:
            yield rows.item(place)
            place += 1

    def stems(self, names: Sequence[str]) -> list[tuple[int, int]]:
        """(number of the name, row) of each id that is one of `names` with a picture's suffix."""
        if not len(self.stem_hashes):
            return []
        hashes = _hashes(_encoded(names))
        at = np.searchsorted(self.stem_hashes, hashes)
        found = []
        for i, place in enumerate(at.tolist()):
            for row in self.of_hash(self.stem_hashes, self.stem_rows, int(hashes[i]), place):
                if without_suffix(self.keys[row]) == names[i]:
                    found.append((i, row))
        return found


def exact(lookups: Sequence[IdLookup], ids: Sequence[str]) -> np.ndarray:
    """As `rows_of`, of ids as they are written alone."""
    out = np.full(len(ids), -1, np.int64)
    for start in range(0, len(ids), _PART):
        encoded = _encoded(ids[start : start + _PART])
        _find(lookups, encoded, out[start : start + _PART])
    return out


def rows_of(lookups: Sequence[IdLookup], ids: Sequence[str]) -> np.ndarray:
    """int64 [len(ids)] rows in all folders, numbered through, -1 where no folder has the image.

    An id that is not there as it is written is looked up without a picture's suffix, on both
    sides: "still.jpg" finds "still", unless another of `ids` or of the folders would, too.
    """
    out = exact(lookups, ids)
    absent = np.flatnonzero(out < 0)
    names = {i: without_suffix(ids[i]) for i in absent.tolist()}
    candidates = _without_suffix(lookups, list(dict.fromkeys(names.values())))
    if candidates:
        asked = collections.Counter(map(without_suffix, set(ids)))
        for i, name in names.items():
            if asked[name] == 1:
                out[i] = candidates.get(name, -1)
    return out


def _find(lookups: Sequence[IdLookup], encoded: Sequence[bytes], out: np.ndarray) -> None:
    """Fills in the rows of ids; each is in one folder at most."""
    hashes, first = _hashes(encoded), 0
    for lookup in lookups:
        rows = lookup.find(encoded, hashes)
        np.copyto(out, rows + first, where=rows >= 0)
        first += len(lookup.keys)


def _without_suffix(lookups: Sequence[IdLookup], names: Sequence[str]) -> dict[str, int]:
    """{name: row} of the names that name one image alone, with or without a picture's suffix."""
    found: dict[str, int] = {}
    rows = np.full(len(names), -1, np.int64)
    for start in range(0, len(names), _PART):
        _find(lookups, _encoded(names[start : start + _PART]), rows[start : start + _PART])
    for i in np.flatnonzero(rows >= 0).tolist():
        if without_suffix(names[i]) == names[i]:  # else it counts as its own name without suffix
            found[names[i]] = int(rows[i])
    first = 0
    for lookup in lookups:
        for i, row in lookup.stems(names):
            found[names[i]] = -1 if names[i] in found else first + row
        first += len(lookup.keys)
    return found


def repeated(lookups: Sequence[IdLookup]) -> tuple[str, int, int] | None:
    """(id, number of one folder, of another or the same) of an id that occurs twice, or None."""
    hashes = lookups[0].hashes
    if len(lookups) > 1:
        hashes = np.concatenate([lookup.hashes for lookup in lookups])
        hashes.sort(kind="stable")  # runs in order are joined
    suspects: set[int] = set()
    for start in range(0, len(hashes), _PART):
        part = hashes[start : start + _PART + 1]
        suspects.update(part[1:][part[1:] == part[:-1]].tolist())
    for wanted in sorted(suspects):
        seen: dict[bytes, int] = {}
        for number, lookup in enumerate(lookups):
            place = int(np.searchsorted(lookup.hashes, np.uint64(wanted)))
            for row in lookup.of_hash(lookup.hashes, lookup.rows, wanted, place):
                key = lookup.keys.raw(row)
                if key in seen:
                    return key.decode(), seen[key], number
                seen[key] = number
    return None
