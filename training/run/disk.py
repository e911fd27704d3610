"""The disk of the run folder: checked before work starts, and named in errors when it fails."""

import contextlib
import os
import shutil
from collections.abc import Iterator

import jax
from etils import epath

from checkpoints.checkpoint import FOLDER
from core import disk
from core.errors import DataError, UserError


class DiskError(UserError):
    """The run folder cannot be written; the message says why and what to do."""


def require_writable(workdir) -> None:
    """Makes the run folder and writes a file in it, as every process of a run has to.

    Raises:
      DiskError: that is not possible.
    """
    folder = epath.Path(workdir)
    probe = folder / f".writable-{jax.process_index()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("x" * 4096)
        probe.unlink(missing_ok=True)  # --mode=eval beside a run may have removed it
    except OSError as error:
        raise DiskError(
            f"cannot write in the run folder {workdir}: {error}\n"
            "  fix: make it writable, free space there, or give another --workdir"
        ) from None


@contextlib.contextmanager
def explained(workdir) -> Iterator[None]:
    """Context in which the errors of a disk that is full or read-only become a DiskError.

    Args:
      workdir: the run folder; the message says which checkpoints it has.
    """
    try:
        yield
    except Exception as error:
        cause = disk.of_writing(error)
        if cause is None:
            raise
        what = f"the disk is full or cannot be written any more: {str(cause)[:500]}"
        # Who wrote elsewhere, as a data set does, has said where.
        what = str(error) if isinstance(error, DataError) else what
        raise DiskError(
            f"{what}\n  {state(workdir)}\n"
            "  fix: free space and give the same command: it continues from the newest of them"
        ) from error


def state(workdir) -> str:
    """The whole checkpoints of a run, and the space that is left beside them."""
    folder = epath.Path(workdir) / FOLDER
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    steps = sorted(int(name) for name in names if name.isdigit())
    text = f"whole checkpoints in {workdir}: {', '.join(map(str, steps)) or 'none'}"
    if os.path.isdir(workdir):
        text += f"; free there: {shutil.disk_usage(workdir).free / 1e6:,.1f} MB"
    return text
