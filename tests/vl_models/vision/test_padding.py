"""What is around a picture in a padded batch changes nothing of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vl_models import loading
from vl_models.vision import faster_rcnn
from vl_models.vision.faster_rcnn import DetectorSizes, FasterRCNN, Selection
from vl_models.vision.resnet import Backbone, ResNetSizes, c4_extents

HEIGHT, WIDTH = 61, 87  # which no step of two divides
SELECTION = Selection(30, 8, 0.7, (0.6, 0.9), 2, 5)


def sizes(pool="caffe", stride_in_1x1=True):
    return ResNetSizes(
        blocks=(1, 2, 1, 1), stem=4, inner=4, outer=8, max_pool=pool, stride_in_1x1=stride_in_1x1
    )


def picture():
    return np.random.RandomState(0).standard_normal((1, HEIGHT, WIDTH, 3)).astype(np.float32)


def padded():
    out = np.zeros((1, 80, 112, 3), np.float32)
    out[:, :HEIGHT, :WIDTH] = picture()
    return jnp.asarray(out)


def with_biases(params):
    """Biases other than zero: what padding turns into after a layer."""
    flat = loading.flatten(params)
    moved = {path: x + 0.3 * path.endswith("bias") for path, x in flat.items()}
    return loading.unflatten(moved)


@pytest.mark.parametrize(("pool", "stride_in_1x1"), [("caffe", True), ("torch", False)])
def test_c4_is_that_of_the_picture_alone(pool, stride_in_1x1):
    backbone = Backbone(sizes(pool, stride_in_1x1))
    params = with_biases(jax.jit(backbone.init)(jax.random.key(0), padded()))
    run = jax.jit(backbone.apply)
    alone = run(params, jnp.asarray(picture()))
    size = jnp.asarray([[HEIGHT, WIDTH]])
    found = np.asarray(run(params, padded(), size))
    rows, columns = alone.shape[1:3]
    assert c4_extents(size, pool).tolist() == [[rows, columns]]
    np.testing.assert_allclose(found[:, :rows, :columns], alone, rtol=1e-4, atol=1e-5)
    assert not found[:, rows:].any()
    assert not found[:, :, columns:].any()
    seen = run(params, padded())[:, :rows, :columns]
    assert not np.allclose(seen, alone, rtol=1e-2)


def test_boxes_and_features_are_those_of_the_picture_alone():
    model = FasterRCNN(
        DetectorSizes(sizes(), classes=4, attributes=2, hidden=8, anchor_sizes=(16.0,), bins=3)
    )
    params = with_biases(faster_rcnn.initial_parameters(model.sizes, jax.random.key(1)))
    # Scores that differ: of anchors, and of classes.
    params = jax.tree_util.tree_map_with_path(
        lambda path, x: x * 30 if "predictor" in str(path) or "objectness" in str(path) else x,
        params,
    )
    size = jnp.float32([[HEIGHT, WIDTH]])
    detect = functools.partial(faster_rcnn.detect, model, params, selection=SELECTION)
    alone = jax.jit(functools.partial(detect, padding="inside"))(jnp.asarray(picture()), size)
    found = jax.jit(detect)(padded(), size)
    assert alone["valid"].sum() >= 2
    for name, expected in alone.items():
        np.testing.assert_allclose(
            np.float32(found[name]), np.float32(expected), rtol=1e-3, atol=1e-3, err_msg=name
        )
    with pytest.raises(ValueError, match="outside"):
        detect(padded(), size, padding="around")
