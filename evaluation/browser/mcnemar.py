"""McNemar's test: whether two models that answered the same questions are equally often right.

Only questions on which they differ tell (McNemar, Psychometrika 12, 1947). If both are as good,
each of these is a fair coin.
"""

import dataclasses
import math
from collections.abc import Iterable

EXACT = 1000  # questions on which they differ, up to which the binomial is summed


@dataclasses.dataclass(frozen=True)
class McNemar:
    """Counts and what they say.

    Attributes:
      both, first, second, neither: questions that both, only the first, only the second and
        neither of the two models got right.
      p: two-sided; 1 where they never differ.
      method: how it was calculated.
    """

    both: int
    first: int
    second: int
    neither: int
    p: float
    method: str


def test(pairs: Iterable[tuple[bool, bool]]) -> McNemar:
    """The test of (first is right, second is right) of each question.

    Up to 1,000 differences p is exact: twice the binomial's smaller tail, at most 1. Beyond, it is
    that of χ² = (|b − c| − 1)² / (b + c) with one degree of freedom.
    """
    counts = {(a, b): 0 for a in (True, False) for b in (True, False)}
    for a, b in pairs:
        counts[bool(a), bool(b)] += 1
    first, second = counts[True, False], counts[False, True]
    p, method = _p(first, second)
    return McNemar(counts[True, True], first, second, counts[False, False], p, method)


def _p(first: int, second: int) -> tuple[float, str]:
    n = first + second
    if n <= EXACT:
        tail = sum(math.comb(n, k) for k in range(min(first, second) + 1))
        return min(1.0, 2 * tail / 2**n), "exact binomial"
    statistic = (abs(first - second) - 1) ** 2 / n
    return math.erfc(math.sqrt(statistic / 2)), "χ² with continuity correction"
