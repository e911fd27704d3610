"""COCO captions: official and Karpathy's files in, captions out."""

import json

import pytest
from made_data import REAL

from core.errors import DataError
from input_pipeline.datasets import coco_captions
from input_pipeline.datasets.records import Caption

VAL = "captions_val2014.json"
real = pytest.mark.skipif(not (REAL / "coco_mini").is_dir(), reason=f"no real data at {REAL}")


def note(i, **changes):
    return {"id": i, "image_id": 139, "caption": f"a dog {i}", **changes}


def write(folder, data, name=VAL):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    return str(folder)


def notes(folder, *items, name=VAL):
    return write(folder, {"images": [], "annotations": list(items)}, name)


def read(folder, split="val2014"):
    return list(coco_captions.records(str(folder), split))


def test_official_file(tmp_path):
    notes(
        tmp_path,
        note(7, caption="A dog\n runs. "),
        note(3, image_id="000000000042"),
        name=f"annotations/{VAL}",
    )
    expected = [Caption("7", "139", "A dog runs."), Caption("3", "42", "a dog 3")]
    assert read(tmp_path) == expected
    assert coco_captions.image_name("139") == "coco:139"


def karpathy(*splits):
    return {
        "images": [
            {
                "cocoid": 100 + i,
                "split": split,
                "sentences": [{"raw": f"caption {i} {k}", "sentid": 10 * i + k} for k in range(2)],
            }
            for i, split in enumerate(splits)
        ]
    }


def test_karpathy_file(tmp_path):
    write(tmp_path, karpathy("train", "test", "restval", "test"), "dataset_coco.json")
    assert read(tmp_path, "karpathy_test") == [
        Caption("10", "101", "caption 1 0"),
        Caption("11", "101", "caption 1 1"),
        Caption("30", "103", "caption 3 0"),
        Caption("31", "103", "caption 3 1"),
    ]
    assert [r.image_id for r in read(tmp_path, "karpathy_restval")] == ["102", "102"]
    assert read(tmp_path, "karpathy_val") == []
    write(tmp_path, karpathy("train", "dev"), "dataset_coco.json")
    with pytest.raises(DataError, match=r"(?s)unknown split.*images\[1\].*restval.*'dev'"):
        read(tmp_path, "karpathy_train")


def test_list_of_the_test_split(tmp_path):
    item = {"image": "val2014/COCO_val2014_000000391895.jpg", "caption": ["A man. ", "Two"]}
    write(tmp_path, [item], "coco_test.json")
    assert read(tmp_path, "karpathy_test") == [
        Caption("391895#0", "391895", "A man."),
        Caption("391895#1", "391895", "Two"),
    ]
    for change, message in (
        ([item, item], r"image occurs twice.*coco_test\.json\[1\].*391895.*coco_test\.json\[0\]"),
        ([{**item, "image": "val2014/x.jpg"}], r"'image' is no number.*\[0\].*digits.*'x'"),
        ([{**item, "caption": "A man."}], r"'caption' is of the wrong kind.*a list.*A man"),
        ([{**item, "caption": [3]}], r"caption\[0\].*a string.*int 3"),
        ({"images": []}, r"expected: a list.*dict"),
    ):
        write(tmp_path, change, "coco_test.json")
        with pytest.raises(DataError, match=rf"(?s){message}"):
            read(tmp_path, "karpathy_test")
    with pytest.raises(DataError, match=r"(?s)missing.*dataset_coco\.json.*caption_datasets"):
        read(tmp_path, "karpathy_val")


BAD = {
    "cut": (b'{"annotations": [{"id": 1,', r"malformed JSON.*val2014\.json.*line 1 column"),
    "latin": (b'{"annotations": "caf\xe9"}', r"not UTF-8.*val2014\.json.*byte"),
    "top": ({"notes": []}, r"'annotations' is missing.*\['notes'\]"),
    "kind": ({"annotations": {}}, r"'annotations' is of the wrong kind.*a list.*dict"),
    "key": ({"annotations": [{"id": 1, "image_id": 2}]}, r"'caption' is missing.*annotations\[0\]"),
    "caption": ({"annotations": [note(1, caption=None)]}, r"'caption'.*a string.*NoneType"),
    "empty": ({"annotations": [note(1), note(2, caption=" \n")]}, r"caption is empty.*s\[1\]"),
    "image": ({"annotations": [note(1, image_id=True)]}, r"'image_id'.*whole number.*bool True"),
    "word": ({"annotations": [note(1, image_id="x7")]}, r"'image_id' is no number.*digits.*'x7'"),
    "twice": ({"annotations": [note(1), note(1)]}, r"id occurs twice.*s\[1\].*'1'.*s\[0\]"),
    "item": ({"annotations": [[1]]}, r"annotations\[0\].*an object.*list"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_files_name_the_entry(tmp_path, name):
    data, message = BAD[name]
    write(tmp_path, data)
    with pytest.raises(DataError, match=rf"(?s){message}"):
        read(tmp_path)


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"(?s)missing.*captions_val2014.*trainval2014\.zip"):
        read(tmp_path)


@real
def test_real_files():
    for split, images, captions in (("train2017", 80, 400), ("val2017", 79, 395)):
        records = read(REAL / "coco_mini", split)
        assert len(records) == captions
        assert len({record.image_id for record in records}) == images
    assert records[0] == Caption(
        "221865", "205401", "A plane floating on top of a lake surrounded by mountains."
    )
    records = read(REAL / "coco_karpathy_test", "karpathy_test")
    assert len(records) == 25009
    assert len({record.image_id for record in records}) == 5000
