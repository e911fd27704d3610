"""The boundary around code that reads what others wrote: all that a file provokes is a DataError.

Readers check what they can name: sizes, types, fields. What nobody thought of (a header that is no
header, a number of ten thousand digits, an archive that contradicts itself) ends in an exception of
some library, of any type, or in a MemoryError; here it becomes an error that names the place.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from core.errors import DataError, ForeignError, UserError
from core.messages import clip

T = TypeVar("T")


def unreadable(
    where: str,
    error: Exception,
    what: str = "a file cannot be read",
    *,
    expected: str = "",
    fix: str = "copy the file again",
) -> DataError:
    """The DataError of an exception that a file has provoked."""
    found = f"{type(error).__name__}: {clip(str(error), 300)}".removesuffix(": ")
    if isinstance(error, MemoryError):
        found = "more than fits into memory"
    return DataError(what, where=where, expected=expected, found=found, fix=fix)


@contextlib.contextmanager
def reading(
    where: str,
    what: str = "a file cannot be read",
    *,
    expected: str = "",
    fix: str = "copy the file again",
) -> Iterator[None]:
    """Around code that reads a file or a record: any exception becomes a DataError.

    Errors that say already what is wrong pass as they are, and so does `ForeignError`. Code that
    writes does not belong here but in `disk.explained`: a full disk is no fault of what is read.

    Args:
      where: file, and member, key or line, for the message.
      what: is wrong, where nothing more is known.
      expected: for the message.
      fix: for the message.
    """
    try:
        yield
    except (UserError, ForeignError):
        raise
    except Exception as error:
        raise unreadable(where, error, what, expected=expected, fix=fix) from error


def attempt(
    where: str, read: Callable[[], T], what: str = "a record cannot be read"
) -> T | DataError:
    """What `read()` gives, or in its place the error of what it met."""
    try:
        with reading(where, what):
            return read()
    except DataError as error:
        return error
