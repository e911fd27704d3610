"""Which images annotations need, and what the report says of a store."""

import json

import pytest
from made_data import image, write_images, write_jsonl

from core.errors import DataError
from input_pipeline.datasets.reading import coverage
from input_pipeline.regions import FeatureSpec, RegionStore

SPEC = FeatureSpec("toy", 6)


def store(folder, keys):
    write_images(folder, SPEC, *((key, image(i, spec=SPEC)) for i, key in enumerate(keys)))
    return RegionStore.open(folder)


def test_needed_images_of_files(tmp_path):
    rows = [{"image_id": 3, "img": "c"}, {"image_id": "a", "img": "d"}, {"image_id": 3, "img": "c"}]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    assert coverage.needed(path) == {"3": f"{path}:1", "a": f"{path}:2"}
    assert list(coverage.needed(path, "img")) == ["c", "d"]
    (tmp_path / "ids.txt").write_text("7\n\n 007 \n")
    assert list(coverage.needed(str(tmp_path / "ids.txt"))) == ["7", "007"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"image": 1}', "no image id.*KeyError"),
        ("{", "no image id.*JSONError"),
        ("[1]", "no image id.*TypeError"),
        ('{"image_id": 1.5}', "neither text nor a whole number.*1.5"),
        ('{"image_id": ""}', "neither text"),
    ],
)
def test_bad_lines(tmp_path, text, message):
    (tmp_path / "a.jsonl").write_text('{"image_id": 1}\n' + text + "\n")
    with pytest.raises(DataError, match=rf"(?s){message}") as error:
        coverage.needed(str(tmp_path / "a.jsonl"))
    assert "a.jsonl:2" in str(error.value)


def test_unreadable(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        coverage.needed(str(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match=r"(?s)no data set with official records.*'nothing'"):
        coverage.needed("nothing:train")
    with pytest.raises(DataError, match=r"(?s)no data set with official records.*'scenes'"):
        coverage.needed("scenes:train")


def test_needed_images_of_a_data_set(tmp_path):
    for split in ("train2014", "val2014"):
        year = {"images": [], "annotations": []}
        first = 1 if split == "train2014" else 3
        for i in (first, first + 1):
            name = f"COCO_{split}_{i:012}.jpg"
            year["images"].append({"id": i, "file_name": name, "height": 9, "width": 9})
            year["annotations"].append({"id": i, "image_id": i, "caption": "a dog"})
        (tmp_path / "annotations").mkdir(exist_ok=True)
        path = tmp_path / "annotations" / f"captions_{split}.json"
        path.write_text(json.dumps(year))
    found = coverage.needed("coco_captions:train2014+val2014", manual_dir=str(tmp_path))
    assert list(found) == ["1", "2", "3", "4"]
    assert found["3"] == "coco_captions:train2014+val2014, text '3'"


def test_report(tmp_path, capsys):
    made = store(tmp_path / "s", ["1", "2", "3"])
    assert coverage.report(made, {"1": "f:1", "2": "f:2", "9": "f:3"}, "f") == 1
    text = capsys.readouterr().out
    assert "f: needs 3 images; 2 (66.7 %) are in the store, 1 are missing" in text
    assert "store: 3 images, 1 of them not needed" in text
    assert "missing: '9' (f:3)" in text
    assert "fix" not in text
    assert coverage.report(made, {}, "f") == 0
    many = {str(i): f"f:{i}" for i in range(100, 150)}
    assert coverage.report(made, many, "f") == 50
    assert "... and 30 more" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keys", "needs", "fix"),
    [
        (["COCO_val2014_000000000042"], ["42"], "import the features again with --ids number"),
        (["42"], ["000000000042"], "write plain numbers without leading zeros"),
        (["a_0042.jpg"], ["b_042"], "again with --ids number, and write plain numbers"),
        (["a"], ["b"], None),
        # As plain numbers these would be one image.
        (["one/x@0", "two/x@0"], ["one/y@0"], None),
        (["one/x@0"], ["one/y@0", "two/y@0"], None),
        (["1"], ["2"], None),
    ],
)
def test_ids_written_in_another_way(tmp_path, capsys, keys, needs, fix):
    made = store(tmp_path / "s", keys)
    assert coverage.report(made, dict.fromkeys(needs, "f:1"), "f") == len(needs)
    text = capsys.readouterr().out
    assert (fix in text) if fix else ("fix" not in text)
