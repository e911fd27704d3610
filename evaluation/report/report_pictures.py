"""A picture of a report with labelled boxes, as inline SVG.

A kind of box has a colour of the Okabe-Ito palette, which colour-blind readers tell apart, and a
line pattern, which tells without colours. A white line under each shows it on any picture.
"""

import base64
import dataclasses
import html
import io
import itertools
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from PIL import Image, ImageOps

# A box: (x1, y1, x2, y2) in original pixels, label (may be empty), one of KINDS.
Box = tuple[Sequence[float], str, str]

SIDE = 480  # longer side of a picture: pixels of the data, and units of the drawing
_FONT, _TAG, _PAD = 17, 23, 5  # units: letters, height of a label, its margin
_ASPECT = 0.02  # by how much of it a picture's aspect may differ from that of its stored size


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
_MENTIONED = (KINDS["mentioned"].colour, "#56b4e9", "#f0e442", "#009e73")


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


def escape(text: object) -> str:
    """Text for HTML: markup becomes letters; what no HTML file may hold becomes �."""
    text = re.sub("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", str(text))
    return html.escape(text)


def draw(picture: Picture) -> tuple[str, str]:
    """Draws a picture.

    Returns:
      (the SVG element, what is wrong with the picture or "").

    Raises:
      ValueError: a size that is no picture's, a box of an unknown kind or without four numbers.
    """
    _check(picture)
    scale = SIDE / max(picture.size)
    height, width = (max(side * scale, 1.0) for side in picture.size)
    problem, uri = "", None
    if picture.data is None:
        problem = "no picture"
    else:
        try:
            uri, problem = _data_uri(picture.data, picture.size)
        # Pillow's errors, of damaged files too.
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            problem = "the picture cannot be read"
    kinds = list(KINDS)
    boxes = sorted(picture.boxes, key=lambda box: kinds.index(box[2]))
    placed = [
        (_clip(xyxy, scale, width, height), label, kind, colour)
        for (xyxy, label, kind), colour in zip(boxes, _colours(boxes), strict=True)
    ]
    labels = "; ".join(f"{KINDS[kind].meaning} {label}".strip() for _, label, kind in boxes)
    name = f"{picture.name or 'picture'}: {labels or 'no boxes'}"
    parts = [
        f'<svg viewBox="0 0 {width:.1f} {height:.1f}" role="img" aria-label="{escape(name)}">',
        '<rect class="frame" width="100%" height="100%"/>',
    ]
    if uri:
        parts.append(
            f'<image href="{uri}" width="{width:.1f}" height="{height:.1f}" '
            'preserveAspectRatio="none"/>'
        )
    parts += [_rectangle(box, "#ffffff", 5.5, "", "") for box, *_ in placed]
    parts += [
        _rectangle(box, colour, 3, KINDS[kind].dashes, f"{KINDS[kind].meaning} {label}")
        for box, label, kind, colour in placed
    ]
    # The labels of what counts most find room first.
    parts += _tags(placed[::-1], width, height)
    return "".join([*parts, "</svg>"]), problem


def legend(kinds: Sequence[str]) -> str:
    """The meaning of line patterns, for kinds that occur."""
    items = []
    for kind, style in reversed(KINDS.items()):
        if kind in kinds:
            line = _rectangle((3, 3, 33, 15), "#ffffff", 5.5, "", "")
            line += _rectangle((3, 3, 33, 15), style.colour, 3, style.dashes, "")
            items.append(
                f'<li><svg class="key" viewBox="0 0 36 18" aria-hidden="true">{line}</svg> '
                f"{escape(style.meaning)}</li>"
            )
    return f'<ul class="legend">{"".join(items)}</ul>' if items else ""


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
    mentioned = itertools.cycle(_MENTIONED)
    for _, _, kind in boxes:
        yield next(mentioned) if kind == "mentioned" else KINDS[kind].colour


def _data_uri(data: bytes, size: tuple[int, int]) -> tuple[str, str]:
    """A picture scaled down, and how it disagrees with the stored size ("" if it does not)."""
    height, width = size
    with Image.open(io.BytesIO(data)) as file:
        drawn = file.format == "PNG" and max(file.size) <= SIDE  # sharp edges, which JPEG blurs
        original = file.size
        turned = file.getexif().get(0x0112, 1) >= 5  # EXIF orientations 5 to 8
        upright = original[::-1] if turned else original
        # A detector either turned the file as EXIF says or it did not: its size tells which.
        if _differ(upright, (width, height)) and not _differ(original, (width, height)):
            upright, turn = original, False
        else:
            turn = True
        file.thumbnail((SIDE, SIDE))
        small = (ImageOps.exif_transpose(file) if turn else file).convert("RGB")
    out = io.BytesIO()
    if drawn:
        small.save(out, "PNG", optimize=True)
    else:
        small.save(out, "JPEG", quality=80)
    problem = ""
    if _differ(upright, (width, height)):
        problem = (
            f"the picture is {upright[0]}×{upright[1]}, its boxes are of {width}×{height}: "
            "another picture?"
        )
    kind = "png" if drawn else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}", problem


def _differ(found: tuple[int, int], stored: tuple[int, int]) -> bool:
    """Whether two (width, height) are more than scaled and rounded."""
    ratio = found[0] * stored[1] / (found[1] * stored[0])
    rounded = 1 / min(*found, *stored)
    return abs(math.log(ratio)) > _ASPECT + rounded


def _clip(xyxy: Sequence[float], scale: float, width: float, height: float) -> tuple[float, ...]:
    """A box in units of the drawing; its lines stay inside the picture, so that all are seen."""
    (x1, x2), (y1, y2) = sorted((xyxy[0], xyxy[2])), sorted((xyxy[1], xyxy[3]))
    limits = ((x1, width), (y1, height), (x2, width), (y2, height))
    return tuple(min(max(number * scale, 1.5), side - 1.5) for number, side in limits)


def _rectangle(box: Sequence[float], colour: str, line: float, dashes: str, title: str) -> str:
    x1, y1, x2, y2 = box
    shape = (
        f'<rect x="{x1:.1f}" y="{y1:.1f}" width="{max(x2 - x1, 1):.1f}" '
        f'height="{max(y2 - y1, 1):.1f}" fill="none" stroke="{colour}" stroke-width="{line}"'
    )
    if dashes:
        shape += f' stroke-dasharray="{dashes}"'
    title = title.strip()
    return f"{shape}><title>{escape(title)}</title></rect>" if title else f"{shape}/>"


def _tags(placed: Sequence[tuple], width: float, height: float) -> Iterator[str]:
    """Labels beside their boxes, none on another; one without room stays in its box's tooltip."""
    taken: list[tuple[float, float, float, float]] = []
    for box, label, kind, colour in placed:
        text, wide = _fit(label, width)
        if not text:
            continue
        spot = next(
            (
                (x, y)
                for x, y in _spots(box, wide, width, height)
                if not any(
                    x < t[2] and t[0] < x + wide and y < t[3] and t[1] < y + _TAG for t in taken
                )
            ),
            None,
        )
        if spot is None:
            continue
        x, y = spot
        taken.append((x, y, x + wide, y + _TAG))
        yield (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{_TAG}" rx="3" '
            f'fill="{colour}" stroke="#ffffff"/>'
            f'<text x="{x + _PAD:.1f}" y="{y + _FONT:.1f}" font-size="{_FONT}" '
            f'fill="{KINDS[kind].letters}" textLength="{wide - 2 * _PAD:.1f}" '
            f'lengthAdjust="spacingAndGlyphs">{escape(text)}</text>'
        )


def _spots(box, wide: float, width: float, height: float) -> Iterator[tuple[float, float]]:
    """Where a label may go, best first: outside its box, inside, then anywhere."""
    x1, y1, x2, y2 = box
    left, right = min(x1, width - wide), max(x2 - wide, 0.0)
    lowest = height - _TAG
    for y in (y1 - _TAG, y2, y1, y2 - _TAG):
        if 0 <= y <= lowest:
            yield from ((left, y), (right, y))
    for x in (left, right, 0.0, width - wide):
        for row in range(int(height // _TAG)):
            yield x, (min(max(y1, 0.0), lowest) + row * _TAG) % max(lowest, 1.0)


def _fit(label: str, width: float) -> tuple[str, float]:
    """A label cut to what fits in a picture, and how wide its tag is."""
    text = " ".join(label.split())
    if _length(text) + 2 * _PAD > width:
        while text and _length(f"{text}…") + 2 * _PAD > width:
            text = text[:-1]
        text = text and f"{text.rstrip()}…"
    return text, _length(text) + 2 * _PAD


def _length(text: str) -> float:
    """Units that text takes, about: no browser is there to ask."""
    return _FONT * sum(_em(letter) for letter in text)


def _em(letter: str) -> float:
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.0
    if unicodedata.combining(letter):
        return 0.0
    if letter in "iljtfrI.,:;'|!()[] ":
        return 0.33
    if letter in "mwMW%@":
        return 0.9
    return 0.67 if letter.isupper() else 0.56
