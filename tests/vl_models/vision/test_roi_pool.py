"""RoIPool against loops over bins in plain Python."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from vl_models.vision.roi_pool import roi_pool

HEIGHT, WIDTH, BINS, SCALE = 9, 14, 3, 1 / 8


def c_round(x):
    return int(math.copysign(math.floor(abs(x) + 0.5), x))


def reference(features, box, bins=BINS):
    """One box's bins, with the published operator's rounding."""
    x1, y1, x2, y2 = (c_round(np.float32(side) * np.float32(SCALE)) for side in box)
    height, width = (np.float32(max(span + 1, 1)) / np.float32(bins) for span in (y2 - y1, x2 - x1))
    rows, columns = features.shape[:2]
    out = np.zeros((bins, bins, features.shape[2]), np.float32)
    for i in range(bins):
        for j in range(bins):
            top = min(max(math.floor(np.float32(i) * height) + y1, 0), rows)
            bottom = min(max(math.ceil(np.float32(i + 1) * height) + y1, 0), rows)
            left = min(max(math.floor(np.float32(j) * width) + x1, 0), columns)
            right = min(max(math.ceil(np.float32(j + 1) * width) + x1, 0), columns)
            if bottom > top and right > left:
                out[i, j] = features[top:bottom, left:right].max((0, 1))
    return out


def made():
    rs = np.random.RandomState(0)
    features = rs.standard_normal((HEIGHT, WIDTH, 4)).astype(np.float32)
    low = rs.uniform(0, [100, 64], (20, 2))
    high = np.minimum(low + rs.uniform(0, 90, (20, 2)), [WIDTH / SCALE, HEIGHT / SCALE])
    special = [
        [0, 0, 112, 72],  # the whole map
        [4, 12, 20, 28],  # halves of a cell, which are rounded up
        [40, 40, 40, 40],  # a point
        [50, 30, 42, 22],  # upside down: one cell
        [104, 64, 112, 72],  # the last cell, and one beyond the map
    ]
    boxes = np.concatenate([np.concatenate([low, high], 1), special]).astype(np.float32)
    return features, boxes


pooled = jax.jit(lambda features, boxes: roi_pool(features, boxes, BINS, SCALE))


def test_bins_are_those_of_the_loops():
    features, boxes = made()
    found = pooled(jnp.asarray(features), jnp.asarray(boxes))
    expected = np.stack([reference(features, box) for box in boxes])
    np.testing.assert_array_equal(found, expected)


def test_bins_of_boxes_beyond_the_map():
    features, _ = made()
    boxes = np.float32([[-8, -8, 20, 20], [200, 0, 220, 20]])
    expected = np.stack([reference(features, box) for box in boxes])
    found = pooled(jnp.asarray(features), jnp.asarray(boxes))
    np.testing.assert_array_equal(found, expected)
    assert not found[1].any()
    wide = pooled(jnp.asarray(features), jnp.float32([[-400, 0, 400, 72]]))
    assert np.isnan(wide).any()  # and no other number


def test_gradient_is_that_of_the_largest_cell():
    features, boxes = made()
    weights = jnp.asarray(np.random.RandomState(1).standard_normal((len(boxes), BINS, BINS, 4)))

    def total(x):
        return (pooled(x, jnp.asarray(boxes)) * weights).sum()

    found = jax.jit(jax.grad(total))(jnp.asarray(features))
    step = np.zeros_like(features)
    step[4, 6, 2] = 1e-3
    moved = [
        sum(
            (reference(features + sign * step, box) * w).sum()
            for box, w in zip(boxes, weights, strict=True)
        )
        for sign in (1, -1)
    ]
    assert found[4, 6, 2] != 0
    np.testing.assert_allclose(found[4, 6, 2], (moved[0] - moved[1]) / 2e-3, rtol=1e-2)
