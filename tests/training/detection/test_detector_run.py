"""A detector's run at toy size: batches, training, resuming, and the detector that comes out."""

import dataclasses
import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from checkpoints import checkpoint
from checkpoints import detector as detectors
from configs import common
from core.errors import DataError
from input_pipeline.datasets.reading.prepared import PictureObjects, Prepared
from objectives.detection import STREAM, DetectorTask, Sampling
from training import state
from training.detection import run as detection
from training.detection.data import PictureSet
from vl_models import loading
from vl_models.vision.canvas import Pixels
from vl_models.vision.faster_rcnn import DetectorSizes, Selection
from vl_models.vision.resnet import ResNetSizes

COLOURS = np.uint8([[255, 0, 0], [0, 0, 255]])
RECIPE = detection.Recipe(
    sizes=DetectorSizes(
        resnet=ResNetSizes(
            blocks=(1, 1, 1, 1), stem=4, inner=4, outer=8, frozen_stages=0, frozen_norm=False
        ),
        hidden=8,
        anchor_sizes=(20.0,),
        anchor_ratios=(1.0,),
        bins=2,
    ),
    sampling=Sampling(
        anchors=8, regions=6, proposals=Selection(candidates=12, proposals=6, least=1, most=6)
    ),
    selection=Selection(candidates=12, proposals=6, overlaps=(0.3,), least=1, most=4),
    pixels=Pixels(48, 64),
)


@functools.cache
def drawn(split):
    """Squares of two colours on grey, the second one taller."""
    rs = np.random.RandomState(len(split))
    objects, files = [], {}
    for number in range(12):
        picture = np.full((24, 32, 3), 128, np.uint8)
        kind = number % 2
        x, y = rs.randint(0, 20), rs.randint(0, 12)
        picture[y : y + 9 + kind, x : x + 9] = COLOURS[kind]
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        name = f"{split}-{number}"
        files[name] = file.getvalue()
        box = np.float32([[x, y, x + 9, y + 9 + kind]])
        objects.append(PictureObjects(name, box, np.array([kind]), np.array([kind - 1])))
    return objects, files


def prepared(**changes):
    parts = dict(
        stores=[],
        vocab="",
        rows=lambda split: iter(()),
        fingerprint=str,
        splits=("train", "validation"),
        objects=lambda split: iter(drawn(split)[0]),
        object_names=(("red", "blue"), ("tall",)),
        pictures=lambda ids: {i: drawn(i.split("-")[0])[1][i] for i in ids},
    )
    return Prepared(**parts | changes)


def config(**changes):
    made = ConfigDict(common.run_block())
    made.update(
        model=dict(name="faster_rcnn"),
        streams={STREAM: dict(batch_size=8)},
        optimizer=common.optimizer_block() | dict(lr=1e-2, warmup_steps=1),
        evals={},
        total_steps=4,
        log_every=2,
        eval_every=4,
    )
    made.checkpoint.every = 2
    made.update_from_flattened_dict(changes)
    return made.lock()


def test_batches():
    pictures = PictureSet(prepared(), "train", RECIPE.pixels)
    assert len(pictures) == 12
    whole = np.concatenate([pictures.draw(5, draw, 4)["example_index"] for draw in range(6)])
    assert sorted(whole[:12]) == sorted(whole[12:]) == list(range(12))
    assert whole[:12].tolist() != whole[12:].tolist()
    for draw in range(3):
        found, again = (pictures.draw(5, draw, 4) for _ in range(2))
        assert all(np.array_equal(found[k], again[k]) for k in found)
        halves = [pictures.draw(5, draw, 4, part, 2) for part in range(2)]  # of two processes
        assert all(np.array_equal(np.concatenate([h[k] for h in halves]), found[k]) for k in found)
    # Boxes are where the colours are, mirrored or not.
    mirrored = 0
    for draw in range(6):
        batch = pictures.draw(5, draw, 4)
        plain = pictures.batch(batch["example_index"].tolist())
        for row in range(4):
            x1, y1, x2, y2 = np.rint(batch["boxes"][row, 0]).astype(int)
            inside = batch["images"][row, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].reshape(-1, 3)
            assert (inside == COLOURS[batch["classes"][row, 0]]).all()
            mirrored += not np.array_equal(batch["images"][row], plain["images"][row])
    assert 4 <= mirrored <= 20
    padded = pictures.batch([3, -1])
    assert padded["_weight"].tolist() == [1, 0]
    assert not padded["present"][1].any()
    assert padded["sizes"][0].tolist() == [48, 64]


def test_data_without_objects_or_pictures():
    with pytest.raises(DataError, match="cannot be trained on"):
        PictureSet(prepared(objects=None), "train", RECIPE.pixels)
    with pytest.raises(DataError, match="12 of 12 pictures of a split are missing"):
        PictureSet(prepared(pictures=lambda ids: {}), "train", RECIPE.pixels)


@pytest.mark.slow
def test_trained_saved_and_repeated(tmp_path):
    summary = detection.run(config(), tmp_path / "whole", prepared(), RECIPE)
    assert summary["step"] == 4
    assert 0 <= summary["map50"] <= 1
    made = detectors.load(str(tmp_path / "whole" / detection.FOLDER))
    assert (made.sizes.classes, made.sizes.attributes) == (2, 1)
    assert made.pixels == RECIPE.pixels
    assert tuple(made.objects) == ("red", "blue")
    params, _ = checkpoint.load_params(tmp_path / "whole")
    flat = loading.flatten(params)
    assert all(np.array_equal(made.arrays[path], x) for path, x in flat.items())

    # Stopped after two steps and begun again: the same to the last bit.
    constant = {"optimizer.schedule": "step", "eval_every": 4}
    detection.run(config(**constant), tmp_path / "once", prepared(), RECIPE)
    for steps in (2, 4):
        detection.run(config(**constant, total_steps=steps), tmp_path / "parts", prepared(), RECIPE)
    found, expected = (
        loading.flatten(checkpoint.load_params(tmp_path / name)[0]) for name in ("parts", "once")
    )
    assert all(np.array_equal(found[path], x) for path, x in expected.items())
    moved = [path for path, x in expected.items() if not np.array_equal(x, flat[path])]
    assert not any(path.endswith(("/mean", "/variance")) for path in moved)
    trained = {path.split("/")[0] for path in moved if path.endswith("kernel")}
    assert trained == {"backbone", "proposals", "head", "predictor"}
    # Written after two steps, and again at the end.
    assert "step 4" in detectors.load(str(tmp_path / "parts" / detection.FOLDER)).origin


def test_a_pictures_losses_are_its_own():
    """Neither neighbours nor padding count; what is sampled follows the picture's key."""
    sizes = dataclasses.replace(RECIPE.sizes, classes=2, attributes=1)
    task = DetectorTask(sizes, RECIPE.sampling, RECIPE.pixels.mean)
    pictures = PictureSet(prepared(), "train", RECIPE.pixels)
    params = task.init(jax.random.key(0), {})
    keys = jax.random.split(jax.random.key(1), 12)

    def loss(params, batch):
        sums, metrics = task.sums(params, STREAM, batch, train=True)
        return task.total(sums, task.weights(STREAM, batch)), (sums, metrics)

    run = jax.jit(loss)

    def of(rows):
        batch = {k: jnp.asarray(x) for k, x in pictures.batch(rows).items()}
        return run(params, task.corrupt(STREAM, batch, keys[jnp.asarray(rows)]))

    both, (sums, metrics) = of([0, 1])
    assert np.isfinite(both)
    assert set(sums) == set(task.loss_scale)
    for value in sums.values():
        assert value > 0
    assert metrics[f"{STREAM}/object_accuracy"][1] >= 2
    alone = [of([row, -1])[1][0] for row in (0, 1)]
    for name, value in sums.items():
        np.testing.assert_allclose(value, alone[0][name] + alone[1][name], rtol=1e-4)


def test_the_networks_classes_are_the_data_sets():
    task = detection.build(config(), prepared(), dataclasses.replace(
        RECIPE, sizes=dataclasses.replace(RECIPE.sizes, classes=2, attributes=0)
    )).model  # fmt: skip
    assert isinstance(task, state.Model)
    assert set(task.loss_scale) == {
        f"{STREAM}/{n}" for n in ("anchors", "anchor_boxes", "classes", "boxes")
    }
