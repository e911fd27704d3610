"""GQA: official question files in, questions with one answer out."""

import json
import os
import pathlib
import shutil

import pytest

from core.errors import DataError
from input_pipeline.datasets import gqa
from input_pipeline.datasets.reading import answers
from input_pipeline.datasets.records import Answer, Question, RowOptions

REAL = pathlib.Path(
    os.environ.get("VL_DATA_DIR_REAL", pathlib.Path(__file__).parents[4] / "shared" / "data")
)


def item(**changes):
    types = {"structural": "query", "semantic": "rel", "detailed": "relS"}
    made = {"question": "What is it?", "imageId": "n161313", "answer": "cat", "types": types}
    return {**made, **changes}


def write(folder, split, questions):
    (folder / f"{split}_questions.json").write_text(json.dumps(questions))
    return str(folder)


def test_labelled_and_not(tmp_path):
    for split in ("testdev_balanced", "test_balanced", "submission_all"):
        write(tmp_path, split, {"00110": item(), "7": item(imageId="2370799")})
    first, second = gqa.records(str(tmp_path), "testdev_balanced")
    cat = (Answer("cat", 1.0),)
    assert first == Question("00110", "n161313", "What is it?", cat, ("cat",), "query")
    assert second.image_id == "2370799"
    assert answers.evaluate({"00110": "cat", "7": "dog"}, [first, second])["overall"] == 50
    for split in ("test_balanced", "submission_all"):
        record = next(gqa.records(str(tmp_path), split))
        assert record == Question("00110", "n161313", "What is it?", question_type="query")


def test_answers_keep_their_writing_and_have_targets(tmp_path):
    """The evaluation compares to the letter, so a list must not call it "t shirt"."""
    questions = {str(i): item(answer=a) for i, a in enumerate(["t-shirt"] * 3 + ["on the left"])}
    records = list(gqa.records(write(tmp_path, "train_balanced", questions), "train_balanced"))
    vocabulary = answers.AnswerVocabulary.build(records, 1, as_written=gqa.ANSWERS_AS_WRITTEN)
    assert vocabulary.labels == ("t-shirt", "on the left")
    for labels in (
        ["t-shirt", "on the left"],
        ["t shirt", "on left"],
        ["T-Shirt ", "On the left."],
    ):
        options = RowOptions(answers=answers.AnswerVocabulary(labels))
        assert [record.values(options)["answer_ids"] for record in records] == [[0]] * 3 + [[1]]
        predicted = {record.text_id: labels[0] for record in records}
        assert answers.evaluate(predicted, records)["overall"] == 75


def test_files_of_a_folder_in_order(tmp_path):
    folder = tmp_path / "train_all_questions"
    folder.mkdir()
    for i in (10, 2, 1):
        write(folder, f"train_all_questions_{i}", {str(i): item()})
        (folder / f"train_all_questions_{i}_questions.json").rename(
            folder / f"train_all_questions_{i}.json"
        )
    assert [r.text_id for r in gqa.records(str(tmp_path), "train_all")] == ["1", "2", "10"]
    shutil.copy(folder / "train_all_questions_1.json", folder / "train_all_questions_3.json")
    with pytest.raises(DataError, match=r"(?s)occurs twice.*questions_3.*'1', first at.*tions_1\."):
        list(gqa.records(str(tmp_path), "train_all"))


def test_minival_is_the_last_by_number(tmp_path, monkeypatch):
    monkeypatch.setattr(gqa, "MINIVAL", 2)
    write(tmp_path, "train_balanced", {"9": item(), "0100": item()})
    folder = write(tmp_path, "val_balanced", {"50": item(), "08": item()})

    def ids(split):
        return [record.text_id for record in gqa.records(folder, split)]

    assert ids("minival") == ["0100", "50"]
    assert ids("trainval") == ["9", "08"]
    assert len(gqa.files(folder, "trainval")) == 2


BAD = {
    "id": ({"q1": item()}, r"id is no number.*'q1'"),
    "empty": ({"1": item(question=" ")}, r"question is empty.*'1'"),
    "answer": ({"1": item(answer="")}, r"answer is empty.*'1'"),
    "no answer": ({"1": {"question": "a", "imageId": "1"}}, r"'answer' is missing.*'1'"),
    "image": ({"1": item(imageId=None)}, r"'imageId'.*NoneType"),
    "question type": ({"1": item(question=["a"])}, r"'question'.*a string.*list"),
    "types": ({"1": item(types="query")}, r"'types'.*an object.*str"),
    "no object": ({"1": "why?"}, r"an object.*str"),
    "no questions": ([item()], r"an object.*list"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path, case):
    contents, match = BAD[case]
    with pytest.raises(DataError, match=f"(?s)val_balanced|{match}") as error:
        list(gqa.records(write(tmp_path, "val_balanced", contents), "val_balanced"))
    error.match(f"(?s){match}")
    error.match("val_balanced_questions")


def test_missing_and_malformed(tmp_path):
    with pytest.raises(
        DataError, match=r"(?s)missing.*train_all_questions\.json.*questions_0\.json"
    ):
        gqa.files(str(tmp_path), "train_all")
    (tmp_path / "val_all_questions.json").write_text("{")
    with pytest.raises(DataError, match=r"(?s)malformed JSON.*val_all_questions"):
        list(gqa.records(str(tmp_path), "val_all"))


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data")
def test_real_fixture(tmp_path):
    (tmp_path / "val_balanced_questions.json").symlink_to(REAL / "fixtures/gqa/questions.json")
    (tmp_path / "train_all_questions").symlink_to(REAL / "fixtures/gqa/question_dir")
    [record] = gqa.records(str(tmp_path), "val_balanced")
    text, answer = "What is hanging above the chalkboard?", (Answer("picture", 1.0),)
    assert record == Question("202218649", "n578564", text, answer, ("picture",), "query")
    records = list(gqa.records(str(tmp_path), "train_all"))
    assert records[0] == record
    assert len(records) == 2
    published = answers.AnswerVocabulary.load(REAL / "vqa_vocab/gqa_label2ans.json")
    assert all(published.lookup(r.answers[0].text) >= 0 for r in records)
