"""One process at a time in a folder: a lock file that says who has it.

The file holds the host, the process and when it took the lock. On the same machine a look at the
process tells whether it still runs; of another machine (a shared folder, gs://, another container)
only the file tells, which the holder touches every BEAT seconds. A lock whose holder is gone is
taken over, and that is said.
"""

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from core import remote
from core.console import warn
from core.errors import DataError

BEAT = 10.0  # seconds between two signs of life
PATIENCE = 60.0  # seconds without one, after which the holder counts as gone
_LONGEST = 200  # characters of a command line that are shown

_held: list["_Lock"] = []


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who has a lock.

    Attributes:
      host, pid: of the process.
      since: when it took the lock, UTC.
      command: how it was started.
      machine: what `host` means: the kernel that is running, and the process numbers it counts by.
      born: when the process began, in the kernel's ticks; a number that is used again has another.
      token: of this very lock.
    """

    host: str
    pid: int
    since: str
    command: str
    machine: str
    born: str
    token: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}: {self.command}"


def _machine() -> str:
    """Names the kernel that runs here and its process numbers; "" where it cannot be told."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """When a process of this machine began; "" where there is none."""
    try:
        # The name, in brackets, may hold anything.
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]  # a zombie is no more


def _me() -> Holder:
    now = datetime.datetime.now(datetime.UTC)
    command = " ".join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]])
    return Holder(
        host=socket.gethostname(),
        pid=os.getpid(),
        since=f"{now:%Y-%m-%d %H:%M:%S} UTC",
        command=command if len(command) <= _LONGEST else f"{command[:_LONGEST]} …",
        machine=_machine(),
        born=_born(os.getpid()),
        token=uuid.uuid4().hex,
    )


@contextlib.contextmanager
def held(
    path: str | os.PathLike,
    what: str,
    *,
    fix: str,
    lost: Callable[[str], None] = warn,
) -> Iterator[None]:
    """Context in which this process has a lock.

    Args:
      path: of the lock file, on this machine or gs://; its folder is there.
      what: is held, for messages: "the run folder runs/a".
      fix: what else to do than to wait for the holder.
      lost: lost(text) is called from another thread where the lock was taken away, as from a
        process that was suspended.

    Raises:
      DataError: another process has it; names it.
    """
    lock = _Lock(remote.path(path), what, fix, lost)
    lock.take()
    try:
        yield
    finally:
        lock.release()


def release_all() -> None:
    """Gives back every lock of this process, which is about to end without further ado."""
    for lock in list(_held):
        lock.release()


class _Lock:
    def __init__(self, path: remote.Path, what: str, fix: str, lost: Callable[[str], None]):
        self._path, self._what, self._fix, self._lost = path, what, fix, lost
        self._me, self._ended = _me(), threading.Event()
        self._beats = 0

    def take(self) -> None:
        """Takes the lock, from a holder that is gone if need be."""
        while not remote.create(self._path, self._text()):
            before = self._read()
            if before is None:
                continue  # it was given back in between
            found = _parsed(before[0])
            if not self._is_gone(found, before):
                raise DataError(
                    f"another process is at work in {self._what}",
                    where=str(self._path),
                    expected="one at a time",
                    found=str(found) if found else "a lock that is not readable, but in use",
                    fix=f"wait for it or stop it, or {self._fix}",
                )
            if self._read() != before:
                continue  # another process was faster
            warn(
                f"{self._what}: its last process is gone, this one takes over\n"
                f"  it was {found or 'one whose lock is not readable'}"
            )
            remote.replace(self._path, self._text())
            if self._is_mine():
                break
        _held.append(self)
        threading.Thread(target=self._beat, daemon=True).start()

    def release(self) -> None:
        """Gives the lock back, if it is still this one's."""
        if self in _held:
            _held.remove(self)
            self._ended.set()
            with contextlib.suppress(OSError):
                if self._is_mine():
                    self._path.unlink()

    def _text(self) -> bytes:
        """The file's content; on gs://, where files have no times of ours, with a counter."""
        counter = {"beats": self._beats} if remote.is_remote(self._path) else {}
        return (json.dumps(dataclasses.asdict(self._me) | counter, indent=2) + "\n").encode()

    def _read(self) -> tuple[bytes, int] | None:
        """(content, time of the last change); None where there is no lock."""
        with contextlib.suppress(FileNotFoundError):
            if remote.is_remote(self._path):
                return self._path.read_bytes(), 0
            with open(self._path, "rb") as file:  # opened anew, NFS asks the server for the time
                return file.read(), os.fstat(file.fileno()).st_mtime_ns
        return None

    def _is_mine(self) -> bool:
        found = self._read()
        holder = _parsed(found[0]) if found else None
        return holder is not None and holder.token == self._me.token

    def _is_gone(self, holder: Holder | None, before: tuple[bytes, int]) -> bool:
        """Whether the holder of a lock no longer runs."""
        if holder and holder.machine and holder.machine == self._me.machine:
            return not holder.born or _born(holder.pid) != holder.born
        warn(
            f"{self._what} was last used by {holder or 'a process whose lock is not readable'}\n"
            f"  watching for up to {PATIENCE:.0f} s whether it still runs"
        )
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self._read() != before:
                return self._read() is None
            time.sleep(min(1.0, PATIENCE / 4))
        return True

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                found = self._read()
                if found is None:
                    continue  # removed by hand: nobody else has it
                holder = _parsed(found[0])
                if holder and holder.token != self._me.token:
                    self._lost(
                        f"error: {self._what} was taken over by {holder}\n"
                        "  this process gave no sign of life for too long and ends"
                    )
                    return
                self._beats += 1
                if remote.is_remote(self._path):
                    self._path.write_bytes(self._text())
                else:
                    os.utime(self._path)
            except Exception:  # of the disk or the network: the next one may succeed
                continue


def _parsed(text: bytes) -> Holder | None:
    """The holder that a lock file names; None where it is not understood."""
    try:
        values: dict[str, Any] = json.loads(text)
        values.pop("beats", None)
        return Holder(**values)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
