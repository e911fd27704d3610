"""Numbers that no file means: beyond 64 bits, infinite, of thousands of digits."""

import json

import pytest
from ml_collections import ConfigDict

from configs import common
from core.errors import DataError
from input_pipeline.datasets import conceptual_captions, flickr30k, gqa, snli_ve
from input_pipeline.datasets.reading import boxes, entries, files, jsonl_tasks

LONG = "7" * 4400


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("9223372036854775808", int),
        ("-9223372036854775808", int),
        ("1e999", float),
        ("1" * 400, float),
    ],
)
def test_numbers_out_of_range_name_file_and_key(text, kind):
    item = files.parse(f'{{"x": {text}}}', "f.json")
    with pytest.raises(DataError, match=r"(?s)out of range: 'x'.*f\.json") as caught:
        entries.need(item, "x", kind, "f.json")
    assert len(str(caught.value)) < 400


def test_the_largest_numbers_are_read():
    assert entries.check(2**63 - 1, int, "f.json") == 2**63 - 1
    assert entries.check(-1e18, float, "f.json") == -1e18
    assert entries.number("0" * 29 + "7", "f.json", "id") == "7"


@pytest.mark.parametrize("number", [10**400, -(10**400), 2.0**64, True, None, "1"])
def test_boxes_of_numbers_that_are_none(tmp_path, number):
    with pytest.raises(DataError, match=r"(?s)box is malformed.*f\.json"):
        boxes.from_corner([1, 2, 3, number], "f.json")
    row = dict(image_id="i", text="a dog", box=[1, 2, 3, number])
    (tmp_path / "own.jsonl").write_text(json.dumps(row))
    keys = ConfigDict(common.data_block("jsonl")).json_keys
    reader = jsonl_tasks.Reader("ground", keys, "error", trained=True, classes=())
    with pytest.raises(DataError, match=r"(?s)box is none.*own\.jsonl:1"):
        list(reader.records([str(tmp_path / "own.jsonl")], "train"))


def test_images_of_a_list_are_numbers(tmp_path):
    (tmp_path / "Sentences").mkdir()
    (tmp_path / "train.txt").write_text(f"{LONG}\n")
    with pytest.raises(DataError, match=r"(?s)'image' is no number.*train\.txt:1"):
        flickr30k.files(str(tmp_path), "entities_train")


def test_names_of_thousands_of_digits_are_no_numbers(tmp_path):
    (tmp_path / "train_frcnn.json").write_text(json.dumps(dict(image=LONG, caption=["a"])))
    with pytest.raises(DataError, match=r"(?s)'image' is no number.*train_frcnn\.json:1") as caught:
        list(conceptual_captions.records(str(tmp_path), "train_frcnn", indexing="row"))
    assert len(str(caught.value)) < 1000
    (tmp_path / "snli_ve_dev.jsonl").write_text(json.dumps(dict(Flikr30kID=LONG)))
    with pytest.raises(DataError, match=r"(?s)no Flickr30k number.*dev\.jsonl:1"):
        list(snli_ve.records(str(tmp_path), "dev"))
    for split in ("train", "val"):
        (tmp_path / f"{split}_balanced_questions.json").write_text(json.dumps({LONG: {}}))
    with pytest.raises(DataError, match="question id is no number"):
        list(gqa.records(str(tmp_path), "minival"))
