"""One rule for `num_boxes` below the number of rows, in every layout that can have it."""

import json
import pickle

import h5py
import made_lmdbs
import msgpack
import numpy as np
import pytest

from core.errors import DataError
from input_pipeline.doctor import __main__ as doctor
from input_pipeline.importers import __main__ as command
from input_pipeline.importers import run
from input_pipeline.importers.settings import ImportSettings
from input_pipeline.regions import RegionStore

F = 4
REAL = np.random.default_rng(0).standard_normal((5, F)).astype(np.float32)
PADDED = np.concatenate([REAL[:2], np.zeros((3, F), np.float32)])
BOXES = np.asarray([[1, 2, 20, 30]] * 5, np.float32)
SIZE = {"image_h": 40, "image_w": 60}


def stacked(path, features, count):
    with h5py.File(path, "w") as file:
        file["features"], file["boxes"] = features[None], BOXES[None]
        file["num_boxes"], file["image_ids"] = [count], [7]
        file["image_h"], file["image_w"] = [40], [60]
    return str(path)


def groups(path, features, count):
    with h5py.File(path, "w") as file:
        for name, value in {"features": features, "boxes": BOXES, "num_boxes": count,
                            **SIZE}.items():  # fmt: skip
            file[f"7/{name}"] = value
    return str(path)


def pair(folder, features, count):
    folder.mkdir()
    np.save(folder / "7.npy", features)
    np.save(folder / "7_info.npy", {"bbox": BOXES, "num_boxes": count, **SIZE})
    return str(folder)


def with_json(folder, features, count):
    folder.mkdir()
    np.save(folder / "7.npy", features)
    value = {"boxes": BOXES.tolist(), "num_boxes": count, **SIZE}
    (folder / "7.json").write_text(json.dumps(value))
    return str(folder)


def archive(folder, features, count):
    folder.mkdir()
    np.savez(folder / "7.npz", x=features, bbox=BOXES, num_bbox=count, **SIZE)
    return str(folder)


def record(features, count):
    return {"image_id": "7", "features": features, "boxes": BOXES, "num_boxes": count, **SIZE}


def pickled(folder, features, count):
    return made_lmdbs.write(folder, {b"7": pickle.dumps(record(features, count))})


def packed(folder, features, count):
    def encode(value):
        return {"nd": True, "type": value.dtype.str, "kind": "", "shape": value.shape,
                "data": value.tobytes()}  # fmt: skip

    value = msgpack.packb(record(features, count), default=encode)
    return made_lmdbs.write(folder, {b"0": value})


WRITERS = {
    "hdf5 stacked": stacked,
    "hdf5 groups": groups,
    "numpy_folder pair": pair,
    "numpy_folder json": with_json,
    "numpy_folder npz": archive,
    "vilbert_lmdb": pickled,
    "conceptual_lmdb": packed,
}


def convert(name, path, out, **options):
    return run.convert(name.split()[0], [path], out, ImportSettings(options=options))


@pytest.mark.parametrize("name", WRITERS)
def test_one_rule(tmp_path, name):
    for kind, features, count, options, regions, told in [
        ("padding", PADDED, 2, {}, 2, "were left out"),
        ("features", REAL, 2, {}, 5, "are regions"),
        ("first", REAL, 2, {"num_boxes": "first"}, 2, "were left out"),
        ("ignored", REAL, 2, {"num_boxes": "ignore"}, 5, None),
        ("asked for", REAL, 36, {"num_boxes": "ignore"}, 5, None),
        ("equal", REAL, 5, {}, 5, None),
    ]:
        path = WRITERS[name](tmp_path / f"{kind} in", features, count)
        done = convert(name, path, tmp_path / kind, **options)
        assert RegionStore.open(tmp_path / kind).counts.tolist() == [regions], kind
        notes = [(note, number) for note, (number, _) in done.notes.items()]
        assert len(notes) == (told is not None)
        assert all(told in note and number == 1 for note, number in notes)
    path = WRITERS[name](tmp_path / "none in", REAL, 0)
    with pytest.raises(DataError, match=r"(?s)number of regions.*found: 0"):
        convert(name, path, tmp_path / "none")
    path = WRITERS[name](tmp_path / "more in", REAL, 36)
    with pytest.raises(DataError, match=r"(?s)'num_boxes'.*at most 5.*36.*--num_boxes ignore"):
        convert(name, path, tmp_path / "more")


def test_it_is_told(tmp_path, capsys):
    path = pair(tmp_path / "in", REAL, 2)
    pair(tmp_path / "in" / "deep", REAL, 3)
    assert command.main(["numpy_folder", path, "--out", str(tmp_path / "s")]) == 0
    out = capsys.readouterr().out
    assert "note: 2 images: rows beyond num_boxes have features and are regions" in out
    assert "--num_boxes first leaves them out (first: " in out
    doctor.main(["inspect", path])
    assert "2 images: rows beyond num_boxes have features" in capsys.readouterr().out
