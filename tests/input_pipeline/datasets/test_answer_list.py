"""Questions with a list of answers, from official files to batches."""

import json
import pathlib

import numpy as np
import pytest
from made_data import image, write_images
from test_vqa_files import answered, asked, write

from configs import vqa as config_file
from core.errors import DataError
from input_pipeline.datasets.reading.answer_list import Targets
from input_pipeline.datasets.reading.answers import AnswerVocabulary, soft_scores
from input_pipeline.datasets.records import Answer, Question, RowOptions
from input_pipeline.regions import FeatureSpec
from input_pipeline.streams import pipeline
from objectives import vqa

SPEC = FeatureSpec("toy", 6)


@pytest.fixture
def config(tmp_path):
    """VQA on six questions; the answers are of ten annotators each."""
    train = [7001, 7002, 8001, 9001]
    given = {7001: ["red"] * 10, 7002: ["red"] * 3 + ["no"] * 7, 8001: ["2"] * 10,
             9001: ["red"] * 9 + ["pink"]}  # fmt: skip
    main = {7001: "red", 7002: "no", 8001: "2", 9001: "red"}
    write(
        tmp_path,
        "train2014",
        [asked(i) for i in train],
        [answered(i, given[i], multiple_choice_answer=main[i]) for i in train],
    )
    write(
        tmp_path,
        "val2014",
        [asked(i) for i in (10001, 9002)],  # image 9 is trained on, too
        [answered(i, ["red"] * 10, multiple_choice_answer="red") for i in (10001, 9002)],
    )
    write_images(tmp_path / "store", SPEC, *((str(i), image(i, 3, SPEC)) for i in (7, 8, 9, 10)))
    config = config_file.get_config("data=vqa")
    config.data.update(
        dir=str(tmp_path / "cache"),
        manual_dir=str(tmp_path),
        regions=str(tmp_path / "store"),
        train_split="train2014",
        eval_split="val2014",
        answer_count=1,
        vocab_size=130,
    )
    config.streams.examples.update(batch_size=4, max_text=16, max_regions=4, max_length=20)
    return config


def stream(config, training=True):
    assemble = {"examples": vqa.AnswerQuestions.assembler(config.objectives.vqa)}
    catalog = pipeline.DataCatalog(config)
    data = catalog.of("examples")
    if training:
        return data, pipeline.build_streams(config, assemble, catalog=catalog, image_margin=0)[
            "examples"
        ]
    return data, pipeline.build_evaluation(
        config, "examples", assemble, batch_size=2, catalog=catalog, image_margin=0
    )


def test_from_files_to_batches(config, tmp_path, capsys):
    data, train = stream(config)
    assert data.prepared.answers.labels == ("red", "2", "no")  # by frequency, then alphabet
    assert "3 answers of at least 1 training questions" in capsys.readouterr().out
    # data.leaks=drop: question 9001 is on an image of val2014.
    assert {train.text_id(row) for row in train.batch(0)["example_index"]} == {
        "7001", "7002", "8001"
    }  # fmt: skip
    seen = {}
    for draw in range(3):
        batch = train.batch(draw)
        for b, row in enumerate(batch["example_index"]):
            pairs = zip(batch["answer_ids"][b], batch["answer_scores"][b], strict=True)
            seen[train.text_id(row)] = {int(i): round(float(s), 3) for i, s in pairs if s > 0}
            at = batch["answer_position"][b, 0]
            assert batch["text_ids"][b, 0, at] == data.special.mask
    assert seen == {"7001": {0: 1.0}, "7002": {0: 0.9, 2: 1.0}, "8001": {1: 1.0}}
    _, again = stream(config)
    assert "answers of at least" not in capsys.readouterr().out  # made once
    assert again.fingerprint == train.fingerprint


def test_a_named_list_keeps_its_order(config, tmp_path):
    path = tmp_path / "list.json"
    path.write_text(json.dumps(["2", "<unk>", "red", "green"]))
    before = stream(config)[1].fingerprint
    config.data.answers = str(path)
    data, evaluation = stream(config, training=False)
    assert len(data.prepared.answers) == 4
    assert evaluation.batch(0)["answer_ids"].tolist() == [[2], [2]]
    assert stream(config)[1].fingerprint != before


def test_targets():
    answers = AnswerVocabulary(["yes", "no", "<unk>"])
    question = Question(
        "1", "2", "?", (Answer("no", 0.3), Answer("dog", 1.0), Answer("<unk>", 1.0))
    )
    assert question.values(RowOptions(answers=answers)) == {
        "answer_ids": [1],
        "answer_scores": [0.3],
    }
    with pytest.raises(DataError, match=r"(?s)score of an answer is no share.*'no': 3"):
        Question("1", "2", "?", (Answer("no", 3.0),)).values(RowOptions(answers=answers))


def test_questions_without_answers_and_several_writings_of_one():
    answers = AnswerVocabulary(["yes", "no"])
    assert Question("1", "2", "?").values(RowOptions(answers=answers)) == {
        "answer_ids": [-1],
        "answer_scores": [0.0],
    }
    # Ten annotators: "Yes" and "yes" are one answer of three people, not of one and two.
    raw = ("Yes", "yes", "yes", *["no"] * 6, "maybe")
    question = Question(
        "1", "2", "?", tuple(Answer(*x) for x in soft_scores(raw, "verbatim").items()), raw
    )
    for form in ("verbatim", "normalized"):
        found = question.values(RowOptions(answers=answers, answer_form=form))
        assert found == {"answer_ids": [0, 1], "answer_scores": [pytest.approx(0.9), 1.0]}


class Table:
    """Of questions with these labels: None without an answer, -1 where it is not listed."""

    origin = "questions.json"

    def __init__(self, labels):
        self.labels = labels

    def values_of(self, rows):
        labels = [self.labels[row] for row in rows]
        scores = [float(label is not None and label >= 0) for label in labels]
        ids = [-1 if label is None else max(label, 0) for label in labels]
        return {
            "answer_ids": np.asarray(ids, np.int32)[:, None],
            "answer_scores": np.asarray(scores, np.float32)[:, None],
        }


def review(labels, split="train", form="normalized"):
    answers = AnswerVocabulary(["dog", "cat"])
    questions = [Question("1", "2", "?", (Answer(text, 1.0),)) for text in ("T-Rex", "Dog")]
    targets = Targets(answers, lambda split: iter(questions), "train", form)
    targets.review(split, Table(labels), np.arange(len(labels)))


def test_questions_with_a_target_are_counted(capsys):
    review([0, 1, 1, -1, None], "val")
    out = capsys.readouterr().out
    assert "split 'val': 3 of 4 questions (75 %) have an answer that is in the list of 2" in out
    assert "1 others come without answers" in out
    review([0, -1, -1])
    out = "".join(capsys.readouterr())
    assert "only 1 of 3 questions (33 %)" in out
    assert "['T-Rex']" in out
    review([None, None], "test")
    assert "nothing to evaluate" in capsys.readouterr().out
    review([])


def test_a_list_of_other_answers_is_an_error():
    match = r"(?s)no question has an answer.*questions\.json.*'dog', 'cat'.*T-Rex.*data.answers"
    for split in ("train", "val"):
        with pytest.raises(DataError, match=match) as error:
            review([-1, -1, None], split)
        assert "answer_form" not in str(error.value)
    with pytest.raises(DataError, match="answer_form=normalized"):
        review([-1], form="verbatim")
    with pytest.raises(DataError, match="questions to train on have no answers"):
        review([None])


def test_a_list_in_another_writing_is_the_same_list(config, tmp_path, capsys):
    path = tmp_path / "list.json"
    path.write_text(json.dumps(["Red ", "2.", "NO"]))
    config.data.answers = str(path)
    stream(config)
    stream(config, training=False)
    out = capsys.readouterr().out
    assert "'train2014': 3 of 3 questions (100 %)" in out
    assert "'val2014': 2 of 2 questions (100 %)" in out


@pytest.mark.parametrize(("form", "found"), [("verbatim", 0), ("normalized", 1)])
def test_vqa_counts_annotators_as_they_write_or_normalised(config, tmp_path, form, found):
    labels = json.dumps(["t shirt", "red"])
    (tmp_path / "list.json").write_text(labels)
    write(tmp_path, "train2014", [asked(7001), asked(8001)], [
        answered(7001, ["T-shirt"] * 10, multiple_choice_answer="t shirt"),
        answered(8001, ["red"] * 10, multiple_choice_answer="red"),
    ])  # fmt: skip
    config.data.update(answers=str(tmp_path / "list.json"), answer_form=form)
    _, train = stream(config)
    scores = [train.batch(draw)["answer_scores"].sum() for draw in range(1)]
    assert scores == [2 * (1 + found)]  # each question twice in the batch of four


def test_no_answer_is_frequent_enough(config):
    config.data.answer_count = 9
    with pytest.raises(DataError, match=r"(?s)no answer is frequent enough.*at least 9 questions"):
        stream(config)
    assert not list(pathlib.Path(config.data.dir).glob("answers-*"))
