"""Model operations of a train step, and what devices could do: the two sides of MFU.

MFU = operations the model needs / (time · peak of all devices). Needed are, a step:

  6 · kernel size · positions   for every matrix product with parameters: 2 forward, 4 backward
  12 · L² · D                   for the attention of each layer and row (QKᵀ and its use on V)

Positions are the packed row (L) in transformer layers, R for other products of the trunk, and
the places that are predicted for heads; the tied word table counts as part of the masked-language
head. Table look-ups, norms and element-wise work count nothing; padding counts.
"""

import math
import re
from collections.abc import Mapping

from training import paths

# Dense bfloat16 operations a second of one JAX device, by a part of `device_kind`, from the
# makers' data sheets. Peaks of devices that are not listed are unknown: no MFU is logged.
PEAKS = (
    ("H200", 989e12),
    ("H100", 989e12),
    ("A100", 312e12),
    ("L4", 121e12),
    ("TPU v6 lite", 918e12),
    ("TPU v5p", 459e12),
    ("TPU v5 lite", 197e12),
    ("TPU v4", 275e12),
)


def peak(devices) -> float | None:
    """Operations a second of all devices together, or None."""
    for name, value in PEAKS:
        if re.search(rf"\b{name}\b", devices[0].device_kind):
            return value * len(devices)
    return None


def row_length(block) -> int:
    """L of a stream, [END] included."""
    if not block.images:
        return block.max_text + 1
    return min(block.max_length, block.max_text + block.max_regions) + 1


def flops_per_step(config, params, heads: Mapping[str, list[str]]) -> float:
    """Operations of one update of the whole global batch.

    Args:
      config: the whole config.
      params: nested dict of arrays or shapes.
      heads: {stream: names of the heads it uses}.
    """
    sizes = {
        path: math.prod(x.shape)
        for path, x in paths.flatten(params).items()
        if path.endswith("/kernel")
    }
    table = math.prod(params["trunk"]["embeddings"]["word"]["embedding"].shape)
    layers = sum(size for path, size in sizes.items() if re.match(r"trunk/layer_\d+/", path))
    other = sum(size for path, size in sizes.items() if path.startswith("trunk/")) - layers
    total = 0.0
    for stream, names in heads.items():
        block = config.streams[stream]
        length = row_length(block)
        row = 6 * layers * length + 12 * length**2 * config.model.hidden * config.model.layers
        row += 6 * other * block.max_regions * block.images
        for name in names:
            size = sum(n for path, n in sizes.items() if path.startswith(f"heads/{name}/"))
            positions = 1
            if name == "masked_language":
                size += table
                positions = math.ceil(config.objectives[name].cap * block.max_text)
            elif name == "masked_region":
                positions = block.max_regions
            row += 6 * size * positions
        total += row * block.batch_size
    return total
