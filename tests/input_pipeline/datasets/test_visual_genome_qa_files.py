"""Visual Genome QA: the official file in, questions with one answer out."""

import json
import os
import pathlib

import pytest

from core.errors import DataError
from input_pipeline.datasets import visual_genome_qa
from input_pipeline.datasets.records import Answer, Question

REAL = pathlib.Path(
    os.environ.get("VL_DATA_DIR_REAL", pathlib.Path(__file__).parents[4] / "shared" / "data")
)


def qa(i, image=4, **changes):
    return {"qa_id": i, "image_id": image, "question": f"What {i}?", "answer": "A Bear.", **changes}


def write(folder, contents):
    (folder / "question_answers.json").write_text(json.dumps(contents))
    return str(folder)


def test_splits(tmp_path, monkeypatch):
    monkeypatch.setattr(visual_genome_qa, "VAL", 2)
    contents = [{"id": 4, "qas": [qa(30), qa(9)]}, {"id": 7, "qas": [qa(20, 7), qa(10, 7)]}]
    folder = write(tmp_path, contents)

    def ids(split):
        return [record.text_id for record in visual_genome_qa.records(folder, split)]

    assert ids("val") == ["30", "20"]
    assert ids("train") == ["9", "10"]
    first = next(visual_genome_qa.records(folder, "val"))
    assert first == Question("30", "4", "What 30?", (Answer("bear", 1.0),), ("A Bear.",))
    assert [first.accuracy(answer) for answer in ("bear", "the bear.", "dog")] == [1, 1, 0]
    top = dict(answer="bear", probability=0.5, top=[["bear", 0.5]])
    assert first.shown(top).right


BAD = {
    "image": ([{"id": 4, "qas": [qa(1, 5)]}], r"another image.*\[0\]\.qas\[0\].*image_id 4.*: 5"),
    "twice": ([{"id": 4, "qas": [qa(1), qa(1)]}], r"occurs twice.*qas\[1\].*'1', first.*qas\[0\]"),
    "question": ([{"id": 4, "qas": [qa(1, question=" ")]}], r"question is empty.*qas\[0\]"),
    "answer": ([{"id": 4, "qas": [qa(1, answer="")]}], r"answer is empty.*qas\[0\]"),
    "type": ([{"id": 4, "qas": [qa(1, answer=2)]}], r"'answer'.*a string.*int 2"),
    "no key": ([{"id": 4, "qas": [{"qa_id": 3}]}], r"'image_id' is missing.*\['qa_id'\]"),
    "no list": ({"qas": []}, r"a list.*dict"),
    "no qas": ([{"id": 4}], r"'qas' is missing.*\[0\]"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path, case):
    contents, match = BAD[case]
    with pytest.raises(DataError, match=f"(?s){match}"):
        list(visual_genome_qa.records(write(tmp_path, contents), "val"))


def test_missing_and_malformed(tmp_path):
    with pytest.raises(DataError, match=r"(?s)missing.*question_answers\.json.*visualgenome"):
        visual_genome_qa.files(str(tmp_path), "train")
    (tmp_path / "question_answers.json").write_text('[{"id": 4, ')
    with pytest.raises(DataError, match=r"(?s)malformed JSON.*question_answers\.json"):
        list(visual_genome_qa.records(str(tmp_path), "train"))


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data")
def test_real_fixture():
    folder = str(REAL / "fixtures/vgqa")
    records = list(visual_genome_qa.records(folder, "val"))
    assert [r.answers[0].text for r in records][:5] == [
        *("sailboats", "in room", "purple", "glass", "teddy bear"),
    ]
    assert records[0] == Question(
        "987278", "4", "What is on the curtains?", (Answer("sailboats", 1.0),), ("Sailboats.",)
    )
    assert [r.image_id for r in records] == ["4"] * 5 + ["5"] * 3
    assert not list(visual_genome_qa.records(folder, "train"))
