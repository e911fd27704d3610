"""Arrays of images: a file for each in a folder, or many in one file.

  a folder               one .npy, .npz, .pt, .pth or .safetensors file an image, in subfolders too;
                         an image's id is the file's path in the folder without suffix
  .safetensors, .npz     a tensor an image, named by its id
  .pt, .pth              a dictionary {image id: tensor}, read whole
  .npy                   one array [N, ...] of all images, with `--id_map`
  .h5, .hdf5             datasets ID_grids; or a dataset an image, named by its id; or a group an
                         image with a dataset of the features; or features [N, ...] with image_ids
                         or `--id_map`

A file of one image may hold several arrays: `--key` names the one to read; without it, it is the
only one, or the one called features, image_features, feat or x. With `--key`, HDF5 datasets are
ID_KEY, or KEY in the image's group.
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import h5py
import numpy as np

from core import npy
from core.errors import DataError
from core.reading import attempt, reading
from input_pipeline.importers.formats import (
    hdf5_data,
    hdf5_file,
    npz_file,
    safetensors_file,
    torch_file,
)
from input_pipeline.importers.formats import record as records
from input_pipeline.importers.formats import sizes as image_sizes
from input_pipeline.importers.formats.members import list_files

HDF5 = (".h5", ".hdf5")
TORCH = (".pt", ".pth")
SAFETENSORS, NPZ, NPY = ".safetensors", ".npz", ".npy"
SUFFIXES = (NPY, NPZ, SAFETENSORS, *TORCH)
GRIDS = "grids"  # what DLCT calls the features of a grid
SIZE = ("size", *image_sizes.HEIGHT, *image_sizes.WIDTH)

# {"features": array, and sizes where the file has them}
Record = dict[str, Any]


class Source:
    """Images of one input.

    Attributes:
      path: of the input.
      names: image ids.
      sizes: bytes of each, about.
    """

    def __init__(
        self,
        path: str,
        names: Sequence[str],
        sizes: Sequence[int],
        read: Callable[[int], tuple[str, Record]],
    ):
        self.path, self.names, self.sizes, self._read = path, list(names), list(sizes), read
        if not names:
            raise DataError(
                "an input has no images", where=path, expected="one or more", found="none"
            )

    def read(self, start: int, stop: int) -> Iterator[tuple[str, tuple[str, Record] | DataError]]:
        """(where, (image id, record) or the error of this image) of start : stop."""
        for row in range(start, stop):
            name = self.names[row]
            where = f"{self.path}, image {name!r}"
            found = attempt(where, lambda row=row: self._read(row))
            if isinstance(found, DataError):
                yield where, found
            else:
                yield found[0], (name, found[1])


def open_source(path: str, key: str, id_map: str) -> Source:
    """The images of a folder or file, see the module.

    Args:
      path: of the input.
      key: `--key`; empty: see the module.
      id_map: file of ids by row, see `hdf5_file.read_id_map`; empty: none.

    Raises:
      DataError: none of the kinds, unreadable, or without images.
    """
    suffix = os.path.splitext(path)[1].lower()
    if os.path.isdir(path):
        files = list_files(path, SUFFIXES)
        names = [os.path.splitext(name)[0].replace(os.sep, "/") for name, _ in files]
        paths = [os.path.join(path, name) for name, _ in files]
        return Source(
            path, names, [n for _, n in files], lambda i: (paths[i], _of_file(paths[i], key))
        )
    openers: dict[str, Callable[[str, str, str], Source]] = {
        **dict.fromkeys(HDF5, _hdf5),
        **dict.fromkeys(TORCH, _torch),
        SAFETENSORS: _safetensors,
        NPZ: _npz,
        NPY: _npy,
    }
    if suffix not in openers:
        raise DataError(
            "an input of no known kind",
            where=path,
            expected=f"a folder, or a file that ends in one of {list(openers)}",
            found=repr(suffix),
            fix="see `python -m input_pipeline.importers grid --help`",
        )
    return openers[suffix](path, key, id_map)


def _of_file(path: str, key: str) -> Record:
    """The record of a file that holds one image."""
    suffix = os.path.splitext(path)[1]
    if suffix == NPY:
        value = npy.load(path, path)
    elif suffix in TORCH:
        value = torch_file.load(path)
    elif suffix == NPZ:
        value = npz_file.load(path)
    else:
        tensors = safetensors_file.Tensors(path)
        value = {name: tensors.read(name) for name in tensors.names}
    return _record(value, path, key)


def _record(value: Any, where: str, key: str) -> Record:
    """Features, and sizes, from an array or a dictionary of arrays."""
    if isinstance(value, dict):
        arrays = {k: v for k, v in value.items() if np.ndim(v) > 1}
        name = key or next(
            (name for name in records.FEATURES if name in value),
            next(iter(arrays)) if len(arrays) == 1 else "",
        )
        if name not in value:
            raise DataError(
                "which array is the features is not known",
                where=where,
                expected=f"{key!r}" if key else f"one array, or {' or '.join(records.FEATURES)}",
                found=f"{ {str(k): np.shape(v) for k, v in list(value.items())[:10]} }",
                fix="name it: --key NAME",
            )
        sizes = {k: v for k, v in value.items() if k in SIZE and k != name}
        return {"features": value[name], **sizes}
    return {"features": value}


def _safetensors(path: str, key: str, id_map: str) -> Source:
    tensors = safetensors_file.Tensors(path)
    del key, id_map

    def read(row: int) -> tuple[str, Record]:
        name = tensors.names[row]
        return f"{path}, tensor {name!r}", {"features": tensors.read(name)}

    return Source(path, tensors.names, tensors.sizes, read)


@functools.lru_cache(maxsize=1)
def _whole(path: str) -> dict[str, Any]:
    """{image id: array} of a file that is read whole."""
    value = torch_file.load(path)
    if not isinstance(value, dict):
        raise DataError(
            "a file of many images is no dictionary",
            where=path,
            expected="{image id: tensor}, or a folder of one file an image",
            found=f"{type(value).__name__} {np.shape(value)}",
        )
    return {str(name): item for name, item in value.items()}


def _torch(path: str, key: str, id_map: str) -> Source:
    del id_map
    names = list(_whole(path))

    def read(row: int) -> tuple[str, Record]:
        where = f"{path}, key {names[row]!r}"
        return where, _record(_whole(path)[names[row]], where, key)

    size = os.path.getsize(path) // max(len(names), 1)
    return Source(path, names, [size] * len(names), read)


def _npz(path: str, key: str, id_map: str) -> Source:
    del key, id_map
    names = npz_file.names(path)

    def read(row: int) -> tuple[str, Record]:
        name = names[row]
        return f"{path}, array {name!r}", {"features": npz_file.load(path, [name])[name]}

    size = os.path.getsize(path) // max(len(names), 1)
    return Source(path, names, [size] * len(names), read)


def _npy(path: str, key: str, id_map: str) -> Source:
    del key
    what, expected = "not a readable .npy file", "an array [N, ...] of all images' features"
    with reading(path, what, expected=expected), open(path, "rb") as file:
        header = npy.read_header(file)
        start = file.tell()
        if header.dtype.hasobject or header.is_fortran:
            raise ValueError("pickled objects, or Fortran order: save np.ascontiguousarray of it")
        if start + header.nbytes != os.path.getsize(path):
            raise ValueError(f"{header.shape} {header.dtype}, but {os.path.getsize(path)} bytes")
    if len(header.shape) < 3:
        raise DataError(
            "a .npy file of one image",
            where=path,
            expected="an array [N, n, F] of N images, or a folder of one file an image",
            found=header.shape,
            fix="name the folder",
        )
    if not id_map:
        raise DataError(
            "the image ids of the rows are not known",
            where=path,
            expected="--id_map: a .json of ids in the order of the rows, or of {id: row}",
            found="none",
        )
    names = hdf5_file.read_id_map(id_map, header.shape[0], path)

    def read(row: int) -> tuple[str, Record]:
        with open(path, "rb") as file:
            file.seek(start + row * header.row_nbytes)
            data = file.read(header.row_nbytes)
        values = np.frombuffer(data, header.dtype).reshape(header.shape[1:])
        return f"{path}, row {row}", {"features": values}

    return Source(path, names, [header.row_nbytes] * len(names), read)


def _hdf5(path: str, key: str, id_map: str) -> Source:
    wanted = [key] if key else [GRIDS, *records.FEATURES]
    suffix = f"_{key or GRIDS}"
    with hdf5_file.opened(path) as file:
        stacked = hdf5_file.column(file, wanted)
        keyed = [] if stacked is not None else [name for name in file if name.endswith(suffix)]
        if stacked is not None:
            names = hdf5_file.names_of(file, path, "stacked", id_map)
            size = stacked.nbytes // max(len(names), 1)
        else:
            names = [name.removesuffix(suffix) for name in keyed] or list(file)
            size = os.path.getsize(path) // max(len(names), 1)
        is_stacked, is_keyed = stacked is not None, bool(keyed)

    def read(row: int) -> tuple[str, Record]:
        name = names[row]
        where = f"{path}, image {name!r}"
        with hdf5_file.opened(path) as file:
            group, pattern, looked_for = file, "{}", wanted
            if is_stacked:
                return where, {"features": hdf5_file.column(file, wanted)[row]}
            if is_keyed:
                pattern = f"{name}_{{}}"
            elif isinstance(inner := hdf5_data.member(file, name), h5py.Group):
                group = inner
            else:
                looked_for = [name]
            value = {
                item: found[()]
                for item in (*looked_for, *SIZE)
                if (found := hdf5_file.column(group, [pattern.format(item)])) is not None
            }
            features = next((value[item] for item in looked_for if item in value), None)
            if features is None:
                raise DataError(
                    "an image has no features",
                    where=where,
                    expected=" or ".join(pattern.format(item) for item in looked_for),
                    found=list(group)[:10],
                    fix="name them: --key NAME",
                )
            sizes = {k: v for k, v in value.items() if k in SIZE and k not in looked_for}
            return where, {**sizes, "features": features}

    return Source(path, names, [max(1, size)] * len(names), read)
