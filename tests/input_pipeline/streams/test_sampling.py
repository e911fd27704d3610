"""The index plan: every example once an epoch, whoever asks, in whatever order."""

import numpy as np
import pytest

from core.errors import DataError
from input_pipeline.streams import sampling


@pytest.mark.parametrize(("n", "batch", "block"), [(10, 4, 0), (7, 16, 0), (23, 5, 4), (1, 3, 0)])
def test_every_example_once_an_epoch(n, batch, block):
    rows = np.concatenate([sampling.draw_rows(3, "s", d, batch, n, block) for d in range(12)])
    for epoch in range(len(rows) // n):
        assert sorted(rows[epoch * n : (epoch + 1) * n]) == list(range(n))
    alone = sampling.draw_rows(3, "s", 9, batch, n, block)
    np.testing.assert_array_equal(alone, rows[9 * batch : 10 * batch])


def test_plan_never_changes():
    """Pinned: a run must go on in the same order with any later version."""
    assert sampling.order(0, "captions", 0, 8).tolist() == PINNED_ORDER
    assert sampling.random_bits(0, "flip", np.arange(3)).tolist() == PINNED_BITS


def test_order_depends_on_each_of_its_arguments():
    orders = [
        sampling.order(*args, 50).tolist()
        for args in ((0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1))
    ]
    assert len({tuple(o) for o in orders}) == 4


def test_blocks_stay_together():
    order = sampling.order(0, "s", 0, 22, 5)
    starts = [i for i in order if i % 5 == 0]
    assert sorted(starts) == [0, 5, 10, 15, 20]
    assert starts != sorted(starts)
    for start in starts:
        at = order.tolist().index(start)
        want = list(range(start, min(start + 5, 22)))
        assert order[at : at + len(want)].tolist() == want


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 12])
def test_hosts_share_a_batch(count):
    parts = [np.arange(12)[sampling.host_slice(12, i, count)] for i in range(count)]
    assert np.concatenate(parts).tolist() == list(range(12))


def test_hosts_must_divide():
    with pytest.raises(DataError, match="5 hosts divide"):
        sampling.host_slice(12, 0, 5)
    with pytest.raises(DataError, match="no such host"):
        sampling.host_slice(12, 2, 2)


def test_mixture_proportions_and_positions():
    weights, positions = (3.0, 1.0, 0.5), np.arange(2 * sampling.CYCLE + 777)
    source, within = sampling.mixture(1, "s", positions, weights)
    first = np.bincount(source[: sampling.CYCLE])
    assert first.tolist() == [6667, 2222, 1111]
    for s in range(3):
        assert within[source == s].tolist() == list(range((source == s).sum()))
    share = np.bincount(source[:450]) / 450  # mixed throughout, not one after the other
    np.testing.assert_allclose(share, np.asarray(weights) / 4.5, atol=0.08)
    at = np.asarray([12_345, 20, 10_000])
    some = sampling.mixture(1, "s", at, weights)
    np.testing.assert_array_equal(some[0], source[at])
    np.testing.assert_array_equal(some[1], within[at])


@pytest.mark.parametrize("weights", [(1.0, 0.0), (1.0, -2.0), (1.0, 1e-9), (float("nan"), 1.0)])
def test_bad_weights(weights):
    with pytest.raises(DataError, match="weight"):
        sampling.shares(weights)


def test_other_image_rows_are_uniform_over_other_images():
    rows = np.asarray([2, 3, 5, 6, 7, 9])
    image = np.asarray([40, 40, 10, 10, 10, 20])
    groups = sampling.Groups(rows, image)
    own = dict(zip(rows.tolist(), image.tolist(), strict=True))
    counters = np.arange(6000)
    for row in rows:
        got = sampling.other_image_rows(0, "s", counters, np.full(6000, row), groups)
        names, counts = np.unique(got, return_counts=True)
        assert names.tolist() == [r for r in rows.tolist() if own[r] != own[row]]
        np.testing.assert_allclose(counts, 6000 / len(names), rtol=0.12)


def test_foreign_rows_are_uniform_over_a_list():
    lists = np.asarray([[7, 3, 9], [4, -1, -1], [8, 2, -1]])
    for one in lists:
        got = sampling.foreign_rows(0, "s", np.arange(6000), np.tile(one, (6000, 1)))
        names, counts = np.unique(got, return_counts=True)
        assert names.tolist() == sorted(one[one >= 0])
        np.testing.assert_allclose(counts, 6000 / len(names), rtol=0.06)


@pytest.mark.parametrize("n", [2, 3, 50])
def test_derangement(n):
    other = sampling.derangement(4, n)
    assert sorted(other) == list(range(n))
    assert (other != np.arange(n)).all()
    np.testing.assert_array_equal(other, sampling.derangement(4, n))


def test_single_image_has_no_other():
    with pytest.raises(DataError, match="at least 2"):
        sampling.derangement(0, 1)


def test_random_bits_are_even():
    bits = sampling.random_bits(3, "flip", np.arange(20_000))
    assert abs((bits % 2).mean() - 0.5) < 0.015
    assert len(np.unique(bits)) == 20_000
    with pytest.raises(DataError, match="seed"):
        sampling.random_bits(-1, "flip", np.arange(2))


PINNED_ORDER = [7, 4, 6, 1, 5, 3, 0, 2]
PINNED_BITS = [2311856422112029023, 774442277063298420, 4885982794645073848]
