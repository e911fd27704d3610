"""Files of torch.save and pickled tensors, read without torch.

`torch_files.json` holds what torch 2.14 wrote: its files of today ("zip"), those of before 1.6
("old") and pickle.dumps, of small values that are made again here in numpy.
"""

import base64
import io
import json
import pathlib
import pickle
import pickletools
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from core.errors import DataError
from input_pipeline.importers.formats import torch_file

FILES = {
    name: {kind: zlib.decompress(base64.b64decode(text)) for kind, text in kinds.items()}
    for name, kinds in json.loads(
        pathlib.Path(__file__).with_name("torch_files.json").read_text()
    ).items()
}
T = np.arange(12, dtype=np.float32).reshape(3, 4)
VALUES = {
    "dict": {"features": T.astype(np.float16), "turned": T.T, "n": 3, "ids": ["a", "b"]},
    "brain": T,  # bfloat16, which numpy does not have
    "view": np.arange(8, 20, dtype=np.float32).reshape(3, 4),  # rows 2 to 4 of a larger one
    "parameter": T,
    "by_id": {"a": T, 7: T + 1},
}


def read(kind, data):
    return (torch_file.unpickle if kind == "pickle" else torch_file.loads)(data, "f")


def same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            same(found[key], value)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


@pytest.mark.parametrize("kind", ["zip", "old", "pickle"])
@pytest.mark.parametrize("name", VALUES)
def test_what_torch_wrote(name, kind, tmp_path):
    same(read(kind, FILES[name][kind]), VALUES[name])
    if kind != "pickle":
        (tmp_path / "a.pt").write_bytes(FILES[name][kind])
        same(torch_file.load(str(tmp_path / "a.pt")), VALUES[name])


@pytest.mark.parametrize("kind", ["zip", "old", "pickle"])
def test_damage_is_an_error_or_the_same_shape(kind):
    """Cut anywhere, and with any byte changed: a DataError, or arrays of sound size."""
    whole = FILES["dict"][kind]
    for size in range(0, len(whole) - 1, 7):
        with pytest.raises(DataError):
            read(kind, whole[:size])
    for at in range(0, len(whole), 3):
        data = bytearray(whole)
        data[at] ^= 0x15
        try:
            found = read(kind, bytes(data))
        except DataError:
            continue
        arrays = found.values() if isinstance(found, dict) else [found]
        assert sum(a.nbytes for a in arrays if isinstance(a, np.ndarray)) < 4 * len(whole)


def rewritten(data, change):
    """A .pt file with another data.pkl."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            value = old.read(info)
            new.writestr(
                info.filename, change(value) if info.filename.endswith("data.pkl") else value
            )
    return out.getvalue()


def test_what_is_refused():
    whole = FILES["view"]["zip"]
    for change, message in [
        (lambda p: p.replace(b"ctorch\nFloatStorage", b"cos\nsystem"), r"refused.*os\.system"),
        (lambda p: p.replace(b"FloatStorage", b"QInt8Storage"), r"refused.*QInt8Storage"),
        (lambda p: p.replace(b"_rebuild_tensor_v2", b"_rebuild_sparse_t2"), "refused.*sparse"),
        # rows 2 to 4 of a storage of 10: moved behind its end, and stretched
        (lambda p: p.replace(b"K\x08K\x03K\x04", b"K\x28K\x03K\x04"), "in a storage of 40"),
        (lambda p: p.replace(b"K\x08K\x03K\x04", b"K\x00K\xffK\xff"), "in a storage of 40"),
        (lambda p: p.replace(b"K\x28t", b"K\xfft"), "storage 0: 40 of 255"),
    ]:
        data = rewritten(whole, change)
        assert data != rewritten(whole, bytes)
        with pytest.raises(DataError, match=f"(?s){message}"):
            torch_file.loads(data, "f")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", pickle.dumps(1) + bytes(10**6))
    with pytest.raises(DataError, match="packed members"):
        torch_file.loads(packed.getvalue(), "f")
    for data in (b"", b"PK", b"hello", pickle.dumps({"a": 1}), whole[:100]):
        with pytest.raises(DataError):
            torch_file.loads(data, "f")


def test_the_files_are_as_said():
    """The golden files name torch's own functions, so they are no imitation of the reader."""
    names = {
        argument
        for opcode, argument, _ in pickletools.genops(FILES["dict"]["pickle"])
        if opcode.name in ("GLOBAL", "SHORT_BINUNICODE")
    }
    assert "_rebuild_tensor_v2" in names


def test_a_small_file_takes_little_memory_and_one_beyond_memory_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    path.write_bytes(FILES["view"]["zip"])
    tracemalloc.start()
    try:
        torch_file.load(str(path))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(torch_file, "_MAX_FILE", 100)
    with pytest.raises(DataError, match=r"(?s)too large.*at most 100 bytes.*fix: "):
        torch_file.load(str(path))
