"""What a model answers in Python equals what --mode=predict writes of the same split."""

import itertools

import jax
import numpy as np
import pytest

from inference.programs import LENGTHS
from tests.inference import made_models

BATCH = 8  # of prediction, and of what is asked together: then the same program runs


def asked(made, batch_sizes=(BATCH,), lengths=()):
    return made.model(batch_sizes=batch_sizes, lengths=lengths, long_texts="cut")


def words(text):
    """A text as `choose` takes it."""
    return tuple(list(one.objects) if one.objects else one.word for one in text)


def answers(model, records):
    found = model.answer([one.text for one in records], [one.image_id for one in records], 5)
    return [dict(answer=x.answer, probability=x.probability, top=x.to_dict()["top"]) for x in found]


def regions(model, records):
    found = model.ground([one.text for one in records], [one.image_id for one in records])
    return [{k: v for k, v in x.to_dict().items() if k != "text"} for x in found]


def chosen(model, records):
    found = model.ground(
        [one.text for one in records],
        [one.image_id for one in records],
        candidates=[list(one.candidates) for one in records],
    )
    return [{k: v for k, v in x.to_dict().items() if k != "text"} for x in found]


def pointed(model, records):
    offered = [[one.boxes[i] for i in one.candidates] for one in records]
    images = [one.image_id for one in records]
    found = model.point([one.text for one in records], offered, images)
    return [{k: v for k, v in x.to_dict().items() if k != "text"} for x in found]


def choices(model, records, kind="answers"):
    told = dict(objects=[], key=[], answer=None)
    asked, texts, images = [], [], []
    for one in records:
        asked.append(words(one.question))
        texts.append(list(map(words, one.rationales if kind == "rationales" else one.answers)))
        images.append(one.image_id)
        told["objects"].append(list(one.objects))
        told["key"].append(one.text_id)
    if kind == "rationales":
        told["answer"] = [words(one.answers[one.answer_label]) for one in records]
    found = model.choose(asked, texts, images, **told)
    return [
        dict(choice=x.choice, probabilities=list(x.probabilities), logits=list(x.logits))
        for x in found
    ]


def classes(model, records):
    found = model.classify(
        [one.text for one in records],
        [list(one.images) if len(one.images) > 1 else one.images[0] for one in records],
    )
    return [
        {"class": x.number, "name": x.name, "probabilities": list(x.probabilities)} for x in found
    ]


TASKS = {
    "questions": ("vqa", "", answers),
    "own questions": ("vqa", "data=jsonl,", answers),
    "expressions": ("refcoco", "", regions),
    "answers": ("vcr", "", choices),
    "rationales": (
        "vcr", "task=rationales,", lambda model, records: choices(model, records, "rationales")
    ),
    "two images": ("nlvr2", "", classes),
    "own labels": ("classify", "", classes),
    "candidates": ("refcoco", "data=jsonl,", chosen),
    "pointing": ("pointing", "", pointed),
}  # fmt: skip
QUICK = {("candidates", "vlbert")}


@pytest.mark.parametrize(
    ("task", "model"),
    [
        pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.slow)
        for pair in itertools.product(TASKS, made_models.MODELS)
    ],
)
def test_answers_equal_predictions_of_the_whole_split(task, model):
    name, argument, ask = TASKS[task]
    made = made_models.run(name, f"{argument}model={model}")
    expected = made.predictions()
    found = ask(asked(made), made.records())
    for row in expected:
        for key in ("id", "label", "activation"):
            row.pop(key, None)
    assert len(found) == len(expected) > BATCH
    assert found == expected  # to the last bit


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", made_models.MODELS)
def test_other_shapes_of_batches_give_the_same_within_rounding(task, model):
    name, argument, ask = TASKS[task]
    made = made_models.run(name, f"{argument}model={model}")
    expected = made.predictions()[:3]
    few = made.records()[:3]
    for one, row in zip(ask(asked(made, (3, 16), LENGTHS), few), expected, strict=True):
        row = {key: row[key] for key in one}
        for key, value in row.items():  # other shapes: the same within rounding
            if key == "top":
                value, one[key] = ([share for _, share in pairs] for pairs in (value, one[key]))
            if isinstance(value, str):
                assert one[key] == value
            else:
                np.testing.assert_allclose(one[key], value, atol=1e-5, rtol=1e-5)


def texts_and_images(stream):
    """The texts of a split, as its table has them, and the ids of their images."""
    source, tokenizer = stream._stream.source, stream._stream.tokenizer
    columns = source.table.gather(source.rows, 60)
    texts = [
        tokenizer.decode(ids[:length])
        for ids, length in zip(columns["ids"].tolist(), columns["lengths"], strict=True)
    ]
    images = source.table.images_of(source.rows)[:, 0]
    return texts, [source.table.images[i] for i in images]


def evaluator_of(made, name):
    """An evaluator that reads its batches without TensorFlow."""
    found = made.parts.evaluators[name]
    stream = found._stream
    stream.batches = lambda shard=None: stream.pick(range(stream.steps_per_epoch))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("model", made_models.MODELS)
def test_scores_of_pairs_equal_the_rankings_of_evaluation(model, tmp_path):
    made = made_models.run("retrieval", f"model={model}")
    evaluator = evaluator_of(made, "ranking")
    evaluator.folder = tmp_path
    with jax.set_mesh(made.mesh):
        evaluator.run(made.params)
    (path,) = tmp_path.glob("*.scores.npy")
    expected = np.load(path)
    texts, images = texts_and_images(evaluator._stream)
    unique = list(dict.fromkeys(images))
    assert expected.shape == (len(texts), len(unique))
    found = made.model().rank(texts, unique)
    np.testing.assert_allclose(found.scores, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_matches_are_those_of_evaluation():
    made = made_models.run("vilbert_pretrain", "size=mini")
    evaluator = evaluator_of(made, "alignment")
    with jax.set_mesh(made.mesh):
        measured = evaluator.run(made.params)
    texts, images = texts_and_images(evaluator._stream)
    found = made.model(long_texts="cut").align(texts, images)
    share = np.mean([one.match for one in found])
    assert share == pytest.approx(measured["pair_accuracy_own"])
    assert 0 < share < 1
