"""Texts that mean a box of an image: referring expressions and pointing."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from input_pipeline.datasets.records.base import (
    HIT,
    Box,
    Record,
    RowOptions,
    Shown,
    first_word,
    flat,
    sigmoid,
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
      box: of the referred object, zeros where it is unknown.
      candidates: boxes to choose from, where the protocol gives them (annotated, detected, both).
    """

    text_id: str
    ref_id: int
    image_id: str
    text: str
    box: Box
    candidates: tuple[Box, ...] = ()

    @property
    def labelled(self) -> bool:
        return any(self.box)

    def values(self, options: RowOptions) -> dict[str, Any]:
        if options.all_regions:
            return {"target_box": self.box}
        return {"target_box": self.box, "candidate_boxes": flat(self.candidates)}

    def shown(self, prediction: Mapping[str, Any], kind: str = "") -> Shown:
        lines = [
            ("expression", self.text),
            ("predicted", f"region {prediction['region']}, {sigmoid(prediction['score'])}"),
        ]
        drawn: list[tuple[Sequence[float], str, str]] = [
            (prediction["box"], "predicted", "predicted")
        ]
        shown = Shown(
            lines,
            drawn,
            text=self.text,
            predicted=f"region {prediction['region']}",
            confidence=prediction["score"],
        )
        if not self.labelled:
            return shown
        share = float(boxes.iou(prediction["box"], self.box, "plus_one"))
        return dataclasses.replace(
            shown,
            lines=[*lines, ("overlap", f"{share:.2f}")],
            boxes=[(self.box, "true", "true"), *drawn],
            right=share >= HIT,
        )


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

    row_version = 2

    @property
    def labelled(self) -> bool:
        return self.target >= 0

    def values(self, options: RowOptions) -> dict[str, Any]:
        offered = [self.boxes[i] for i in self.candidates]
        target = offered[self.target] if self.labelled else (0.0,) * 4
        return {
            "target_box": target,
            "option_boxes": flat(offered),
            "label": (self.target,),
        }

    def shown(self, prediction: Mapping[str, Any], kind: str = "") -> Shown:
        drawn = [
            (self.boxes[index], "", "true" if place == self.target else "other")
            for place, index in enumerate(self.candidates)
        ]
        drawn.append((prediction["box"], "predicted", "predicted"))
        offered = [self.boxes[index] for index in self.candidates]
        chosen = self._chosen(prediction)
        lines = [
            ("text", self.text),
            (
                "predicted",
                f"option {chosen + 1} of {len(offered)}, {sigmoid(prediction['score'])}",
            ),
        ]
        shown = Shown(
            lines,
            drawn,
            text=self.text,
            predicted=f"option {chosen + 1}",
            confidence=prediction["score"],
            groups=first_word(self.text),
        )
        if not self.labelled:
            return shown
        truth = f"option {self.target + 1}"
        # Options of one and the same box are one, whichever is named.
        right = offered[chosen] == offered[self.target]
        return dataclasses.replace(shown, lines=[*lines, ("true", truth)], right=right, true=truth)

    def _chosen(self, prediction: Mapping[str, Any]) -> int:
        """Number of the option; in files of earlier versions that of the most overlap."""
        if "option" in prediction:
            return prediction["option"]
        offered = np.asarray([self.boxes[index] for index in self.candidates])
        return int(boxes.iou(prediction["box"], offered, "plus_one").argmax())
