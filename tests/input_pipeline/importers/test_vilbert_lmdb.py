"""ViLBERT's and 12-in-1's LMDBs: what is read, what is refused, and whole imports of them."""

import base64
import dataclasses
import json
import os
import pathlib
import pickle
import zlib

import numpy as np
import pytest
from made_lmdbs import F, check_image, data_file, entries, image, items, write

from core.errors import DataError
from input_pipeline.importers import conceptual_lmdb, run, uniter_lmdb, vilbert_lmdb
from input_pipeline.importers.settings import ImportSettings
from input_pipeline.importers.vilbert_lmdb import Layout
from input_pipeline.regions import RegionStore


def twelve_in_one(i, **changes):
    record = {key: value for key, value in image(i).items() if key != "cls_prob"}
    return {**record, **changes}


def row(i, kind=str, **changes):
    """The first ViLBERT's record: a row of a TSV file."""
    record = {}
    for key, value in {**image(i), **changes}.items():
        if isinstance(value, np.ndarray):
            value = base64.b64encode(value.tobytes()).decode()
        record[key] = str(value) if kind is str else str(value).encode()
    return record


def database(path, records, keys="all"):
    """Records under their image_id, and the list of keys ("all", None, or the list itself)."""
    values = {str(r["image_id"]).encode(): pickle.dumps(r) for r in records}
    if keys is not None:
        values[b"keys"] = pickle.dumps(list(values) if keys == "all" else keys)
    return write(path, values)


def test_both_kinds_of_records(tmp_path):
    made = database(tmp_path / "new.lmdb", [twelve_in_one(i) for i in range(3)])
    for i, item in zip(range(3), items(Layout([made])), strict=True):
        check_image(item, i, classes=False)
    # Integer ids and sizes as numpy scalars, as an extractor leaves them.
    scalars = twelve_in_one(1, image_id=101, image_h=np.int64(91), num_boxes=np.int32(3))
    check_image(items(Layout([database(tmp_path / "b.lmdb", [scalars])]))[0], 1, classes=False)
    for kind in (str, bytes):
        record = row(0, kind)
        path = write(tmp_path / f"{kind.__name__}.lmdb", {b"100": pickle.dumps(record)})
        check_image(items(Layout([path]))[0], 0)
    del (record := row(2))["cls_prob"]  # COCO's
    check_image(items(Layout([database(tmp_path / "c.lmdb", [record])]))[0], 2, classes=False)


def test_parts_cover_every_record_once_in_one_order(tmp_path):
    files = [
        database(tmp_path / "a", [twelve_in_one(i) for i in range(7)]),
        database(tmp_path / "b", [twelve_in_one(i) for i in range(7, 9)]),
    ]
    layout, whole = Layout(files), [str(100 + i) for i in range(9)]
    assert len(layout.parts(2**30)) == 2
    for size in (1, os.path.getsize(data_file(files[0])) // 3):
        parts = layout.parts(size)
        assert parts == Layout(files).parts(size)
        assert len(parts) > 2
        assert sum(part.stop - part.start for part in parts) == 9
        assert [item.image_id for item in items(layout, size)] == whole
    wheres = [where for where, _ in entries(layout)]
    assert wheres[7] == f"{files[1]}, key '107'"


def test_beside_a_reader_that_stopped_half_way(tmp_path):
    path = database(tmp_path / "a", [twelve_in_one(i) for i in range(3)])
    (part,) = Layout([path]).parts(2**30)
    stopped = Layout([path]).entries(part)  # as a traceback keeps it
    next(stopped)
    assert len(items(Layout([path]))) == 3
    assert len(list(stopped)) == 2


def test_without_the_list_of_keys(tmp_path):
    path = database(tmp_path / "a", [twelve_in_one(i) for i in range(3)], keys=None)
    layout = Layout([path])
    assert len(items(layout)) == 3
    assert "has no list of keys ('keys')" in next(iter(layout.notices))


def test_a_list_that_disagrees(tmp_path):
    records = [twelve_in_one(i) for i in range(3)]
    short = database(tmp_path / "a", records, keys=[b"100", b"101"])
    with pytest.raises(DataError, match=r"(?s)disagree.*list has 2.*3 records.*such as b'102'"):
        Layout([short]).parts(2**30)
    long = database(tmp_path / "b", records[:1], keys=["100", "101", "102"])
    with pytest.raises(DataError, match=r"(?s)list has 3.*1 records; 2 listed.*such as b'101'"):
        Layout([long]).parts(2**30)
    with pytest.raises(DataError, match=r"(?s)list of keys is no list.*key 'keys'.*dict"):
        Layout([database(tmp_path / "c", records, keys={})]).parts(2**30)
    evil = b"cos\nsystem\n(Vtrue\ntR."
    path = write(tmp_path / "d", {b"keys": evil, b"100": pickle.dumps(records[0])})
    with pytest.raises(DataError, match=r"(?s)refused.*key 'keys'.*os\.system"):
        Layout([path]).parts(2**30)
    with pytest.raises(DataError, match="a database is empty"):
        Layout([write(tmp_path / "e", {})]).parts(2**30)


BOXES, FEATURES = image(0)["boxes"], image(0)["features"]
BAD = {
    "no dictionary": ([1], "no dictionary.*found: list"),
    "code": (b"cbuiltins\neval\n(V1\ntR.", r"refused.*builtins\.eval"),
    "cut short": (pickle.dumps(twelve_in_one(0))[:-30], "not a readable pickle"),
    "no boxes": ({k: v for k, v in twelve_in_one(0).items() if k != "boxes"}, "field 'boxes'"),
    "no size": ({k: v for k, v in twelve_in_one(0).items() if k != "image_h"}, "'image_h'"),
    "size": (twelve_in_one(0, image_w="wide"), "'image_w'.*found: 'wide'"),
    "box count": (
        twelve_in_one(0, num_boxes=3),
        r"'num_boxes'.*at most 2.*found: 3.*--num_boxes ignore",
    ),
    "box shape": (twelve_in_one(0, boxes=BOXES[:, :3]), r"'boxes'.*\(2, 3\)"),
    "feature count": (twelve_in_one(0, features=FEATURES[:1]), r"'features'.*\(1, 6\)"),
    "integers": (twelve_in_one(0, features=np.ones((2, F), int)), "'features'.*int64"),
    "objects": (twelve_in_one(0, features=FEATURES.astype(object)), "'features'.*object"),
    "text": (row(0, features="not base64!"), "'features'.*base64"),
    "float64": (row(0, boxes=BOXES.astype(float)), "'boxes'.*32 bytes.*float64"),
    "row cut short": (row(0, features=FEATURES.ravel()[:-1]), "'features'.*num_boxes = 2"),
    "class rows": (row(0, cls_prob=np.ones(3, "f4")), "'cls_prob'.*num_boxes = 2"),
    "other image": (twelve_in_one(0, image_id=7), "another image than its key.*'100'.*'7'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_records(name, tmp_path):
    value, found = BAD[name]
    value = value if isinstance(value, bytes) else pickle.dumps(value)
    layout = Layout([write(tmp_path / "a", {b"100": value})])
    (entry,) = entries(layout)
    with pytest.raises(DataError, match=rf"(?s){found}") as caught:
        layout.parse(*entry)
    assert f"{tmp_path / 'a'}, key '100'" in str(caught.value)


def test_id_from(tmp_path):
    path = write(tmp_path / "a", {b"100": pickle.dumps(twelve_in_one(0, image_id="COCO_100"))})
    for choice, name in (("key", "100"), ("record", "COCO_100")):
        assert [item.image_id for item in items(Layout([path], id_from=choice))] == [name]
    with pytest.raises(DataError, match=r"(?s)id_from.*both.*key.*record.*'neither'"):
        Layout([path], id_from="neither")


def test_files_that_are_no_database(tmp_path):
    with pytest.raises(DataError, match="nothing to import"):
        Layout([])
    (tmp_path / "text").write_text("no database " * 2000)
    (tmp_path / "empty").mkdir()
    for name in ("text", "empty", "nowhere"):
        with pytest.raises(DataError, match=rf"(?s)not a readable LMDB.*{tmp_path / name}"):
            Layout([str(tmp_path / name)])
    path = database(tmp_path / "a", [twelve_in_one(i, n=9) for i in range(9)])
    file, whole = pathlib.Path(data_file(path)), pathlib.Path(data_file(path)).read_bytes()
    for size in (0, 100, 5000, len(whole) // 2, len(whole) - 4096):
        file.write_bytes(whole[:size])
        with pytest.raises(DataError, match="not a readable LMDB") as caught:
            Layout([path])
    assert "cut short" in str(caught.value)


def test_a_damaged_page(tmp_path):
    path = database(tmp_path / "a", [twelve_in_one(i) for i in range(200)])
    file = pathlib.Path(data_file(path))
    data = bytearray(file.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 + 10 : page * 4096 + 12] = b"\xff\xff"  # flags of the page
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"(?is)not a readable LMDB.*what the tree says"):
        items(Layout([path]))


def test_import(tmp_path):
    path = database(tmp_path / "a", [twelve_in_one(i) for i in range(5)])
    got = run.convert(
        "vilbert_lmdb", [path], tmp_path / "s", ImportSettings(dtype="float32", part_size=1)
    )
    assert (got.images, got.skipped, got.spec.num_classes) == (5, 0, 0)
    store = RegionStore.open(tmp_path / "s")
    assert store.keys == [str(100 + i) for i in range(5)]
    out = store.allocate(1, 1, 8)
    store.read_into(out, np.asarray([[4]]))
    np.testing.assert_array_equal(out["boxes"][0, 0, 1:4], image(4)["boxes"])
    np.testing.assert_array_equal(out["regions"][0, 0, 1:4], image(4)["features"])
    assert out["image_size"][0, 0].tolist() == [94, 124]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"boxes": BOXES[:, [2, 3, 0, 1]]}, "corners swapped"),
        ({"boxes": BOXES * 3}, "outside its image"),
        ({"boxes": BOXES - [90, 0, 0, 0]}, "outside its image"),
        ({"features": np.full((2, F), np.nan, "f4")}, "not finite"),
        ({"features": FEATURES[:, :5]}, "wrong shape"),
    ],
)
def test_import_of_bad_images(change, found, tmp_path):
    records = [twelve_in_one(1), twelve_in_one(0, image_id="102", **change)]
    path = database(tmp_path / "a", records)
    with pytest.raises(DataError, match=rf"(?s){found}.*key '102'"):
        run.convert("vilbert_lmdb", [path], tmp_path / "s")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    got = run.convert("vilbert_lmdb", [path], tmp_path / "s", ImportSettings(on_bad="skip"))
    assert (got.images, got.skipped) == (1, 1)


def mmf(i):
    """MMF's conversion of a folder of .npy files."""
    made = image(i)
    return {
        "feature_path": f"train2014/COCO_train2014_{100 + i:012}",
        "features": made["features"],
        "image_height": made["image_h"],
        "image_width": made["image_w"],
        "num_boxes": made["num_boxes"],
        "objects": np.zeros(made["num_boxes"], np.int64),
        "cls_prob": None,
        "bbox": made["boxes"],
    }


def volta(i, **changes):
    """VOLTA's rows: the thirteen columns of its TSV files, as text."""
    made = row(i)
    names = {"image_id": "img_id", "image_h": "img_h", "image_w": "img_w"}
    values = {names.get(name, name): value for name, value in made.items()}
    return {**values, "img_id": f"COCO_train2014_{100 + i:012}", "objects_id": "AA==",
            "attrs": "AAAAAA==", "classes": "AAAAAA==", **changes}  # fmt: skip


def from_hdf5(i):
    """VOLTA's conversion of HDF5 files: arrays and numpy scalars, no count."""
    made = image(i)
    return {"features": made["features"], "boxes": made["boxes"], "img_id": str(100 + i),
            "img_h": np.int64(made["image_h"]), "img_w": np.int64(made["image_w"]),
            "obj_conf": np.ones(made["num_boxes"], "f4")}  # fmt: skip


def test_other_names_of_the_same_fields(tmp_path):
    path = write(
        tmp_path / "mmf",
        {mmf(i)["feature_path"].encode(): pickle.dumps(mmf(i)) for i in range(3)},
    )
    found = items(Layout([path]))
    assert [item.image_id for item in found] == [mmf(i)["feature_path"] for i in range(3)]
    for i, item in enumerate(found):
        check_image(dataclasses.replace(item, image_id=str(100 + i)), i, classes=False)
    for name, record, classes in (("volta", volta, True), ("hdf5", from_hdf5, False)):
        values = {str(100 + i).encode(): pickle.dumps(record(i)) for i in range(3)}
        path = write(tmp_path / name, {**values, b"keys": pickle.dumps(list(values))})
        for i, item in zip(range(3), items(Layout([path])), strict=True):
            check_image(item, i, classes=classes)
    # Without sizes of their own, a file of them serves, keyed by number.
    record = {k: v for k, v in mmf(0).items() if not k.startswith("image_")}
    path = write(tmp_path / "c", {record["feature_path"].encode(): pickle.dumps(record)})
    (tmp_path / "hw.tsv").write_text("100\t90\t120\n")
    (item,) = items(Layout([path], sizes=str(tmp_path / "hw.tsv")))
    assert (item.height, item.width) == (90, 120)


FOREIGN = {
    "a caption": (b"a man rides a horse", "text: 'a man rides a horse'"),
    "another language": ("ein Hündchen".encode(), "text: 'ein Hündchen'"),
    "JSON": (b'{"image": 1, "caption": "a dog"}', "JSON: "),
    "a picture": (b"\xff\xd8\xff\xe0 and so on", "a JPEG picture"),
    "an array": (b"\x93NUMPY\x01\x00", r"a \.npy file: an array alone"),
    "an Arrow message": (b"\xff\xff\xff\xff\x10\x00", "an Arrow message"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_databases_of_others_are_not_called_damaged(name, tmp_path):
    value, found = FOREIGN[name]
    (tmp_path / "hw.tsv").write_text("7\t40\t60\n")
    for module, options in (
        (vilbert_lmdb, {}),
        (conceptual_lmdb, {}),
        (uniter_lmdb, {"sizes": str(tmp_path / "hw.tsv")}),
    ):
        path = write(tmp_path / module.__name__, {b"7": value})
        layout = module.Layout([path], **options)
        (entry,) = entries(layout)
        with pytest.raises(DataError, match=rf"(?s)something else.*key '7'.*{found}") as caught:
            layout.parse(*entry)
        assert "damaged" not in str(caught.value)
        assert "copy" not in str(caught.value)


def test_pickled_tensors_of_torch(tmp_path):
    """Tensors in dictionaries are read, whether pickled or written by torch.save."""
    made = json.loads(pathlib.Path(__file__).with_name("torch_files.json").read_text())
    for kind in ("pickle", "zip"):
        value = zlib.decompress(base64.b64decode(made["dict"][kind]))
        path = write(tmp_path / kind, {b"7": value})
        (entry,) = entries(Layout([path]))
        # The tensors are there; it is the boxes' name and the size that this record lacks.
        with pytest.raises(DataError, match=r"(?s)lacks the field.*'features', 'ids', 'n', 'tu"):
            Layout([path], id_from="key").parse(*entry)
