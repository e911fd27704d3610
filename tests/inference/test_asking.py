"""What may be asked, what is refused and how, and that a model can be asked by anyone."""

import concurrent.futures
import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from checkpoints import share
from core.errors import ConfigError, DataError, UserError
from inference import load
from input_pipeline.importers.base import Item
from input_pipeline.regions import RegionStore, extract
from input_pipeline.regions.memory import ImageRegions
from tests.inference import made_models

IMAGE = "7"
IMAGES = ["6", "8", "10", IMAGE]
QUESTION = "what colour is the cube?"


@pytest.fixture(scope="module")
def run():
    return made_models.run("vqa", "data=jsonl,model=vilbert")


@pytest.fixture(scope="module")
def store():
    return RegionStore.open(made_models.files() / "store")


@pytest.fixture(scope="module")
def vqa(run):
    return run.shared


def arrays(store, image=IMAGE):
    """An image of the store as people bring their own."""
    (row,) = store.rows_of([image])
    record = store.read(int(row))
    probs = np.zeros((len(record["boxes"]), store.spec.num_classes), np.float32)
    np.put_along_axis(probs, record["class_ids"], record["probs"], 1)
    return dict(
        boxes=record["boxes"].copy(),
        features=store.features_of(record)[1:],
        size=(int(store.heights[row]), int(store.widths[row])),
        class_probs=probs,
    )


def test_an_image_may_be_given_in_many_forms(vqa, store):
    expected = vqa.answer(QUESTION, IMAGE).to_dict()
    own = arrays(store)
    height, width = own["size"]
    record = Item(IMAGE, height, width, own["boxes"], own["features"], own["class_probs"])
    held = ImageRegions.of_store(store, int(store.rows_of([IMAGE])[0]))
    for image in (own, (own["boxes"], own["features"], own["size"]), record, held):
        found = vqa.answer(QUESTION, image).to_dict()
        assert found["answer"] == expected["answer"]
        np.testing.assert_allclose(found["probability"], expected["probability"], atol=1e-3)


def test_one_or_many(vqa):
    one = vqa.answer(QUESTION, IMAGE, 3)
    assert len(one.top) == 3
    assert one.answer == one.top[0][0]
    others = IMAGES
    many = vqa.answer([QUESTION] * 4, others, 3)
    broadcast = vqa.answer(QUESTION, others, 3)
    assert [x.to_dict() for x in many] == [x.to_dict() for x in broadcast]
    assert many[3].answer == one.answer
    (alone,) = vqa.answer([QUESTION], IMAGE, 3)
    assert alone.to_dict() == one.to_dict()


def test_more_than_a_batch_is_answered_in_order(vqa):
    images = [str(6 + i % 12) for i in range(10)]
    many = vqa.answer(QUESTION, images)
    assert [one.images[0].key for one in many] == images
    assert many[9].to_dict() == vqa.answer(QUESTION, images[9]).to_dict()


def bad(**changes):
    def make(store):
        return arrays(store) | changes

    return make


def nan(store):
    own = arrays(store)
    own["features"][0, 2] = np.nan
    return own


def none_left(store):
    own = arrays(store)
    return own | dict(boxes=own["boxes"][:0], features=own["features"][:0])


BAD = {
    "no image": (QUESTION, None, "there is no image"),
    "unknown id": (QUESTION, "nothing", "an image has no regions.*'nothing'"),
    "zero regions": (QUESTION, none_left, "an image has no regions"),
    "NaN": (QUESTION, nan, "features of region 0 are not finite"),
    "other width": (
        QUESTION, bad(features=np.ones((3, 5))), "wrong shape"
    ),
    "wrong name": (QUESTION, bad(feature=1), "named otherwise"),
    "wrong size": (QUESTION, bad(size=3), "size of an image is wrong"),
    "a picture": (QUESTION, np.zeros((4, 4, 3), np.uint8), "no extractor"),
    "something else": (QUESTION, 0.5, "this is no image.*expected: the id"),
    "empty text": ("  ", IMAGE, "a question is empty"),
    "nothing that is seen": ("\u200b\u00ad", IMAGE, "a text is empty"),
    "no text": (None, IMAGE, "a question is no text"),
    "too long": ("is it red " * 30, IMAGE, "too long for this model"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_and_named_and_nothing_answered(vqa, store, name, monkeypatch):
    text, image, message = BAD[name]
    image = image(store) if callable(image) else image
    monkeypatch.setattr(vqa._programs, "call", lambda *_: pytest.fail("it was answered"))
    with pytest.raises(UserError, match=f"(?s){message}"):
        vqa.answer(text, image)
    with pytest.raises(UserError, match=f"(?s)item 1.*{message}|{message}.*item 1"):
        vqa.answer([QUESTION, text], [IMAGE, image])


def test_a_bad_item_of_a_later_batch_is_found_before_the_first_is_answered(vqa, monkeypatch):
    monkeypatch.setattr(vqa._programs, "call", lambda *_: pytest.fail("it was answered"))
    with pytest.raises(DataError, match=r"(?s)too long.*item 9 of 10"):
        vqa.answer([QUESTION] * 9 + ["is it red " * 30], IMAGE)


def test_what_does_not_fit_together_is_refused(vqa):
    with pytest.raises(DataError, match="not as many images as texts"):
        vqa.answer([QUESTION] * 3, [IMAGE] * 2)
    with pytest.raises(DataError, match="nothing is asked"):
        vqa.answer([], [])
    with pytest.raises(ConfigError, match="top_k"):
        vqa.answer(QUESTION, IMAGE, 0)
    with pytest.raises(DataError, match=r"too many images"):
        vqa.answer([QUESTION], [[IMAGE, IMAGE]])


def test_long_texts_are_cut_where_that_is_wanted(run):
    model = run.model(batch_sizes=(4,), long_texts="cut")
    room = run.config.streams.examples.max_text
    found = model.answer("is it red " * 30, IMAGE)
    batch = model.layout("examples").batch(
        model._asked("examples", "is it red " * 30, IMAGE, made_models.caption).examples, 1
    )
    assert batch["text_mask"].sum() == room
    assert found.answer in run.parts.data_metadata["answers"]


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


def test_a_checkpoint_that_does_not_say_enough(run):
    for lack, message in (
        (dict(pieces=None), "no vocabulary"),
        (dict(config={"model": run.source.config["model"]}), "cannot be asked"),
        (dict(data_metadata={}), "what region features"),
    ):
        model = changed(run, **lack).model()
        assert model.heads == ["vqa"]
        with pytest.raises(UserError, match=message):
            model.answer(QUESTION, IMAGE)
        assert re.search(message, "\n".join(model.about()))


def test_other_features_and_options_are_refused(run, store):
    metadata = run.source.data_metadata
    spec = metadata["feature_spec"] | dict(detector="another")
    other = changed(run, data_metadata=metadata | dict(feature_spec=spec))
    with pytest.raises(DataError, match=r"(?s)region features of two kinds.*detector"):
        other.model(regions=store)
    for options, message in (
        (dict(dtype="float8"), "unknown dtype"),
        (dict(device="abacus"), "no such device"),
        (dict(batch_sizes=(0,)), "batch_sizes are no sizes"),
        (dict(lengths=(16, -1)), "lengths are no sizes"),
        (dict(long_texts="fold"), "long_texts"),
    ):
        with pytest.raises(ConfigError, match=message):
            run.model(**options)


def test_threads_share_a_model(vqa):
    images = IMAGES
    expected = [vqa.answer(QUESTION, image).to_dict() for image in images]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: vqa.answer(QUESTION, image).to_dict(), images))
    assert found == expected


SHARED = """
import sys
from inference import load
model = load(sys.argv[1], regions=sys.argv[2], batch_sizes=(4,))
print(model.answer("what colour is the cube?", "7").answer)
assert "tensorflow" not in sys.modules
"""


def test_a_shared_folder_is_asked_without_tensorflow(run, vqa, tmp_path):
    source = run.source
    folder = tmp_path / "shared"
    share.write(
        folder,
        share.Shared(
            source.arrays, source.config, source.data_metadata, source.pieces, source.answers, 1,
            "a test", source.heads,
        ),
    )  # fmt: skip
    store = str(made_models.files() / "store")
    done = subprocess.run(
        [sys.executable, "-c", SHARED, folder, store], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == vqa.answer(QUESTION, IMAGE).answer, done.stderr
    assert load(str(folder), regions=store).abilities == vqa.abilities


class Extractor:
    """Finds one region in a picture; its features are the picture's mean colour."""

    def __init__(self, spec):
        self.name, self.feature_dim = spec.detector, spec.feature_dim
        self.num_classes, self.background_class = spec.num_classes, spec.background_class
        self.global_feature = spec.global_feature

    def __call__(self, picture):
        features = np.full((1, self.feature_dim), picture.mean() / 255, np.float32)
        probs = np.eye(1, self.num_classes, dtype=np.float32)
        return extract.Regions(np.array([[1, 1, 9, 7]]), features, probs)


def test_pictures_with_an_extractor(run, tmp_path):
    model = run.model(extractor=Extractor(made_models.SPEC), batch_sizes=(4,))
    pixels = np.full((10, 12, 3), 51, np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    expected = model.answer(QUESTION, pixels).to_dict()
    for picture in (path, str(path), Image.fromarray(pixels)):
        assert model.answer(QUESTION, picture).to_dict() == expected
    own = dict(boxes=[[1, 1, 9, 7]], features=np.full((1, 16), 0.2), size=(10, 12),
               class_probs=np.eye(1, 4))  # fmt: skip
    assert model.answer(QUESTION, own).answer == expected["answer"]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="picture cannot be read"):
        model.answer(QUESTION, path)
    with pytest.raises(DataError, match=r"(?s)item 1 of 2.*picture cannot be read"):
        model.answer([QUESTION, QUESTION], [pixels, path])
    other = Extractor(made_models.SPEC)
    other.name = "another"
    with pytest.raises(DataError, match="two kinds: detector differ"):
        run.model(extractor=other)
