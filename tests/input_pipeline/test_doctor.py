"""The doctor finds what is wrong with a store, also what a sound hash hides."""

import pathlib

import numpy as np
import pytest
import xxhash
from made_data import SPEC, captions, image, write_jsonl, write_store

from input_pipeline import doctor
from input_pipeline.regions import RegionStore, RegionWriter
from input_pipeline.schema import DataError


def test_sound_store(tmp_path, capsys):
    write_store(tmp_path / "s")
    assert doctor.main(["verify", str(tmp_path / "s")]) == 0
    out = capsys.readouterr().out
    assert "images     8, 0 damaged" in out
    assert "regions    21; 1 to 5" in out
    assert "6 x bfloat16 from 'toy'" in out
    assert "best 3 kept; probability kept 0." in out


def test_damage(tmp_path, capsys):
    write_store(tmp_path / "s", n=3, shard_bytes=10**6)
    path = tmp_path / "s" / "shard-00000.bin"
    data = bytearray(path.read_bytes())
    size = SPEC.record_nbytes(3)
    for row in (1, 6):
        data[row * size + 50] ^= 8
    path.write_bytes(data)
    assert doctor.main(["verify", str(tmp_path / "s")]) == 1
    out, err = capsys.readouterr()
    assert "images     8, 2 damaged" in out
    assert f"image 'img1' (row 1, byte {size})" in err
    assert "image 'img6'" in err
    path.write_bytes(data[:-9])
    assert doctor.main(["verify", str(tmp_path / "s")]) == 1
    assert "shard-00000.bin" in capsys.readouterr().err


# What a faulty writer could have stored under a sound hash: (field, index, value, message).
VALUES = [
    ("features", (2, 3), np.nan, "not finite"),
    ("boxes", (1, 2), 5e3, "box 1 is outside its image"),
    ("boxes", (0, 0), 99.0, "corners swapped"),
    ("rest", (1,), 0.9, "class distribution of region 1"),
    ("class_ids", (0, 1), 77, "class distribution of region 0"),
    ("probs", (2, 0), -0.1, "class distribution of region 2"),
]


@pytest.mark.parametrize(("field", "index", "value", "message"), VALUES)
def test_values_are_checked(tmp_path, field, index, value, message):
    with RegionWriter(tmp_path / "s", SPEC) as writer:
        writer.add("a", **image(0, n=3))
    path = pathlib.Path(tmp_path / "s" / "shard-00000.bin")
    data = np.frombuffer(bytearray(path.read_bytes()), np.uint8)
    SPEC.split_record(data, 3)[field][index] = value
    path.write_bytes(data.tobytes())
    store = RegionStore.open(tmp_path / "s")
    store._hash[0] = xxhash.xxh3_64_intdigest(data)
    with pytest.raises(DataError, match=rf"(?s){message}.*shard-00000\.bin, image 'a'"):
        doctor.check_record(store, 0)


def test_coverage(tmp_path, capsys):
    store = write_store(tmp_path / "s", 6)
    rows = [{"pic": row["image_id"]} for row in captions(8) for _ in range(2)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    assert doctor.main(["coverage", store, path, "--image_id", "pic"]) == 1
    out = capsys.readouterr().out
    assert "16 rows, 8 images, 2 without regions" in out
    assert "missing: 'img6'" in out
    assert "a.jsonl:13" in out
    assert doctor.main(["coverage", store, path]) == 1
    assert "a.jsonl:1" in capsys.readouterr().err
    fine = write_jsonl(tmp_path / "b.jsonl", rows[:10])
    assert doctor.main(["coverage", store, fine, "--image_id", "pic"]) == 0
    assert "6 images, 1 unused" in capsys.readouterr().out
