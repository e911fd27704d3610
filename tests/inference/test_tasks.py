"""What a model answers in Python equals what --mode=predict writes of the same split."""

import itertools

import numpy as np
import pytest

from tests.inference import made_models

BATCH = 8  # of prediction, and of what is asked together: then the same program runs


def asked(made, batch_sizes=(BATCH,)):
    store = made.predictor.stream.store
    return made.model(regions=store, batch_sizes=batch_sizes, long_texts="cut")


def words(text):
    """A text as `choose` takes it."""
    return tuple(list(one.objects) if one.objects else one.word for one in text)


def answers(model, records):
    found = model.answer([one.text for one in records], [one.image_id for one in records], 5)
    return [dict(answer=x.answer, probability=x.probability, top=x.to_dict()["top"]) for x in found]


def regions(model, records):
    found = model.ground([one.text for one in records], [one.image_id for one in records])
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
    "expressions": ("refcoco", "", regions),
    "answers": ("vcr", "", choices),
    "rationales": (
        "vcr", "task=rationales,", lambda model, records: choices(model, records, "rationales")
    ),
    "two images": ("nlvr2", "", classes),
    "own labels": ("classify", "", classes),
}  # fmt: skip
QUICK = {("questions", "vilbert"), ("expressions", "vlbert")}


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
    few = made.records()[:3]
    for one, row in zip(ask(asked(made, (3, 16)), few), expected[:3], strict=True):
        assert one.keys() == row.keys()
        for key, value in row.items():  # other shapes: the same within rounding
            if key == "top":
                value, one[key] = ([share for _, share in pairs] for pairs in (value, one[key]))
            if isinstance(value, str):
                assert one[key] == value
            else:
                np.testing.assert_allclose(one[key], value, atol=1e-5, rtol=1e-5)
