"""The page a researcher opens first: predictions as cards, in one HTML file.

A page has a title, figures, and a grid of cards. A card shows pictures with their boxes, texts, and
whether the prediction is right. It may hold several pictures (a statement about two), so a card has
`pictures`, each with its own boxes in the pixels of its own original:

  card = Card(
      "question 139000",
      lines=[("question", "What is it?"), ("predicted", "a dog 62%"), ("true", "a cat")],
      pictures=[Picture((480, 640), data, [((10, 20, 200, 300), "a dog", "predicted")])],
      right=False,
  )
  write("report/index.html", "VQA", {"accuracy": "61.2%"}, [card])

The file refers to nothing outside it and runs no scripts: cards are filtered by the style sheet.
"""

import collections
import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence

from core.progress import atomic_file
from evaluation.report import report_pictures
from evaluation.report.details import Details
from evaluation.report.render import render
from evaluation.report.report_pictures import KINDS, Box, Picture

__all__ = ["KINDS", "Box", "Card", "Picture", "write"]


@dataclasses.dataclass(frozen=True)
class Card:
    """One example.

    Attributes:
      title: names the example, such as its text_id.
      lines: (name, text), in order.
      pictures: none, one or several.
      right: whether the prediction is right; None where the truth is unknown.
    """

    title: str
    lines: Sequence[tuple[str, str]] = ()
    pictures: Sequence[Picture] = ()
    right: bool | None = None


@dataclasses.dataclass(frozen=True)
class _Verdict:
    """A card's class in the style sheet, and what people read."""

    css_class: str
    label: str


@dataclasses.dataclass(frozen=True)
class _Filter(_Verdict):
    """A button that shows the cards of one class alone."""

    count: int


@dataclasses.dataclass(frozen=True)
class _PictureCounts:
    """How many pictures there are, and how many are not what they should be."""

    total: int
    missing: int
    unreadable: int
    mismatched: int


_VERDICTS: Mapping[bool | None, _Verdict] = {
    True: _Verdict("right", "✓ right"),
    False: _Verdict("wrong", "✗ wrong"),
    None: _Verdict("unknown", "truth unknown"),
}


def write(
    path: str | os.PathLike[str],
    title: str,
    figures: Mapping[str, object],
    cards: Iterable[Card],
    details: Details | None = None,
) -> None:
    """Writes the page, whole or not at all.

    Args:
      path: of the file; its folder is made.
      title: of the run.
      figures: name → value, shown at the top; floats with four significant digits.
      cards: in order; may be made one by one.
      details: metrics, the curve, the command and its settings, where a run has them.

    Raises:
      ValueError: what `report_pictures.draw` says of a picture.
    """
    counts: collections.Counter[bool | None] = collections.Counter()
    kinds: set[str] = set()
    shown = []
    for card in cards:
        counts[card.right] += 1
        kinds.update(kind for picture in card.pictures for _, _, kind in picture.boxes)
        drawings = [report_pictures.draw(picture) for picture in card.pictures]
        shown.append((card, _VERDICTS[card.right], drawings))
    page = render(
        "page.html",
        title=title,
        figures=figures,
        details=details or Details(),
        pictures=_count_problems(one.problem for _, _, drawings in shown for one in drawings),
        kinds=[style for kind, style in reversed(KINDS.items()) if kind in kinds],
        filters=_filters(counts),
        cards=shown,
    )
    with (
        atomic_file(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        file.write(page)


def _count_problems(problems: Iterable[str]) -> _PictureCounts:
    counts = collections.Counter(problems)
    missing, unreadable = counts[report_pictures.MISSING], counts[report_pictures.UNREADABLE]
    total = counts.total()
    return _PictureCounts(total, missing, unreadable, total - counts[""] - missing - unreadable)


def _filters(counts: Mapping[bool | None, int]) -> list[_Filter]:
    """The buttons, where the truth of any card is known."""
    if not counts[True] + counts[False]:
        return []
    found = [
        _Filter(verdict.css_class, verdict.label, counts[right])
        for right, verdict in _VERDICTS.items()
        if right is not None or counts[right]
    ]
    return [_Filter("all", "all", sum(counts.values())), *found]
