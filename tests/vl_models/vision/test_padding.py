"""What is around a picture in a padded batch changes nothing of its feature map.

Of its boxes and features neither: tests/inference/extractors/test_visual_genome.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vl_models import loading
from vl_models.vision.resnet import Backbone, ResNetSizes, c4_extents

HEIGHT, WIDTH = 61, 87  # which no step of two divides


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
