"""ViLBERT's LMDB of Conceptual Captions: records of tensorpack, and the captions in them."""

import base64
import json
import pickle

import msgpack
import numpy as np
import pytest
from made_lmdbs import C, check_image, entries, image, items, write

from core.errors import DataError
from input_pipeline.importers import conceptual_lmdb, run
from input_pipeline.importers.conceptual_lmdb import FIELDS, VOLTA, Layout
from input_pipeline.importers.settings import ImportSettings


def new(value):
    """Arrays as msgpack-numpy >= 0.4 writes them."""
    if not isinstance(value, np.ndarray):
        raise TypeError(value)
    kind = b"O" if value.dtype.hasobject else b""
    data = pickle.dumps(value) if kind else value.tobytes()
    return {b"nd": True, b"type": value.dtype.str, b"kind": kind, b"shape": value.shape,
            b"data": data}  # fmt: skip


def old(value):
    """Arrays as msgpack-numpy 0.3 writes them."""
    return {key.decode(): v for key, v in new(value).items() if key != b"kind"}


def record(i, **changes):
    values = {**image(i), "caption": f"a dög number {i}", **changes}
    return [values[name] for name in FIELDS]


def database(path, records, encode=new, *, subdir=False, use_bin_type=True, keys=True):
    values = {
        f"{i:08}".encode(): value
        if isinstance(value, bytes)
        else msgpack.packb(value, default=encode, use_bin_type=use_bin_type)
        for i, value in enumerate(records)
    }
    if keys:
        values[b"__keys__"] = msgpack.packb(list(values), use_bin_type=use_bin_type)
    return write(path, values, subdir=subdir)


@pytest.mark.parametrize("encode", [new, old])
@pytest.mark.parametrize("use_bin_type", [True, False])
@pytest.mark.parametrize("subdir", [True, False])
def test_every_way_they_were_written(encode, use_bin_type, subdir, tmp_path):
    texts = {"num_boxes": "3", "image_h": "91", "image_w": "121"}  # as a TSV reader leaves them
    records = [record(0), record(1, **texts)]
    path = database(tmp_path / "a", records, encode, subdir=subdir, use_bin_type=use_bin_type)
    for i, item in zip(range(2), items(Layout([path]), size=1), strict=True):
        check_image(item, i)
    assert list(conceptual_lmdb.captions([path])) == [
        ("100", "a dög number 0"),
        ("101", "a dög number 1"),
    ]


def test_list_of_keys(tmp_path):
    path = database(tmp_path / "a", [record(0)], keys=False)
    layout = Layout([path])
    assert len(items(layout)) == 1
    assert "has no list of keys ('__keys__')" in next(iter(layout.notices))
    keys = msgpack.packb([b"00000000", b"00000001"])
    path = write(tmp_path / "b", {b"00000000": b"x", b"__keys__": keys})
    with pytest.raises(DataError, match=r"(?s)disagree.*list has 2.*1 records.*b'00000001'"):
        Layout([path]).parts(2**30)
    path = write(tmp_path / "c", {b"00000000": b"x", b"__keys__": msgpack.packb(3)})
    with pytest.raises(DataError, match=r"(?s)no list of texts.*key '__keys__'.*int"):
        Layout([path]).parts(2**30)


OBJECTS = np.array([None, 1], object)
BAD = {
    "cut short": (msgpack.packb(record(0), default=new)[:-40], "not a readable msgpack"),
    "pickle": (pickle.dumps(record(0)), "not a readable msgpack.*another serializer"),
    "no list": ({"features": 1}, "other fields.*found: a dict"),
    "six fields": (record(0)[:6], "other fields.*list of 6"),
    "objects": (record(0, boxes=OBJECTS), "array of objects"),
    "old objects": (
        record(0, boxes={"nd": True, "type": "|O", "shape": [2], "data": pickle.dumps(OBJECTS)}),
        r"dtype b'\|O'",
    ),
    "shape": (
        record(0, boxes={"nd": True, "type": "<f4", "shape": [2, 4], "data": bytes(12)}),
        r"array float32 \[2, 4\] with other data",
    ),
    "extension": (record(0, boxes=msgpack.ExtType(5, b"x")), "extension of type 5"),
    "box count": (record(0, num_boxes=3), r"'num_boxes'.*at most 2.*found: 3"),
    "class rows": (record(0, cls_prob=np.ones((1, C), "f4")), r"'cls_prob'.*\(1, 5\)"),
    "integers": (record(0, features=np.ones((2, 6), int)), "'features'.*int64"),
    "no array": (record(0, features="text"), "'features'"),
    "size": (record(0, image_h="tall"), "'image_h'.*tall"),
    "empty id": (record(0, image_id=""), "image id"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_records(name, tmp_path):
    value, found = BAD[name]
    layout = Layout([database(tmp_path / "a", [value])])
    (entry,) = entries(layout)
    with pytest.raises(DataError, match=rf"(?s){found}") as caught:
        layout.parse(*entry)
    assert f"{tmp_path / 'a'}, key '00000000'" in str(caught.value)


def test_import_and_captions(tmp_path, capsys):
    files = [
        database(tmp_path / f"part_{k}", [record(i) for i in range(3 * k, 3 * k + 3)])
        for k in range(2)
    ]
    got = run.convert("conceptual_lmdb", files, tmp_path / "s", ImportSettings(part_size=1))
    assert (got.images, got.spec.num_classes, got.spec.background_class) == (6, C, 0)
    out = tmp_path / "captions.jsonl"
    assert conceptual_lmdb.main([*files, "--captions", str(out)]) == 0
    assert "6 captions" in capsys.readouterr().out
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows == [{"image_id": str(100 + i), "text": f"a dög number {i}"} for i in range(6)]
    assert conceptual_lmdb.main([*files, "--captions", str(out)]) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("caption", "found"),
    [(" ", "no caption"), (None, "no caption"), (b"\xff", "not UTF-8"), (7, "no caption")],
)
def test_bad_captions(caption, found, tmp_path, capsys):
    path = database(tmp_path / "a", [record(0), record(1, caption=caption)])
    out = tmp_path / "captions.jsonl"
    assert conceptual_lmdb.main([path, "--captions", str(out)]) == 1
    assert f"{path}, key '00000001'" in (error := capsys.readouterr().err)
    assert found in error
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_records_of_volta(tmp_path):
    """Lists of thirteen; and IGLUE's dictionaries, of arrays or of base64."""
    made = image(0)
    n, ones = made["num_boxes"], np.ones(made["num_boxes"], "f4")
    more = {"obj_labels": ones, "obj_confs": ones, "attr_labels": ones, "attr_confs": ones,
            "attr_scores": np.ones((n, 4), "f4")}  # fmt: skip
    values = {**made, **more, "caption": "a dog"}
    whole = [values[name] for name in VOLTA]
    text = {name: base64.b64encode(made[name].tobytes()) for name in ("boxes", "features")}
    names = {"img_id": "100", "img_h": 90, "img_w": 120, "num_boxes": n}
    path = database(tmp_path / "a", [whole, {**names, **text}])
    first, second = items(Layout([path]))
    check_image(first, 0)
    check_image(second, 0, classes=False)
