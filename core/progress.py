"""Progress lines of long work, with rate and remaining time; and atomic writing of files."""

import contextlib
import glob
import os
import pathlib
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator

from core import disk, lock, remote
from core.console import warn
from core.errors import DataError


class Progress:
    """Writes `label: done/total, rate, time left` to stderr, at most every `every` seconds.

    The rate is that of what followed the first units, which also wait for programs to load, files
    to open and code to compile; until it has been measured for a while there is none.
    """

    def __init__(
        self, label: str, total: float | None = None, *, unit: str = "rows", every: float = 10.0
    ):
        self.label, self.total, self.unit, self.every = label, total, unit, every
        self.done: float = 0
        self._last = time.monotonic()
        self._first: tuple[float, float] | None = None  # (units, time) after the first `add`

    def add(self, count: float = 1) -> None:
        """Counts `count` units as done."""
        self.done += count
        now = time.monotonic()
        if self._first is None:
            self._first = self.done, now
        if now - self._last >= self.every:
            self._last = now
            warn(self._line(now - self._first[1], self.done - self._first[0]))

    def _line(self, seconds: float, units: float) -> str:
        """The line after so many units in so many seconds since the first ones."""
        text = f"{self.label}: {self.done:,.0f}"
        text += f"/{self.total:,.0f} {self.unit}" if self.total else f" {self.unit}"
        if units <= 0 or seconds < self.every / 2:
            return text
        rate = units / seconds
        text += f", {rate:,.0f}/s" if rate >= 10 else f", {rate:.2g}/s"
        if self.total:
            text += f", {(self.total - self.done) / rate:,.0f} s left"
        return text


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a temporary path that becomes the file `path` at the end, or nothing after an error.

    Args:
      path: of this machine, where its folder is made, or gs://.

    Raises:
      DataError: the disk is full or read-only.
    """
    path = remote.path(path)
    if remote.is_remote(path):
        with tempfile.TemporaryDirectory() as scratch, disk.explained(scratch):
            yield pathlib.Path(scratch, path.name)
            remote.upload(pathlib.Path(scratch, path.name), path)
        return
    temporary = path.with_name(f".{path.name}.tmp-{uuid.uuid4().hex[:8]}")
    with disk.explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            _remove(temporary)


def _remove(path: pathlib.Path) -> None:
    """Removes a file or folder as far as that is possible: an error is on its way already."""
    with contextlib.suppress(OSError):
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)


def _exists(folder: remote.Path) -> DataError:
    return DataError(
        "the output folder exists already",
        where=str(folder),
        expected="a path that is not there yet",
        found="a folder" if folder.is_dir() else "a file",
        fix="remove it or choose another path",
    )


@contextlib.contextmanager
def atomic_folder(
    folder: str | os.PathLike, *, keep_existing: bool = False, last: str = ""
) -> Iterator[pathlib.Path]:
    """Gives a temporary folder that becomes `folder` at the end, or nothing after an error.

    Args:
      folder: the final path, of this machine or gs://; its parents are made.
      keep_existing: a folder that is there already is kept and the new one dropped (for caches,
        which another process may have finished first); else it is an error at the start.
      last: the file that marks a complete folder on gs://, where folders cannot be renamed.

    Raises:
      DataError: `folder` exists and `keep_existing` is False; the disk is full or read-only.
    """
    folder = remote.path(folder)
    if not keep_existing and folder.exists():
        raise _exists(folder)
    if remote.is_remote(folder):
        # Of two writers of the same contents the second overwrites equal objects.
        with remote.new_folder(folder, last=last) as temporary:
            yield temporary
        return
    temporary = folder.with_name(f".{folder.name}.tmp-{uuid.uuid4().hex[:8]}")
    with disk.explained(folder):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            _name(temporary, folder, keep_existing)
        finally:
            _remove(temporary)


def _name(temporary: pathlib.Path, folder: pathlib.Path, keep_existing: bool) -> None:
    """Gives a finished folder its name."""
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        if not (keep_existing and folder.is_dir()):
            raise _exists(folder) from None  # another process was faster


@contextlib.contextmanager
def alone(folder: str | os.PathLike) -> Iterator[None]:
    """Context of long work on an `atomic_folder`, for one process at a time.

    What a process that was killed in it left beside the folder is removed, and that is said.

    Raises:
      DataError: another process is at it; names it.
    """
    folder = remote.path(folder)
    path = folder.with_name(f".{folder.name}.lock")
    with (
        disk.explained(folder),
        lock.held(path, f"the new folder {folder}", fix="choose another path"),
    ):
        if not remote.is_remote(folder):
            for leftover in sorted(folder.parent.glob(f".{glob.escape(folder.name)}.tmp-*")):
                warn(f"removing {leftover}, which a process that was killed has left")
                shutil.rmtree(leftover, ignore_errors=True)
        yield
