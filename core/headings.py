"""What metrics are called for people, and how their values are written."""

import dataclasses
import math
from collections.abc import Mapping

PRIOR = "_prior"  # `<metric>_prior` is what guessing reaches of a metric
NO_LABELS = "no labels"


@dataclasses.dataclass(frozen=True)
class Heading:
    """A metric for people.

    Attributes:
      text: what it is, in words.
      unit: "share", from 0 to 1 and written in percent; "points", of percent; or "" of a plain
        number.
    """

    text: str
    unit: str = ""

    def shown(self, value: float | None) -> str:
        """A value with its unit; None is the value of a metric that no example has a label for."""
        if value is None:
            return NO_LABELS
        if not math.isfinite(value):
            return str(value)
        if self.unit == "share":
            return f"{100 * value:.1f} %"
        return f"{value:.1f} points" if self.unit == "points" else f"{value:.4g}"


def of(name: str, known: Mapping[str, Heading]) -> Heading:
    """The heading of a metric, of its name where nobody gave it one.

    Args:
      name: of the metric.
      known: {metric: heading}.
    """
    if name in known:
        return known[name]
    if name.endswith(PRIOR):
        return of(name.removesuffix(PRIOR), known)
    return Heading(name.replace("_", " "), "share" if name.endswith("accuracy") else "")
