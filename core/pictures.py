"""Opens pictures of others: of known formats and bounded size, turned upright, as 8-bit RGB."""

import contextlib
import io
import os
from collections.abc import Iterator

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from core.errors import DataError
from core.reading import reading

# By contents, not by name. Others that Pillow knows start programs (PostScript) or are no pictures.
FORMATS = (
    JpegImagePlugin.JpegImageFile.format,
    PngImagePlugin.PngImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
    BmpImagePlugin.BmpImageFile.format,
    GifImagePlugin.GifImageFile.format,
    TiffImagePlugin.TiffImageFile.format,
)
MAX_PIXELS = 2**26  # an unpacked pixel takes some 10 bytes; cameras of phones go to 50 million
# Kinds of pixels of at most 8 bits a channel.
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_ORIENTATION = 0x0112  # of EXIF
_FIX = "copy or convert the picture, or leave it out"
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@contextlib.contextmanager
def opened(
    source: str | os.PathLike | bytes, where: str = "", fix: str = _FIX
) -> Iterator[Image.Image]:
    """A picture, whose pixels Pillow reads when they are asked for.

    Args:
      source: path, or the bytes of its file.
      where: for messages; empty: the path.
      fix: for messages.

    Raises:
      DataError: no picture, a damaged one, or more than MAX_PIXELS; also where that shows inside
        the context.
    """
    where = where or str(source if not isinstance(source, bytes) else "a picture")
    with reading(where, "a picture cannot be read", expected="a whole picture", fix=fix):
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        try:
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError as error:
            nbytes = len(source) if isinstance(source, bytes) else os.path.getsize(source)
            raise DataError(
                "a picture cannot be read",
                where=where,
                expected=f"a whole {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file",
                found=f"{nbytes:,} bytes of another kind",
                fix=fix,
            ) from error
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    "a picture is too large",
                    where=where,
                    expected=f"at most {MAX_PIXELS:,} pixels",
                    found=f"{image.width:,} x {image.height:,} pixels",
                    fix=f"scale it down, or {fix}",
                )
            yield image


def orientation(image: Image.Image) -> int:
    """How the camera was held, 1 to 8 as EXIF counts; 1 where the file does not say or is wrong."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # EXIF data is a small TIFF file of its own, damaged in as many ways
        return 1
    return found if found in _TURNS and isinstance(found, int) else 1


def upright(image: Image.Image) -> Image.Image:
    """The picture as viewers show it."""
    turn = _TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of the picture as viewers show it, without reading its pixels."""
    is_turned = orientation(image) >= 5
    return (image.width, image.height) if is_turned else (image.height, image.width)


def decoded(
    source: str | os.PathLike | bytes,
    where: str = "",
    fix: str = _FIX,
    *,
    resize: tuple[int, int] | None = None,
) -> np.ndarray:
    """A picture as uint8 RGB [H, W, 3], upright.

    Grey, palette and CMYK pictures are converted, transparency is dropped. Of a moving picture the
    first one is taken.

    Args:
      source, where, fix: see `opened`.
      resize: (height, width) to scale it to, bilinear with antialiasing; None: as it is.

    Raises:
      DataError: no picture, a damaged one, one cut short, or more than 8 bits a channel.
    """
    with opened(source, where, fix) as image:
        if image.mode not in MODES:
            raise DataError(
                "a picture has an unusual kind of pixels",
                where=where or str(source if not isinstance(source, bytes) else "a picture"),
                expected=f"one of {MODES}",
                found=repr(image.mode),
                fix=fix,
            )
        turned = upright(image)
        turned = turned if turned.mode == "RGB" else turned.convert("RGB")
        if resize and turned.size != resize[::-1]:
            turned = turned.resize(resize[::-1], Image.Resampling.BILINEAR)
        return np.array(turned)
