"""Texts about one image or two: captions and statements."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from input_pipeline.datasets.records.base import Record, RowOptions, Shown, percent, sigmoid


@dataclasses.dataclass(frozen=True)
class Caption(Record):
    """A text that describes an image."""

    text_id: str
    image_id: str
    text: str


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
        if not self.labelled:
            return Shown(lines)
        truth = self.label_name or str(self.label)
        return Shown([*lines, ("true", truth)], right=prediction["class"] == self.label)
