"""Findings of the doctor, and the verdict that follows from them."""

import dataclasses
from collections.abc import Iterable

LEVELS = ("broken", "suspicious", "note")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One observation about region features.

    Attributes:
      level: "broken" (import or training would refuse it, or learn from nonsense), "suspicious"
        (accepted, but unusual for sound features), or "note".
      name: short and stable, for machines.
      text: the evidence, for people.
    """

    level: str
    name: str
    text: str


def verdict(findings: Iterable[Finding]) -> str:
    """ "broken", "suspicious" or "sound": the worst level found."""
    levels = {finding.level for finding in findings}
    return next((level for level in LEVELS[:2] if level in levels), "sound")


def percent(part: float, whole: float) -> str:
    """A share for people; never rounds to 0 or 100 % what is neither."""
    share = 100 * part / whole if whole else 0.0
    digits = 2 if 0 < share < 1 or 99 < share < 100 else 0 if share in (0, 100) else 1
    text = f"{share:.{digits}f}"
    if text == "0.00" and part:
        text = "<0.01"
    if text == "100.00" and part < whole:
        text = ">99.99"
    return f"{text} %"
