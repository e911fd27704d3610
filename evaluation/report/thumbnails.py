"""Pictures scaled down for a report, inside the page, held as their boxes were measured."""

import base64
import io
import math

from core import pictures

SIDE = 480  # longer side of a picture: pixels of the data, and units of the drawing
_ASPECT = 0.02  # relative difference of aspect up to which a picture is that of its stored size


def data_uri(data: bytes, size: tuple[int, int], side: int = SIDE) -> tuple[str, str]:
    """A picture scaled down.

    Args:
      data: bytes of its file.
      size: (height, width) that its boxes were measured on.
      side: longest that its longer side may be, in pixels.

    Returns:
      The data: URI, and how the picture disagrees with `size`, "" where it does not.

    Raises:
      DataError: data that is no picture, or of too many pixels.
    """
    height, width = size
    with pictures.opened(data) as file:
        sharp = file.format == "PNG" and max(file.size) <= side  # sharp edges, which JPEG blurs
        original = file.size
        upright = pictures.size(file)[::-1]
        # A detector either turned the file as EXIF says or it did not: its size tells which.
        if _differ(upright, (width, height)) and not _differ(original, (width, height)):
            upright, turn = original, False
        else:
            turn = True
        file.thumbnail((side, side))
        small = (pictures.upright(file) if turn else file).convert("RGB")
    out = io.BytesIO()
    if sharp:
        small.save(out, "PNG", optimize=True)
    else:
        small.save(out, "JPEG", quality=80)
    problem = ""
    if _differ(upright, (width, height)):
        problem = (
            f"the picture is {upright[0]}×{upright[1]}, its boxes are of {width}×{height}: "
            "another picture?"
        )
    kind = "png" if sharp else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}", problem


def _differ(found: tuple[int, int], stored: tuple[int, int]) -> bool:
    """Whether two (width, height) are not one picture scaled and rounded."""
    ratio = found[0] * stored[1] / (found[1] * stored[0])
    rounded = 1 / min(*found, *stored)
    return abs(math.log(ratio)) > _ASPECT + rounded
