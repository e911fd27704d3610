"""Pictures on the host as a detector takes them: resized, and padded to one of a few canvases."""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class Pixels:
    """How a picture becomes an input.

    Attributes:
      short: pixels of the shorter side it is resized to,
      long: unless the longer one would have more than these.
      mean: of blue, green and red, subtracted.
    """

    short: int = 600
    long: int = 1000
    mean: tuple[float, float, float] = (102.9801, 115.9465, 122.7717)


# Longer sides of canvases, as shares of the longest: 4:3 pictures are spared a third of the width.
_SHARES = (0.8, 1.0)
_ROUNDED = 8  # pixels: sides of canvases are multiples


def resized(height: int, width: int, pixels: Pixels) -> tuple[int, int]:
    """The size that a picture is given: the shorter side `short`, unless the longer one would pass
    `long`. Rounded as Detectron does.
    """
    scale = pixels.short / min(height, width)
    sides = [
        pixels.short if side == min(height, width) else scale * side for side in (height, width)
    ]
    if max(sides) > pixels.long:
        shrink = pixels.long / max(sides)
        sides = [side * shrink for side in sides]
    rows, columns = (max(1, int(side + 0.5)) for side in sides)
    return rows, columns


def canvases(pixels: Pixels) -> list[tuple[int, int]]:
    """The sizes that pictures are padded to, each of them compiled once; smallest first."""
    short = _up(pixels.short)
    longs = sorted({max(short, _up(pixels.long * share)) for share in _SHARES})
    return [size for long in longs for size in ((short, long), (long, short))]


def _up(side: int | float) -> int:
    return math.ceil(side / _ROUNDED) * _ROUNDED


def canvas_of(height: int, width: int, pixels: Pixels) -> tuple[int, int]:
    """The smallest canvas that a picture of a size fits into once it is resized."""
    rows, columns = resized(height, width, pixels)
    return next(size for size in canvases(pixels) if rows <= size[0] and columns <= size[1])


def interpolated(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture [H, W, C] in another size, float32, by two linear interpolations.

    As OpenCV and PyTorch do it: no pixels are averaged where it shrinks, and nothing is rounded.
    """

    def places(size: int, old: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at = np.clip((np.arange(size, dtype=np.float64) + 0.5) * old / size - 0.5, 0, old - 1)
        low = np.floor(at).astype(np.intp)
        return low, np.minimum(low + 1, old - 1), (at - low).astype(np.float32)

    top, bottom, down = places(height, picture.shape[0])
    left, right, across = places(width, picture.shape[1])
    wide = picture.astype(np.float32)
    rows = wide[top] + (wide[bottom] - wide[top]) * down[:, None, None]
    return rows[:, left] + (rows[:, right] - rows[:, left]) * across[:, None]
