"""VCR: official annotations and metadata in, multiple choices and plain words out."""

import json
import os
import pathlib

import pytest

from core.errors import DataError
from input_pipeline.datasets import vcr
from input_pipeline.datasets.records import MultipleChoice, ObjectBox, Token
from input_pipeline.datasets.records import mentions as in_plain_words
from input_pipeline.texts.rows import Skipped

REAL = pathlib.Path(
    os.environ.get("VL_DATA_DIR_REAL", pathlib.Path(__file__).parents[4] / "shared" / "data")
)
STILL = {
    "names": ["person", "dog", "person"],
    "boxes": [[0, 1, 20.5, 30, 0.9], [5, 5, 9, 9, 0.5], [1, 1, 2, 2, 1]],
    "segms": [[[[1, 2], [3, 4.5], [5, 6]]], [], [[[0, 0], [1, 0], [1, 1]], [[2, 2]]]],
    "width": 60,
    "height": 40,
}


def line(i=0, **changes):
    made = {
        "annot_id": f"train-{i}",
        "objects": STILL["names"],
        "metadata_fn": "film/a@0.json",
        "img_fn": "film/a@0.jpg",
        "question": ["Is", [0], "near", [1, 2], "?"],
        "answer_choices": [["Yes", "."], ["No", [2]], ["a"], ["b", " "]],
        "rationale_choices": [[[0, 2], "sit"], ["c"], ["d"], ["e"]],
        "answer_label": 1,
        "rationale_label": 3,
    }
    return {key: value for key, value in {**made, **changes}.items() if value != "gone"}


def write(folder, *lines, split="train", still=STILL):
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in lines))
    (folder / "vcr1images/film").mkdir(parents=True, exist_ok=True)
    (folder / "vcr1images/film/a@0.json").write_text(json.dumps(still))
    return str(folder)


def words(*items):
    return tuple(Token(i) if isinstance(i, str) else Token("", i) for i in items)


def test_records(tmp_path):
    folder = write(tmp_path, line(0), line(1, question=["Why"]))
    first, second = vcr.records(folder, "train")
    assert first == MultipleChoice(
        text_id="train-0",
        image_id="film/a@0.jpg",
        height=40,
        width=60,
        question=words("Is", (0,), "near", (1, 2), "?"),
        answers=(words("Yes", "."), words("No", (2,)), words("a"), words("b")),
        rationales=(words((0, 2), "sit"), words("c"), words("d"), words("e")),
        answer_label=1,
        rationale_label=3,
        objects=(
            ObjectBox("person", (0.0, 1.0, 20.5, 30.0), 0.9, (((1, 2), (3, 4.5), (5, 6)),)),
            ObjectBox("dog", (5.0, 5.0, 9.0, 9.0), 0.5),
            ObjectBox("person", (1, 1, 2, 2), 1.0, (((0, 0), (1, 0), (1, 1)), ((2, 2),))),
        ),
    )
    assert second.question == words("Why")
    assert second.objects == first.objects


def test_no_labels_in_test(tmp_path):
    item = line(0, answer_label="gone", rationale_label="gone")
    [record] = vcr.records(write(tmp_path, item, split="test"), "test")
    assert (record.answer_label, record.rationale_label) == (-1, -1)


def test_mentions_become_plain_words():
    objects = tuple(ObjectBox(name, (0, 0, 1, 1)) for name in ("person", "dog", "person"))
    tokens = words("Is", (0,), "near", (1, 2), "?")
    text, mentions = in_plain_words.in_words(tokens, objects, "train-0")
    one, dog, two = (text[m.start : m.end] for m in mentions)
    assert text == f"Is {one} near dog and {two} ?"
    assert dog == "dog"
    assert one in in_plain_words.NAMES
    assert in_plain_words.NAMES.index(two) == (in_plain_words.NAMES.index(one) + 1) % 13
    assert [m.object for m in mentions] == [0, 1, 2]
    # The same person has the same name in every text of the example, wherever the text begins.
    text, mentions = in_plain_words.in_words(words((2,), "sits", (1,)), objects, "train-0")
    assert text == f"{two} sits dog"
    assert [(m.start, m.end) for m in mentions] == [(0, len(two)), (len(two) + 6, len(two) + 9)]
    assert in_plain_words.in_words(words("No", "."), objects, "train-0") == ("No .", ())


def test_names_follow_from_the_key_alone():
    person = (ObjectBox("person", (0, 0, 1, 1)),)

    def name(i):
        return in_plain_words.in_words(words((0,)), person, f"val-{i}")[0]

    first = [name(i) for i in range(260)]
    assert [name(i) for i in reversed(range(260))] == first[::-1]
    assert set(first) == set(in_plain_words.NAMES)
    assert len(in_plain_words.NAMES) == 13
    assert [name(i) for i in range(3)] == ["Jackie", "Casey", "Quinn"]  # on every machine
    crowd = person * 14
    text, _ = in_plain_words.in_words(words(tuple(range(14))), crowd, "val-0")
    assert text.split(" and ")[0] == text.split(" and ")[13]  # 13 names go round


BAD = {
    "reference": (line(question=["Is", [3]]), r"question refers to no object.*0 to 2.*\[3\]"),
    "negative": (line(question=[[-1]]), r"question refers to no object.*\[-1\]"),
    "nobody": (line(question=["Is", []]), r"question refers to no object.*found: \[\]"),
    "reference type": (line(question=[["0"]]), r"'question'.*whole number.*str"),
    "token type": (line(question=[1]), r"'question'.*a list.*int 1"),
    "label": (line(answer_label=4), r"'answer_label' is none of the choices.*0 to 3.*found: 4"),
    "label type": (line(rationale_label="1"), r"'rationale_label'.*whole number.*str '1'"),
    "no label": (line(rationale_label="gone"), r"'rationale_label' is missing"),
    "three": (line(answer_choices=[["a"]] * 3), r"'answer_choices' has the wrong.*4.*found: 3"),
    "choice type": (line(rationale_choices=["a"] * 4), r"'rationale_choices\[0\]'.*a list.*str"),
    "empty": (line(question=[]), r"question is empty"),
    "blank": (line(answer_choices=[["a"], [" "], ["b"], ["c"]]), r"answer_choices\[1\] is empty"),
    "objects": (line(objects=["person"]), r"different objects.*'dog'.*found: \['person'\]"),
    "no key": (line(metadata_fn="gone"), r"'metadata_fn' is missing"),
    "id": (line(annot_id=""), r"annot_id is empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_annotations(tmp_path, case):
    item, match = BAD[case]
    good = line(7)
    records = vcr.records(write(tmp_path, good, item), "train")
    next(records)
    with pytest.raises(DataError, match=f"(?s){match}") as error:
        next(records)
    error.match(r"train\.jsonl:2")


BAD_STILLS = {
    "counts": ({"boxes": STILL["boxes"][:2]}, r"do not fit.*3 names, 2 boxes, 3 segms"),
    "size": ({"width": 0}, r"do not fit.*above 0.*\[40, 0\]"),
    "box": ({"boxes": [[0, 1, 2, 3]] * 3}, r"'boxes' has the wrong length.*object 0.*5"),
    "xywh": ({"boxes": [[9, 9, 3, 3, 1]] * 3}, r"ends before it starts.*x1, y1, x2, y2"),
    "number": ({"boxes": [["0", 1, 2, 3, 1]] * 3}, r"'boxes'.*a number.*str '0'"),
    "polygon": ({"segms": [[[1, 2]]] * 3}, r"'segms'.*a list.*int 1"),
    "point": ({"segms": [[[[1]]]] * 3}, r"'segms' has the wrong length.*2"),
    "name": ({"names": [1] * 3}, r"'names'.*a string.*int 1"),
}


@pytest.mark.parametrize("case", BAD_STILLS)
def test_bad_metadata(tmp_path, case):
    changes, match = BAD_STILLS[case]
    folder = write(tmp_path, line(), still={**STILL, **changes})
    with pytest.raises(DataError, match=f"(?s){match}") as error:
        list(vcr.records(folder, "train"))
    error.match(r"vcr1images/film/a@0\.json")


def test_missing_and_malformed(tmp_path):
    with pytest.raises(DataError, match=r"(?s)missing.*train\.jsonl.*visualcommonsense"):
        vcr.files(str(tmp_path), "train")
    folder = write(tmp_path, line(0), line(0))
    with pytest.raises(DataError, match=r"(?s)annot_id occurs twice.*:2.*'train-0'.*:1"):
        list(vcr.records(folder, "train"))
    (tmp_path / "train.jsonl").write_text('{"annot_id": ')
    with pytest.raises(DataError, match=r"(?s)malformed JSON.*train\.jsonl:1"):
        list(vcr.records(folder, "train"))


def test_stills_without_metadata(tmp_path):
    folder = write(tmp_path, line(0, metadata_fn="film/b.json"), line(1))
    with pytest.raises(DataError, match=r"(?s)missing.*vcr1images/film/b\.json.*on_missing=skip"):
        list(vcr.records(folder, "train"))
    skipped, record = vcr.records(folder, "train", on_missing="skip")
    assert skipped == Skipped(f"train-0 ({folder}/train.jsonl:1)", "no metadata")
    assert record.text_id == "train-1"


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data")
def test_real_records(tmp_path):
    for split in ("train", "val"):
        (tmp_path / f"{split}.jsonl").symlink_to(REAL / f"vcr/{split}.jsonl")
    item = json.loads((REAL / "vcr/val.jsonl").read_text())
    still = tmp_path / "vcr1images" / item["metadata_fn"]
    still.parent.mkdir(parents=True)
    still.symlink_to(REAL / "vcr/metadata_val0.json")
    [record] = vcr.records(str(tmp_path), "val")
    assert (record.text_id, record.image_id) == ("val-1", item["img_fn"])
    assert (record.width, record.height) == (1920, 797)
    assert (record.answer_label, record.rationale_label) == (2, 3)
    assert [found.name for found in record.objects] == item["objects"]
    assert record.objects[3].box == pytest.approx((1403.1, 282.2, 1542.4, 557.4), abs=0.1)
    assert len(record.objects[0].polygons[0]) > 100
    text, [mention] = in_plain_words.in_words(record.question, record.objects, record.text_id)
    who = text[mention.start : mention.end]
    assert text == f"Does {who} live in this house ?"
    assert mention.object == 0
    text, mentions = in_plain_words.in_words(record.rationales[1], record.objects, record.text_id)
    assert len(mentions) == 2
    assert text.count(who) == 1
    [skipped] = vcr.records(str(tmp_path), "train", on_missing="skip")
    assert skipped.reason == "no metadata"


@pytest.mark.parametrize("name", ["a" * 5000 + ".json", "a\0b.json"])
def test_metadata_of_a_name_that_no_file_can_have_is_missing(tmp_path, name):
    folder = write(tmp_path, line(0, metadata_fn=name))
    with pytest.raises(DataError, match="an official file is missing"):
        list(vcr.records(folder, "train"))
