"""Packed lists of strings."""

import numpy as np
import pytest

from core import strings
from core.strings import PackedStrings, pack_strings

WORDS = ["a", "", "größe", "日本", "a/b.jpg", "7"]


@pytest.mark.parametrize("cut", [None, 0, 2, 6])
def test_packed_strings_are_a_sequence(cut, monkeypatch):
    monkeypatch.setattr(strings, "_PART", 4)
    parts = [WORDS] if cut is None else [WORDS[:cut], [], WORDS[cut:]]
    packed = PackedStrings(*map(pack_strings, parts))
    packed.check()
    assert packed == WORDS
    assert list(packed) == WORDS
    assert len(packed) == 6
    assert packed != WORDS[:5]
    assert packed != [*WORDS[:5], "8"]
    assert packed != "a"
    assert [packed[i] for i in range(-6, 6)] == WORDS * 2
    assert packed[np.int64(2)] == "größe"
    assert packed.raw(3) == "日本".encode()
    for start in range(-7, 8):
        for stop in (None, *range(-7, 8)):
            assert packed[start:stop] == WORDS[start:stop]
            assert packed[start:stop:-2] == WORDS[start:stop:-2]
    assert packed.index("7") == 5
    assert "größe" in packed
    assert "b" not in packed
    with pytest.raises(IndexError, match="string 6 of"):
        packed[6]


@pytest.mark.parametrize(
    ("data", "ends"),
    [
        (b"abc", [2, 1, 3]),
        (b"abc", [1, 4]),
        (b"abc", [1, 2]),
        (b"a\xff", [1, 2]),
        ("ä".encode(), [1, 2]),
        (b"abc", [-1, 3]),
    ],
)
def test_what_is_not_packed_strings_is_refused(data, ends):
    packed = PackedStrings((np.frombuffer(data, np.uint8), np.asarray(ends, np.int64)))
    with pytest.raises(ValueError, match=r"strings|codec"):
        packed.check()
