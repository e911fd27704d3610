"""When the loss is no number any more: stop, and say where it began."""

import numpy as np


class NonFiniteError(RuntimeError):
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
