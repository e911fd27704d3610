"""What all results are: values that become JSON and text, and that notebooks show with pictures."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from evaluation.report import report_pictures
from inference.images import Image
from inference.named import Pictures

SHOWN = 5  # of a ranked list, and images of a result

# Values are escaped by `Markup.format`.
_PAGE = Markup(
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>answers</title>'
    '<meta name="viewport" content="width=device-width"></head><body>{}</body></html>\n'
)
_CARD = Markup(
    '<div style="font-family:sans-serif;max-width:40em"><style>rect.frame{{fill:#f2f2f2;'
    "stroke:#767676}}</style>{}<table>{}</table></div>"
)
_FIGURE = Markup(
    '<figure style="margin:0 0 .5em"><div>{}</div><figcaption>{}</figcaption></figure>'
)
_ROW = Markup('<tr><th style="text-align:left">{}</th><td dir="auto">{}</td></tr>')


def _figure(image: Image, boxes: Sequence[tuple[Sequence[float], str, str]]) -> Markup:
    """An image, its regions, and boxes over them."""
    regions = [(box.tolist(), "", "other") for box in image.record["boxes"]]
    picture = report_pictures.Picture(
        (image.height, image.width), image.picture, [*regions, *boxes], image.key
    )
    drawn = report_pictures.draw(picture)
    problem = drawn.problem if picture.data is not None else ""
    return _FIGURE.format(drawn.svg, " · ".join(filter(None, [image.key, problem])))


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Result:
    """A base class.

    Attributes:
      images: what was looked at; no part of `to_dict`.
    """

    images: tuple[Image, ...] = dataclasses.field(kw_only=True, default=())

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            field.name: _plain(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name != "images"
        }

    def lines(self) -> list[tuple[str, str]]:
        """(what, text) for people."""
        raise NotImplementedError

    def drawn(self) -> list[tuple[Sequence[float], str, str]]:
        """Boxes on the first image: (xyxy, label, kind as `report_pictures.KINDS`)."""
        return []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'; '.join(f'{k}: {v}' for k, v in self.lines())})"

    def _repr_html_(self) -> str:
        pictures = Markup("").join(
            _figure(image, [] if place else self.drawn())
            for place, image in enumerate(self.images[:SHOWN])
        )
        rows = Markup("").join(_ROW.format(name, text) for name, text in self.lines())
        return str(_CARD.format(pictures, rows))


def table(results: Sequence[Result]) -> Iterator[str]:
    """The results for a console, one after the other."""
    for number, result in enumerate(results):
        lines = result.lines()
        width = max(len(name) for name, _ in lines)
        if number:
            yield ""
        yield from (f"{name:{width}}  {text}" for name, text in lines)


def page(results: Sequence[Result]) -> str:
    """An HTML page of results, which refers to nothing outside it."""
    ids: dict[Pictures, list[str]] = {}
    for image in (image for one in results for image in one.images[:SHOWN]):
        if image.pictures:
            ids.setdefault(image.pictures, []).append(image.key)
    for pictures, keys in ids.items():  # together, which reads a folder once
        pictures.of(keys)
    cards = Markup("").join(Markup(one._repr_html_()) for one in results)
    return str(_PAGE.format(cards))
