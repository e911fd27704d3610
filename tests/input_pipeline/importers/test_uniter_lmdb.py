"""UNITER's image LMDBs: msgpack and .npz values, relative boxes, and sizes from elsewhere."""

import io
import json
import pickle
import zipfile

import msgpack
import numpy as np
import pytest
from made_lmdbs import C, entries, image, items, write

from core.errors import DataError
from input_pipeline.importers import run
from input_pipeline.importers.settings import ImportSettings
from input_pipeline.importers.uniter_lmdb import Layout
from input_pipeline.regions import RegionStore


def record(i, **changes):
    """As UNITER's converter writes it: half precision, boxes as fractions."""
    made = image(i)
    x1, y1, x2, y2 = (made["boxes"] / np.tile([made["image_w"], made["image_h"]], 2)).T
    values = {
        "norm_bb": np.stack([x1, y1, x2, y2, x2 - x1, y2 - y1], 1).astype(np.float16),
        "features": made["features"].astype(np.float16),
        "conf": made["cls_prob"][:, 1:].max(1).astype(np.float16),
        "soft_labels": made["cls_prob"].astype(np.float16),
        **changes,
    }
    return {key: value for key, value in values.items() if value is not None}


def as_msgpack(values):
    def encode(array):
        kind = b"O" if array.dtype.hasobject else b""
        return {b"nd": True, b"type": array.dtype.str, b"kind": kind, b"shape": array.shape,
                b"data": pickle.dumps(array) if kind else array.tobytes()}  # fmt: skip

    return msgpack.packb(values, default=encode, use_bin_type=True)


def as_npz(values, save=np.savez_compressed):
    file = io.BytesIO()
    # UNITER passes allow_pickle to a function that has no such argument: it becomes an array.
    save(file, **{**values, "switch": np.array(True)})
    return file.getvalue()


def database(path, values, keys=True):
    records = {f"{name}.npz".encode(): value for name, value in values.items()}
    if keys:
        records[b"__keys__"] = json.dumps([key.decode() for key in records]).encode()
    return write(path, records)


def sizes_file(path, ids):
    rows = (f"{name}\t{90 + i}\t{120 + i}\n" for i, name in enumerate(ids))
    path.write_text("".join(rows))
    return str(path)


@pytest.mark.parametrize("dump", [as_msgpack, as_npz, lambda v: as_npz(v, np.savez)])
def test_every_way_they_were_written(dump, tmp_path):
    names = [f"coco_train2014_{i:012}" for i in range(3)]
    made = database(tmp_path / "a", {n: dump(record(i)) for i, n in enumerate(names)})
    layout = Layout([made], sizes=sizes_file(tmp_path / "sizes.tsv", range(3)))
    for i, item in zip(range(3), items(layout, size=1), strict=True):
        expected = image(i)
        assert (item.image_id, item.height, item.width) == (names[i], 90 + i, 120 + i)
        np.testing.assert_allclose(item.boxes, expected["boxes"], atol=0.06)  # 120 px in halves
        np.testing.assert_allclose(item.features, expected["features"], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(item.class_probs, expected["cls_prob"], atol=1e-3)


def test_names_and_sizes(tmp_path):
    value = as_msgpack(record(0, soft_labels=None))
    names = ["nlvr2_dev-850-0-img0", "flickr30k_000000036979", "vg_000000000001"]
    made = database(tmp_path / "a", dict.fromkeys(names, value))
    sizes = {
        "dev-850-0-img0": {"height": 90, "width": 120},
        "0": {"height": 1, "width": 1},  # not an image of NLVR2, though its name ends in 0
        "flickr30k_000000036979": {"height": 90, "width": 120},
        "1": {"height": 90, "width": 120},
    }
    (tmp_path / "sizes.json").write_text(json.dumps(sizes))
    got = items(Layout([made], sizes=str(tmp_path / "sizes.json")))
    assert [(item.image_id, item.height, item.width) for item in got] == [
        ("flickr30k_000000036979", 90, 120),
        ("dev-850-0-img0", 90, 120),
        ("vg_000000000001", 90, 120),
    ]
    assert all(item.class_probs is None for item in got)
    layout = Layout([made], sizes=sizes_file(tmp_path / "sizes.tsv", ["1", "36979"]))
    first, second, _ = entries(layout)
    assert layout.parse(*first).height == 91
    with pytest.raises(DataError, match=r"(?s)size of an image is not known.*nlvr2.*not in"):
        layout.parse(*second)
    with pytest.raises(DataError, match=r"(?s)sizes of the images are not known.*--sizes"):
        Layout([made])


def test_list_of_keys(tmp_path):
    sizes = sizes_file(tmp_path / "sizes.tsv", ["1"])
    value = as_msgpack(record(0))
    path = database(tmp_path / "a", {"coco_1": value}, keys=False)
    layout = Layout([path], sizes=sizes)
    assert len(items(layout)) == 1
    assert "has no list of keys ('__keys__')" in next(iter(layout.notices))
    path = write(tmp_path / "b", {b"coco_1.npz": value, b"__keys__": b'["coco_2.npz"]'})
    with pytest.raises(DataError, match=r"(?s)disagree.*list has 1.*1 records; 1 listed"):
        Layout([path], sizes=sizes).parts(2**30)
    for n, keys in enumerate((b"[1]", b"[", b"\xff", b"7")):
        path = write(tmp_path / f"c{n}", {b"coco_1.npz": value, b"__keys__": keys})
        with pytest.raises(DataError, match=r"(?s)list of keys cannot be read.*key '__keys__'"):
            Layout([path], sizes=sizes).parts(2**30)


def damaged():
    """A .npz whose data does not match its checksum."""
    data = bytearray(as_npz(record(0), np.savez))
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        at = file.getinfo("features.npy").header_offset
    data[at + 200] ^= 1
    return bytes(data)


BOXES = record(0)["norm_bb"]
PIXELS = np.concatenate([image(0)["boxes"], image(0)["boxes"][:, :2]], 1)
HALF = np.ones((3, 6), "f2")
CENTRES = BOXES[:, [0, 1, 4, 5, 2, 3]]
BAD = {
    "cut short": (as_msgpack(record(0))[:-9], "not a readable msgpack"),
    "npz cut short": (as_npz(record(0))[:-9], "not a readable .npz"),
    "npz damaged": (damaged(), "not a readable .npz"),
    "no map": (msgpack.packb([1]), "no map of arrays.*list"),
    "no features": (as_msgpack(record(0, features=None)), "field 'features'"),
    "no boxes": (as_npz(record(0, norm_bb=None)), "field 'norm_bb'"),
    "objects": (as_msgpack(record(0, features=np.array([[None]]))), "array of objects"),
    "npz objects": (as_npz(record(0, features=np.array([[{}]]))), "(?i)object arrays|pickle"),
    "feature axes": (as_msgpack(record(0, features=np.ones(3, "f2"))), r"'features'.*\(3,\)"),
    "feature rows": (as_msgpack(record(0, features=np.ones((3, 6), "f2"))), r"'norm_bb'.*\(2, 6\)"),
    "class rows": (
        as_npz(record(0, soft_labels=np.ones((3, C), "f2"))),
        r"'soft_labels'.*\(3, 5\)",
    ),
    "integers": (as_npz(record(0, features=np.ones((2, 6), int))), "'features'.*int64"),
    "pixels": (as_npz(record(0, norm_bb=PIXELS)), "'norm_bb'.*fractions.*values from"),
    "not a number": (as_npz(record(0, norm_bb=BOXES * np.nan)), "'norm_bb'.*nan"),
    "five columns": (as_npz(record(0, norm_bb=BOXES[:, :5])), "'norm_bb'.*5 columns"),
    "other order": (as_npz(record(0, norm_bb=CENTRES)), r"'norm_bb'.*not x2 - x1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_records(name, tmp_path):
    value, found = BAD[name]
    path = database(tmp_path / "a", {"coco_1": value})
    layout = Layout([path], sizes=sizes_file(tmp_path / "sizes.tsv", ["1"]))
    (entry,) = entries(layout)
    with pytest.raises(DataError, match=rf"(?s){found}") as caught:
        layout.parse(*entry)
    assert f"{path}, key 'coco_1.npz'" in str(caught.value)


def test_import(tmp_path):
    names = [f"coco_val2014_{i:012}" for i in range(4)]
    path = database(tmp_path / "a", {n: as_npz(record(i)) for i, n in enumerate(names)})
    sizes = sizes_file(tmp_path / "sizes.tsv", range(4))
    options = {"sizes": sizes}
    got = run.convert(
        "uniter_lmdb", [path], tmp_path / "s", ImportSettings(options=options, ids="number")
    )
    assert (got.images, got.spec.num_classes, got.spec.background_class) == (4, C, 0)
    store = RegionStore.open(tmp_path / "s")
    assert store.keys == ["0", "1", "2", "3"]
    out = store.allocate(1, 1, 8)
    store.read_into(out, np.asarray([[3]]))
    np.testing.assert_allclose(out["boxes"][0, 0, 1:3], image(3)["boxes"], atol=0.07)
