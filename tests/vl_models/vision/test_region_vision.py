"""Pictures on the device: BGR minus mean, holes where regions are hidden, cells of outlines."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vlbert_pretrain
from core.errors import ConfigError
from input_pipeline.schema import SpecialIds
from objectives import masking
from objectives.model import MultiTaskModel
from vl_models.vision import regions, resnet

SIZES = resnet.ResNetSizes(
    blocks=(1, 1, 1, 1), stem=4, inner=2, outer=8, frozen_stages=0, frozen_norm=False
)
BOXES = np.float32([[0, 0, 47, 31], [4.7, 3.2, 20.9, 12.1], [10, 8, 40, 30], [30, 5, 30, 5]])


def test_pixels_become_bgr_minus_mean_and_zero_beyond_the_picture():
    images = jnp.asarray(np.random.RandomState(0).randint(0, 256, (2, 6, 8, 3)), jnp.uint8)
    found = regions.prepared(images, jnp.asarray([[6.0, 8.0], [4.0, 5.0]]))
    expected = np.asarray(images, np.float32)[..., ::-1] - np.float32(regions.BGR_MEAN)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1, :4, :5], expected[1, :4, :5], rtol=1e-6)
    assert not found[1, 4:].any()
    assert not found[1, :, 5:].any()
    assert regions.prepared(found, jnp.asarray([[1.0, 1.0]] * 2)) is found


def test_hidden_regions_leave_holes_as_the_released_code_cuts_them():
    images = np.random.RandomState(1).randn(1, 32, 48, 3).astype(np.float32)
    hidden = np.asarray([[False, True, False, True]])
    found = regions.blanked(jnp.asarray(images), jnp.asarray(BOXES)[None], jnp.asarray(hidden))
    for x1, y1, x2, y2 in BOXES[hidden[0]]:
        images[:, int(y1) : int(y2) + 1, int(x1) : int(x2) + 1] = 0
    np.testing.assert_array_equal(found, images)


def test_nothing_of_a_hidden_region_reaches_any_region():
    rs = np.random.RandomState(2)
    images = rs.randint(0, 256, (1, 32, 48, 3)).astype(np.uint8)
    other = images.copy()
    other[0, 3:13, 4:21] = rs.randint(0, 256, (10, 17, 3))
    model = regions.RegionVision(SIZES)
    size, boxes = jnp.asarray([[32.0, 48.0]]), jnp.asarray(BOXES)[None]
    hidden = jnp.asarray([[False, True, False, False]])
    cells = jnp.asarray(rs.rand(1, 4, 14, 14) < 0.5)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.asarray(images), boxes, size)

    def value(path, x):  # at which few units are switched off
        centre = dict(mean=-0.5, kernel=0.0).get(path[-1].key, 0.5)
        return jnp.asarray(centre + 0.1 * rs.randn(*x.shape), x.dtype)

    params = jax.tree.map_with_path(value, shapes)
    run = jax.jit(model.apply)
    seen = [run(params, jnp.asarray(x), boxes, size, hidden, cells) for x in (images, other)]
    assert seen[0].shape == (1, 4, SIZES.c5)
    np.testing.assert_array_equal(seen[0], seen[1])
    assert np.isfinite(seen[0]).all()  # of a box without width, too
    # The mean of the cells is over all 196, whatever the outline.
    none = run(params, jnp.asarray(images), boxes, size, hidden, jnp.zeros_like(cells))
    rest = run(params, jnp.asarray(images), boxes, size, hidden, ~cells)
    every = run(params, jnp.asarray(images), boxes, size, hidden, jnp.ones_like(cells))
    assert not none.any()
    np.testing.assert_allclose(seen[0] + rest, every, rtol=1e-4, atol=1e-5)
    shown = jnp.zeros_like(hidden)
    free = [run(params, jnp.asarray(x), boxes, size, shown, cells) for x in (images, other)]
    assert not np.allclose(free[0], free[1])


def test_outlines_need_all_cells():
    small = regions.RegionVision(resnet.ResNetSizes(blocks=(1,) * 4, inner=2, dilated=False))
    with pytest.raises(ValueError, match=r"vision\.dilated=True"):
        jax.eval_shape(
            small.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)), jnp.zeros((1, 2, 4)),
            jnp.ones((1, 2)), None, jnp.ones((1, 2, 14, 14), bool),
        )  # fmt: skip


def pretraining(**block):
    config = vlbert_pretrain.get_config("size=mini,features=pixels")
    config.objectives.masked_region.update(block)
    spec = types.SimpleNamespace(feature_dim=9, num_classes=5, global_feature="stored")
    return MultiTaskModel(config, SpecialIds(0, 1, 2, 3, 4, 50), spec)


def test_masked_regions_are_told_to_the_trunk_and_features_cannot_be_learned():
    task = pretraining(rate=1.0, keep=0.0)
    mask = jnp.asarray([[[True, True, True, False]]])
    batch = dict(
        text_ids=jnp.full((1, 1, 6), 9), text_mask=jnp.ones((1, 1, 6), bool),
        word_starts=jnp.ones((1, 1, 6), bool), segment_ids=jnp.zeros((1, 1, 6), jnp.int32),
        boxes=jnp.asarray(BOXES)[None, None], region_mask=mask, _weight=jnp.ones(1),
        num_detected=jnp.full((1, 1), 2), images=jnp.zeros((1, 1, 32, 48, 3), jnp.uint8),
        phrase_region=jnp.zeros((1, 1, 6), jnp.int32),
    )  # fmt: skip
    found = task.corrupt("captions", batch, masking.row_keys(jax.random.key(0), jnp.arange(1)))
    assert found["region_masked"].tolist() == [[[False, True, True, False]]]
    assert "regions" not in found
    assert "mask" not in task.trunk.fixed
    with pytest.raises(ConfigError, match=r"(?s)stored features.*target=cross_entropy"):
        pretraining(target="regression", image_row="stored")
