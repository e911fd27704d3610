"""What went wrong in reading a checkpoint: its files are damaged, or the storage did not give them.

Of a damaged checkpoint nothing more is to be had; the storage may answer the next time. Orbax and
TensorStore have no types of their own for either: what they raise for which was found by deleting,
cutting and changing every file of a checkpoint (tests/checkpoints/test_damage.py and
scripts/fuzz.py do it again). Beyond what is known by its message, an error of a value that comes up
within Orbax is one of the file that it was reading: what it is asked for has been compared before.
"""

import contextlib
import json
import re
import traceback
from collections.abc import Iterator

from core.errors import UserError

# How TensorStore's messages begin. For INVALID_ARGUMENT, as of bytes that it cannot decode, it
# leaves the name of the status out.
_DAMAGED = re.compile(
    r"(NOT_FOUND|OUT_OF_RANGE|DATA_LOSS|FAILED_PRECONDITION): |"
    r'Error (opening "zarr3?" driver|reading (local file )?")'
)
_STORAGE = re.compile(
    r"(UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|ABORTED|CANCELLED|INTERNAL|UNKNOWN"
    r"|PERMISSION_DENIED|UNAUTHENTICATED): |"
    r".*(\[OS error|HTTP response code: (4[02][0-9]|5\d\d)|HTTP/\d.*\b(429|5\d\d)\b)",
    re.DOTALL,
)
# What a parser raises that meets something else than it wrote.
_OF_VALUES = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError,
    NotImplementedError, EOFError,
)  # fmt: skip
# Packages that gs:// is read with, whose errors have no common base.
_CLIENTS = ("gcsfs", "aiohttp", "fsspec", "requests", "google")


class DamageError(UserError):
    """Files of a checkpoint are missing, cut short or changed."""


class StorageError(UserError):
    """A checkpoint cannot be read at present, and nothing says that it is damaged."""


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Context of reading, in which known errors are one of the above; others are bugs and pass."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        kind = _kind(error)
        if kind is None:
            raise
        raise kind(f"{type(error).__name__}: {_root(error)}") from error


def is_known(error: BaseException) -> bool:
    """Whether an error says by its type or message that it is one of those."""
    return any(_kind_of(one) for one in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those it came from."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _root(error: BaseException) -> BaseException:
    """Of Orbax' error about an array the one of TensorStore, which says more."""
    return [error, *(one for one in _chain(error) if _kind_of(one))][-1]


def _kind(error: BaseException) -> type[UserError] | None:
    kinds = [kind for one in _chain(error) if (kind := _kind_of(one))]
    if StorageError in kinds:
        return StorageError
    if not kinds and isinstance(error, _OF_VALUES) and _within_orbax(error):
        return DamageError
    return next(iter(kinds), None)


def _within_orbax(error: BaseException) -> bool:
    """Whether Orbax, or a parser that it called, raised an error, and not JAX with our arrays."""
    frames = traceback.walk_tb(error.__traceback__)
    packages = [frame.f_globals.get("__name__", "").partition(".")[0] for frame, _ in frames]
    return "orbax" in packages and packages[-1] not in ("jax", "jaxlib")


def _kind_of(error: BaseException) -> type[UserError] | None:
    text = str(error)
    if isinstance(
        error,
        json.JSONDecodeError | UnicodeDecodeError | RecursionError | FileNotFoundError
        | NotADirectoryError | IsADirectoryError,
    ):  # fmt: skip
        return DamageError
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in _CLIENTS:
        return StorageError
    if isinstance(error, ValueError) and _STORAGE.match(text):
        return StorageError
    if isinstance(error, ValueError) and _DAMAGED.match(text):
        return DamageError
    return None
