"""Class scores without a background column, scores of another kind, and how they are said."""

import base64
import json
import pickle

import h5py
import made_lmdbs
import numpy as np
import pytest

from core.errors import DataError
from input_pipeline.importers import run
from input_pipeline.importers.settings import ImportSettings
from input_pipeline.regions import RegionStore

N, F, C = 2, 4, 5
rng = np.random.default_rng(0)
BOXES = np.asarray([[1, 2, 20, 30], [5, 6, 50, 40]], np.float32)
FEATURES = rng.standard_normal((N, F)).astype(np.float32)
WHOLE = rng.dirichlet(np.ones(C), N).astype(np.float32)  # column 0 = background
FEWER = WHOLE[:, 1:]


def text(array):
    return base64.b64encode(np.asarray(array, "<f4").tobytes())


def mmf_folder(folder, probs):
    folder.mkdir()
    np.save(folder / "7.npy", FEATURES)
    info = {"bbox": BOXES, "num_boxes": N, "image_height": 40, "image_width": 60, "cls_prob": probs}
    np.save(folder / "7_info.npy", info)
    return str(folder), {}


def mmf_lmdb(folder, probs):
    record = {"feature_path": "train/7", "features": FEATURES, "bbox": BOXES, "num_boxes": N,
              "objects": np.zeros(N, int), "image_height": 40, "image_width": 60,
              "cls_prob": probs}  # fmt: skip
    values = {b"train/7": pickle.dumps(record), b"keys": pickle.dumps([b"train/7"])}
    return made_lmdbs.write(folder, values), {}


def hdf5(path, probs):
    with h5py.File(path, "w") as file:
        group = file.create_group("7")
        for name, value in {"features": FEATURES, "boxes": BOXES, "img_h": 40, "img_w": 60,
                            "cls_prob": probs}.items():  # fmt: skip
            group[name] = value
    return str(path), {}


def tsv(path, probs):
    cells = [b"7", b"60", b"40", b"2", text(BOXES), text(FEATURES), text(probs)]
    path.write_bytes(b"\t".join(cells) + b"\n")
    return str(path), {"feature_dim": F, "num_classes": probs.shape[1]}


def vlbert_json(folder, probs):
    folder.mkdir()
    record = {"image_w": 60, "image_h": 40, "num_boxes": N}
    for name, value in {"boxes": BOXES, "features": FEATURES, "classes": probs}.items():
        record[name] = text(value).decode()
    (folder / "7.json").write_text(json.dumps(record))
    return str(folder), {"feature_dim": F, "num_classes": probs.shape[1]}


def npz(path, probs):
    feat = np.concatenate([FEATURES[:1], FEATURES])
    np.savez(path, paths=np.asarray(["7"]), hw=[[40, 60]], offset=[0, N], boxes=BOXES, feat=feat,
             cls_prob=probs)  # fmt: skip
    return f"{path}.npz", {}


LAYOUTS = {
    "numpy_folder": mmf_folder,
    "vilbert_lmdb": mmf_lmdb,
    "hdf5": hdf5,
    "bottom_up_tsv": tsv,
    "vlbert_json": vlbert_json,
    "npz": npz,
}


def convert(layout, path, out, options, **settings):
    return run.convert(layout, [path], out, ImportSettings(options=options, top_k=C, **settings))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_missing_background_is_what_rows_lack(tmp_path, layout):
    path, options = LAYOUTS[layout](tmp_path / "in", FEWER)
    message = r"(?s)no distribution.*image '(train/)?7'.*less than 1.*--class_scores without_back"
    with pytest.raises(DataError, match=message):
        convert(layout, path, tmp_path / "s", options)
    done = convert(layout, path, tmp_path / "s", options, class_scores="without_background")
    assert (done.spec.num_classes, done.spec.background_class) == (C, 0)
    store = RegionStore.open(tmp_path / "s")
    record, probs = store.read(0), np.zeros((N, C), np.float32)
    np.put_along_axis(probs, record["class_ids"], record["probs"], 1)
    np.testing.assert_allclose(probs, WHOLE, atol=1e-6)
    done = convert(layout, path, tmp_path / "t", options, class_scores="drop")
    assert (done.spec.num_classes, done.spec.background_class) == (0, None)


def test_sixteen_hundred_columns_are_never_taken_for_ones_with_a_background(tmp_path):
    probs = rng.dirichlet(np.ones(1600), N).astype(np.float32)
    path, options = mmf_folder(tmp_path / "in", probs)
    message = r"(?s)lack the background.*1,601 columns.*1,600 columns, rows sum to 1\.00.*drop"
    with pytest.raises(DataError, match=message):
        convert("numpy_folder", path, tmp_path / "s", options)
    for choice, expected in {
        "without_background": (1601, 0),
        "with_background": (1600, 0),
        "drop": (0, None),
    }.items():
        done = convert("numpy_folder", path, tmp_path / choice, options, class_scores=choice)
        assert (done.spec.num_classes, done.spec.background_class) == expected
    # npz has an option of its own for distributions over objects alone.
    path, _ = npz(tmp_path / "a", probs)
    done = convert("npz", path, tmp_path / "u", {"background_class": -1})
    assert (done.spec.num_classes, done.spec.background_class) == (1600, None)


def test_scores_that_are_no_probabilities(tmp_path):
    path, options = mmf_folder(tmp_path / "in", FEWER + 1)
    with pytest.raises(DataError, match=r"(?s)no probabilities.*drop leaves"):
        convert("numpy_folder", path, tmp_path / "s", options, class_scores="without_background")
    with pytest.raises(DataError, match=r"(?s)unknown --class_scores.*'sigmoid'"):
        convert("numpy_folder", path, tmp_path / "s", options, class_scores="sigmoid")


def test_one_number_per_box_is_no_distribution(tmp_path):
    """MMF's Faster R-CNN script stores the best class's score alone."""
    path, options = mmf_folder(tmp_path / "in", WHOLE.max(1))
    assert convert("numpy_folder", path, tmp_path / "s", options).spec.num_classes == 0


def test_a_width_that_is_one_short_names_both_options(tmp_path):
    path, options = tsv(tmp_path / "a.tsv", FEWER)
    options = {**options, "num_classes": C}
    with pytest.raises(DataError, match=r"(?s)'cls_prob'.*--num_classes 4 and --class_scores wi"):
        convert("bottom_up_tsv", path, tmp_path / "s", options)
