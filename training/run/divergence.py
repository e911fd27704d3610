"""Non-finite losses: stop or skip the update, and report where it started."""

from collections.abc import Mapping

import numpy as np

from core.errors import ConfigError, UserError


class NonFiniteError(UserError):
    """The loss or its gradient is not a finite number."""


def describe(step: int, draws, ids, out, saved) -> str:
    """What is known of a step whose loss or gradient is not finite.

    Args:
      step: the update.
      draws: {stream: draw}; ids: {stream: example_index [B]} of its batch.
      out: the step's metrics, on the host.
      saved: steps of the run's checkpoints.
    """
    bad = sorted(group for group, norm in out["group_norms"].items() if not np.isfinite(norm))
    losses = {
        name: float(value)
        for name, (value, _) in out["pairs"].items()
        if name.startswith("loss") and not np.isfinite(value)
    }
    lines = [f"step {step}: the loss or its gradient is not finite"]
    lines.append(f"not finite among the losses: {losses or 'none'}")
    lines.append(f"not finite among the gradients' groups: {bad or 'none'}")
    for name, index in ids.items():
        lines.append(f"stream {name}, draw {int(draws[name])}, example_index {index.tolist()}")
    lines.append(f"checkpoints of earlier steps: {saved or 'none'}")
    lines.append("fix: a lower optimizer.lr or a smaller optimizer.clip_norm; look at the examples")
    return "\n  ".join(lines)


class Skips:
    """Updates skipped because the loss or its gradient was not finite."""

    def __init__(self, limit: int, saved: Mapping | None = None):
        """Starts counting, or continues from `state()` of a checkpoint.

        Args:
          limit: `config.optimizer.skip_nonfinite`, how many in a row are skipped.
        """
        if limit < 0:
            raise ConfigError(f"config.optimizer.skip_nonfinite must be >= 0, found {limit}")
        self.limit = limit
        saved = saved or dict(total=0, row=0)
        self.total, self.row = saved["total"], saved["row"]

    def take(self, loss, norm) -> bool:
        """Counts a step; returns whether its update was made."""
        if np.isfinite(loss) and np.isfinite(norm):
            self.row = 0
            return True
        self.total += 1
        self.row += 1
        return False

    def exhausted(self) -> bool:
        return self.row > self.limit

    def state(self) -> dict:
        """JSON for a checkpoint's meta."""
        return dict(total=self.total, row=self.row)

    def __str__(self):
        return (
            f"this update is left out: {self.row} in a row of at most {self.limit}, {self.total} "
            "in all"
        )
