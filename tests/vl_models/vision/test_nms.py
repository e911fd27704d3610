"""Non-maximum suppression against the greedy algorithm in plain Python, ties included."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vl_models.vision import nms as nms_module
from vl_models.vision.nms import nms

SIZE = 60


def greedy(boxes, scores, threshold, limit, valid=None):
    """Numbers of the boxes kept: compared in double precision, sums in single as the boxes are."""
    order = np.argsort(-scores, kind="stable")
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left = [i for i in order if valid is None or valid[i]]
    kept = []
    while left and len(kept) < limit:
        best, *left = left
        kept.append(best)
        survivors = []
        for i in left:
            low, high = (
                np.maximum(boxes[best, :2], boxes[i, :2]),
                np.minimum(boxes[best, 2:], boxes[i, 2:]),
            )
            width, height = np.maximum(high - low, np.float32(0))
            common = width * height
            union = area[best] + area[i] - common
            overlap = common / union if union else np.float32(0)
            if not float(overlap) > threshold:
                survivors.append(i)
        left = survivors
    return kept


@functools.cache
def compiled(threshold, limit):
    return jax.jit(lambda boxes, scores, valid: nms(boxes, scores, threshold, limit, valid))


def check(boxes, scores, threshold, limit, valid=None):
    given = np.ones(len(boxes), bool) if valid is None else valid
    index, kept = compiled(threshold, limit)(*map(jnp.asarray, (boxes, scores, given)))
    expected = greedy(boxes, scores, threshold, limit, valid)
    assert np.asarray(index)[np.asarray(kept)].tolist() == expected
    assert np.asarray(kept).tolist() == [i < len(expected) for i in range(limit)]
    assert not np.asarray(index)[~np.asarray(kept)].any()
    return expected


def made(seed, whole):
    """Boxes and scores; `whole`: of few whole numbers, so that boxes, overlaps and scores tie."""
    rs = np.random.RandomState(seed)
    low = rs.uniform(0, 8, (SIZE, 2)) + 40 * rs.randint(0, 3, (SIZE, 2))
    boxes = np.concatenate([low, low + rs.uniform(9, 25, (SIZE, 2))], 1)
    scores = rs.standard_normal(SIZE)
    if whole:
        boxes, scores = np.round(boxes / 4) * 4, np.round(scores)
    return boxes.astype(np.float32), scores.astype(np.float32)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_keeps_what_the_greedy_algorithm_keeps(whole, threshold):
    for seed in range(8):
        kept = check(*made(seed, whole), threshold, SIZE)
        assert 1 < len(kept) < SIZE


def test_limit_and_boxes_that_take_no_part():
    boxes, scores = made(0, True)
    valid = np.random.RandomState(1).rand(SIZE) < 0.4
    assert set(check(boxes, scores, 0.5, 5, valid)) <= set(np.flatnonzero(valid))
    assert check(boxes, scores, 0.5, SIZE, np.zeros(SIZE, bool)) == []


def test_the_first_of_equals_wins_and_empty_boxes_stay():
    box = [0, 0, 10, 10]
    boxes = np.float32([[5, 5, 5, 5], box, box, [5, 5, 5, 5], [0, 0, 10, 5]] + [box] * 55)
    scores = np.zeros(SIZE, np.float32)
    # The last is half of the second: exactly the threshold, which is not above it.
    assert check(boxes, scores, 0.5, SIZE) == [0, 1, 3, 4]


def test_a_threshold_is_compared_as_the_number_it_is():
    # 3 / 10 in single precision is above 0.3, as the next number in double precision is.
    assert float(np.float32(3) / np.float32(10)) > 0.3
    boxes = np.float32([[0, 0, 10, 1], [0, 0, 3, 1], [20, 0, 30, 1]] + [[0, 0, 10, 1]] * 57)
    assert check(boxes, -np.arange(SIZE, dtype=np.float32), 0.3, SIZE) == [0, 2]
    assert float(nms_module.single_precision(0.3)) < 0.3
    assert nms_module.single_precision(0.5) == 0.5


def test_a_batch_is_pictures_by_themselves():
    both = [made(seed, True) for seed in (3, 4)]
    boxes, scores = (jnp.stack([jnp.asarray(x) for x in pair]) for pair in zip(*both, strict=True))
    index, kept = jax.jit(jax.vmap(lambda b, s: nms(b, s, 0.5, SIZE)))(boxes, scores)
    for row, (b, s) in enumerate(both):
        found = np.asarray(index[row])[np.asarray(kept[row])].tolist()
        assert found == greedy(b, s, 0.5, SIZE)
