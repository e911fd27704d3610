"""Texts that mean a box of an image: referring expressions and pointing."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from input_pipeline.datasets.records.base import (
    HIT,
    Box,
    Record,
    RowOptions,
    Shown,
    flat,
    percent,
)
from input_pipeline.regions import boxes


@dataclasses.dataclass(frozen=True)
class Expression(Record):
    """A referring expression.

    Attributes:
      text_id: sentence id.
      ref_id: of the referred object's entry, -1 where the source has none.
      image_id: of the region store.
      text: the expression.
      box: of the referred object.
      candidates: boxes to choose from, where the protocol gives them (annotated, detected, both).
    """

    text_id: str
    ref_id: int
    image_id: str
    text: str
    box: Box
    candidates: tuple[Box, ...] = ()

    def values(self, options: RowOptions) -> dict[str, Any]:
        if options.all_regions:
            return {"target_box": self.box}
        return {"target_box": self.box, "candidate_boxes": flat(self.candidates)}

    def shown(self, prediction: Mapping[str, Any], kind: str = "") -> Shown:
        share = float(boxes.iou(prediction["box"], self.box, "plus_one"))
        lines = [
            ("expression", self.text),
            ("predicted", f"region {prediction['region']}, {percent(prediction['score'])}"),
            ("overlap", f"{share:.2f}"),
        ]
        drawn = [(self.box, "true", "true"), (prediction["box"], "predicted", "predicted")]
        return Shown(lines, drawn, share >= HIT)


@dataclasses.dataclass(frozen=True)
class Pointing(Record):
    """A text whose answer is one of several boxes (Visual7W, GuessWhat).

    Attributes:
      text_id: question or game id.
      image_id: of the region store.
      text: question, or the whole dialogue.
      boxes: all boxes of the image that can be candidates somewhere, sorted by their id.
      candidates: indices into `boxes` of this example's candidates.
      target: index into `candidates`, -1 where unknown.
    """

    text_id: str
    image_id: str
    text: str
    boxes: tuple[Box, ...]
    candidates: tuple[int, ...]
    target: int

    @property
    def labelled(self) -> bool:
        return self.target >= 0

    def values(self, options: RowOptions) -> dict[str, Any]:
        offered = [self.boxes[i] for i in self.candidates]
        target = offered[self.target] if self.labelled else (0.0,) * 4
        return {"target_box": target, "option_boxes": flat(offered)}

    def shown(self, prediction: Mapping[str, Any], kind: str = "") -> Shown:
        drawn = [
            (self.boxes[index], "", "true" if place == self.target else "other")
            for place, index in enumerate(self.candidates)
        ]
        drawn.append((prediction["box"], "predicted", "predicted"))
        lines = [("text", self.text), ("predicted", f"region {prediction['region']}")]
        if not self.labelled:
            return Shown(lines, drawn)
        target = self.boxes[self.candidates[self.target]]
        overlap = boxes.iou(prediction["box"], target, "plus_one")
        return Shown(lines, drawn, bool(overlap >= HIT))
