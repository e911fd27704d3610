"""Features of a grid's cells or of a transformer's patches, which have no boxes of their own.

Cells cover the picture, row by row from the top, whatever size the model saw it in. Shapes of an
image's features (axes of size 1 before them are dropped):

  [rows, columns, F]    a convolutional grid, channels last
  [F, rows, columns]    the same as PyTorch has it
  [n, F]                n = rows x columns patches, after `--prefix` tokens that are none: the class
                        token of CLIP and DINOv2, and DINOv2's registers

Without `--grid`, three axes say rows and columns themselves where F is the largest of them, first
or last; and n patches are a square where n is one.
"""

import argparse
import math
import re
from typing import NamedTuple

import numpy as np

from core.errors import DataError
from input_pipeline.importers.base import Item
from input_pipeline.importers.formats import fields
from input_pipeline.regions.extract import grid_boxes


class Grid(NamedTuple):
    """Options of a grid: rows and columns, 0 where the features say them, and tokens before it."""

    rows: int = 0
    columns: int = 0
    prefix: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --grid and --prefix."""
    parser.add_argument(
        "--grid",
        default="",
        metavar="RxC",
        help="features are of a grid's cells or patches, rows x columns: 7x7, 24x24",
    )
    parser.add_argument(
        "--prefix",
        type=int,
        default=0,
        help="tokens before the patches (class token, registers); the first is the whole image's "
        "feature (--global_feature stored)",
    )


def parse(grid: str, prefix: int) -> Grid:
    """The options.

    Raises:
      DataError: --grid is not of the form 7x7, or --prefix is negative.
    """
    found = re.fullmatch(r"([1-9]\d{0,3})[x×,]([1-9]\d{0,3})", grid.replace(" ", "").lower())
    if grid and not found:
        raise DataError("--grid is no grid", expected="ROWSxCOLUMNS, as 7x7", found=repr(grid))
    if prefix < 0:
        raise DataError("--prefix is negative", expected="0 or more", found=prefix)
    return Grid(int(found[1]), int(found[2]), prefix) if found else Grid(prefix=prefix)


def item(image_id: str, where: str, features: object, size: tuple[int, int], grid: Grid) -> Item:
    """An image of cells or patches.

    Args:
      image_id: of the image.
      where: for messages.
      features: see the module.
      size: (height, width) of the image in pixels.
      grid: the options.

    Raises:
      DataError: features of another shape, or that are no floats.
    """
    values = np.asarray(features)
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    if values.ndim not in (2, 3):
        raise fields.bad_field(
            where, "features", "[n, F], [rows, columns, F] or [F, rows, columns]", values.shape
        )
    fields.floats(values, where, "features", [None] * values.ndim)
    whole = None
    if values.ndim == 3:
        rows, columns, cells = _of_map(values, where, grid)
    else:
        rows, columns = _of_rows(len(values), where, grid)
        whole = values[0] if grid.prefix else None
        cells = values[grid.prefix :]
    return Item(
        image_id=image_id,
        height=size[0],
        width=size[1],
        boxes=grid_boxes(rows, columns, *size),
        features=cells,
        global_feature=whole,
    )


def _of_map(values: np.ndarray, where: str, grid: Grid) -> tuple[int, int, np.ndarray]:
    """(rows, columns, [rows * columns, F]) of three axes."""
    shape = values.shape
    last, first = shape[:2], shape[1:]  # rows and columns, channels last or first
    if grid.prefix:
        raise fields.bad_field(where, "features", "[n, F], as there is a --prefix", shape)
    if grid.rows:
        fits = [axes == (grid.rows, grid.columns) for axes in (last, first)]
    else:
        fits = [shape[2] > max(last), shape[0] > max(first)]
    if sum(fits) != 1:
        raise DataError(
            "the axes of a grid of features are not known",
            where=where,
            expected=f"[{grid.rows}, {grid.columns}, F] or [F, {grid.rows}, {grid.columns}]"
            if grid.rows
            else "[rows, columns, F] or [F, rows, columns] with the largest axis F",
            found=shape,
            fix="say rows and columns: --grid 7x7",
        )
    if fits[1]:
        values, last = np.moveaxis(values, 0, -1), first
    return *last, values.reshape(-1, values.shape[-1])


def _of_rows(n: int, where: str, grid: Grid) -> tuple[int, int]:
    """(rows, columns) of n tokens, the prefix counted."""
    cells = n - grid.prefix
    rows, columns = grid.rows, grid.columns
    if not rows:
        rows = columns = math.isqrt(max(cells, 0))
    if rows * columns == cells > 0:
        return rows, columns
    if grid.rows:
        extra, fix = n - rows * columns, "check --grid"
    else:
        side = math.isqrt(n)
        rows = columns = side
        extra, fix = n - side * side, "say rows and columns: --grid 7x7"
    if 0 < extra <= 16 and extra != grid.prefix:
        fix = f"--grid {rows}x{columns} --prefix {extra}, if {extra} tokens are before the patches"
    raise DataError(
        "features do not fill their grid",
        where=where,
        expected=f"{grid.rows} x {grid.columns} = {grid.rows * grid.columns} rows"
        + f" after {grid.prefix} tokens" * bool(grid.prefix)
        if grid.rows
        else "a square number of rows, or --grid",
        found=f"{n} rows",
        fix=fix,
    )
