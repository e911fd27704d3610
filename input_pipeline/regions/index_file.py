"""The index of a store on disk: an archive of arrays whose contents can be used where they lie.

`index.npz` is what `np.load` reads, uncompressed, with every array at a multiple of 64 bytes, so
that one that is longer than HELD is mapped from its file: processes of a machine share its pages,
and nothing is decoded. A shorter one is held in memory. Beside the fields of each record and the
packed ids it has the ids' hashes in order (`id_lookup`). An index of before, unaligned or without
these, is read into memory.
"""

import io
import mmap
import os
import pathlib
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import xxhash

from core import npy, remote
from core.console import say
from core.errors import DataError
from core.strings import PackedStrings
from input_pipeline.regions.id_lookup import IdLookup

FILE = "index.npz"
HELD = 2**26  # bytes of an index that is held in memory: that of some 900,000 images
KEYS = ("keys", "key_ends")  # packed ids (`core.strings`)
TOLD = 10**6  # images from which on it is told that their ids are put in order
BYTES = 80  # that an image takes in a process whose index cannot be mapped
PART = 2**17  # records that are checked at a time, so that little memory is taken
_ALIGN = 64
_PADDING = 0xD935  # of a field of a zip member that is padding
_ZIP64 = 20  # bytes of the field that `zipfile` adds where it is told to allow for long members
_LOCAL = 30  # bytes of a member's header before its name
_PIECE = 2**20  # bytes hashed at a time


def write(path: pathlib.Path, index: Mapping[str, np.ndarray]) -> str:
    """Writes the index of a store, and with it the lookup of its ids.

    Args:
      path: of the file.
      index: arrays, KEYS among them.

    Returns:
      Hex digest of the file.
    """
    keys = PackedStrings((index["keys"], index["key_ends"]))
    arrays = {**index, **IdLookup.of(keys).arrays()}
    with open(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            taken = file.tell() + _LOCAL + len(member.filename) + _ZIP64 + 4
            padding = -taken % _ALIGN
            member.extra = struct.pack("<HH", _PADDING, padding) + bytes(padding)
            with archive.open(member, "w", force_zip64=True) as out:
                np.lib.format.write_array(out, np.ascontiguousarray(array), allow_pickle=False)
    digest = xxhash.xxh3_64()
    with open(path, "rb") as file:
        while data := file.read(_PIECE):
            digest.update(data)
    return digest.hexdigest()


def opened(
    folder: remote.Path,
    xxh3: str,
    fields: Mapping[str, type[np.generic]],
    broken: Callable[..., DataError],
) -> tuple[dict[str, np.ndarray], IdLookup]:
    """Opens the index of a store.

    Args:
      folder: of the store.
      xxh3: digest of the file, as the manifest has it.
      fields: dtypes of what it has of each record.
      broken: broken(file, expected, found) makes the error of a damage.

    Returns:
      ({name: array} of `fields` and KEYS, the lookup of its ids).

    Raises:
      DataError: the file is another, or its arrays are none of these.
      Exception: whatever a damaged archive provokes, for `reading`.
    """
    data, found = _contents(remote.local(folder / FILE))
    if found != xxh3:
        raise broken(FILE, f"hash {xxh3}", f"hash {found}")
    index = _arrays_of(data)
    keys = PackedStrings((index["keys"], index["key_ends"]))
    keys.check()
    count = len(keys)
    if not count:
        raise broken(FILE, "at least one image", "none")
    for name, dtype in fields.items():
        if index[name].dtype != dtype or index[name].shape != (count,):
            raise broken(
                FILE,
                f"{name}: {np.dtype(dtype)} ({count},)",
                f"{index[name].dtype} {index[name].shape}",
            )
    lookup = IdLookup.stored(keys, index)
    if lookup is None:
        if count >= TOLD:
            say(
                f"{folder}: its ids are put in order, in {count * BYTES / 1e6:,.0f} MB of this "
                "process; a store that is imported again has them in its index"
            )
        lookup = IdLookup.of(keys)
    return {name: index[name] for name in (*fields, *KEYS)}, lookup


def within(index: Mapping[str, np.ndarray], part: slice, sizes: np.ndarray) -> np.ndarray:
    """bool: which records of a part lie within their shards, of images that have a size.

    Args:
      index: "shard", "offset", "nbytes", "height" and "width" of all records.
      part: of the records.
      sizes: int64, bytes of each shard.
    """
    names = ("shard", "offset", "nbytes", "height", "width")
    shard, offset, nbytes, height, width = (index[name][part] for name in names)
    held = (shard >= 0) & (shard < len(sizes)) & (offset >= 0) & (nbytes >= 0)
    held &= (height >= 1) & (width >= 1)
    room = np.where(held, sizes[np.where(held, shard, 0)], 0) if len(sizes) else 0
    return held & (offset <= room - nbytes)


def _contents(path: str | os.PathLike) -> tuple[bytes | mmap.mmap, str]:
    """The bytes of an index, and their hex digest."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size <= HELD:
            data: bytes | mmap.mmap = file.read()
        else:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return data, xxhash.xxh3_64_hexdigest(data)


def _arrays_of(data: bytes | mmap.mmap) -> dict[str, np.ndarray]:
    """{name: array} of an index, views of its bytes where these are aligned.

    Raises:
      ValueError: members that are compressed, cut, or no arrays of numbers.
      zipfile.BadZipFile: no archive.
    """
    found = {}
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    with zipfile.ZipFile(file) as archive:  # type: ignore[arg-type]  # a map is a file, too
        members = archive.infolist()
    for member in members:
        at = member.header_offset + _LOCAL
        name, extra = struct.unpack("<HH", data[at - 4 : at])
        start = at + name + extra
        if member.compress_type != zipfile.ZIP_STORED or start + member.file_size > len(data):
            raise ValueError(f"{member.filename}: compressed, or cut")
        stream = io.BytesIO(data[start : start + min(member.file_size, 2 * npy.MAX_HEADER)])
        header = npy.read_header(stream)
        first = start + stream.tell()
        if header.dtype.kind == "O" or len(header.shape) != 1:
            raise ValueError(f"{member.filename}: {header.dtype} {header.shape}")
        if first + header.nbytes != start + member.file_size:
            raise ValueError(f"{member.filename}: {header.dtype} {header.shape}, cut")
        array = np.frombuffer(data, header.dtype, header.shape[0], first)
        found[member.filename.removesuffix(".npy")] = array if array.flags.aligned else array.copy()
    return found


def parts(count: int) -> Iterator[slice]:
    """Slices of all of `count` records, to be checked one after the other."""
    for start in range(0, count, PART):
        yield slice(start, min(start + PART, count))
