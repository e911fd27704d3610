"""Pictures of a batch: decoded, scaled as their boxes are, mirrored, and padded to one canvas.

Every shape of a batch is a program of its own on the device, so there are few canvases: with
`resize=(short, long)` a lying, a standing and, where pictures of both kinds meet, a square one. A
batch has the smallest that all of its pictures fit, on whatever host they are read; in training,
examples that need the same canvas come together.
"""

import numpy as np
from ml_collections import ConfigDict

from core.errors import ConfigError, DataError
from input_pipeline.streams import limits
from input_pipeline.streams.canvases import Canvas, planned
from input_pipeline.streams.source import Source


class PictureReader:
    """Reads the pictures of images.

    Attributes:
      canvases: from small to large.
    """

    def __init__(self, name: str, source: Source, options: ConfigDict, rows: np.ndarray):
        """Plans the canvases.

        Args:
          name: of the stream.
          source: of the examples, with pictures.
          options: the stream's block of the config.
          rows: int64 [n], the stream's examples in the table.

        Raises:
          ConfigError: a picture that fits none of `canvases`.
        """
        assert source.pictures is not None
        assert source.picture_rows is not None
        self._pictures, self._rows = source.pictures, source.picture_rows
        self._where, self._resize = f"config.streams.{name}", tuple(options.resize)
        store = source.store
        self._heights, self._widths = store.heights, store.widths
        used = np.unique(source.images_of(rows))
        self.canvases = self._plan(options, used)

    def _plan(self, options: ConfigDict, images: np.ndarray) -> tuple[Canvas, ...]:
        heights, widths = self._sizes(images)
        if not options.canvases and not self._resize:
            return (Canvas(int(heights.max()), int(widths.max())),)
        given = planned(options)
        fits = _fits(given, heights[:, None], widths[:, None])
        if not fits.any(-1).all():
            i = int(np.flatnonzero(~fits.any(-1))[0])
            key = self._pictures.keys[self._rows[images[i]]]
            raise ConfigError(
                "a picture is larger than every canvas",
                where=f"{self._where}.canvases, image {key!r}",
                expected=f"pictures within one of {tuple(map(tuple, given))} (height, width)",
                found=f"{heights[i]} x {widths[i]} pixels"
                + (f", resized to {self._resize}" if self._resize else ""),
                fix=f'--{self._where}.resize="(600, 1000)", or a larger canvas',
            )
        return given

    def _sizes(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Heights and widths of images [...] as they are read, int64 [...]."""
        heights, widths = (x[images].astype(np.int64) for x in (self._heights, self._widths))
        return limits.resized(heights, widths, *self._resize) if self._resize else (heights, widths)

    def canvas_of(self, images: np.ndarray) -> np.ndarray:
        """int64 [B]: index of the smallest canvas that the images [B, M] of each example fit."""
        return _fits(self.canvases, *self._sizes(images)).argmax(-1)

    def canvas_for(self, images: np.ndarray) -> Canvas:
        """The smallest canvas that all images [B, M] fit."""
        return self.canvases[int(self.canvas_of(images.reshape(1, -1))[0])]

    def read(
        self, images: np.ndarray, size: np.ndarray, flip: np.ndarray | None, canvas: Canvas
    ) -> np.ndarray:
        """uint8 RGB [B, M, H, W, 3], zero beyond each picture.

        Args:
          images: int64 [B, M] rows of the region store.
          size: [B, M, 2] (height, width) that the pictures are scaled to.
          flip: bool [B], examples whose pictures are mirrored; None: none.
          canvas: H and W.

        Raises:
          DataError: a picture that cannot be read.
        """
        out = np.zeros((*images.shape, *canvas, 3), np.uint8)
        for place in np.ndindex(images.shape):
            height, width = (int(side) for side in size[place])
            row = int(self._rows[images[place]])
            picture = self._pictures.pixels(row, (height, width))
            if flip is not None and flip[place[0]]:
                picture = picture[:, ::-1]
            out[place][:height, :width] = picture
        return out


def _fits(canvases: tuple[Canvas, ...], heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """bool [B, canvases]: whether all pictures [B, M] of an example fit."""
    return np.stack(
        [((heights <= one.height) & (widths <= one.width)).all(-1) for one in canvases], -1
    )


def require_sizes(source: Source, images: np.ndarray, where: str) -> None:
    """Checks that boxes were made on pictures of the size that the pictures have.

    Args:
      source: with pictures.
      images: int64 [n] rows of the region store.
      where: the pictures are, for the message.

    Raises:
      DataError: they were not; names the first image and how many differ.
    """
    assert source.pictures is not None
    assert source.picture_rows is not None
    rows = source.picture_rows[images]
    mine = np.stack([source.pictures.heights[rows], source.pictures.widths[rows]], -1)
    theirs = np.stack([source.store.heights[images], source.store.widths[images]], -1)
    wrong = np.flatnonzero((mine != theirs).any(-1))
    if not wrong.size:
        return
    i = int(wrong[0])
    turned = (mine[wrong] == theirs[wrong][:, ::-1]).all()
    ratio = mine[i] / theirs[i]
    raise DataError(
        "boxes were made on pictures of another size",
        where=f"{where}, image {source.store.keys[images[i]]!r}",
        expected=f"pictures of the sizes in the region store, {theirs[i][0]} x {theirs[i][1]} "
        "(height x width)",
        found=f"{mine[i][0]} x {mine[i][1]}, {len(wrong):,} of {len(images):,} pictures differ"
        + (
            ": as they lie on disk, not upright as cameras say"
            if turned
            else f": {ratio[0]:.3f} times as high and {ratio[1]:.3f} times as wide"
        ),
        fix="import the boxes of these pictures anew, or build the store of the pictures that they "
        "were made on",
    )
