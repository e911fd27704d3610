"""What the adapters to other libraries share: errors of weights that are missing, the device."""

import contextlib
from collections.abc import Iterator

import torch

from core.errors import DataError


@contextlib.contextmanager
def loading(model: str, fix: str) -> Iterator[None]:
    """Around code that reads or downloads a model of a library.

    Raises:
      DataError: whatever keeps it from being loaded, with what to download.
    """
    try:
        yield
    except Exception as error:  # networks, files and libraries fail in a dozen ways
        reason = (str(error).splitlines() or [""])[0][:300]
        raise DataError(
            "a model's weights cannot be loaded",
            where=model,
            expected="the name of a model of the library, or a file or folder here",
            found=f"{type(error).__name__}: {reason}",
            fix=fix,
        ) from error


def device_of(name: str) -> torch.device:
    """The device of a name; empty: a GPU where there is one."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def workers_on(device: torch.device) -> int:
    """Processes that may have a model on a device: one on a GPU, whose memory they would share."""
    return 1 if device.type == "cuda" else 2**10
