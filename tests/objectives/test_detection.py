"""What a detector learns from: matching, sampling and losses, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives import detection
from objectives.detection import Sampling
from vl_models.vision import boxes as box_ops
from vl_models.vision.faster_rcnn import REGION_WEIGHTS, Selection

OBJECTS = jnp.float32([[0, 0, 10, 10], [20, 20, 40, 40], [0, 0, 0, 0]])
PRESENT = jnp.asarray([True, True, False])
BOXES = jnp.float32(
    [
        [0, 0, 10, 10],  # the first object
        [0, 0, 10, 5],  # half of it
        [0, 0, 10, 4],  # 0.4 of it
        [60, 60, 70, 70],  # nothing
        [24, 20, 44, 40],  # most of the second: 320 / 480
        [20, 20, 30, 30],  # a quarter of the second
        [0, 0, 0, 0],  # like the padding
    ]
)


def test_matching_by_hand():
    label, index = detection.match(BOXES, OBJECTS, PRESENT, 0.3, 0.7, best_too=False)
    assert label.tolist() == [1, -1, -1, 0, -1, 0, 0]
    assert index[:6].tolist() == [0, 0, 0, 0, 1, 1]
    label, _ = detection.match(BOXES, OBJECTS, PRESENT, 0.3, 0.7, best_too=True)
    assert label.tolist() == [1, -1, -1, 0, 1, 0, 0]  # the best of the second object
    label, _ = detection.match(BOXES, OBJECTS, jnp.zeros(3, bool), 0.3, 0.7, best_too=True)
    assert label.tolist() == [0] * 7  # a picture without objects


@pytest.mark.parametrize(
    ("objects", "background", "expected"),
    [(50, 50, (4, 6)), (2, 50, (2, 8)), (50, 3, (4, 3)), (0, 4, (0, 4))],
)
def test_samples_are_shares_as_far_as_there_are_any(objects, background, expected):
    label = jnp.asarray([1] * objects + [0] * background + [-1] * 7)
    chosen = detection.sample(jax.random.key(0), label, 10, 0.4)
    assert (int((chosen & (label == 1)).sum()), int((chosen & (label == 0)).sum())) == expected
    assert not chosen[label == -1].any()


def test_samples_are_functions_of_the_key_and_fair():
    label = jnp.asarray([1] * 20 + [0] * 20)
    draw = jax.jit(lambda key: detection.sample(key, label, 10, 0.5))
    assert (draw(jax.random.key(3)) == draw(jax.random.key(3))).all()
    counts = sum(np.asarray(draw(jax.random.key(i)), int) for i in range(200))
    assert counts.min() > 25  # 50 are expected of each
    assert counts.max() < 80


def test_anchor_losses_by_hand():
    scores = jnp.float32([2, 0, 0, -1, 1, 0, 0])
    deltas = jnp.zeros((7, 4))
    every = Sampling(anchors=100, anchor_share=1.0, anchor_overlaps=(0.3, 0.7))
    score, box = detection.anchor_losses(
        scores, deltas, BOXES.at[6].set(BOXES[3]), OBJECTS, PRESENT, jax.random.key(0), every
    )
    # Objects: anchors 0 and 4; background: 3, 5 and 6.
    expected = np.log1p(np.exp([-2, -1])).sum() + np.log1p(np.exp([-1, 0, 0])).sum()
    np.testing.assert_allclose(score, expected / 5, rtol=1e-5)
    # Anchor 4 is shifted by a fifth of its width.
    np.testing.assert_allclose(box, 0.2 / 5, rtol=1e-5)


def test_region_losses_by_hand():
    boxes = jnp.float32([[0, 0, 10, 10], [60, 60, 70, 70], [0, 0, 5, 5]])
    label = jnp.asarray([1, 0, -1])
    objects = jnp.float32([[1, 0, 11, 10], [0, 0, 0, 0], [0, 0, 0, 0]])
    logits = jnp.float32([[1, 2, 0], [0, 0, 3], [9, 0, 0]])  # two classes and the background
    deltas = jnp.zeros((3, 2, 4)).at[0, 1].set(jnp.float32([1, 0, 0, 0]))
    attributes = jnp.float32([[0, 0, 1], [5, 0, 0], [5, 0, 0]])
    found = detection.region_losses(
        dict(class_logits=logits, deltas=deltas, attribute_logits=attributes),
        boxes,
        label,
        objects,
        jnp.asarray([1, 0, 0]),
        jnp.asarray([2, 0, 0]),
    )
    logs = np.asarray(jax.nn.log_softmax(logits))
    np.testing.assert_allclose(found["classes"], -(logs[0, 1] + logs[1, 2]) / 2, rtol=1e-5)
    goal = box_ops.encode(objects[:1], boxes[:1], REGION_WEIGHTS)
    np.testing.assert_allclose(goal[0], [1, 0, 0, 0], atol=1e-5)  # a tenth, times ten
    np.testing.assert_allclose(found["boxes"], 0, atol=1e-5)
    own = -np.asarray(jax.nn.log_softmax(attributes[0]))[2]
    np.testing.assert_allclose(found["attributes"], own, rtol=1e-5)
    grads = jax.grad(
        lambda d: detection.region_losses(
            dict(class_logits=logits, deltas=d), boxes, label, objects, label * 0 + 1, label
        )["boxes"]
    )(deltas + 0.5)
    assert jnp.isfinite(grads).all()
    assert grads[0, 1].any()
    assert not grads[1:].any()


def test_regions_are_proposals_and_the_objects_themselves():
    proposals = jnp.float32([[24, 20, 44, 40], [60, 60, 70, 70], [0, 0, 10, 10]])
    valid = jnp.asarray([True, True, False])
    sampling = Sampling(
        regions=6, region_share=1.0, proposals=Selection(proposals=3, least=1, most=3)
    )
    boxes, label, index = detection.sampled_regions(
        proposals, valid, OBJECTS, PRESENT, jax.random.key(0), sampling
    )
    found = zip(boxes.tolist(), label.tolist(), index.tolist(), strict=True)
    rows = {tuple(box): (kind, number) for box, kind, number in found if kind >= 0}
    assert rows[24, 20, 44, 40] == (1, 1)
    assert rows[60, 60, 70, 70][0] == 0
    assert rows[0, 0, 10, 10] == (1, 0)  # the object, not the proposal that is none
    assert rows[20, 20, 40, 40] == (1, 1)
    assert sorted(label.tolist()) == [-1, -1, 0, 1, 1, 1]
