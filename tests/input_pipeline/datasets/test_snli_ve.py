"""SNLI-VE: official lines in, statements about one image out."""

import json
import os
import pathlib
import shutil

import pytest

from core.errors import DataError
from input_pipeline.datasets import snli_ve
from input_pipeline.datasets.records import Statement

REAL = pathlib.Path(
    os.environ.get("VL_DATA_DIR_REAL", pathlib.Path(__file__).parents[4] / "shared" / "data")
)


def row(i=0, **changes):
    item = {
        "Flikr30kID": "0042.jpg",
        "pairID": f"42.jpg#0r{i}e",
        "sentence1": "premise",
        "sentence2": f"a dog {i}",
        "gold_label": "entailment",
    }
    return {**item, **changes}


def write(folder, *rows):
    (folder / "snli_ve_dev.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(folder)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data")
def test_real_files(tmp_path):
    shutil.copy(REAL / "snli_ve/sample_data.jsonl", tmp_path / "snli_ve_dev.jsonl")
    records = list(snli_ve.records(str(tmp_path), "dev"))
    assert [record.image_ids for record in records] == [
        (number,) for number in ("555378351", "3253523210", "2870682429", "3561433412", "276356412")
    ]
    assert records[1] == Statement(
        "3253523210.jpg#2r1n",
        ("3253523210",),
        "People talking about music near a fence.",
        1,
        "neutral",
    )
    # The generator's spelling of the image key, ids without .jpg.
    pairs = REAL / "fixtures/visual_entailment/sample_pairs.jsonl"
    shutil.copy(pairs, tmp_path / "snli_ve_test.jsonl")
    records = list(snli_ve.records(str(tmp_path), "test"))
    assert len(records) == 16
    assert records[0].image_ids == ("2248275918",)
    assert [sum(r.label == label for r in records) for label in (0, 1, 2)] == [4, 6, 6]


def test_no_majority_and_number(tmp_path):
    folder = write(tmp_path, row(0, gold_label="-"), row(1, Flikr30kID=7))
    first, second = snli_ve.records(folder, "dev")
    assert (first.label, first.label_name, first.image_ids) == (-1, "-", ("42",))
    assert (second.label, second.image_ids) == (2, ("7",))


BAD = {
    "duplicate": (row(0), "pairID occurs twice"),
    "image": (row(1, Flikr30kID="COCO_42.jpg"), "no Flickr30k number"),
    "no image": ({k: v for k, v in row(1).items() if k != "Flikr30kID"}, "'Flikr30kID' is missing"),
    "image kind": (row(1, Flikr30kID=4.2), "'Flikr30kID' is of the wrong kind"),
    "label": (row(1, gold_label="maybe"), "unknown label.*contradiction"),
    "no label": ({k: v for k, v in row(1).items() if k != "gold_label"}, "'gold_label' is missing"),
    "text kind": (row(1, sentence2=None), "'sentence2' is of the wrong kind"),
    "empty": (row(1, sentence2=""), "hypothesis .sentence2. is empty"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_lines(tmp_path, name):
    bad, message = BAD[name]
    records = snli_ve.records(write(tmp_path, row(0), bad), "dev")
    next(records)
    with pytest.raises(DataError, match=f"(?s){message}") as error:
        next(records)
    assert "snli_ve_dev.jsonl:2" in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"), [(b"{,}", "malformed JSON"), (b"\xfe{}", "not UTF-8")]
)
def test_bad_bytes(tmp_path, data, message):
    (tmp_path / "snli_ve_dev.jsonl").write_bytes(data)
    with pytest.raises(DataError, match=message):
        list(snli_ve.records(str(tmp_path), "dev"))


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"(?s)missing.*snli_ve_train\.jsonl.*SNLI-VE"):
        snli_ve.files(str(tmp_path), "train")
