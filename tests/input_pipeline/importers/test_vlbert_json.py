"""VL-BERT's JSON files, in zips and folders: what is read, what is refused."""

import json
import zipfile

import numpy as np
import pytest
from layout_checks import (
    C,
    F,
    check_items,
    check_parts,
    check_refused,
    check_store,
    encoded,
    entries,
    items,
    made,
)

from core.errors import DataError
from input_pipeline.importers import run, vlbert_json
from input_pipeline.importers.formats.members import ZipMembers, list_files
from input_pipeline.importers.settings import ImportSettings

OPTIONS = {"feature_dim": F, "num_classes": C}
IDS = [f"{i:08d}" for i in range(4)]


def record(i, n=None, **changes):
    image = made(i, n)
    out = {
        "image_id": 100 + i,
        "image_w": 60,
        "image_h": 40,
        "num_boxes": len(image["boxes"]),
        "boxes": encoded(image["boxes"]),
        "features": encoded(image["features"]),
        "classes": encoded(image["class_probs"]),
        "attrs": "not read",
    }
    out.update(changes)
    return {key: value for key, value in out.items() if value is not None}


def write_zip(path, records, method=zipfile.ZIP_STORED, folder="train_frcnn"):
    with zipfile.ZipFile(path, "w", method) as file:
        file.mkdir(folder)
        file.writestr(f"{folder}/ReadMe.txt", "hello")
        file.writestr(f"__MACOSX/{folder}/._00000000.json", b"\x00\x05")
        for name, value in records.items():
            value = value if isinstance(value, bytes) else json.dumps(value)
            file.writestr(f"{folder}/{name}.json", value)
    return str(path)


def write_folder(path, records):
    for name, value in records.items():
        file = path / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return str(path)


RECORDS = {name: record(i) for i, name in enumerate(IDS)}
IMAGES = [made(i) for i in range(4)]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip(tmp_path, method):
    path = write_zip(tmp_path / "a.zip", RECORDS, method)
    layout = vlbert_json.Layout([path], **OPTIONS)
    check_items(items(layout), IDS, IMAGES)
    check_parts(layout)
    assert entries(layout)[1][0] == f"{path}@/train_frcnn/00000001.json"
    store = check_store(tmp_path / "s", "vlbert_json", [path], IDS, IMAGES, **OPTIONS)
    assert (store.spec.num_classes, store.spec.background_class) == (C, 0)


def test_folders_and_subfolders(tmp_path):
    a = write_folder(tmp_path / "a", {IDS[0]: RECORDS[IDS[0]], f"deep/{IDS[1]}": RECORDS[IDS[1]]})
    b = write_zip(tmp_path / "b.zip", {name: RECORDS[name] for name in IDS[2:]})
    layout = vlbert_json.Layout([a, b], **OPTIONS)
    check_items(items(layout, 1), IDS, IMAGES)
    check_store(tmp_path / "s", "vlbert_json", [a, b], IDS, IMAGES, **OPTIONS)


def test_coco_files_image_feature_and_ids_of_the_json(tmp_path):
    whole = np.arange(F, dtype=np.float32)
    values = {n: record(i, classes=None, image_box_feature=encoded(whole))
              for i, n in enumerate(IDS)}  # fmt: skip
    path = write_folder(tmp_path / "a", values)
    found = items(vlbert_json.Layout([path], id_from="json", **OPTIONS))
    check_items(found, ["100", "101", "102", "103"], IMAGES, classes=False)
    np.testing.assert_array_equal(found[0].global_feature, whole)
    run.convert(
        "vlbert_json",
        [path],
        tmp_path / "s",
        ImportSettings(options=OPTIONS, global_feature="stored"),
    )


def test_zip64_as_large_archives_have_it(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)  # 64-bit end record
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)  # 64-bit sizes and offsets
    path = write_zip(tmp_path / "a.zip", RECORDS)
    assert b"PK\x06\x06" in (tmp_path / "a.zip").read_bytes()
    check_items(items(vlbert_json.Layout([path], **OPTIONS)), IDS, IMAGES)


def test_names_and_comments_of_zips(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"häuser/ü": RECORDS[IDS[0]]})
    with zipfile.ZipFile(path, "a") as file:
        file.comment = b"PK\x03\x04 a comment"
    members = ZipMembers(path, ".json")
    assert list(members) == ["train_frcnn/häuser/ü.json"]
    with zipfile.ZipFile(path) as file:
        assert list(members.sizes) == [file.getinfo(members[0]).compress_size]


BAD = {
    "json": (b'{"image_id": 1, ', "malformed JSON.*column"),
    "utf-8": (b'{"image_id": "\xe9"}', "not UTF-8"),
    "list": (b"[1]", r"another kind|of another kind.*\[1\]"),
    "no boxes": (record(1, boxes=None), r"lacks the field 'boxes'.*'features', 'image_h'"),
    "no size": (record(1, image_w=None), "lacks the field 'image_w'"),
    "size": (record(1, image_h="tall"), "'image_h' is no fitting number.*'tall'"),
    "num_boxes": (record(1, num_boxes=3), r"'boxes'.*48 bytes.*found: 32 bytes"),
    "negative": (record(1, num_boxes=-1), "'num_boxes'.*-1"),
    "float64": (
        record(1, features=encoded(made(1)["features"], "<f8")),
        r"'features'.*64 bytes \(float32 \(2, 8\)\).*found: 128 bytes.*float64",
    ),
    "classes": (record(1, classes=encoded(np.ones((2, C - 1)))), r"'classes'.*40 bytes.*32 bytes"),
    "base64": (record(1, boxes="?" * 44), "'boxes' is no base64"),
    "null": (record(1, features=None) | {"features": None}, "'features' is no base64.*NoneType"),
    "no regions": (record(1, n=0), "number of regions.*found: 0"),
    "xywh": (record(1, boxes=encoded([[40, 30, 20, 5]] * 2)), "corners swapped"),
    "outside": (record(1, boxes=encoded([[40, 30, 80, 45]] * 2)), "outside its image"),
    "nan": (record(1, features=encoded(np.full((2, F), np.nan))), "not finite"),
    "classes missing": (record(1, classes=None), "class_probs and the feature spec disagree"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_records(tmp_path, name):
    value, message = BAD[name]
    records = {IDS[0]: RECORDS[IDS[0]], IDS[1]: value, IDS[2]: RECORDS[IDS[2]]}
    path = write_zip(tmp_path / "a.zip", records)
    text = check_refused(tmp_path / "s", "vlbert_json", [path], message, **OPTIONS)
    assert "a.zip@/train_frcnn/00000001.json" in text
    done = run.convert(
        "vlbert_json", [path], tmp_path / "s", ImportSettings(options=OPTIONS, on_bad="skip")
    )
    assert (done.images, done.skipped) == (2, 1)


def test_flipped_byte_in_a_zip(tmp_path):
    path = write_zip(tmp_path / "a.zip", RECORDS)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    at = data.index(b"not read", data.index(b"00000002.json"))
    data[at] ^= 1  # in a field that nobody reads
    (tmp_path / "a.zip").write_bytes(data)
    text = check_refused(tmp_path / "s", "vlbert_json", [path], "damaged.*CRC", **OPTIONS)
    assert "00000002.json" in text
    done = run.convert(
        "vlbert_json", [path], tmp_path / "s", ImportSettings(options=OPTIONS, on_bad="skip")
    )
    assert (done.images, done.skipped) == (3, 1)


@pytest.mark.parametrize("keep", [0, 10, 900, -1, -60])
def test_cut_zip(tmp_path, keep):
    write_zip(tmp_path / "a.zip", RECORDS)
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:keep])
    files = [tmp_path / "a.zip"]
    check_refused(tmp_path / "s", "vlbert_json", files, "not a readable zip.*cut short", **OPTIONS)


def test_damaged_directory_of_a_zip(tmp_path):
    path = write_zip(tmp_path / "a.zip", RECORDS)
    good = (tmp_path / "a.zip").read_bytes()
    first = good.index(b"PK\x01\x02")
    for at, value in ((first, 0), (first + 28, 9), (len(good) - 4, 1)):
        data = bytearray(good)
        data[at] = value
        (tmp_path / "a.zip").write_bytes(data)
        with pytest.raises(DataError, match=r"(?s)not a readable zip.*a\.zip"):
            vlbert_json.Layout([path], **OPTIONS)


def test_every_flipped_byte_is_found_or_harmless(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"1": b'{"a": 1}', "2": b'{"b": 2}'})
    good = (tmp_path / "a.zip").read_bytes()
    whole = list(ZipMembers(path, ".json").read(0, 2))
    for at in range(len(good)):
        data = bytearray(good)
        data[at] ^= 0x55
        (tmp_path / "a.zip").write_bytes(data)
        try:
            members = ZipMembers(path, ".json")
            found = list(members.read(0, len(members)))
        except DataError:
            continue
        contents = {data for _, _, data in found if isinstance(data, bytes)}
        assert contents <= {data for _, _, data in whole}, at


def test_encrypted_members_and_other_methods(tmp_path):
    path = write_zip(tmp_path / "a.zip", RECORDS, zipfile.ZIP_LZMA)
    check_refused(tmp_path / "s", "vlbert_json", [path], "compression method 14", **OPTIONS)
    write_zip(tmp_path / "a.zip", RECORDS)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    check_refused(tmp_path / "s", "vlbert_json", [path], "00000003.*encrypted", **OPTIONS)


def test_inputs_without_files(tmp_path):
    (tmp_path / "empty").mkdir()
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    for name in ("empty", "empty.zip"):
        with pytest.raises(DataError, match=rf"(?s)no files of this layout.*{name}.*\.json"):
            vlbert_json.Layout([str(tmp_path / name)], **OPTIONS)
    with pytest.raises(DataError, match=r"(?s)no file.*nowhere"):
        vlbert_json.Layout([str(tmp_path / "nowhere")], **OPTIONS)
    with pytest.raises(DataError, match="nothing to import"):
        vlbert_json.Layout([])
    with pytest.raises(DataError, match=r"(?s)--id_from.*'stem'"):
        vlbert_json.Layout([], id_from="stem")


def test_repeated_ids_name_both_files(tmp_path):
    path = write_folder(tmp_path / "a", {"x/1": RECORDS[IDS[0]], "y/1": RECORDS[IDS[1]]})
    text = check_refused(tmp_path / "s", "vlbert_json", [path], "id occurs twice", **OPTIONS)
    assert "x/1.json" in text
    assert "y/1.json" in text


def test_a_changed_folder_is_noticed(tmp_path):
    path = write_folder(tmp_path / "a", RECORDS)
    part = vlbert_json.Layout([path], **OPTIONS).parts(10**9)[0]
    write_folder(tmp_path / "a", {"0": RECORDS[IDS[0]]})
    with pytest.raises(DataError, match=r"(?s)changed since.*'00000000.json'.*0\.json"):
        list(vlbert_json.Layout([path], **OPTIONS).entries(part))


def test_linked_subfolders_are_refused(tmp_path):
    write_folder(tmp_path / "a", RECORDS)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "link").symlink_to(tmp_path / "a")
    with pytest.raises(DataError, match=r"(?s)is a link.*b/link"):
        list_files(str(tmp_path / "b"), [".json"])
