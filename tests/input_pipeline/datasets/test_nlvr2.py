"""NLVR2: official lines in, statements about two images out."""

import gzip
import json
import os
import pathlib
import shutil

import pytest

from core.errors import DataError
from input_pipeline.datasets import nlvr2
from input_pipeline.datasets.records import Statement

REAL = pathlib.Path(
    os.environ.get("VL_DATA_DIR_REAL", pathlib.Path(__file__).parents[4] / "shared" / "data")
)


def row(i=0, **changes):
    item = {"identifier": f"dev-7-0-{i}", "sentence": f"two dogs {i}", "label": "True"}
    return {**item, **changes}


def write(folder, *rows, name="dev.json"):
    (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data")
@pytest.mark.parametrize(
    ("file", "count", "true"),
    [("nlvr2/dev_first400.json", 400, 209), ("fixtures/nlvr2/tiny-dev.json", 8, None)],
)
def test_real_file(tmp_path, file, count, true):
    shutil.copy(REAL / file, tmp_path / "dev.json")
    records = list(nlvr2.records(str(tmp_path), "dev"))
    assert len(records) == count
    assert records[0] == Statement(
        text_id="dev-850-0-0",
        image_ids=("dev-850-0-img0", "dev-850-0-img1"),
        text="The right image shows a curving walkway of dark glass circles embedded in dirt and "
        "flanked by foliage.",
        label=0,
        label_name="False",
    )
    assert {record.label_name for record in records} == {"True", "False"}
    assert true is None or sum(record.label for record in records) == true
    if count == 8:  # the pictures are there, by the names the identifiers give
        names = {name for record in records for name in record.image_ids}
        there = {path.stem for path in (REAL / "fixtures").rglob("*.png")}
        assert not there or names <= there


def test_the_second_test_split_and_lines_without_label(tmp_path):
    lines = [row(identifier="test2-189-0-0"), row(1, identifier="test2-189-0-1")]
    del lines[1]["label"]
    write(tmp_path, *lines, name="test2.json")
    known, unknown = nlvr2.records(str(tmp_path), "test2")
    assert (known.label, known.label_name) == (1, "True")
    assert (unknown.label, unknown.label_name) == (-1, "")
    assert unknown.image_ids == ("test2-189-0-img0", "test2-189-0-img1")
    write(tmp_path, lines[1])
    with pytest.raises(DataError, match="'label' is missing"):
        list(nlvr2.records(str(tmp_path), "dev"))


def test_packed_file_and_order(tmp_path):
    with gzip.open(tmp_path / "train.json.gz", "wt") as file:
        for i in (3, 1, 2):
            file.write(json.dumps(row(i)) + "\n\n")
    assert [r.text_id for r in nlvr2.records(str(tmp_path), "train")] == [
        "dev-7-0-3",
        "dev-7-0-1",
        "dev-7-0-2",
    ]


BAD = {
    "duplicate": (row(0), "identifier occurs twice.*dev.json:2.*first at .*dev.json:1"),
    "identifier": (row(identifier="dev"), "names no pair"),
    "identifier kind": (row(identifier=["dev-1-0-0"]), "'identifier' is of the wrong kind"),
    "no sentence": ({"identifier": "dev-7-0-1", "label": "True"}, "'sentence' is missing"),
    "sentence kind": (row(1, sentence=7), "'sentence' is of the wrong kind"),
    "empty": (row(1, sentence=" \t"), "the sentence is empty"),
    "label": (row(1, label="Yes"), "unknown label.*expected: one of .'False', 'True'"),
    "label kind": (row(1, label=True), "'label' is of the wrong kind"),
    "no object": ([1], "an object"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_lines(tmp_path, name):
    bad, message = BAD[name]
    records = nlvr2.records(str(write(tmp_path, row(0), bad)), "dev")
    assert next(records).text_id == "dev-7-0-0"
    with pytest.raises(DataError, match=f"(?s){message}") as error:
        next(records)
    assert "dev.json:2" in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"identifier": ', "malformed JSON.*dev.json:1"),
        (b'{"a": "\xff"}', "not UTF-8.*dev.json:1"),
    ],
)
def test_bad_bytes(tmp_path, data, message):
    (tmp_path / "dev.json").write_bytes(data)
    with pytest.raises(DataError, match=f"(?s){message}"):
        list(nlvr2.records(str(tmp_path), "dev"))


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"(?s)missing.*test1\.json.*lil-lab/nlvr"):
        nlvr2.files(str(tmp_path), "test1")
