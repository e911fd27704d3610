"""Files of one array."""

import io
import os

import numpy as np
import pytest

from core import npy
from core.errors import DataError
from tests.core.test_safe_pickle import DTYPES, MARKER, Reduced, same


def saved(value, **options):
    file = io.BytesIO()
    np.save(file, value, **options)
    return file.getvalue()


def test_npy(tmp_path):
    for dtype in DTYPES:
        value = np.asfortranarray(np.array([[0, 1, 2], [3, 1, 0]]).astype(dtype))
        same(npy.load(io.BytesIO(saved(value)), "here"), value)
    record = {"bbox": np.ones((2, 4), "f4"), "image_id": "7"}
    path = tmp_path / "7.npy"
    path.write_bytes(saved(record))
    same(npy.load(path, "here"), record)
    objects = np.array([record, None], object)
    same(npy.load(io.BytesIO(saved(objects)), "here"), objects)
    same(npy.load(io.BytesIO(saved(np.array(3))), "here"), np.array(3))


def test_bad_npy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = saved(np.array({"a": Reduced(os.system, (f"touch {MARKER}",))}, object))
    with pytest.raises(DataError, match=r"(?s)refused.*here.*posix\.system"):
        npy.load(io.BytesIO(evil), "here")
    whole = saved(np.ones((3, 4), "f4"))
    for data, found in (
        (whole[:-1], r"\(3, 4\), but 47 bytes"),
        (whole + b"x", "but 49 bytes"),
        (whole[:40], "EOF|header"),
        (b"", "magic|EOF"),
        (b"PK\x03\x04" + bytes(40), "magic"),
        (saved(np.zeros(2, [("a", "f4")])), "dtype"),
        (saved(np.array([1, None], object)).replace(b"(2,)", b"(3,)"), "a header of objects"),
    ):
        with pytest.raises(DataError, match=rf"(?s)readable \.npy file.*here.*({found})"):
            npy.load(io.BytesIO(data), "here")
    with pytest.raises(DataError, match="FileNotFoundError"):
        npy.load(tmp_path / "none.npy", "here")
    assert not list(tmp_path.iterdir())
