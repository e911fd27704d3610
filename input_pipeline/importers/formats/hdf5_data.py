"""Datasets of HDF5 files of others: found without leaving the file, read with checked sizes.

HDF5 gives zeros for what was never written, reads other files that a file names (external links,
external storage, sources of virtual datasets), and unpacks whatever sizes a file declares. Here
none of that happens: a name leads to what is in the file itself, a chunk that is not there is an
error of the image that needs it, and sizes are compared with limits before anything is read.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from core.errors import DataError
from core.messages import brief
from input_pipeline.importers.formats.inputs import MAX_LIST, MAX_RECORD

MAX_CHUNK = 2**28  # bytes that HDF5 unpacks at a time
_MAX_LINKS = 16  # soft links that lead to each other


def member(
    group: h5py.Group, name: str, left: int = _MAX_LINKS
) -> h5py.Group | h5py.Dataset | None:
    """What a name leads to within the file; None where there is no such thing.

    Args:
      group: where the path begins.
      name: path below it.
      left: how many soft links may follow.

    Raises:
      DataError: a link to another file, or soft links in a circle.
    """
    found: Any = group.file if name.startswith("/") else group
    for part in name.split("/"):
        if not part or part == ".":
            continue
        # `part in found` would follow the link.
        if not isinstance(found, h5py.Group) or not found.id.links.exists(part.encode()):
            return None
        link = found.get(part, getlink=True)
        if isinstance(link, h5py.SoftLink) and left:
            found = member(found, link.path, left - 1)
        elif isinstance(link, h5py.HardLink):
            found = found[part]
        else:
            raise _elsewhere(
                f"{found.name.rstrip('/')}/{part}", group, f"a link: {brief(vars(link))}"
            )
        if found is None:
            return None
    return found


class Dataset:
    """A dataset of a file of others, whose numbers are in that file; read by indexing.

    Attributes:
      name: path in the file.
      shape: of the whole.
      dtype: as stored.
    """

    def __init__(self, data: h5py.Dataset):
        """Checks what is known before anything is read.

        Raises:
          DataError: its numbers are in other files, or of a kind that is not read.
        """
        self._data = data
        self.name, self.dtype = data.name, data.dtype
        if data.shape is None:
            raise ValueError(f"{data.name} is empty")
        self.shape: tuple[int, ...] = data.shape
        self._is_text = h5py.check_string_dtype(data.dtype) is not None
        properties = data.id.get_create_plist()
        self._layout = properties.get_layout()
        if self._layout == h5py.h5d.VIRTUAL:
            raise _elsewhere(data.name, data, "a virtual dataset, of parts of other files")
        if properties.get_external_count():
            raise _elsewhere(data.name, data, f"numbers in the file {brief(data.external[0][0])}")
        if data.dtype.kind not in "biufS" and not self._is_text:
            raise self._error("a dataset of an unknown kind", "numbers or texts", brief(data.dtype))
        if data.chunks and math.prod(data.chunks) * data.dtype.itemsize > MAX_CHUNK:
            raise self._error(
                "the chunks of a dataset are too large",
                f"at most {MAX_CHUNK:,} bytes unpacked",
                f"chunks of {data.chunks} {data.dtype}",
                "write it again in chunks of an image each (h5repack -l CHUNK=...)",
            )

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements, unpacked."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, bounds: Any) -> np.ndarray:
        """A row, a slice of rows, or everything: ().

        Raises:
          DataError: more than a record takes, or a part that was never written.
        """
        return self._read(bounds, MAX_RECORD)

    def whole(self) -> np.ndarray:
        """All of a dataset with an entry for each image; errors as of indexing."""
        return self._read((), MAX_LIST)

    def texts(self) -> Iterator[Any]:
        """The entries of a dataset of an axis, as they are: bytes, or numbers."""
        if self.nbytes > MAX_LIST:
            raise self._too_large(self.shape, MAX_LIST)
        # Texts of any length are elsewhere in the file, and many may be the same large one.
        step = 64 if self.dtype.kind == "O" else max(len(self), 1)
        for start in range(0, len(self), step):
            yield from self._read(slice(start, start + step), MAX_LIST).tolist()

    def _read(self, bounds: Any, limit: int) -> np.ndarray:
        first, lengths = 0, self.shape
        if bounds != ():
            rows = bounds if isinstance(bounds, slice) else slice(bounds, bounds + 1)
            first, last, _ = rows.indices(len(self))
            lengths = (max(last - first, 0), *self.shape[1:])
        if math.prod(lengths) * self.dtype.itemsize > limit:
            raise self._too_large(lengths, limit)
        if math.prod(lengths):
            self._require_written(first, lengths)
        return np.asarray(self._data[bounds])

    def _require_written(self, first: int, lengths: tuple[int, ...]) -> None:
        """Raises DataError unless all chunks of lengths[0] rows from `first` on were written."""
        data, missing = self._data, ""
        if data.chunks is None:
            # Compact data is in the header; other data has no place until it is written.
            if self._layout != h5py.h5d.COMPACT and not data.id.get_storage_size():
                missing = "nothing of it was written"
        elif not self._is_complete:
            starts = (first, *(0 for _ in lengths[1:]))
            corners = itertools.product(
                *(
                    range(start // chunk * chunk, start + length, chunk)
                    for start, length, chunk in zip(starts, lengths, data.chunks, strict=True)
                )
            )
            found = ((c, data.id.get_chunk_info_by_coord(c).byte_offset) for c in corners)
            gap = next((corner for corner, place in found if place is None), None)
            missing = "" if gap is None else f"no chunk at {gap}"
        if missing:
            raise self._error(
                "a part of an HDF5 file was never written",
                "numbers for each image",
                f"{missing}: what wrote the file did not finish",
                "make the file again, or leave out the images that lack them with --on_bad skip",
            )

    @functools.cached_property
    def _is_complete(self) -> bool:
        """Whether all chunks are there."""
        sizes = zip(self.shape, self._data.chunks, strict=True)
        return self._data.id.get_num_chunks() >= math.prod(-(-n // chunk) for n, chunk in sizes)

    def _too_large(self, lengths: tuple[int, ...], limit: int) -> DataError:
        expected, found = f"at most {limit:,} bytes", f"{lengths} {self.dtype}"
        return self._error("a record is larger than any image's", expected, found)

    def _error(self, what: str, expected: str, found: str, fix: str = "") -> DataError:
        where = f"{self._data.file.filename}, {self.name}"
        return DataError(what, where=where, expected=expected, found=found, fix=fix)


def dataset(group: h5py.Group, name: str) -> Dataset | None:
    """The dataset of a name, None without one; errors as of `member` and `Dataset`."""
    found = member(group, name)
    return Dataset(found) if isinstance(found, h5py.Dataset) else None


def subgroup(group: h5py.Group, name: str) -> h5py.Group | None:
    """The group of a name, None without one; errors as of `member`."""
    found = member(group, name)
    return found if isinstance(found, h5py.Group) else None


def _elsewhere(name: str, group: h5py.HLObject, found: str) -> DataError:
    return DataError(
        "an HDF5 file leads to other files, which are not read",
        where=f"{group.file.filename}, {name}",
        expected="all numbers in the file itself",
        found=found,
        fix="copy what it leads to into one file: h5repack, or h5py's Group.copy with "
        "expand_external=True",
    )
