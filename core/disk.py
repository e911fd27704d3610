"""Errors of disks that are full, read-only or refuse, found among what libraries raise for them."""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator

from core.errors import DataError

_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
_WRITING = ("ENOSPC", "EDQUOT", "EFBIG", "EROFS")
# What libraries that are not Python's say: TensorStore names the number, safetensors and HDF5 have
# the system's words, numpy counts.
_WORDS = re.compile(
    "|".join(
        (
            *_WRITING,
            *(re.escape(os.strerror(getattr(errno, name))) for name in _WRITING),
            r"\d+ requested and \d+ written",
        )
    )
)


def of_writing(error: BaseException | None) -> BaseException | None:
    """The first error of a disk that takes no more, among an error and those it came from."""
    while error is not None:
        if isinstance(error, OSError) and errno.errorcode.get(error.errno or 0) in _WRITING:
            return error
        if not isinstance(error, DataError) and _WORDS.search(str(error)):
            return error
        error = error.__cause__ or error.__context__
    return None


def told(error: BaseException, place: str | os.PathLike = "") -> DataError | None:
    """A sentence for an error of a disk, or of a file that cannot be used; None for other errors.

    Args:
      error: that was raised.
      place: being written, where the error itself names none.
    """
    cause = of_writing(error)
    if cause is not None:
        number, name = getattr(cause, "errno", None), getattr(cause, "filename", None)
        where = os.fspath(place) or (os.fsdecode(name) if isinstance(name, (str, bytes)) else "")
        return DataError(
            "the disk is read-only"
            if number == errno.EROFS
            else "the disk is full, or a limit on files or quota is reached",
            where=where,
            expected="a place that can be written to" + _free(where),
            found=str(cause)[:300],
            fix="free space or choose another place; nothing was left half written",
        )
    if isinstance(error, OSError) and error.errno and isinstance(error.filename, (str, bytes)):
        return DataError(
            "a file or folder may not be used"
            if error.errno in _REFUSED
            else "a file or folder cannot be used",
            where=os.fsdecode(error.filename),
            expected="one that this program may read and write",
            found=error.strerror,
            fix="check the path and its permissions",
        )
    return None


def _free(place: str) -> str:
    """How much is free at the nearest folder that is there."""
    folder = os.path.abspath(place)
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    with contextlib.suppress(OSError):
        return f" ({shutil.disk_usage(folder).free / 1e6:,.1f} MB are free in {folder})"
    return ""


@contextlib.contextmanager
def explained(place: str | os.PathLike) -> Iterator[None]:
    """Context of writing, in which the errors of a disk become a DataError.

    Args:
      place: what is written.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DataError):
            raise
        # Other files than this one may be read here, too, so permission alone says nothing of it.
        refused = isinstance(error, OSError) and error.errno != errno.ENOENT
        mine = refused and _is_below(getattr(error, "filename", None), place)
        found = told(error, place) if mine or of_writing(error) else None
        if found is None:
            raise
        raise found from error


def _is_below(name: object, place: str | os.PathLike) -> bool:
    """Whether a path is what is written, or beside it, as what is not finished is."""
    if not isinstance(name, (str, bytes)):
        return False
    folder = os.path.dirname(os.path.abspath(place))
    return os.path.join(os.path.abspath(os.fsdecode(name)), "").startswith(os.path.join(folder, ""))
