"""A picture of a report with labelled boxes, as inline SVG.

A kind of box has a colour of the Okabe-Ito palette, which colour-blind readers tell apart, and a
line pattern, which tells without colours.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from core.errors import DataError
from evaluation.report import label_layout, thumbnails
from evaluation.report.render import render

# A box: (x1, y1, x2, y2) in original pixels, label (may be empty), one of KINDS.
Box = tuple[Sequence[float], str, str]

MISSING, UNREADABLE = "no picture", "the picture cannot be read"


@dataclasses.dataclass(frozen=True)
class Style:
    """How a kind of box is drawn: colour, colour of its label's letters, dashes, its meaning."""

    colour: str
    letters: str
    dashes: str
    meaning: str


# In the order they are drawn: a dashed box that lies on a solid one shows both.
KINDS: Mapping[str, Style] = {
    "other": Style("#595959", "#ffffff", "2 3", "another candidate"),
    "mentioned": Style("#cc79a7", "#000000", "6 4", "object named in the text, each in its colour"),
    "true": Style("#0072b2", "#ffffff", "", "true box"),
    "predicted": Style("#d55e00", "#000000", "11 7", "predicted box"),
}
# Further objects of a picture that texts name; after these, from the start.
MENTIONED = (KINDS["mentioned"].colour, "#56b4e9", "#f0e442", "#009e73")


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture of a card.

    Attributes:
      size: (height, width) of the original in pixels, which boxes refer to.
      data: the file's bytes (JPEG, PNG, WebP); None draws an empty frame.
      boxes: what is drawn on it.
      name: what to call it, such as its image id.
    """

    size: tuple[int, int]
    data: bytes | None = None
    boxes: Sequence[Box] = ()
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A picture drawn: the SVG element, the picture's name, what is wrong with it or ""."""

    svg: Markup
    name: str
    problem: str


@dataclasses.dataclass(frozen=True)
class _DrawnBox:
    """A box in units of the drawing."""

    xyxy: label_layout.Rectangle
    label: str
    style: Style
    colour: str

    @property
    def title(self) -> str:
        return f"{self.style.meaning} {self.label}".strip()


@dataclasses.dataclass(frozen=True)
class _DrawnLabel:
    box: _DrawnBox
    text: str
    x: float
    y: float
    width: float


def draw(picture: Picture) -> Drawing:
    """Draws a picture.

    Raises:
      ValueError: a size that is no picture's, a box of an unknown kind or without four numbers.
    """
    _check(picture)
    scale = thumbnails.SIDE / max(picture.size)
    height, width = (max(side * scale, 1.0) for side in picture.size)
    uri, problem = _thumbnail(picture)
    kinds = list(KINDS)
    ordered = sorted(picture.boxes, key=lambda box: kinds.index(box[2]))
    boxes = [
        _DrawnBox(_clip(xyxy, scale, width, height), label, KINDS[kind], colour)
        for (xyxy, label, kind), colour in zip(ordered, _colours(ordered), strict=True)
    ]
    by_importance = boxes[::-1]  # predicted and true boxes find room for their labels first
    labels = [
        _DrawnLabel(by_importance[number], text, x, y, wide)
        for number, text, x, y, wide in label_layout.place(
            [(box.xyxy, box.label) for box in by_importance], width, height
        )
    ]
    svg = render(
        "drawing.svg",
        width=width,
        height=height,
        uri=uri,
        boxes=boxes,
        labels=labels,
        layout=label_layout,
        description=f"{picture.name or 'picture'}: "
        + ("; ".join(box.title for box in boxes) or "no boxes"),
    )
    return Drawing(svg, picture.name, problem)


def _thumbnail(picture: Picture) -> tuple[str, str]:
    """(data: URI, what is wrong with the picture), each "" where there is none."""
    if picture.data is None:
        return "", MISSING
    try:
        return thumbnails.data_uri(picture.data, picture.size)
    except DataError:
        return "", UNREADABLE


def _check(picture: Picture) -> None:
    size = picture.size
    if len(size) != 2 or not all(math.isfinite(side) and side >= 1 for side in size):
        raise ValueError(f"picture {picture.name!r}: size is (height, width) >= 1, found {size}")
    for xyxy, label, kind in picture.boxes:
        if kind not in KINDS:
            raise ValueError(
                f"picture {picture.name!r}: the kind of box {label!r} is one of {list(KINDS)}, "
                f"found {kind!r}"
            )
        if len(xyxy) != 4 or not all(math.isfinite(number) for number in xyxy):
            raise ValueError(
                f"picture {picture.name!r}: box {label!r} is four numbers x1, y1, x2, y2, "
                f"found {list(xyxy)}"
            )


def _colours(boxes: Sequence[Box]) -> Iterator[str]:
    """A colour for each box: of its kind, or of its own for an object that texts name."""
    mentioned = itertools.cycle(MENTIONED)
    for _, _, kind in boxes:
        yield next(mentioned) if kind == "mentioned" else KINDS[kind].colour


def _clip(
    xyxy: Sequence[float], scale: float, width: float, height: float
) -> label_layout.Rectangle:
    """A box in units of the drawing; its lines stay inside the picture, so that all are seen."""
    (left, right), (top, bottom) = sorted((xyxy[0], xyxy[2])), sorted((xyxy[1], xyxy[3]))

    def inside(number: float, side: float) -> float:
        return min(max(number * scale, 1.5), side - 1.5)

    return (
        inside(left, width),
        inside(top, height),
        inside(right, width),
        inside(bottom, height),
    )
