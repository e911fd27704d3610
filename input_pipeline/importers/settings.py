"""How an import is done: the options that all layouts share."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from core.errors import DataError
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
    on_bad: str = "error"

    def check(self) -> None:
        """Raises DataError for an unknown choice, or a number that is too small."""
        for name, choices in (
            ("on_bad", ON_BAD),
            ("ids", IDS),
            ("global_feature", ("", *GLOBAL_FEATURES)),
        ):
            if getattr(self, name) not in choices:
                raise DataError(
                    f"unknown --{name}",
                    expected=f"one of {list(choices)}",
                    found=repr(getattr(self, name)),
                )
        if self.workers < 1 or self.part_size < 0:
            raise DataError(
                "--workers or --part_size is too small",
                expected="workers >= 1, part_size >= 0",
                found=f"workers={self.workers}, part_size={self.part_size}",
            )
