"""Lists of strings as numpy arrays, for files."""

import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np

_PART = 2**16  # strings that are taken apart at a time


def pack_strings(strings: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """Strings as (utf-8 bytes uint8, ends int64), a tenth of numpy's fixed-width strings."""
    encoded = [s.encode() for s in strings]
    ends = np.cumsum([len(e) for e in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), ends


def unpack_strings(data: np.ndarray, ends: np.ndarray) -> list[str]:
    """Inverse of `pack_strings`."""
    blob, bounds = data.tobytes(), [0, *ends.tolist()]
    return [blob[a:b].decode() for a, b in itertools.pairwise(bounds)]


class PackedStrings(Sequence[str]):
    """Strings that stay packed, as `pack_strings` packs them, and are decoded one by one.

    The arrays may be mapped from a file: nothing but the strings that are asked for is read.
    """

    def __init__(self, *parts: tuple[np.ndarray, np.ndarray]):
        """The strings of parts (data, ends), one after the other."""
        self.parts = parts
        self._first = [0, *itertools.accumulate(len(ends) for _, ends in parts)]

    def check(self) -> None:
        """Checks all parts.

        Raises:
          ValueError: ends that fall or do not fit the data, bytes that are no UTF-8.
        """
        for data, ends in self.parts:
            last = 0
            for start in range(0, len(ends), _PART):
                part = ends[start : start + _PART]
                if part[0] < last or (part[1:] < part[:-1]).any() or part[-1] > len(data):
                    raise ValueError(f"strings {start} and after it end before they start")
                data[last : int(part[-1])].tobytes().decode()
                starts = np.append(last, part[:-1])
                if ((data[starts[starts < part]] & 0xC0) == 0x80).any():
                    raise ValueError(f"strings {start} and after it are cut within a character")
                last = int(part[-1])
            if last != len(data):
                raise ValueError(f"strings end at byte {last} of {len(data)}")

    def raw(self, index: int) -> bytes:
        """The bytes of a string; `index` from 0."""
        place = 0
        if len(self.parts) > 1:
            place = next(i for i, first in enumerate(self._first[1:]) if index < first)
        data, ends = self.parts[place]
        index -= self._first[place]
        return data[(ends.item(index - 1) if index else 0) : ends.item(index)].tobytes()

    def __len__(self) -> int:
        return self._first[-1]

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return self._between(start, stop)
            return [self[i] for i in range(start, stop, step)]
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"string {index} of {len(self)}")
        return self.raw(index % len(self)).decode()

    def _between(self, start: int, stop: int) -> list[str]:
        out = []
        for first, (data, ends) in zip(self._first, self.parts, strict=False):
            own = ends[max(start - first, 0) : max(stop - first, 0)]
            if len(own):
                begin = ends.item(start - first - 1) if start > first else 0
                out += unpack_strings(data[begin : int(own[-1])], own - begin)
        return out

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _PART):
            yield from self._between(start, min(start + _PART, len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # as a list's

    def __repr__(self) -> str:
        return f"PackedStrings({self[:3]}{', ...' * (len(self) > 3)} of {len(self)})"
