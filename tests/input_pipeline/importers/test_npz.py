"""The .npz layout: what it reads, what it refuses, and that nothing half-written remains."""

import numpy as np
import pytest
from made_data import REAL, C, F, image, leftovers

from core.errors import DataError
from input_pipeline.importers import __main__ as command
from input_pipeline.importers import npz, run
from input_pipeline.importers.settings import ImportSettings
from input_pipeline.regions import RegionStore


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


def main(*args):
    return command.main(["npz", "--workers", "1", *map(str, args)])


def test_import(tmp_path, capsys):
    a = save(tmp_path / "a.npz", arrays())
    b = save(tmp_path / "b.npz", arrays(2, first=3))
    options = ("--detector", "ssd", "--top_k", 2, "--global_feature", "mean")
    assert main("--out", tmp_path / "s", a, b, *options) == 0
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
    assert main("--out", tmp_path / "s", path, *options) == 0
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


LATE = ("nan", "sum", "box", "empty image", "twice")


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_files_are_refused(tmp_path, capsys, name):
    change, message = BAD[name]
    good, values = save(tmp_path / "good.npz", arrays(2, first=5)), arrays()
    change(values)
    bad = save(tmp_path / "bad.npz", values)
    assert main("--out", tmp_path / "s", good, bad) == 1
    text = capsys.readouterr().err
    assert "bad.npz" in text
    assert message in text
    assert "expected:" in text
    assert "found:" in text
    left = [name for name in leftovers(tmp_path) if name.count("/") < 2]
    if name in LATE:  # the good file's part was finished before this one was read
        assert "kept: 1 of 2 parts are finished" in text
        kept = ["s.partial", *(f"s.partial/{n}" for n in ("lock", "part-00000", "plan.json"))]
        assert left == ["bad.npz", "good.npz", *kept]
    else:
        assert left == ["bad.npz", "good.npz"]


@pytest.mark.parametrize("keep", [0, 10, 400, -30])
def test_cut_files_are_refused(tmp_path, capsys, keep):
    path = tmp_path / "a.npz"
    save(path, arrays())
    path.write_bytes(path.read_bytes()[:keep])
    assert main("--out", tmp_path / "s", path) == 1
    assert "a.npz" in capsys.readouterr().err
    assert leftovers(tmp_path) == ["a.npz"]


def test_flipped_bits_are_refused(tmp_path, capsys):
    path = tmp_path / "a.npz"
    save(path, arrays())
    data = bytearray(path.read_bytes())
    data[data.index(b"feat.npy") + 200] ^= 1  # zip keeps a checksum
    path.write_bytes(data)
    assert main("--out", tmp_path / "s", path) == 1
    assert "CRC" in capsys.readouterr().err


def test_files_of_two_kinds(tmp_path):
    a, values = save(tmp_path / "a.npz", arrays()), arrays(first=3)
    values["feat"] = values["feat"][:, :4]
    b = save(tmp_path / "b.npz", values)
    with pytest.raises(DataError, match=rf"(?s)two kinds.*{a} against {b}.*'feat': 6.*'feat': 4"):
        run.convert("npz", [a, b], tmp_path / "s")
    assert leftovers(tmp_path) == ["a.npz", "b.npz"]


@pytest.mark.parametrize("save_as", [np.savez, np.savez_compressed])
def test_parts_of_a_file_give_the_same_store(tmp_path, save_as):
    save_as(tmp_path / "a.npz", **arrays(7))
    path = str(tmp_path / "a.npz")
    parts = npz.Layout([path], background_class=0).parts(300)
    assert len(parts) > 3
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
    done = [
        run.convert("npz", [path], tmp_path / name, ImportSettings(part_size=size))
        for name, size in (("one", 10**9), ("many", 300))
    ]
    assert [found.images for found in done] == [7, 7]
    one, many = (RegionStore.open(tmp_path / name) for name in ("one", "many"))
    assert one.fingerprint == many.fingerprint
    for row in range(7):
        many.read(row)  # checks its hash


def test_one_part_does_not_hide_damage_in_another(tmp_path):
    """The last part of a file reads all of it, and so its checksum."""
    path = tmp_path / "a.npz"
    save(path, arrays(7))
    data = bytearray(path.read_bytes())
    data[data.index(b"feat.npy") + 200] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="CRC"):
        run.convert("npz", [str(path)], tmp_path / "s", ImportSettings(part_size=300))
    assert not (tmp_path / "s").exists()


def test_real_files(tmp_path):
    files = [REAL / "regions" / name for name in ("coco_mini.npz", "coco_extra.npz")]
    if not all(path.is_file() for path in files):
        pytest.skip(f"no real data at {REAL} (set VL_DATA_DIR_REAL)")
    done = run.convert(
        "npz",
        list(map(str, files)),
        tmp_path / "s",
        ImportSettings(dtype="float32", global_feature="stored", part_size=10**6),
    )
    store, row = RegionStore.open(tmp_path / "s"), 0
    assert (done.images, done.spec.num_classes, done.spec.global_feature) == (281, 81, "stored")
    for path in files:
        with np.load(path) as values:
            offset, boxes, feat = values["offset"], values["boxes"], values["feat"]
            assert store.keys[row : row + len(offset) - 1] == values["paths"].tolist()
        for i in range(0, len(offset) - 1):
            record, (a, b) = store.read(row), offset[i : i + 2]
            np.testing.assert_array_equal(record["features"], feat[a + i : b + i + 1])
            np.testing.assert_allclose(record["boxes"], boxes[a:b], atol=1.0)
            row += 1
    assert row == 281
