"""Texts about one image or two: captions and statements."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from input_pipeline.datasets.records.base import (
    Box,
    Record,
    RowOptions,
    Shown,
    flat,
    percent,
    sigmoid,
)
from input_pipeline.datasets.records.mentions import Mention
from input_pipeline.texts.table_writer import Row


@dataclasses.dataclass(frozen=True)
class Caption(Record):
    """A text that describes an image."""

    text_id: str
    image_id: str
    text: str


@dataclasses.dataclass(frozen=True)
class GroundedCaption(Record):
    """A text that describes an image, or a part of it, and what its phrases show.

    Attributes:
      text_id: of the text.
      image_id: of the region store.
      text: as written.
      mentions: phrases, whose `object` is an index into `boxes`; they do not overlap.
      boxes: of what is mentioned.
    """

    text_id: str
    image_id: str
    text: str
    mentions: tuple[Mention, ...]
    boxes: tuple[Box, ...]

    def rows(self, options: RowOptions) -> Iterator[Row]:
        mentions = tuple((m.start, m.end, m.object) for m in self.mentions)
        for row in super().rows(options):
            yield dataclasses.replace(row, mentions=mentions)

    def values(self, options: RowOptions) -> dict[str, Any]:
        return {"object_boxes": flat(self.boxes)}

    def shown(self, prediction: Mapping[str, Any], kind: str = "") -> Shown:
        found = super().shown(prediction, kind)
        phrases = [
            (self.boxes[m.object], self.text[m.start : m.end], "mentioned") for m in self.mentions
        ]
        return dataclasses.replace(found, lines=[("text", self.text), *found.lines], boxes=phrases)


@dataclasses.dataclass(frozen=True)
class Statement(Record):
    """A statement about one image or two (SNLI-VE, NLVR2); label -1 where unknown."""

    text_id: str
    image_ids: tuple[str, ...]
    text: str
    label: int
    label_name: str = ""

    @property
    def images(self) -> tuple[str, ...]:
        return self.image_ids

    @property
    def labelled(self) -> bool:
        return self.label >= 0

    def values(self, options: RowOptions) -> dict[str, Any]:
        return {"label": (self.label,)}

    def shown(self, prediction: Mapping[str, Any], kind: str = "") -> Shown:
        name = prediction.get("name", prediction["class"])
        share = prediction["probabilities"][prediction["class"]]
        shown = sigmoid(share) if prediction.get("activation") == "sigmoid" else percent(share)
        lines = [("statement", self.text), ("predicted", f"{name} {shown}")]
        described = Shown(lines, text=self.text, predicted=str(name), confidence=share)
        if not self.labelled:
            return described
        truth = self.label_name or str(self.label)
        return dataclasses.replace(
            described,
            lines=[*lines, ("true", truth)],
            right=prediction["class"] == self.label,
            true=truth,
            groups={"true label": truth},
        )
