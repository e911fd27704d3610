"""Predictions of a whole split: each example once, in pixels of its picture, in files."""

import json
import socket
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import made_objectives
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import common, vlbert_pretrain
from evaluation import predict
from evaluation.evaluators import answers
from evaluation.prediction_file import Answered
from evaluation.report import cards
from input_pipeline.datasets.records import (
    Answer,
    MultipleChoice,
    ObjectBox,
    Pointing,
    Question,
    Statement,
    Token,
)
from input_pipeline.datasets.records.table import RecordList
from objectives import base
from tests.evaluation import run_predict
from training import modes


@pytest.fixture(scope="module")
def predictor():
    return run_predict.predictor()


@pytest.fixture(scope="module")
def rows(predictor):
    return list(predictor.run(1.0))


def test_every_example_once_on_eight_devices(rows):
    assert len(jax.devices()) == 8
    assert [row["id"] for row in rows] == [f"text{i}" for i in range(21)]


def test_boxes_are_in_pixels_of_the_original(rows):
    for i, row in enumerate(rows):
        assert row["region"] == 1 + i % 4
        assert row["box"] == pytest.approx(run_predict.box_of(i))
        assert row["score"] == pytest.approx(1 / (1 + np.exp(-1)))
    json.dumps(rows)


def test_the_whole_image_has_the_box_of_its_corners(predictor):
    # With the sign of scores turned round all real regions but the best tie, and the first wins.
    (first, *_) = predictor.run(-1.0, [0])
    assert first["region"] == 0
    assert first["box"] == pytest.approx([0, 0, 79 * 2, 49 * 2])


def test_single_batches(predictor):
    found = [row["id"] for row in predictor.run(1.0, [0, 2])]
    assert found == [f"text{i}" for i in (*range(8), *range(16, 21))]


@pytest.mark.slow
def test_every_example_once_on_two_hosts(tmp_path, rows):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.evaluation.run_predict", tmp_path / f"{i}", port, str(i)],
            stderr=subprocess.PIPE, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    for i in range(2):
        found = json.loads((tmp_path / f"{i}").read_text())
        assert sorted(found, key=lambda row: int(row["id"][4:])) == rows


def test_streams_that_only_learn_are_refused(tmp_path):
    hidden = types.SimpleNamespace(name="masked_language", predicts=False)
    task = types.SimpleNamespace(streams={"captions": [hidden]})
    assert predict.streams_of(task) == []
    with pytest.raises(ValueError, match=r"'captions': .*'masked_language', predicts nothing"):
        predict.Predictor(task, "captions", None, None)
    with pytest.raises(ValueError, match="'x' predicts nothing"):
        base.Objective("x", ConfigDict(), made_objectives.DATA_INFO).predictions(jnp.zeros(2), {})
    with pytest.raises(ValueError, match=r"nothing to predict: .* config\.streams"):
        modes.require(vlbert_pretrain.get_config("size=mini"), tmp_path, "predict")


def config_of(examples=4):
    config = ConfigDict(common.run_block())
    config.data = common.data_block("refcoco")
    config.predict.examples = examples
    return config


@pytest.fixture(scope="module")
def written(tmp_path_factory, predictor):
    folder = tmp_path_factory.mktemp("run")
    return folder, predict.write(folder, {"examples": predictor}, 1.0)


def test_files_of_predictions_and_submission(written, rows):
    folder, _ = written
    lines = (folder / "predictions" / "val.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    made = json.loads((folder / "submissions" / "refcoco-val.json").read_text())
    assert made[3] == {"ref_id": 103, "box": rows[3]["box"]}
    assert len(made) == 21
    assert not list(folder.rglob("*.tmp*"))


def test_everything_is_told_and_examples_of_the_report_are_spread(written, predictor, rows):
    _, answered = written
    assert [row.prediction for row in answered["examples"]] == rows
    few = predict.some(config_of(3), {"examples": predictor}, 1.0)["examples"]
    assert [row["id"] for row in few] == ["text0", "text10", "text20"]


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "val.jsonl"
    path.write_text("old")

    def broken():
        yield Answered({"id": "a"}, None, 1)
        raise RuntimeError("device lost")

    with pytest.raises(RuntimeError):
        predict._save(path, broken())
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["val.jsonl"]


def test_labels_are_known_or_not():
    def stream(*records):
        return types.SimpleNamespace(records=lambda: iter(records))

    asked = Question("1", "img1", "what?")
    assert not predict.labelled(stream(asked))
    assert predict.labelled(stream(asked, Question("2", "img1", "?", raw_answers=("yes",))))
    assert not predict.labelled(stream(Statement("1", ("img1",), "x", -1)))
    assert predict.labelled(stream(run_predict.record(1)))


def card(row, record, kind=""):
    stream = run_predict.evaluation_stream()
    stream.records = RecordList([record])
    stream.pictures = lambda ids: {image: image.encode() for image in ids}
    stream.record_kind = kind
    (made,) = cards.make([row], stream)
    return made


def test_card_of_an_expression(rows):
    made = card(rows[3], run_predict.record(3))
    assert made.right is True
    assert made.title == "text3"
    (picture,) = made.pictures
    assert picture.size == (250, 160)
    assert picture.data == b"img3"
    kinds = [(kind, tuple(box)) for box, _, kind in picture.boxes]
    box = tuple(run_predict.box_of(3))
    assert kinds == [("true", box), ("predicted", box)]
    assert ("expression", "thing 3") in made.lines
    away = rows[3] | dict(box=[0.0, 0.0, 1.0, 1.0])
    assert card(away, run_predict.record(3)).right is False


def test_card_of_a_question():
    row = dict(id="7", answer="two", probability=0.6, top=[["two", 0.6], ["red", 0.25]])
    raw = ("2", "two", "2", "2", "red", "3", "3", "3", "3", "3")
    asked = Question("7", "img1", "How many?", (Answer("3", 1.0),), raw)
    made = card(row, asked)
    assert made.right is True  # "two" is "2" to the official accuracy
    assert ("predicted, with sigmoid scores", "two 60 %, red 25 %") in made.lines
    assert ("true", "3 ×5, 2 ×3, two ×1, red ×1") in made.lines
    assert card(row | dict(answer="red"), asked).right is False
    unlabelled = card(row, Question("7", "img1", "How many?"))
    assert unlabelled.right is None
    assert [name for name, _ in unlabelled.lines] == ["question", "predicted, with sigmoid scores"]


def test_card_of_a_statement_on_two_pictures():
    row = {"id": "s", "class": 1, "name": "True", "probabilities": [0.25, 0.75]}
    made = card(row, Statement("s", ("img1", "img2"), "Both are red.", 0, "False"))
    assert [p.name for p in made.pictures] == ["img1", "img2"]
    assert made.right is False
    assert ("predicted", "True 75 %") in made.lines
    sigmoid = card(row | {"activation": "sigmoid"}, Statement("s", ("img1", "img2"), "both", 1))
    assert ("predicted", "True sigmoid score 75 %") in sigmoid.lines
    assert ("true", "False") in made.lines


def words(text, *objects):
    return (*(Token(word) for word in text.split()), *(Token("", (i,)) for i in objects))


def test_cards_of_choices():
    objects = (ObjectBox("cat", (0, 0, 9, 9)), ObjectBox("dog", (5, 5, 20, 20)))
    record = MultipleChoice(
        "q", "img1", 100, 160, words("who is", 1), tuple(words(a) for a in "abcd"),
        tuple(words(r) for r in "wxyz"), 2, 3, objects,
    )  # fmt: skip
    row = dict(id="q", choice=2, probabilities=[0.1, 0.2, 0.6, 0.1], logits=[0] * 4, label=2)
    made = card(row, record, "answers")
    assert made.right is True
    assert made.lines == [
        ("question", "who is dog"), ("10 %", "a"), ("20 %", "b"),
        ("60 %, predicted, true", "c"), ("10 %", "d"),
    ]  # fmt: skip
    assert made.pictures[0].boxes == [((5, 5, 20, 20), "dog", "mentioned")]
    made = card(row, record, "rationales")
    assert made.lines[1] == ("answer", "c")
    assert made.lines[5] == ("10 %, true", "z")
    assert made.right is False
    # Without labels each answer has rationales of its own.
    made = card(row | dict(id="q/a1"), record, "rationales")
    assert made.lines[1] == ("answer", "b")
    assert made.right is None


def test_card_of_pointing():
    boxes = ((0.0, 0.0, 9.0, 9.0), (20.0, 0.0, 29.0, 9.0), (40.0, 0.0, 49.0, 9.0))
    record = Pointing("p", "img1", "Which?", boxes, (0, 2), 1)
    row = dict(id="p", region=3, box=[40.0, 0.0, 49.0, 9.0], score=0.9)
    made = card(row, record)
    assert made.right is True
    assert [kind for _, _, kind in made.pictures[0].boxes] == ["other", "true", "predicted"]
    assert card(row | dict(box=list(boxes[0])), record).right is False
    # The option chosen decides, however much it overlaps the right one.
    assert card(row | dict(option=0), record).right is False
    assert ("predicted", "option 2 of 2, sigmoid score 90 %") in card(
        row | dict(option=1), record
    ).lines


class Answering:
    """Says "yes" to even examples and "3" to odd ones."""

    name, head_name, predicts = "vqa", "vqa", True

    def corrupt(self, batch, keys):
        return batch

    def logits(self, head, outputs, batch):
        return batch["example_index"] % 2

    def predictions(self, logits, batch):
        return dict(answer=jnp.asarray(logits))

    def describe(self, row, names):
        return dict(answer=names[int(row["answer"])])


def test_official_accuracy_by_type():
    stream = run_predict.evaluation_stream()
    stream.output_names = stream.answers = ("yes", "3")
    given = [("yes",) * 10, ("three",) * 2 + ("4",) * 8, ("no",) * 10]
    kinds = ("yes/no", "number", "yes/no")

    def questions():
        for i in range(21):
            yield Question(f"text{i}", "img1", "?", (), given[i % 3], "", kinds[i % 3])
        yield Question("left out", "img1", "?", (), ("yes",) * 10, "", "yes/no")

    stream.records = RecordList(questions())
    task = run_predict.Model()
    task.streams = {"examples": [Answering()]}
    block = types.SimpleNamespace(stream="examples")
    evaluator = answers.Evaluator(block, task, stream, jax.device_put, 0)
    found = evaluator.run(1.0)
    # Of examples 0, 3, ... 18 four are even: "yes" is right; of 1, 4, ... 19 four are odd, and
    # two of ten said so: (8 · 2/3 + 2 · 1/3) / 10 = 0.6. All of 2, 5, ... are wrong.
    assert found == pytest.approx({
        "accuracy": (4 + 4 * 0.6) / 21, "accuracy_number": 4 * 0.6 / 7, "accuracy_yes/no": 4 / 14,
    }, abs=1e-4)  # fmt: skip
    # Without answers nothing is right or wrong; some without do not count.
    stream.records = RecordList(Question(f"text{i}", "img1", "?") for i in range(21))
    evaluator = answers.Evaluator(block, task, stream, jax.device_put, 0)
    assert evaluator.run(1.0) == {"accuracy": None}
    main = (Answer("yes", 1.0),)
    stream.records = RecordList(
        Question(f"text{i}", "img1", "?", main, given[0])
        if i < 3
        else Question(f"text{i}", "i", "?")
        for i in range(21)
    )
    evaluator = answers.Evaluator(block, task, stream, jax.device_put, 0)
    assert evaluator.run(1.0) == pytest.approx({"accuracy": 2 / 3, "accuracy_prior": 1}, abs=1e-4)
    stream.answers = ()
    with pytest.raises(ValueError, match="needs a data set of questions"):
        answers.Evaluator(block, task, stream, jax.device_put, 0)
