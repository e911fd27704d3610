"""McNemar's test against numbers worked out by hand."""

import math

import pytest

from evaluation.browser import mcnemar


def pairs(both, first, second, neither):
    return (
        [(True, True)] * both + [(True, False)] * first
        + [(False, True)] * second + [(False, False)] * neither
    )  # fmt: skip


def test_small_counts_are_exact():
    found = mcnemar.test(pairs(30, 2, 8, 5))
    assert (found.both, found.first, found.second, found.neither) == (30, 2, 8, 5)
    assert found.p == 2 * (1 + 10 + 45) / 1024
    assert found.method == "exact binomial"
    assert mcnemar.test(pairs(0, 8, 2, 0)).p == found.p
    assert mcnemar.test(pairs(1, 0, 1, 1)).p == 1


def test_nothing_differs_or_nothing_is_there():
    assert mcnemar.test(pairs(5, 0, 0, 5)).p == 1
    assert mcnemar.test([]).p == 1
    assert mcnemar.test(pairs(0, 3, 3, 0)).p == 1  # twice the tail would be above


def test_many_are_by_chi_squared():
    found = mcnemar.test(pairs(9, 700, 600, 9))
    # (100 - 1)² / 1300 = 7.539; the normal distribution beyond 2.7458, both sides.
    assert found.p == pytest.approx(0.006036, rel=1e-3)
    assert found.method.startswith("χ²")
    assert mcnemar.test(pairs(0, 550, 450, 0)).method == "exact binomial"
    # Both ways agree where they meet.
    exact, _ = mcnemar._p(545, 455)
    chi = math.erfc(math.sqrt((90 - 1) ** 2 / 1000 / 2))
    assert exact == pytest.approx(chi, rel=0.02)
