"""VQA v2: official questions and annotations in, questions with soft scores out."""

import gzip
import json
import os
import pathlib
from collections import Counter

import pytest

from core.errors import DataError
from input_pipeline.datasets import vqa
from input_pipeline.datasets.reading import answers
from input_pipeline.datasets.records import AnnotatedQuestion, Answer

REAL = pathlib.Path(
    os.environ.get("VL_DATA_DIR_REAL", pathlib.Path(__file__).parents[4] / "shared" / "data")
)
QUESTIONS = "v2_OpenEnded_mscoco_{}_questions.json"
ANNOTATIONS = "v2_mscoco_{}_annotations.json"
TEN = ["net"] * 4 + ["mesh"] * 5 + ["Net"]


def asked(i, **changes):
    return {"question_id": i, "image_id": i // 1000, "question": f"What is\n {i}?", **changes}


def answered(i, given=TEN, **changes):
    item = {
        "question_id": i,
        "image_id": i // 1000,
        "question_type": "what is",
        "answer_type": "other",
        "multiple_choice_answer": "net",
        "answers": [
            {"answer": a, "answer_confidence": "yes", "answer_id": k} for k, a in enumerate(given)
        ],
    }
    return {**item, **changes}


def write(folder, split, questions, annotations=None):
    (folder / QUESTIONS.format(split)).write_text(json.dumps({"questions": questions}))
    if annotations is not None:
        (folder / ANNOTATIONS.format(split)).write_text(json.dumps({"annotations": annotations}))
    return str(folder)


def expected(i):
    # Both score 1; the file's main answer leads, not the most frequent one.
    soft = (Answer("net", 1.0), Answer("mesh", 1.0), Answer("Net", 0.3))
    return AnnotatedQuestion(
        str(i), str(i // 1000), f"What is {i}?", soft, tuple(TEN), "what is", "other"
    )


def test_questions_join_annotations_by_id(tmp_path):
    folder = write(
        tmp_path, "train2014", [asked(7001), asked(42000)], [answered(42000), answered(7001)]
    )
    assert list(vqa.records(folder, "train2014")) == [expected(7001), expected(42000)]
    assert [pathlib.Path(path).name for path in vqa.files(folder, "train2014")] == [
        QUESTIONS.format("train2014"),
        ANNOTATIONS.format("train2014"),
    ]


@pytest.mark.parametrize("split", ["test2015", "test-dev2015"])
def test_no_labels(tmp_path, split):
    folder = write(tmp_path, split, [asked(1)])
    assert list(vqa.records(folder, split)) == [AnnotatedQuestion("1", "0", "What is 1?")]
    assert len(vqa.files(folder, split)) == 1


def test_minival_is_the_last_by_id(tmp_path, monkeypatch):
    monkeypatch.setattr(vqa, "MINIVAL", 2)
    order = [10001, 999, 2000, 30000]  # as text, 999 would be the last
    write(tmp_path, "train2014", [asked(5)], [answered(5)])
    folder = write(tmp_path, "val2014", list(map(asked, order)), list(map(answered, order)))

    def ids(split):
        return [record.text_id for record in vqa.records(folder, split)]

    assert ids("val2014") == ["10001", "999", "2000", "30000"]
    assert ids("minival") == ["10001", "30000"]
    assert ids("val2014_minus_minival") == ["999", "2000"]
    assert ids("trainval") == ["5", "999", "2000"]
    assert len(vqa.files(folder, "trainval")) == 4


BAD = {
    "no annotation": ([asked(1), asked(2)], [answered(1)], r"1 questions without annotation \[2\]"),
    "no question": (
        [asked(1)],
        [answered(1), answered(2)],
        r"1 annotations without question \[2\]",
    ),
    "image": (
        [asked(1)],
        [answered(1, image_id=9)],
        r"two images.*ions\[0\].*image_id 0.*found: 9",
    ),
    "twice": (
        [asked(1), asked(1)],
        [answered(1)],
        r"occurs twice.*questions\[1\].*'1'.*tions\[0\]",
    ),
    "twice annotated": ([asked(1)], [answered(1)] * 2, r"occurs twice.*annotations\[1\]"),
    "empty": ([asked(1, question=" \n")], [answered(1)], r"question is empty.*questions\[0\]"),
    "question type": ([asked(1, question=3)], [answered(1)], r"'question'.*a string.*int 3"),
    "id type": ([asked(1, question_id="1")], [answered(1)], r"'question_id'.*whole number.*str"),
    "image type": ([asked(1, image_id=1.5)], [answered(1)], r"'image_id'.*whole number.*float"),
    "nine": ([asked(1)], [answered(1, TEN[1:])], r"wrong number of answers.*10.*found: 9"),
    "answer type": (
        [asked(1)],
        [answered(1, [1] * 10)],
        r"'answer'.*answers\[0\].*a string.*int 1",
    ),
    "no answers": ([asked(1)], [{"question_id": 1}], r"'answers' is missing.*annotations\[0\]"),
    "no object": (["why?"], [answered(1)], r"questions\[0\].*an object.*str 'why"),
    "no list": ({"1": "why?"}, [answered(1)], r"'questions'.*a list.*dict"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path, case):
    questions, annotations, match = BAD[case]
    folder = write(tmp_path, "val2014", questions, annotations)
    with pytest.raises(DataError, match=f"(?s){match}"):
        list(vqa.records(folder, "val2014"))


def test_missing_and_malformed(tmp_path):
    with pytest.raises(DataError, match=r"(?s)is missing.*OpenEnded_mscoco_val2014.*visualqa\.org"):
        vqa.files(str(tmp_path), "val2014")
    folder = write(tmp_path, "val2014", [asked(1)])
    with pytest.raises(DataError, match=r"(?s)is missing.*v2_mscoco_val2014_annotations"):
        list(vqa.records(folder, "val2014"))
    (tmp_path / ANNOTATIONS.format("val2014")).write_text('{"annotations": [')
    with pytest.raises(DataError, match=r"(?s)malformed JSON.*v2_mscoco_val2014_annotations"):
        list(vqa.records(folder, "val2014"))
    (tmp_path / ANNOTATIONS.format("val2014")).write_text('{"data": []}')
    with pytest.raises(DataError, match=r"(?s)'annotations' is missing.*\['data'\]"):
        list(vqa.records(folder, "val2014"))


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data")
def test_real_fixture(tmp_path):
    (tmp_path / QUESTIONS.format("train2014")).symlink_to(REAL / "fixtures/vqav2/questions.json")
    (tmp_path / ANNOTATIONS.format("train2014")).symlink_to(
        REAL / "fixtures/vqav2/annotations.json"
    )
    first, second, third = vqa.records(str(tmp_path), "train2014")
    assert first.image_id == "458752"
    assert first.text == "What is this photo taken looking through?"
    # No main answer in this file: the most frequent leads.
    scores = {"net": 1.0, "netting": 0.3, "mesh": 0.3, "pitcher": 0.3, "orange": 0.3}
    assert {a.text: a.score for a in first.answers} == scores
    assert [r.answers[0].text for r in (first, second, third)] == ["net", "pitcher", "orange"]


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data")
def test_real_subset(tmp_path):
    for kind, name in (("questions", QUESTIONS), ("annotatons", ANNOTATIONS)):
        path = tmp_path / f"{name.format('val2014')}.gz"
        path.symlink_to(REAL / f"vqa2_subset/vqa_{kind}_valid.gzip")
    questions = list(vqa.records(str(tmp_path), "val2014"))
    assert len(questions) == 8977
    assert questions[0].text == "What insurance company is a sponsor?"
    assert (questions[0].text_id, questions[0].image_id) == ("413918000", "413918")
    with gzip.open(REAL / "vqa2_subset/vqa_annotatons_valid.gzip") as file:
        items = {str(a["question_id"]): a for a in json.load(file)["annotations"]}
    for record in questions:
        item = items[record.text_id]
        assert record.answers[0].text == item["multiple_choice_answer"]
        assert len(record.raw_answers) == 10
    minival = {record.text_id for record in vqa.records(str(tmp_path), "minival")}
    assert len(minival) == 3000
    assert min(map(int, minival)) > max(
        int(q.text_id) for q in questions if q.text_id not in minival
    )
    # The published vocabulary was made from all of VQA, so it holds what a part of it gives.
    made = answers.AnswerVocabulary.build(questions)
    published = answers.AnswerVocabulary.load(REAL / "vqa_vocab/trainval_label2ans.json")
    mains = Counter(answers.normalize(a["multiple_choice_answer"]) for a in items.values())
    assert set(made.labels) == {answer for answer, count in mains.items() if count >= 9}
    assert made.labels[:2] == tuple(answer for answer, _ in mains.most_common(2)) == ("yes", "no")
    assert all(published.lookup(answer) >= 0 for answer in made.labels)
    # A soft score is the accuracy of its answer.
    for record in questions[:1000]:
        for answer, score in answers.soft_scores(record.raw_answers, "normalized").items():
            found = answers.accuracy(answer, [f" {raw}\n" for raw in record.raw_answers])
            assert found == pytest.approx(score) or len(set(record.raw_answers)) == 1
