"""A matrix of scores on disk that an interrupted ranking goes on with.

`<name>.npy` is float32 [texts, images], NaN where nothing is scored yet; `<name>.json` says what
it is of. Scores are written in place: a killed process loses what it had not worked out.
"""

import json
import os
import pathlib
from collections.abc import Callable, Mapping

import numpy as np
import xxhash

from runtime import paths, sharding


def digest(params) -> str:
    """Hex digest of parameters, whatever mesh they are on; every process must call it."""
    hasher = xxhash.xxh3_128()
    for path, array in sorted(paths.flatten(params).items()):
        array = np.ascontiguousarray(sharding.gathered(array))
        hasher.update(f"{path} {array.shape} {array.dtype}\n".encode())
        hasher.update(array.reshape(-1).view(np.uint8))
    return hasher.hexdigest()


def open_scores(
    path: pathlib.Path, facts: Mapping, shape: tuple[int, int], say: Callable[[str], None] = print
) -> np.ndarray:
    """Opens the scores at a path, or begins anew where they are of something else.

    Args:
      path: ends in .npy; its folder is made.
      facts: JSON, what the scores are of.
      shape: (texts, images).
      say: hears of scores that are not gone on with.

    Returns:
      float32 array [texts, images]; what is assigned to it is in the file.
    """
    about = path.with_suffix(".json")
    found = _read(about)
    if found == facts and path.exists():
        scores = np.load(path, mmap_mode="r+")
        if scores.shape == shape and scores.dtype == np.float32:
            return scores
    if found is not None:
        say(f"{path}: of other parameters, data or options, or damaged; ranking starts over")
    # Whatever interrupts this, the facts never stand beside scores that are not theirs.
    about.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    scores = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    scores[...] = np.nan
    scores.flush()
    temporary = about.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(facts) + "\n")
    os.replace(temporary, about)
    return scores


def _read(path: pathlib.Path):
    """JSON, or None where there is no such file; {} where it cannot be read."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError:
        return {}
