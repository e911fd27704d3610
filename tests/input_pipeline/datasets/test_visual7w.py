"""Visual7W pointing: one official file in, questions with four boxes out."""

import copy
import json

import pytest

from core.errors import DataError
from input_pipeline.datasets import visual7w
from input_pipeline.datasets.records import Pointing

# Box ids out of order, two questions that share a box, and one of another split.
DATA = {
    "boxes": [
        {"box_id": 10 - i, "name": "dog", "image_id": 5, "x": i, "y": -1, "width": 4, "height": 2.5}
        for i in range(8)
    ],
    "images": [
        {
            "image_id": 5,
            "filename": "v7w_5.jpg",
            "split": "train",
            "qa_pairs": [
                {
                    "qa_id": 901,
                    "question": "Which  dog?",
                    "answer": 9,
                    "multiple_choices": [10, 3, 6],
                },
                {
                    "qa_id": 900,
                    "question": "Which cat?",
                    "answer": 3,
                    "multiple_choices": [7, 5, 9],
                },
            ],
        },
        {
            "image_id": 6,
            "filename": "v7w_6.jpg",
            "split": "val",
            "qa_pairs": [
                {"qa_id": 1, "question": "Which?", "answer": 4, "multiple_choices": [3, 5, 6]}
            ],
        },
    ],
}


def write(folder, data=DATA):
    (folder / "dataset_v7w_pointing.json").write_text(json.dumps(data))
    return str(folder)


def test_questions(tmp_path):
    first, second = visual7w.records(write(tmp_path), "train")
    # Boxes 3, 5, 6, 7, 9, 10 of the two questions; box b was written with x = 10 - b.
    boxes = tuple((10.0 - b, -1.0, 14.0 - b, 1.5) for b in (3, 5, 6, 7, 9, 10))
    assert first == Pointing("901", "5", "Which dog?", boxes, candidates=(0, 2, 4, 5), target=2)
    assert second == Pointing("900", "5", "Which cat?", boxes, candidates=(0, 1, 3, 4), target=0)
    [only] = visual7w.records(str(tmp_path), "val")
    assert (only.image_id, only.candidates, only.target) == ("6", (0, 1, 2, 3), 1)
    assert list(visual7w.records(str(tmp_path), "test")) == []


def question(data):
    return data["images"][0]["qa_pairs"][1]


BAD = {
    "no boxes": (lambda d: d.pop("boxes"), "'boxes' is missing"),
    "box": (lambda d: d["boxes"][1].update(width=-1), "box is malformed.*box 1"),
    "box nan": (lambda d: d["boxes"][1].update(x=float("nan")), "malformed JSON.*NaN"),
    "box kind": (lambda d: d["boxes"][2].update(x="1"), "'x' is of the wrong kind.*box 2"),
    "box key": (lambda d: d["boxes"][2].pop("height"), "'height' is missing.*box 2"),
    "split": (lambda d: d["images"][1].update(split="dev"), "unknown split.*image 1"),
    "unknown box": (lambda d: question(d).update(answer=99), "image 0, question 1.*unknown .99"),
    "answer twice": (
        lambda d: question(d).update(answer=7),
        "no set of boxes.*image 0, question 1",
    ),
    "no choice": (lambda d: question(d).update(multiple_choices=[]), "no set of boxes"),
    "choice kind": (lambda d: question(d).update(multiple_choices=["7"]), "multiple_choices"),
    "duplicate": (lambda d: question(d).update(qa_id=901), "question id occurs twice.*question 1"),
    "empty": (lambda d: question(d).update(question=" "), "question is empty"),
    "no question": (lambda d: question(d).pop("question"), "'question' is missing"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_entries(tmp_path, name):
    change, message = BAD[name]
    data = copy.deepcopy(DATA)
    change(data)
    with pytest.raises(DataError, match=f"(?s){message}") as error:
        list(visual7w.records(write(tmp_path, data), "train"))
    assert "dataset_v7w_pointing.json" in str(error.value)


@pytest.mark.parametrize(("data", "message"), [(b'{"a"', "malformed JSON"), (b"\xff", "not UTF-8")])
def test_bad_bytes(tmp_path, data, message):
    (tmp_path / "dataset_v7w_pointing.json").write_bytes(data)
    with pytest.raises(DataError, match=message):
        list(visual7w.records(str(tmp_path), "val"))


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"(?s)missing.*dataset_v7w_pointing\.json.*yukez"):
        visual7w.files(str(tmp_path), "train")
