"""Predictions as examples: of every kind of record, with the losses of their objectives."""

import functools
import io

import jax
import jax.numpy as jnp
import made_objectives
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import common
from evaluation import predict
from evaluation.browser import examples
from evaluation.prediction_file import Answered
from input_pipeline.datasets.records import (
    Answer,
    Expression,
    MultipleChoice,
    ObjectBox,
    Pointing,
    Question,
    Statement,
    Token,
)
from input_pipeline.datasets.records.table import RecordList
from objectives import base, choice, classification, grounding, vqa
from tests.evaluation import run_predict

rs = np.random.RandomState(0)
ROWS = 5  # the last one but one has no label, the last pads the batch
WEIGHT = jnp.asarray([1.0] * 4 + [0.0])
KNOWN = np.array([True, True, True, False, True])


def objective_of(module, cls, **changes):
    name = module.__name__.rpartition(".")[2]
    info = made_objectives.data_info(lists=base.OutputLists(answers=("yes", "no", "red")))
    return getattr(module, cls)(name, ConfigDict(common.objective_block(name, **changes)), info)


def cases():
    label = np.array([[0], [2], [1], [-1], [0]])
    yield (
        objective_of(vqa, "AnswerQuestions"),
        rs.standard_normal((ROWS, 3)),
        dict(
            answer_ids=np.where(KNOWN[:, None], [[0, 2]] * ROWS, -1),
            answer_scores=np.float32([[1, 0.3]] * ROWS),
        ),
    )
    made = objective_of(classification, "Classification", classes=3)
    yield made, rs.standard_normal((ROWS, 3)), dict(label=label)
    yield (
        objective_of(choice, "Choice", pairs="texts", choices=4),
        rs.standard_normal((ROWS, 4)),
        dict(label=label),
    )
    overlap = rs.uniform(0.1, 1, (ROWS, 1, 4)) * KNOWN[:, None, None]
    for normalize in ("candidates", "examples"):
        mask = rs.uniform(0, 1, (ROWS, 1, 4)) < 0.7
        mask[:, :, 0] = True
        made = objective_of(grounding, "Grounding", normalize=normalize)
        arrays = dict(region_iou=overlap.astype(np.float32), region_mask=mask)
        yield made, rs.standard_normal((ROWS, 4)), arrays


@pytest.mark.parametrize(("objective", "logits", "arrays"), list(cases()))
def test_the_loss_of_an_example_is_that_of_it_alone(objective, logits, arrays):
    logits = jnp.asarray(logits, jnp.float32)
    batch = {key: jnp.asarray(array) for key, array in arrays.items()} | {"_weight": WEIGHT}
    found = np.asarray(jax.jit(functools.partial(predict.losses_of, objective))(logits, batch))
    alone = jax.jit(lambda x, one: objective.loss(x, one) / objective.weight(one))
    assert np.isnan(found).tolist() == (~KNOWN).tolist()
    for i in np.flatnonzero(KNOWN):
        one = {key: array[i : i + 1] for key, array in batch.items()} | {"_weight": jnp.ones(1)}
        assert found[i] == pytest.approx(float(alone(logits[i : i + 1], one)), rel=1e-5)


def answered(**row):
    return Answered({"id": row.pop("id", "1")} | row, 0.25, 7)


def made(one, *records, kind="", data=None):
    """The example of a prediction among records, whose images are 50 × 80 pixels or more."""
    stream = run_predict.evaluation_stream()
    stream.records, stream.record_kind = RecordList(records), kind
    stream.pictures = lambda ids: {image: data for image in ids if data}
    found = examples.of_streams({"examples": [one]}, {"examples": stream})
    return found[0], examples.pictures(found, {"examples": stream})


def test_a_question():
    raw = ("2",) * 6 + ("two",) * 3 + ("red",)
    asked = Question("1", "img1", "How many?", (Answer("2", 1.0),), raw, "how many", "number")
    row = answered(answer="red", probability=0.6, top=[["red", 0.6]])
    found, _ = made(row, asked, Question("2", "img2", "What?"))
    (answer,) = found["answers"]
    assert (found["text"], found["true"], found["regions"]) == ("How many?", "2", 7)
    assert found["groups"] == {"type of answer": "number", "type of question": "how many"}
    assert found["images"] == [["img1", 150, 160]]
    assert (answer["predicted"], answer["right"], answer["confidence"]) == ("red", False, 0.6)
    assert answer["score"] == pytest.approx(asked.accuracy("red"))
    assert answer["loss"] == 0.25
    # Without labels, and without a type.
    found, _ = made(row, Question("1", "img1", "Who is it?"))
    assert found["answers"][0]["right"] is found["answers"][0]["score"] is None
    assert (found["true"], found["groups"]) == ("", {"type of question": "who"})


def test_boxes_and_options():
    box = tuple(run_predict.box_of(1))
    said = Expression("1", 7, "img1", "the thing", box)
    found, _ = made(answered(region=2, box=list(box), score=0.75), said)
    (answer,) = found["answers"]
    assert (answer["predicted"], answer["right"], answer["score"]) == ("region 2", True, 1.0)
    assert [one[4:] for one in answer["boxes"]] == [["true", "true"], ["predicted", "predicted"]]
    assert answer["boxes"][0][:4] == pytest.approx(box)
    boxes = ((0.0, 0.0, 9.0, 9.0), (20.0, 0.0, 29.0, 9.0))
    row = answered(region=1, box=[0.0, 0.0, 9.0, 9.0], score=0.9, option=0)
    found, _ = made(row, Pointing("1", "img1", "Which one?", boxes, (0, 1), 1))
    assert (found["true"], found["answers"][0]["predicted"]) == ("option 2", "option 1")
    assert found["groups"] == {"type of question": "which"}


def test_a_statement_on_two_images():
    row = answered(**{"class": 1, "name": "True", "probabilities": [0.25, 0.75]})
    found, _ = made(row, Statement("1", ("img1", "img2"), "Both are red.", 0, "False"))
    assert found["images"] == [["img1", 150, 160], ["img2", 200, 160]]
    assert (found["true"], found["groups"]) == ("False", {"true label": "False"})
    assert found["answers"][0]["predicted"] == "True"
    assert found["answers"][0]["confidence"] == 0.75


def test_choices_and_rationales_of_wrong_answers():
    words = tuple((Token(letter),) for letter in "abcd")
    record = MultipleChoice(
        "q", "img1", 150, 160, (Token("why"), Token("", (0,))), words, words, 2, 3,
        (ObjectBox("cat", (0, 0, 9, 9)),),
    )  # fmt: skip
    row = dict(choice=2, probabilities=[0.1, 0.2, 0.6, 0.1], logits=[0.0] * 4)
    found, _ = made(answered(id="q", **row), record, kind="answers")
    assert (found["text"], found["true"]) == ("why cat", "choice 3")
    assert found["answers"][0]["right"] is True
    assert found["answers"][0]["confidence"] == 0.6
    assert found["answers"][0]["boxes"] == [[0, 0, 9, 9, "cat", "mentioned"]]
    found, _ = made(answered(id="q/a1", **row), record, kind="rationales")
    assert (found["true"], found["answers"][0]["right"]) == ("", None)


def test_several_streams_and_predictions_of_no_record():
    stream = run_predict.evaluation_stream()
    stream.records = None
    rows = {"one": [answered(answer="x")], "two": [answered(id="2", answer="y")]}
    found = examples.of_streams(rows, {"one": stream, "two": stream})
    assert [one["groups"] for one in found] == [{"stream": "one"}, {"stream": "two"}]
    assert found[0]["images"] == []
    assert found[1]["answers"][0]["lines"] == [["predicted", "answer y"]]


def test_pictures_of_the_worst_come_first_as_far_as_there_is_room(monkeypatch):
    file = io.BytesIO()
    Image.new("RGB", (16, 15)).save(file, "PNG")
    stream = run_predict.evaluation_stream()
    rows = [answered(id=f"text{i}", region=1, score=0.5, box=[0, 0, 1, 1]) for i in range(6)]
    rows[4] = Answered(rows[4].prediction, 9.0, 7)
    stream.pictures = lambda ids: {i: file.getvalue() if i != "img3" else b"none" for i in ids}
    streams = {"examples": stream}
    found = examples.of_streams({"examples": rows}, streams)
    assert list(examples.pictures(found, streams)) == ["img4", "img0", "img1", "img2", "img5"]
    monkeypatch.setattr(examples, "MOST_PICTURES", 2)
    assert list(examples.pictures(found, streams)) == ["img4", "img0"]
    monkeypatch.setattr(examples, "MOST_BYTES", 10)
    assert examples.pictures(found, streams) == {}


def test_a_predictor_measures_and_writes(tmp_path):
    predictor = run_predict.predictor()
    rows = list(predictor.measured(1.0))
    assert [row.prediction for row in rows] == list(predictor.run(1.0))
    assert all(row.loss is None for row in rows)  # no overlap is known in these batches
    assert {row.regions for row in rows} == {3, 4}
    config = ConfigDict(common.run_block())
    path = predict.write_browser(
        tmp_path, {"examples": predictor}, {"examples": rows}, predict.details.Measured(), config
    )
    assert path == tmp_path / "report" / "predict-val.html"
    content = predict.page.read(path)
    assert content["place"] == str(tmp_path)
    assert [one["id"] for one in predict.page.examples_of(content)] == [
        row.prediction["id"] for row in rows
    ]
    assert "no pictures" in " ".join(content["notes"])
