"""The doctor finds what is wrong with a store, also what a sound hash hides."""

import json
import pathlib

import numpy as np
import pytest
import xxhash
from made_data import SPEC, captions, image, write_jsonl, write_store

from core.errors import DataError
from input_pipeline.doctor.__main__ import main
from input_pipeline.doctor.verify import check_record
from input_pipeline.regions import RegionStore, RegionWriter


def test_sound_store(tmp_path, capsys):
    write_store(tmp_path / "s")
    assert main(["verify", str(tmp_path / "s")]) == 0
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
    assert main(["verify", str(tmp_path / "s")]) == 1
    out, err = capsys.readouterr()
    assert "images     8, 2 damaged" in out
    assert f"image 'img1' (row 1, byte {size})" in err
    assert "image 'img6'" in err
    assert main(["inspect", str(tmp_path / "s")]) == 1
    out = capsys.readouterr().out
    assert "2 images cannot be read" in out
    assert "looked at   6 images of 8 images" in out
    path.write_bytes(data[:-9])
    assert main(["verify", str(tmp_path / "s")]) == 1
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
    store._folders[0].index["xxh3"] = np.uint64([xxhash.xxh3_64_intdigest(data)])
    with pytest.raises(DataError, match=rf"(?s){message}.*shard-00000\.bin, image 'a'"):
        check_record(store, 0)


def test_coverage(tmp_path, capsys):
    store = write_store(tmp_path / "s", 6)
    rows = [{"pic": row["image_id"]} for row in captions(8) for _ in range(2)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    assert main(["coverage", store, path, "--image_id", "pic"]) == 1
    out = capsys.readouterr().out
    assert "needs 8 images; 6 (75.0 %) are in the store, 2 are missing" in out
    assert "missing: 'img6'" in out
    assert "a.jsonl:13" in out
    assert main(["coverage", store, path]) == 1
    assert "a.jsonl:1" in capsys.readouterr().err
    fine = write_jsonl(tmp_path / "b.jsonl", rows[:10])
    assert main(["coverage", store, fine, "--image_id", "pic"]) == 0
    assert "6 images, 1 of them not needed" in capsys.readouterr().out


def test_coverage_of_official_files(tmp_path, capsys):
    store = write_store(tmp_path / "s", 2)
    line = {"identifier": "dev-1-0-0", "sentence": "Two dogs.", "label": "True"}
    write_jsonl(tmp_path / "dev.json", [line])
    assert main(["coverage", store, "nlvr2:dev", "--manual_dir", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "nlvr2:dev: needs 2 images" in out
    assert "missing: 'dev-1-0-img1'" in out


def checkpoint(folder, spec, step=20):
    """What a run leaves behind of its features."""
    meta = folder / "checkpoints" / str(step) / "meta"
    meta.mkdir(parents=True)
    metadata = {"facts": {"feature_spec": spec.to_dict()}, "step": step}
    (meta / "metadata").write_text(json.dumps(metadata))
    return str(folder)


def test_checkpoint(tmp_path, capsys):
    import dataclasses

    store = write_store(tmp_path / "s")
    run = checkpoint(tmp_path / "run", SPEC)
    for path in (run, f"{run}/checkpoints", f"{run}/checkpoints/20"):
        assert main(["verify", store, "--checkpoint", path]) == 0
    assert "broken" not in capsys.readouterr().out
    # The newest step counts: 100, not 20.
    checkpoint(tmp_path / "run", dataclasses.replace(SPEC, detector="other", top_k=2), step=100)
    assert main(["verify", store, "--checkpoint", run]) == 1
    err = capsys.readouterr().err
    assert f"detector='toy', top_k=3 ({store})" in err
    assert f"detector='other', top_k=2 ({run}/checkpoints/100/meta/metadata)" in err
    assert main(["inspect", store, "--checkpoint", run]) == 1
    out = capsys.readouterr().out
    assert "broken      region features of two kinds: detector, top_k differ" in out
    assert out.rstrip().endswith("broken")


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no checkpoint"), ("{}", "says nothing of the features")]
)
def test_no_checkpoint(tmp_path, capsys, content, message):
    store = write_store(tmp_path / "s")
    if content:
        (tmp_path / "run" / "meta").mkdir(parents=True)
        (tmp_path / "run" / "meta" / "metadata").write_text(content)
    assert main(["inspect", store, "--checkpoint", str(tmp_path / "run")]) == 1
    assert message in capsys.readouterr().err


def test_checkpoint_of_training(tmp_path):
    """The doctor reads what training really writes."""
    pytest.importorskip("orbax.checkpoint")
    import jax

    from input_pipeline.doctor.checkpoints import saved_spec
    from training.run.run_checkpoints import Checkpoints
    from training.state import TrainState

    store = Checkpoints(tmp_path / "run", keep=1)
    state = TrainState(*(jax.tree.map(np.asarray, x) for x in (0, {"a": 1.0}, {"b": 2.0})))
    store.save(state, {"step": 5, "best": None, "facts": {"feature_spec": SPEC.to_dict()}})
    store.wait()
    store.close()
    spec, where = saved_spec(str(tmp_path / "run"))
    assert spec == SPEC
    assert where.endswith("/checkpoints/5/meta/metadata")
