"""ResNet: sizes, pooling, what does not train."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runtime import paths
from vl_models import loading
from vl_models.vision import resnet

NARROW = dict(blocks=(1, 1, 1, 1), stem=4, inner=2, outer=8)
IMAGES = jnp.asarray(np.random.RandomState(1).standard_normal((2, 32, 48, 3)), jnp.float32)


def run(sizes, params, images):
    """C4 and C5 of images."""
    c4 = resnet.Backbone(sizes).apply({"params": params["backbone"]}, images)
    return c4, resnet.RegionHead(sizes).apply({"params": params["head"]}, c4)


def shapes(sizes):
    """Of the parameters."""

    def init():
        c4, backbone = resnet.Backbone(sizes).init_with_output(jax.random.key(0), IMAGES)
        head = resnet.RegionHead(sizes).init(jax.random.key(1), c4)
        return dict(backbone=backbone["params"], head=head["params"])

    return jax.eval_shape(init)


def made(sizes):
    """Parameters of any values at which no unit is switched off."""
    rs = np.random.RandomState(0)

    def value(path, x):
        centre = dict(mean=-0.5, kernel=0.0).get(path[-1].key, 0.5)
        return np.float32(centre + 0.1 * rs.standard_normal(x.shape))

    return jax.tree.map_with_path(value, shapes(sizes))


@pytest.mark.parametrize("side", [1, 2, 3, 6, 7])
def test_max_pools_round_as_torch_and_caffe_do(side):
    x = jnp.arange(side * 9.0).reshape(1, side, 9, 1) - 40
    rows = np.asarray(x[0, :, :, 0])
    for kind, border, length in (
        ("torch", 1, (side + 1) // 2),
        ("caffe", 0, max(1, -((3 - side) // 2) + 1)),
    ):
        found = resnet.max_pool(x, kind)[0, :, :, 0]
        expected = [
            rows[max(0, 2 * i - border) : 2 * i - border + 3, 4 - border : 7 - border].max()
            for i in range(length)
        ]
        assert found[:, 2].tolist() == expected


def fixed_paths(sizes, params):
    patterns = resnet.fixed(sizes, "backbone", "head")
    return set().union(*paths.matching(patterns, list(params), where="here"))


def test_published_numbers_of_parameters():
    """42.5 million, of which the paper's trained part is 42.2 million."""
    sizes = resnet.ResNetSizes()
    params = loading.flatten(shapes(sizes))
    frozen = fixed_paths(sizes, params)
    counted = {path: x.size for path, x in params.items() if path[-4:] not in ("mean", "ance")}
    assert sum(counted.values()) == 42_500_160
    assert sum(counted[path] for path in set(params) - frozen) == 42_172_416


@pytest.mark.parametrize(("frozen", "norm"), [(0, False), (2, True), (5, False)], ids=str)
def test_gradients_are_zero_exactly_where_nothing_trains(frozen, norm):
    sizes = resnet.ResNetSizes(**NARROW, frozen_stages=frozen, frozen_norm=norm)

    def loss(params):
        return (run(sizes, params, IMAGES)[1] ** 2).sum()

    grads = loading.flatten(jax.jit(jax.grad(loss))(made(sizes)))
    still = {path for path, grad in grads.items() if not np.any(grad)}
    assert still == fixed_paths(sizes, grads)


def test_shapes_and_rematerialisation():
    plain = resnet.ResNetSizes(**NARROW, dilated=False, stride_in_1x1=False)
    again = dataclasses.replace(plain, remat=True)
    params = made(plain)

    def value_and_gradient(sizes):
        def loss(params):
            c4, c5 = run(sizes, params, IMAGES)
            assert (c4.shape, c5.shape) == ((2, 2, 3, 32), (2, 1, 2, 64))
            return jnp.log(c5).sum()

        return jax.jit(jax.value_and_grad(loss))(params)

    (loss, grads), (same, others) = value_and_gradient(plain), value_and_gradient(again)
    np.testing.assert_allclose(same, loss, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), grads, others)
    dilated = resnet.ResNetSizes(**NARROW)
    _, c5 = jax.eval_shape(lambda: run(dilated, params, IMAGES))
    assert c5.shape == (2, 2, 3, 64)
    with pytest.raises(ValueError, match="'torch', 'caffe'"):
        resnet.ResNetSizes(max_pool="ceil")
