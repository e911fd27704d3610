"""Grids and patches without boxes: CLIP, SigLIP, DINOv2, ResNet grids.

  python -m input_pipeline.importers grid clip_patches --grid 24x24 --prefix 1 \
      --sizes instances_val2014.json --ids number --max_regions 576 --out STORE
  python -m input_pipeline.importers grid all_features.hdf5 --grid 7x7 --out STORE

Input, features of images:

  a folder               one .npy, .npz, .pt, .pth or .safetensors file an image, in subfolders too;
                         an image's id is the file's path in the folder without suffix
  .safetensors, .npz     a tensor an image, named by its id
  .pt, .pth              a dictionary {image id: tensor}, which is held in memory
  .npy                   one array [N, ...] of all images, with `--id_map`
  .h5, .hdf5             datasets ID_grids (DLCT); a dataset an image, named by its id; a group an
                         image; or features [N, ...] with image_ids or `--id_map`

An image's features are [rows, columns, F], [F, rows, columns] or [n, F], where n are the cells of
`--grid`, row by row from the top, after `--prefix` tokens that are none (a class token, registers).
Axes of size 1 before them are dropped. Every cell becomes a region whose box is the cell's part of
the picture; the whole image is their mean, or the first token of the prefix with
`--global_feature stored`. An image may have as many regions as `--max_regions`.

The picture's size comes from the file (ID_size, height and width), else from `--sizes`. `--key`
names the array to read where a file, or an image's group, has several. Files of torch are read
without torch, and nothing in them is run.
"""

import argparse
from collections.abc import Iterator, Sequence

import numpy as np

from core.errors import DataError
from input_pipeline.importers.base import Item, Part
from input_pipeline.importers.formats import array_files, fields, grids, inputs
from input_pipeline.importers.formats import sizes as image_sizes
from input_pipeline.regions.store import split_paths


class Layout:
    """See the module, and `base.Layout`."""

    unit = "images"
    background_class = None
    last_resort = True  # it makes the boxes itself

    def __init__(
        self,
        files: Sequence[str],
        grid: str = "",
        prefix: int = 0,
        sizes: str = "",
        key: str = "",
        id_map: str = "",
    ):
        if not files:
            raise DataError("nothing to import", expected="folders or files", found="none")
        maps = split_paths(id_map)
        if maps and len(maps) != len(files):
            raise DataError(
                "--id_map does not fit the inputs",
                expected=f"{len(files)} files, one an input in their order",
                found=f"{len(maps)} files",
            )
        self._grid = grids.parse(grid, prefix)
        self._sizes = image_sizes.read_sizes(sizes) if sizes else None
        self._sources = [
            array_files.open_source(path, key, one)
            for path, one in zip(files, maps or [""] * len(files), strict=True)
        ]

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """See `base.Layout`."""
        grids.add_arguments(parser)
        parser.add_argument("--key", default="", help="name of the features in a file of several")
        parser.add_argument(
            "--id_map", default="", help="comma-separated .pkl or .json of {id: row}, one an input"
        )
        image_sizes.add_argument(parser)

    def parts(self, size: int) -> list[Part]:
        """See `base.Layout`."""
        return [
            part
            for file, source in enumerate(self._sources)
            for part in inputs.count_parts(file, source.sizes, size, source.names)
        ]

    def entries(self, part: Part) -> Iterator[tuple[str, tuple]]:
        """See `base.Layout`; raw is (image id, its arrays)."""
        source = self._sources[part.file]
        inputs.check_key(source.path, part, source.names)
        yield from source.read(part.start, part.stop)

    def parse(self, where: str, raw: tuple) -> Item:
        """See `base.Layout`."""
        name, record = raw
        name = fields.image_id(name, where)
        if "size" in record and np.size(record["size"]) == 2:
            height, width = np.ravel(record["size"]).tolist()
            record = {"height": height, "width": width, **record}
        size = image_sizes.own_or_given(record, self._sizes, name, where)
        return grids.item(name, where, record["features"], size, self._grid)
