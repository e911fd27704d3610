"""Anchors, and deltas between boxes."""

import jax.numpy as jnp
import numpy as np

from vl_models.vision import boxes as box_ops


def test_anchors_have_the_areas_and_ratios_asked_for():
    cell = box_ops.cell_anchors([16, 64], [0.5, 1, 2])
    sides = cell[:, 2:] - cell[:, :2]
    np.testing.assert_allclose(sides.prod(1), [256] * 3 + [4096] * 3, rtol=1e-6)
    np.testing.assert_allclose(sides[:, 1] / sides[:, 0], [0.5, 1, 2] * 2, rtol=1e-6)
    grid = box_ops.grid_anchors(cell, 2, 3, 16)
    assert grid.shape == (36, 4)
    np.testing.assert_allclose(grid[6:12], cell + np.float32([16, 0, 16, 0]))  # the second column
    np.testing.assert_allclose(grid[18:24], cell + np.float32([0, 16, 0, 16]))  # the second row


def test_decode_undoes_encode():
    boxes = jnp.float32([[0, 0, 10, 20], [5, 5, 50, 9]])
    targets = jnp.float32([[3, 1, 30, 8], [0, 0, 60, 60]])
    weights = (10.0, 10.0, 5.0, 5.0)
    deltas = box_ops.encode(targets, boxes, weights)
    np.testing.assert_allclose(box_ops.decode(deltas, boxes, weights), targets, atol=1e-4)
    # By hand: the centre of the first goes from (5, 10) to (16.5, 4.5).
    np.testing.assert_allclose(deltas[0, :2], [11.5, -2.75], rtol=1e-6)
    np.testing.assert_allclose(deltas[0, 2:], 5 * np.log([2.7, 0.35]), rtol=1e-6)


def test_no_box_grows_beyond_bounds():
    found = box_ops.decode(jnp.float32([[0, 0, 90, 90]]), jnp.float32([[0, 0, 16, 16]]))
    np.testing.assert_allclose(found, [[8 - 500, 8 - 500, 8 + 500, 8 + 500]], rtol=1e-5)


def test_clipped_empty_and_overlapping():
    boxes = jnp.float32([[-5, 2, 30, 9], [12, 0, 40, 9], [0, 0, 8, 8]])
    clipped = box_ops.clip(boxes, jnp.float32([10, 12]))
    np.testing.assert_array_equal(clipped, [[0, 2, 12, 9], [12, 0, 12, 9], [0, 0, 8, 8]])
    assert box_ops.nonempty(clipped).tolist() == [True, False, True]
    found = box_ops.overlaps(clipped, clipped[1:])
    np.testing.assert_allclose(found[:, 0], [0, 0, 0])
    np.testing.assert_allclose(found[:, 1], [48 / (84 + 64 - 48), 0, 1], rtol=1e-6)
