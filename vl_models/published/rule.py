"""One parameter of a published checkpoint and of our tree."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Rule:
    """One parameter under both names.

    Attributes:
      torch: name in the published checkpoint.
      ours: path in our tree.
      kind: "same"; "linear" (out, in) ↔ (in, out); "row" (1, n) ↔ (n); "match" and "match_linear"
        also reverse the two classes, since in ViLBERT's files class 0 is the match; "conv"
        (out, in, h, w) ↔ (h, w, in, out).
    """

    torch: str
    ours: str
    kind: str = "same"

    def convert(self, x: np.ndarray) -> np.ndarray:
        """PyTorch layout → ours."""
        if self.kind.startswith("match"):
            x = x[::-1]
        if self.kind.endswith("linear"):
            return x.T
        if self.kind == "conv":
            if x.ndim != 4:
                raise TypeError(f"{self.torch} has {x.ndim} axes, a convolution has 4")
            return x.transpose(2, 3, 1, 0)
        return x[0] if self.kind == "row" else x

    def restore(self, x: np.ndarray) -> np.ndarray:
        """Our layout → PyTorch's."""
        if self.kind.endswith("linear"):
            x = x.T
        if self.kind.startswith("match"):
            return x[::-1]
        if self.kind == "conv":
            return x.transpose(3, 2, 0, 1)
        return x[None] if self.kind == "row" else x
