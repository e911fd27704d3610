"""The .npz importer: what it reads, what it refuses, and that nothing half-written remains."""

import numpy as np
import pytest
from made_data import C, F, image, leftovers

from input_pipeline.importers import npz
from input_pipeline.regions import RegionStore
from input_pipeline.schema import DataError


def arrays(images=3, first=0):
    made = [image(i) for i in range(first, first + images)]
    feat = [np.concatenate([np.full((1, F), i), m["features"]]) for i, m in enumerate(made)]
    counts = [len(m["boxes"]) for m in made]
    return {
        "paths": np.asarray([f"dir/{i}.jpg" for i in range(first, first + images)]),
        "hw": np.asarray([(m["height"], m["width"]) for m in made]),
        "offset": np.concatenate([[0], np.cumsum(counts)]),
        "boxes": np.concatenate([m["boxes"] for m in made]),
        "cls_prob": np.concatenate([m["class_probs"] for m in made]).astype(np.float16),
        "objects_id": np.zeros(sum(counts), np.int16),
        "feat": np.concatenate(feat).astype(np.float16),
    }


def save(path, values):
    np.savez(path, **values)
    return str(path)


def run(*args):
    return npz.main([str(arg) for arg in args])


def test_import(tmp_path, capsys):
    a = save(tmp_path / "a.npz", arrays())
    b = save(tmp_path / "b.npz", arrays(2, first=3))
    assert run("--out", tmp_path / "s", a, b, "--detector", "ssd", "--top_k", 2) == 0
    assert "detector='ssd'" in capsys.readouterr().out
    store = RegionStore.open(tmp_path / "s")
    assert store.keys == [f"dir/{i}.jpg" for i in range(5)]
    assert (store.spec.num_classes, store.spec.kept_classes, store.spec.background_class) == (
        C,
        2,
        0,
    )
    out = store.allocate(1, 1, 8)
    store.read_into(out, np.asarray([[4]]))
    made, whole = image(4), arrays(2, first=3)["feat"][-5:]
    np.testing.assert_array_equal(out["boxes"][0, 0, 1:6], made["boxes"])
    np.testing.assert_allclose(
        out["regions"][0, 0, 1:6].astype(np.float32), whole, rtol=1e-2, atol=1e-2
    )
    total = out["region_class_probs"].sum(-1) + out["region_rest_prob"]
    np.testing.assert_allclose(total[0, 0, 1:6], 1, atol=1e-6)  # half precision, normalised
    mean = whole.astype(np.float32).mean(0)
    np.testing.assert_allclose(
        out["regions"][0, 0, 0].astype(np.float32), mean, rtol=2e-2, atol=1e-2
    )


def test_stored_image_row_and_no_classes(tmp_path):
    values = arrays()
    del values["cls_prob"]
    path = save(tmp_path / "a.npz", values)
    options = ("--global_feature", "stored", "--dtype", "float32")
    assert run("--out", tmp_path / "s", path, *options) == 0
    store = RegionStore.open(tmp_path / "s")
    assert store.spec.num_classes == 0
    out = store.allocate(3, 1, 8)
    store.read_into(out, np.arange(3)[:, None])
    assert (out["regions"][:, 0, 0] == np.arange(3)[:, None]).all()


BAD = {
    "missing": (lambda v: v.pop("boxes"), "key 'boxes'"),
    "box shape": (lambda v: v.update(boxes=v["boxes"][:, :3]), "key 'boxes'"),
    "feature rows": (lambda v: v.update(feat=v["feat"][:-1]), "key 'feat'"),
    "class rows": (lambda v: v.update(cls_prob=v["cls_prob"][1:]), "key 'cls_prob'"),
    "sizes": (lambda v: v.update(hw=v["hw"][:2]), "key 'hw'"),
    "ids": (lambda v: v.update(paths=np.arange(3)), "key 'paths'"),
    "offset": (lambda v: v.update(offset=v["offset"][::-1].copy()), "key 'offset'"),
    "offset end": (lambda v: v["offset"].__setitem__(-1, 5), "key 'offset'"),
    "nan": (lambda v: v["feat"].__setitem__((3, 1), np.nan), "image 'dir/1.jpg'"),
    "sum": (lambda v: v["cls_prob"].__setitem__(3, 0.1), "image 'dir/2.jpg'"),
    "box": (lambda v: v["boxes"].__setitem__((0, 2), 5e3), "image 'dir/0.jpg'"),
    "empty image": (lambda v: v["offset"].__setitem__(1, 0), "image 'dir/0.jpg'"),
    "twice": (lambda v: v["paths"].__setitem__(2, "dir/0.jpg"), "image 'dir/0.jpg'"),
    "pickled": (lambda v: v.update(boxes=np.asarray([{}], object)), "pickle"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_files_are_refused(tmp_path, capsys, name):
    change, message = BAD[name]
    good, values = save(tmp_path / "good.npz", arrays(2, first=5)), arrays()
    change(values)
    bad = save(tmp_path / "bad.npz", values)
    before = leftovers(tmp_path)
    assert run("--out", tmp_path / "s", good, bad) == 1
    text = capsys.readouterr().err
    assert "bad.npz" in text
    assert message in text
    assert "expected:" in text
    assert "found:" in text
    assert leftovers(tmp_path) == before


@pytest.mark.parametrize("keep", [0, 10, 400, -30])
def test_cut_files_are_refused(tmp_path, capsys, keep):
    path = tmp_path / "a.npz"
    save(path, arrays())
    path.write_bytes(path.read_bytes()[:keep])
    assert run("--out", tmp_path / "s", path) == 1
    assert "a.npz" in capsys.readouterr().err
    assert leftovers(tmp_path) == ["a.npz"]


def test_flipped_bits_are_refused(tmp_path, capsys):
    path = tmp_path / "a.npz"
    save(path, arrays())
    data = bytearray(path.read_bytes())
    data[data.index(b"feat.npy") + 200] ^= 1  # zip keeps a checksum
    path.write_bytes(data)
    assert run("--out", tmp_path / "s", path) == 1
    assert "CRC" in capsys.readouterr().err


def test_files_of_two_kinds(tmp_path):
    a, values = save(tmp_path / "a.npz", arrays()), arrays(first=3)
    values["feat"] = values["feat"][:, :4]
    b = save(tmp_path / "b.npz", values)
    with pytest.raises(DataError, match=rf"(?s)feature_dim differ.*{a} against {b}.*6.*4"):
        npz.convert([a, b], str(tmp_path / "s"))
    assert leftovers(tmp_path) == ["a.npz", "b.npz"]
