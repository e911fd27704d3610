"""A .npz file's arrays by name, without pickles; sizes are checked before anything is unpacked."""

import io
import zipfile
from collections.abc import Sequence

import numpy as np

from core import npy
from core.reading import reading
from input_pipeline.importers.formats.members import MAX_MEMBER

_WHAT = "not a readable .npz file"
_EXPECTED = "an .npz archive, its arrays without pickled objects"
_FIX = "copy the file again, or leave this image out"
_SUFFIX = ".npy"


def names(path: str) -> list[str]:
    """Names of the arrays in a file.

    Raises:
      DataError: it cannot be read.
    """
    with reading(path, _WHAT, expected=_EXPECTED, fix=_FIX), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(_SUFFIX) for name in archive.namelist()]
    return []  # not reached


def load(
    source: str | bytes, wanted: Sequence[str] | None = None, where: str = ""
) -> dict[str, np.ndarray]:
    """Arrays by name.

    Args:
      source: path, or the file's bytes.
      wanted: names to read; the others stand for themselves, as empty arrays. None: all.
      where: for messages, where the source is no path.

    Raises:
      DataError: it cannot be read.
    """
    where = where or (source if isinstance(source, str) else "")
    file = source if isinstance(source, str) else io.BytesIO(source)
    found: dict[str, np.ndarray] = {}
    left = MAX_MEMBER
    with reading(where, _WHAT, expected=_EXPECTED, fix=_FIX), zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(_SUFFIX)
            if wanted is not None and name not in wanted:
                found[name] = np.empty(0)
                continue
            left -= info.file_size
            if left < 0:
                raise ValueError(
                    f"{info.filename} and those before it take over {MAX_MEMBER:,} bytes"
                )
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{info.filename} is packed by method {info.compress_type}")
            data = archive.read(info)
            if npy.read_header(io.BytesIO(data)).dtype.hasobject:
                raise ValueError(f"{info.filename} holds pickled objects")
            found[name] = npy.load(data, f"{where}@/{info.filename}")
    return found
