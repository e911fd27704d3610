"""Where the labels of boxes go on a picture: beside their boxes, none on another.

All lengths are units of the drawing.
"""

import itertools
import unicodedata
from collections.abc import Iterator, Sequence

Rectangle = tuple[float, float, float, float]  # x1, y1, x2, y2

FONT, HEIGHT, MARGIN = 17, 23, 5  # letters, height of a label, margin at its sides
_MOST = 500  # characters of a label that are looked at; no picture has room for more


def place(
    boxes: Sequence[tuple[Rectangle, str]], width: float, height: float
) -> list[tuple[int, str, float, float, float]]:
    """Places labels, the first ones first; one without room is left out.

    Args:
      boxes: (box, label) in the order in which they find room.
      width, height: of the picture.

    Returns:
      (number of the box, its label cut to fit, x, y, width) of each label that has room.
    """
    taken: list[Rectangle] = []
    placed = []
    for number, (box, label) in enumerate(boxes):
        text, wide = fit(label, width)
        if not text:
            continue
        for x, y in _spots(box, wide, width, height):
            if not any(
                x < t[2] and t[0] < x + wide and y < t[3] and t[1] < y + HEIGHT for t in taken
            ):
                taken.append((x, y, x + wide, y + HEIGHT))
                placed.append((number, text, x, y, wide))
                break
    return placed


def fit(label: str, width: float) -> tuple[str, float]:
    """A label cut to what fits in a picture, and how wide it is with its margins."""
    text = " ".join(label[:_MOST].split())
    room = width - 2 * MARGIN
    if len(label) <= _MOST and _length(text) <= room:
        return text, _length(text) + 2 * MARGIN
    # Where the text is longer than the room that the sign of the cut leaves.
    ends = itertools.accumulate(map(_length, text))
    left = room - _length("…")
    count = next((number for number, end in enumerate(ends) if end > left), len(text))
    text = f"{text[:count].rstrip()}…" if count else ""
    return text, _length(text) + 2 * MARGIN


def _spots(
    box: Rectangle, wide: float, width: float, height: float
) -> Iterator[tuple[float, float]]:
    """(x, y) where a label may go, best first: outside its box, inside, then anywhere."""
    x1, y1, x2, y2 = box
    left, right = min(x1, width - wide), max(x2 - wide, 0.0)
    lowest = height - HEIGHT
    for y in (y1 - HEIGHT, y2, y1, y2 - HEIGHT):
        if 0 <= y <= lowest:
            yield from ((left, y), (right, y))
    for x in (left, right, 0.0, width - wide):
        for row in range(int(height // HEIGHT)):
            yield x, (min(max(y1, 0.0), lowest) + row * HEIGHT) % max(lowest, 1.0)


def _length(text: str) -> float:
    """Estimated width of a text: no browser is there to measure it."""
    return FONT * sum(_em(letter) for letter in text)


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
