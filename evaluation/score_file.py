"""A matrix of scores on disk, from which an interrupted ranking resumes.

`<name>.npy` is float32 [texts, images], NaN where nothing is scored yet; `<name>.json` is its
metadata. Scores are written in place: a killed process loses only those not yet computed.
"""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import xxhash
from jaxtyping import PyTree

from core.console import say
from runtime import paths, sharding


def digest(params: PyTree) -> str:
    """Hex digest of parameters, whatever mesh they are on; every process must call it."""
    hasher = xxhash.xxh3_128()
    for path, array in sorted(paths.flatten(params).items()):
        array = np.ascontiguousarray(sharding.gathered(array))
        hasher.update(f"{path} {array.shape} {array.dtype}\n".encode())
        hasher.update(array.reshape(-1).view(np.uint8))
    return hasher.hexdigest()


def open_scores(
    path: pathlib.Path, metadata: Mapping[str, Any], shape: tuple[int, int]
) -> np.ndarray:
    """Opens the scores at a path, or starts over if their metadata differ.

    Args:
      path: ends in .npy; its folder is made.
      metadata: JSON, what the scores depend on: parameters, data, options.
      shape: (texts, images).

    Returns:
      float32 array [texts, images]; assignments to it are written to the file.
    """
    metadata_path = path.with_suffix(".json")
    found = _read(metadata_path)
    if found == metadata and path.exists():
        scores = np.load(path, mmap_mode="r+")
        if scores.shape == shape and scores.dtype == np.float32:
            return scores
    if found is not None:
        say(f"{path}: of other parameters, data or options, or damaged; ranking starts over")
    # Removed first and written last: whatever interrupts this, metadata always matches the scores.
    metadata_path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    scores = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    scores[...] = np.nan
    scores.flush()
    temporary = metadata_path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(metadata) + "\n")
    os.replace(temporary, metadata_path)
    return scores


def _read(path: pathlib.Path) -> Any:
    """Parsed JSON; None if there is no such file, {} if it is damaged."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError):
        return {}
