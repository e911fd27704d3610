"""What stands above a report's cards: metrics in words, the curve, the command and its settings."""

import dataclasses
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from core import headings
from core.headings import PRIOR, Heading

_HIDDEN = ("filled",)  # says how the data was packed, not what was learned


@dataclasses.dataclass(frozen=True)
class Row:
    """A metric: what it is in words, its name, and values with their units, "" for none."""

    text: str
    name: str
    before: str
    value: str
    prior: str


@dataclasses.dataclass(frozen=True)
class Section:
    """The metrics of one evaluation."""

    title: str
    rows: Sequence[Row]


@dataclasses.dataclass(frozen=True)
class Details:
    """What a page tells beside its cards.

    Attributes:
      sections: metrics, one per evaluation.
      notes: sentences.
      curve: PNG of the run's curves, None without.
      command: that made the page.
      settings: of the run, JSON.
    """

    sections: Sequence[Section] = ()
    notes: Sequence[str] = ()
    curve: bytes | None = None
    command: str = ""
    settings: str = ""

    @property
    def trained(self) -> bool:
        """Whether values before training are known."""
        return any(row.before for section in self.sections for row in section.rows)

    @property
    def guessed(self) -> bool:
        """Whether any metric has a prior."""
        return any(row.prior for section in self.sections for row in section.rows)


@dataclasses.dataclass(frozen=True)
class Measured:
    """Metrics and what is known of them.

    Attributes:
      values: {"evals/<evaluator>/<metric>": value}, None where no example has a label.
      before: the same before training, {} where that is not known.
      known: {the same name: heading}.
      splits: {evaluator: {"split", "examples"}}.
      notes: sentences about them.
      curve: PNG of the run's curves, None without.
    """

    values: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    before: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    known: Mapping[str, Heading] = dataclasses.field(default_factory=dict)
    splits: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()
    curve: bytes | None = None


def of(measured: Measured, config: ConfigDict) -> Details:
    """Metrics in words, with the command of this process and the settings of the run."""
    return Details(
        sections=_sections(measured),
        notes=measured.notes,
        curve=measured.curve,
        command=shlex.join(["python", *sys.argv]),
        settings=json.dumps(config.to_dict(), indent=2, default=str, ensure_ascii=False),
    )


def _sections(measured: Measured) -> list[Section]:
    rows: dict[str, list[Row]] = {}
    for name, value in measured.values.items():
        evaluator, metric = name.removeprefix("evals/").split("/", 1)
        if metric in _HIDDEN or metric.endswith(PRIOR):
            continue
        heading, prior = headings.of(name, measured.known), f"{name}{PRIOR}"
        if name not in measured.known:
            heading = headings.of(metric, {})
        rows.setdefault(evaluator, []).append(
            Row(
                text=heading.text,
                name=metric,
                before=heading.shown(measured.before[name]) if name in measured.before else "",
                value=heading.shown(value),
                prior=heading.shown(measured.values[prior]) if prior in measured.values else "",
            )
        )
    return [Section(_title(name, measured.splits), found) for name, found in rows.items()]


def _title(evaluator: str, splits: Mapping[str, Mapping[str, Any]]) -> str:
    """Such as "validation: split minival, 3,000 examples"."""
    if evaluator not in splits:
        return evaluator
    of = splits[evaluator]
    return f"{evaluator}: split {of['split']}, {of['examples']:,} examples"
