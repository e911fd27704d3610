"""How an import is done: the options that all layouts share."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from core.errors import DataError
from input_pipeline.importers.arrange import CLASS_SCORES
from input_pipeline.regions.boxes import Resized
from input_pipeline.regions.spec import GLOBAL_FEATURES

IDS = ("as_is", "number")
ON_BAD = ("error", "skip")


@dataclasses.dataclass(frozen=True)
class ImportSettings:
    """Options of an import.

    Attributes:
      options: of the layout (`Layout.add_arguments`); others keep their defaults.
      detector: name for the feature spec; empty: the layout's own, else "unknown".
      dtype: of the features on disk.
      top_k: class probabilities kept per region.
      max_regions: most boxes an image may have.
      global_feature: row 0 is the "mean" of the regions, or as "stored" in the input; empty: the
        layout's own, else the mean (VL-BERT's and ViLBERT's choice).
      ids: "as_is", or "number": the last number in an id, without leading zeros.
      workers: processes; 1 is this one.
      part_size: bytes of input per part, 0 chooses.
      class_scores: empty: distributions as the layout says; "with_background" says so where the
        number of columns is that of a detector's objects alone; "without_background": what rows
        lack of 1 becomes column 0, the background; "drop" leaves them out.
      resized: "SHORT,LONG" where boxes are of resized pictures, see `regions.boxes.Resized`.
      on_bad: "error", or "skip": leave out images whose records are bad.
    """

    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    detector: str = ""
    dtype: str = "bfloat16"
    top_k: int = 16
    max_regions: int = 100
    global_feature: str = ""
    ids: str = "as_is"
    workers: int = 1
    part_size: int = 0
    class_scores: str = ""
    resized: str = ""
    on_bad: str = "error"

    def check(self) -> None:
        """Raises DataError for an unknown choice, or a number that is too small."""
        for name, choices in (
            ("on_bad", ON_BAD),
            ("ids", IDS),
            ("global_feature", ("", *GLOBAL_FEATURES)),
            ("class_scores", CLASS_SCORES),
        ):
            if getattr(self, name) not in choices:
                raise DataError(
                    f"unknown --{name}",
                    expected=f"one of {list(choices)}",
                    found=repr(getattr(self, name)),
                )
        if self.resized:
            Resized.parse(self.resized)
        if self.workers < 1 or self.part_size < 0:
            raise DataError(
                "--workers or --part_size is too small",
                expected="workers >= 1, part_size >= 0",
                found=f"workers={self.workers}, part_size={self.part_size}",
            )
