"""One bad record is left out with --on_bad skip whatever is wrong with it, in every layout."""

import errno
import gzip
import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile

import h5py
import msgpack
import numpy as np
import pytest
from layout_checks import encoded, made
from made_lmdbs import image as lmdb_image
from made_lmdbs import write as write_lmdb

from core.errors import DataError
from input_pipeline.datasets.reading import files as official
from input_pipeline.importers import run, vilbert_lmdb
from input_pipeline.importers.formats import inputs, members
from input_pipeline.importers.settings import ImportSettings
from input_pipeline.regions import RegionStore
from input_pipeline.regions.region_writer import RegionWriter

BAD = 1  # the record that is damaged, of three


def vlbert_record(i, **changes):
    image = made(i)
    n = len(image["boxes"])
    record = {"image_w": 60, "image_h": 40, "num_boxes": n, "boxes": encoded(image["boxes"])}
    return {**record, "features": encoded(image["features"]), **changes}


def vlbert_zip(path, bad):
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(3):
            data = bad(i) if i == BAD else json.dumps(vlbert_record(i))
            archive.writestr(f"{i}.json", data)
    return path


JSONS = {
    "huge height": lambda i: json.dumps(vlbert_record(i, image_h=2**31)),
    "long number": lambda i: json.dumps(vlbert_record(i)).replace("60", "6" * 5000, 1),
    "share for a height": lambda i: json.dumps(vlbert_record(i, image_h=40.5)),
    "digits without end": lambda i: json.dumps(vlbert_record(i, image_w="9" * 5000)),
    "not a number": lambda i: json.dumps(vlbert_record(i, image_h=float("nan"))),
    "infinite": lambda i: json.dumps(vlbert_record(i, num_boxes=float("inf"))),
    "deep": lambda i: "[" * 10**6,
    "half a character": lambda i: json.dumps(vlbert_record(i, boxes="\ud800")),
    "no object": lambda i: "[]",
    "scalar for features": lambda i: json.dumps(vlbert_record(i, features=3)),
    "list for features": lambda i: json.dumps(vlbert_record(i, features=[[1, 2]])),
    "no UTF-8": lambda i: b"\xff\xfe{}",
    "many values": lambda i: '{"a": [' + "{}," * 2**21 + "{}]}",
    "nothing": lambda i: "",
}


@pytest.mark.parametrize("name", JSONS)
def test_json_members(tmp_path, name):
    check(tmp_path, "vlbert_json", vlbert_zip(tmp_path / "a.zip", JSONS[name]), OPTIONS)


OPTIONS = {"feature_dim": 8, "num_classes": 5}


def check(tmp_path, layout, path, options=None, keys=("0", "2")):
    """An error by default; with skip the others are there, and the reason is written down."""
    with pytest.raises(DataError) as caught:
        run.convert(layout, [str(path)], tmp_path / "e", ImportSettings(options=options or {}))
    assert len(str(caught.value)) < 12_000
    settings = ImportSettings(options=options or {}, on_bad="skip")
    done = run.convert(layout, [str(path)], tmp_path / "s", settings)
    assert (done.images, done.skipped) == (len(keys), 1)
    assert RegionStore.open(tmp_path / "s").keys == list(keys)
    row = json.loads((tmp_path / "s" / "skipped.jsonl").read_text())
    assert str(path) in row["where"]
    return row["reason"]


def change_member(path, number, **changes):
    """Changes fields of a member's entry in the directory and of its own header."""
    data = bytearray(path.read_bytes())
    central = [at for at in range(len(data)) if data[at : at + 4] == b"PK\x01\x02"][number]
    local = int.from_bytes(data[central + 42 : central + 46], "little")
    for name, value in changes.items():
        at, size, here = {"flags": (8, 2, 6), "method": (10, 2, 8), "size": (24, 4, 22)}[name]
        data[central + at : central + at + size] = value.to_bytes(size, "little")
        data[local + here : local + here + size] = value.to_bytes(size, "little")
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(flags=1), "encrypted"),
        (dict(method=99), "compression method 99"),
        (dict(method=12), "compression method 12"),
        (dict(size=2**32 - 2), "4294967294 bytes, more than"),
        (dict(size=7), "other than 7 bytes"),
    ],
)
def test_members_of_zips(tmp_path, changes, said):
    path = vlbert_zip(tmp_path / "a.zip", lambda i: json.dumps(vlbert_record(i)))
    change_member(path, BAD, **changes)
    assert said in check(tmp_path, "vlbert_json", path, OPTIONS)


def test_a_member_that_unpacks_to_much_is_not_unpacked(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(3):
            record = json.dumps(vlbert_record(i))
            archive.writestr(f"{i}.json", record if i != BAD else bytes(members.MAX_MEMBER + 1))
    tracemalloc.start()
    assert "more than" in check(tmp_path, "vlbert_json", path, OPTIONS)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_members_that_overlap(tmp_path):
    """A bomb of members that are the same bytes."""
    path = vlbert_zip(tmp_path / "a.zip", lambda i: json.dumps(vlbert_record(i)))
    data = path.read_bytes()
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    directory = data[start:end] * 50
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 150, 150, len(directory), start, 0)
    path.write_bytes(data[:start] + directory + tail)
    with pytest.raises(DataError, match="packed, in"):
        run.convert("vlbert_json", [str(path)], tmp_path / "s", ImportSettings(options=OPTIONS))


def doubled(times):
    """A pickle of a tuple in itself over and over."""
    return b"}N" + b"2\x86" * times + b"Ns."


PICKLES = {
    "hash for ever": doubled(60),
    "deep": b"})" + b"\x85" * 200_000 + b"Ns.",
    "persistent id": b"N" + b"2\x86" * 30 + b"Q.",
    "keys that are no text": pickle.dumps({b"\xff\xfe": 1, 3: 4}),
    "scalar features": pickle.dumps({**lmdb_image(1), "features": 3.0}),
    "complex features": pickle.dumps({**lmdb_image(1), "features": np.ones((3, 6), "c8")}),
    "texts": pickle.dumps({**lmdb_image(1), "features": [["a" * 10**5] + ["b"] * 5] * 3}),
    "huge height": pickle.dumps({**lmdb_image(1), "image_h": 2**31}),
    "huge number": pickle.dumps({**lmdb_image(1), "num_boxes": 10**300}),
    "zeros": pickle.dumps({**lmdb_image(1), "features": np.zeros((3, 6), "f4")}),
    "long id": pickle.dumps({**lmdb_image(1), "image_id": "x" * 10**5}),
    "half a character": pickle.dumps({**lmdb_image(1), "image_id": "\ud800"}),
}


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_in_databases(tmp_path, name):
    records = {str(i).encode(): pickle.dumps(lmdb_image(i), 2) for i in range(3)}
    records[b"1"] = PICKLES[name]
    path = write_lmdb(tmp_path / "a.lmdb", {**records, b"keys": pickle.dumps(list(records))})
    check(tmp_path, "vilbert_lmdb", path, {"id_from": "record"}, ("100", "102"))


def test_keys_of_databases_that_are_no_text(tmp_path):
    records = {key: pickle.dumps(lmdb_image(i), 2) for i, key in enumerate((b"0", b"\xff", b"2"))}
    path = write_lmdb(tmp_path / "a.lmdb", {**records, b"keys": pickle.dumps(list(records))})
    assert "UTF-8" in check(tmp_path, "vilbert_lmdb", path, {"id_from": "key"})


def msgpack_record(i, **changes):
    image = lmdb_image(i)
    image["caption"] = "a dog"
    order = ("features", "cls_prob", "boxes", "num_boxes", "image_h", "image_w", "image_id")
    values = []
    for name in (*order, "caption"):
        value = changes.get(name, image[name])
        if isinstance(value, np.ndarray):
            value = {b"nd": True, b"type": value.dtype.str, b"kind": b"", b"shape": value.shape,
                     b"data": value.tobytes()}  # fmt: skip
        values.append(value)
    return msgpack.packb(values)


@pytest.mark.parametrize(
    "value",
    [
        b"\x91" * 10**5,
        b"\xdc\xff\xff" + b"\x80" * 65535 + b"\xc0",
        b"\xdd\x00\x04\x00\x00" + b"\x80" * 2**18,
        b"\xdd\xff\xff\xff\xff",
        msgpack.packb({b"nd": True, b"type": b"<f4", b"shape": [2**40, 2**40], b"data": b""}),
        msgpack.packb({(1, 2): 3}),
        msgpack_record(1, num_boxes=2**40),
        msgpack_record(1, image_h=b"9" * 5000),
        msgpack_record(1, features=3.0),
    ],
)
def test_msgpack_in_databases(tmp_path, value):
    records = {f"{i:08d}".encode(): msgpack_record(i) for i in range(3)}
    records[b"00000001"] = value
    keys = msgpack.packb(list(records))
    path = write_lmdb(tmp_path / "a.lmdb", {**records, b"__keys__": keys}, subdir=False)
    check(tmp_path, "conceptual_lmdb", path, keys=("100", "102"))


def test_pages_of_a_value_that_are_damaged(tmp_path):
    """A page number that leads out of the file: LMDB itself ends the process with SIGBUS."""
    records = {str(100 + i).encode(): pickle.dumps({**lmdb_image(i), "x": bytes(9000)}, 2)
               for i in range(3)}  # fmt: skip
    path = write_lmdb(tmp_path / "a.lmdb", {**records, b"keys": pickle.dumps(list(records))})
    file = tmp_path / "a.lmdb" / "data.mdb"
    whole = file.read_bytes()
    at = whole.index(b"\x03\x00101") + 5  # the number of the first page of its value
    for number in (2**63, 2**31, 2, 1):
        file.write_bytes(whole[:at] + number.to_bytes(8, "little") + whole[at + 8 :])
        out = tmp_path / str(number)
        out.mkdir()
        assert "page" in check(out, "vilbert_lmdb", path, keys=("100", "102"))


def test_any_damage_of_a_database_is_told(tmp_path):
    records = {str(100 + i).encode(): pickle.dumps(lmdb_image(i), 2) for i in range(40)}
    path = write_lmdb(tmp_path / "a.lmdb", {**records, b"keys": pickle.dumps(list(records))})
    file = tmp_path / "a.lmdb" / "data.mdb"
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(3):
            page = int(rng.integers(len(data) // 4096)) * 4096
            data[page + int(rng.integers(200))] = int(rng.integers(256))
        file.write_bytes(data)
        try:
            layout = vilbert_lmdb.Layout([path])
            found = [raw for part in layout.parts(1) for _, raw in layout.entries(part)]
            assert len(found) <= 41
        except DataError:
            pass


def npy(shape, data=b"", version=b"\x01\x00", text=None):
    """A .npy file of a header that says anything."""
    text = text or f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    head = text.encode() + b"\n"
    size = len(head).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + version + size + head + data


HEADERS = {
    "huge shape": npy("(1000000000, 2048)"),
    "shape beyond 64 bits": npy("(99999999999999999999, 2)"),
    "negative shape": npy("(-1, -8)"),
    "deep header": npy("", text="(" * 5000),
    "long header": npy("", version=b"\x02\x00", text=" " * 2**20),
    "header that is no dictionary": npy("", text="[1, 2"),
    "texts of no length": npy("", text="{'descr': '<U0', 'fortran_order': False, 'shape': (9,), }"),
    "unknown type": npy("", text="{'descr': 'zz', 'fortran_order': False, 'shape': (9,), }"),
    "scalar": npy("()", bytes(4)),
    "version": npy("(1,)", version=b"\x07\x00"),
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_headers_of_arrays(tmp_path, name, kind):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(3):
        image = made(i)
        if kind == "npz":
            arrays = {"bbox": image["boxes"], "image_w": 60, "image_h": 40}
            np.savez(folder / f"{i}.npz", x=image["features"], **arrays)
        else:
            np.save(folder / f"{i}.npy", image["features"])
            sizes = {"boxes": image["boxes"].tolist(), "width": 60, "height": 40}
            (folder / f"{i}.json").write_text(json.dumps(sizes))
    if kind == "npy":
        (folder / "1.npy").write_bytes(HEADERS[name])
    else:
        with zipfile.ZipFile(folder / "1.npz", "w") as archive:
            archive.writestr("x.npy", HEADERS[name])
            for key in ("bbox", "image_w", "image_h"):
                with io.BytesIO() as file:
                    np.save(file, image["boxes"])
                    archive.writestr(f"{key}.npy", file.getvalue())
    check(tmp_path, "numpy_folder", folder)


def test_a_line_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "MAX_LINE", 2000)
    lines = []
    for i in range(3):
        image = made(i, 1)
        cells = [str(i), "60", "40", "1", encoded(image["boxes"]), encoded(image["features"])]
        lines.append("\t".join(cells))
    lines[BAD] = lines[BAD] + "A" * 10_000
    (tmp_path / "a.tsv").write_text("\n".join(lines) + "\n")
    said = check(tmp_path, "bottom_up_tsv", tmp_path / "a.tsv", {"feature_dim": 8})
    assert "too long" in said


def test_a_pipe_is_not_waited_for(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(3):
        image = made(i)
        np.savez(folder / f"{i}.npz", x=image["features"], bbox=image["boxes"], image_w=60,
                 image_h=40)  # fmt: skip
    (folder / "1.npz").unlink()
    os.mkfifo(folder / "1.npz")
    assert "no regular file" in check(tmp_path, "numpy_folder", folder)


def test_a_full_disk_is_no_bad_record(tmp_path, monkeypatch):
    path = vlbert_zip(tmp_path / "a.zip", lambda i: json.dumps(vlbert_record(i)))

    def full(self, record, **values):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RegionWriter, "_append", full)
    settings = ImportSettings(options=OPTIONS, on_bad="skip")
    with pytest.raises(DataError, match=r"(?s)the disk is full.*No space left.*fix: free space"):
        run.convert("vlbert_json", [str(path)], tmp_path / "s", settings)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip"]


def test_packed_annotations_are_not_unpacked_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(official, "MAX_LINE", 10**5)
    monkeypatch.setattr(official, "MAX_UNPACKED", 10**5)
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(bytes(10**8)))
    for read, said in (
        (official.read_json, "far larger than it looks"),
        (lambda p: list(official.json_lines(p)), "a line is too long"),
    ):
        tracemalloc.start()
        with pytest.raises(DataError, match=f"(?s){said}.*a.json.gz"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 4 * 10**7
        tracemalloc.stop()
    path.write_bytes(gzip.compress(b'{"a": "\\ud800"}'))
    with pytest.raises(DataError, match=r"(?s)malformed JSON.*surrogate"):
        official.read_json(path)
    path.write_bytes(gzip.compress(b'{"a": "\\ud83d\\ude00"}'))
    assert official.read_json(path) == {"a": "\U0001f600"}


def test_texts_of_hdf5_ids_and_names(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for i, name in enumerate(("0", "1", "2")):
            image = made(i)
            file[f"{name}/features"] = image["features"] if i != BAD else "a text"
            file[f"{name}/boxes"], file[f"{name}/img_w"] = image["boxes"], 60
            file[f"{name}/img_h"] = 40
    check(tmp_path, "hdf5", path)


def test_the_first_record_may_be_the_bad_one(tmp_path):
    """Its features are of another width than those of all others."""
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(4):
        image = made(i)
        features = image["features"][:, : 8 if i else 5]
        np.savez(folder / f"{i}.npz", x=features, bbox=image["boxes"], image_w=60, image_h=40)
    check(tmp_path, "numpy_folder", folder, keys=("1", "2", "3"))
