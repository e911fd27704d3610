"""Lists of strings as numpy arrays, for files."""

import itertools

import numpy as np


def pack_strings(strings: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Strings as (utf-8 bytes uint8, ends int64), a tenth of numpy's fixed-width strings."""
    encoded = [s.encode() for s in strings]
    ends = np.cumsum([len(e) for e in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), ends


def unpack_strings(data: np.ndarray, ends: np.ndarray) -> list[str]:
    """Inverse of `pack_strings`."""
    blob, bounds = data.tobytes(), [0, *ends.tolist()]
    return [blob[a:b].decode() for a, b in itertools.pairwise(bounds)]
