"""What may be asked, what is refused and how, and that a model can be asked by anyone."""

import concurrent.futures
import dataclasses
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from checkpoints import share
from core.errors import ConfigError, DataError, UserError
from inference import load
from input_pipeline.importers.base import Item
from input_pipeline.regions.memory import ImageRegions
from tests.inference import made_models


@pytest.fixture(scope="module")
def questions():
    return made_models.run("vqa", "model=vilbert")


@pytest.fixture(scope="module")
def vqa(questions):
    return questions.model(regions=questions.predictor.stream.store)


@pytest.fixture(scope="module")
def pretrained():
    return made_models.run("vilbert_pretrain", "size=mini")


@pytest.fixture(scope="module")
def captions(pretrained, questions):
    return pretrained.model(regions=questions.predictor.stream.store)


def arrays(model, image):
    """An image of the store as people bring their own."""
    store = model.regions
    (row,) = store.rows_of([image])
    record = store.read(int(row))
    features = store.features_of(record)
    return dict(
        boxes=record["boxes"].copy(),
        features=features[1:],
        size=(int(store.heights[row]), int(store.widths[row])),
    )


IMAGE = "validation-000003"
QUESTION = "what colour is the cube?"


def test_an_image_may_be_given_in_many_forms(vqa):
    expected = vqa.answer(QUESTION, IMAGE).to_dict()
    own = arrays(vqa, IMAGE)
    height, width = own["size"]
    record = Item(IMAGE, height, width, own["boxes"], own["features"])
    store = vqa.regions
    held = ImageRegions.of_store(store, int(store.rows_of([IMAGE])[0]))
    for image in (own, (own["boxes"], own["features"], own["size"]), record, held):
        found = vqa.answer(QUESTION, image).to_dict()
        assert found["answer"] == expected["answer"]
        np.testing.assert_allclose(found["probability"], expected["probability"], atol=1e-3)


def test_one_or_many(vqa):
    one = vqa.answer(QUESTION, IMAGE, 3)
    assert len(one.top) == 3
    assert one.answer == one.top[0][0]
    others = [f"validation-{i:06d}" for i in range(4)]
    many = vqa.answer([QUESTION] * 4, others, 3)
    broadcast = vqa.answer(QUESTION, others, 3)
    assert [x.to_dict() for x in many] == [x.to_dict() for x in broadcast]
    assert many[3].answer == one.answer
    (alone,) = vqa.answer([QUESTION], IMAGE, 3)
    assert alone.to_dict() == one.to_dict()


def bad(**changes):
    def make(model):
        return arrays(model, IMAGE) | changes

    return make


def nan(model):
    own = arrays(model, IMAGE)
    own["features"][0, 2] = np.nan
    return own


def none_left(model):
    own = arrays(model, IMAGE)
    return own | dict(boxes=own["boxes"][:0], features=own["features"][:0])


BAD = {
    "no image": (QUESTION, None, "there is no image"),
    "unknown id": (QUESTION, "nothing", "an image has no regions.*'nothing'"),
    "zero regions": (QUESTION, none_left, "an image has no regions"),
    "NaN": (QUESTION, nan, "features of region 0 are not finite"),
    "other width": (
        QUESTION, bad(features=np.ones((2, 5)), boxes=np.zeros((2, 4))), "wrong shape"
    ),
    "wrong name": (QUESTION, bad(feature=1), "named otherwise"),
    "wrong size": (QUESTION, bad(size=3), "size of an image is wrong"),
    "a picture": (QUESTION, np.zeros((4, 4, 3), np.uint8), "no extractor"),
    "something else": (QUESTION, 0.5, "this is no image.*expected: the id"),
    "empty text": ("  ", IMAGE, "a question is empty"),
    "no text": (None, IMAGE, "a question is no text"),
    "too long": ("is it red " * 30, IMAGE, "too long for this model"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_and_named(vqa, name):
    text, image, message = BAD[name]
    image = image(vqa) if callable(image) else image
    with pytest.raises(UserError, match=f"(?s){message}"):
        vqa.answer(text, image)
    with pytest.raises(UserError, match=f"(?s)item 1.*{message}|{message}.*item 1"):
        vqa.answer([QUESTION, text], [IMAGE, image])


def test_what_does_not_fit_together_is_refused(vqa):
    with pytest.raises(DataError, match="not as many images as texts"):
        vqa.answer([QUESTION] * 3, [IMAGE] * 2)
    with pytest.raises(DataError, match="nothing is asked"):
        vqa.answer([], [])
    with pytest.raises(ConfigError, match="top_k"):
        vqa.answer(QUESTION, IMAGE, 0)
    with pytest.raises(DataError, match=r"too many images"):
        vqa.answer([QUESTION], [[IMAGE, IMAGE]])


def test_long_texts_are_cut_where_that_is_wanted(questions, vqa):
    model = questions.model(regions=vqa.regions, long_texts="cut")
    room = questions.config.streams.examples.max_text
    found = model.answer("is it red " * 30, IMAGE)
    tokens = model.attention("is it red " * 30, IMAGE).tokens
    assert len(tokens) == room
    assert found.answer in questions.parts.data_metadata["answers"]


def test_what_a_model_cannot_do_lists_what_it_can(vqa):
    with pytest.raises(ConfigError, match=r"(?s)cannot ground.*it can: answer, embed, attention"):
        vqa.ground("the cube", IMAGE)
    with pytest.raises(ConfigError, match=r"(?s)no such task to answer.*'examples'.*'other'"):
        vqa.answer(QUESTION, IMAGE, task="other")
    assert "answer, embed, attention" in repr(vqa)


def changed(made, **fields):
    """A run whose checkpoint says something else."""
    run = made_models.Run(made.config, made.parts, made.params)
    run.source = dataclasses.replace(made.source, **fields)
    return run


def test_a_checkpoint_that_does_not_say_enough(questions):
    for lack, message in (
        (dict(pieces=None), "no vocabulary"),
        (dict(config={"model": questions.source.config["model"]}), "cannot be asked"),
        (dict(data_metadata={}), "what region features"),
    ):
        model = changed(questions, **lack).model()
        assert model.heads == ["vqa"]
        with pytest.raises(UserError, match=message):
            model.answer(QUESTION, IMAGE)
        assert re.search(message, "\n".join(model.about()))


def test_other_features_and_options_are_refused(questions, vqa):
    metadata = questions.source.data_metadata
    spec = metadata["feature_spec"] | dict(detector="another")
    other = changed(questions, data_metadata=metadata | dict(feature_spec=spec))
    with pytest.raises(DataError, match=r"(?s)region features of two kinds.*detector"):
        other.model(regions=vqa.regions)
    for options, message in (
        (dict(dtype="float8"), "unknown dtype"),
        (dict(device="abacus"), "no such device"),
        (dict(batch_sizes=(0,)), "no sizes"),
        (dict(long_texts="fold"), "long_texts"),
    ):
        with pytest.raises(ConfigError, match=message):
            questions.model(**options)


def test_masks_are_filled(captions):
    found = captions.fill_mask("a [MASK] cube and a small [MASK].", IMAGE, 3)
    assert [len(mask) for mask in found.masks] == [3, 3]
    first, second = (mask[0][0] for mask in found.masks)
    assert found.filled == f"a {first} cube and a small {second}."
    assert found.to_dict()["masks"][0][0] == list(found.masks[0][0])
    with pytest.raises(DataError, match="there is no mask to fill"):
        captions.fill_mask("a red cube", IMAGE)
    # The same as a word that is hidden where it stands.
    with_word, _ = captions.fill_mask(["a [MASK] cube", "[MASK]"], IMAGE)
    model, objective = captions._checkpoint.model, captions._task("fill_mask", "")[1]
    asked = captions._asked("a red cube", IMAGE, made_models.caption)
    batch = captions._single("captions").batch(asked.examples, 1)
    batch["text_ids"][0, 0, 2] = captions._checkpoint.tokenizer.special.mask
    batch = {key: jnp.asarray(array) for key, array in batch.items()}
    outputs = model.outputs(captions.params, "captions", batch, pairs=((0, 0),))
    logits = model.head(captions.params, objective.head_name)(
        outputs["text"][:, 2:3], outputs["word_embedding"]
    )
    shares = np.asarray(jax.nn.softmax(logits[0, 0]))
    names = list(captions._checkpoint.tokenizer.vocab)
    assert with_word.masks[0][0][0] == names[int(shares.argmax())]
    assert with_word.masks[0][0][1] == pytest.approx(float(shares.max()), abs=1e-5)


def test_alignment_and_ranking_agree(captions):
    texts = ["a red cube", "a ball left of a star"]
    images = [f"validation-{i:06d}" for i in range(5)]
    ranked = captions.rank(texts, images)
    assert ranked.scores.shape == (2, 5)
    for i, text in enumerate(texts):
        for j, found in enumerate(captions.align(text, images)):
            assert ranked.scores[i, j] == pytest.approx(found.score, abs=1e-5)
            assert found.match == (found.score > 0)
            assert found.probability == pytest.approx(1 / (1 + np.exp(-found.score)), abs=1e-6)
    best = ranked.images_of(0)
    assert [score for _, score in best] == sorted(ranked.scores[0].tolist(), reverse=True)
    assert [i for i, _ in ranked.texts_of(2)] == np.argsort(-ranked.scores[:, 2]).tolist()
    assert ranked.names == tuple(images)


def test_threads_share_a_model(vqa):
    images = [f"validation-{i:06d}" for i in range(8)]
    expected = [vqa.answer(QUESTION, image).to_dict() for image in images]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: vqa.answer(QUESTION, image).to_dict(), images))
    assert found == expected


SHARED = """
import sys
from inference import load
model = load(sys.argv[1], regions=sys.argv[2])
print(model.answer("what colour is the cube?", "validation-000003").answer)
assert "tensorflow" not in sys.modules
"""


def test_a_shared_folder_is_asked_without_tensorflow(questions, vqa, tmp_path):
    source = questions.source
    folder = tmp_path / "shared"
    share.write(
        folder,
        share.Shared(
            source.arrays, source.config, source.data_metadata, source.pieces, source.answers, 1,
            "a test", source.heads,
        ),
    )  # fmt: skip
    store = str(made_models.store_folder(questions))
    done = subprocess.run(
        [sys.executable, "-c", SHARED, folder, store], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == vqa.answer(QUESTION, IMAGE).answer, done.stderr
    assert load(str(folder), regions=store).abilities == vqa.abilities
