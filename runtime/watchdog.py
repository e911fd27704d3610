"""Notices that a run has stopped moving, and shows where: the stacks of all threads.

`beat()` is called wherever work moves on: for each batch placed on the devices, in training and in
evaluation. A collective that other processes never join, a file system that hangs or a deadlock
leaves it silent.
"""

import contextlib
import faulthandler
import socket
import tempfile
import threading
import time
from collections.abc import Iterator

import jax
from etils import epath

from core.console import warn
from core.errors import ConfigError
from runtime import cluster

FOLDER = "stalls"
_last = [time.monotonic()]


def beat() -> None:
    """Says that there is progress."""
    _last[0] = time.monotonic()


@contextlib.contextmanager
def watching(block, workdir) -> Iterator[None]:
    """Context in which a silence of `block.seconds` is reported, once until the next beat.

    The stacks go to stderr and WORKDIR/stalls/process-<number>.txt.

    Args:
      block: `config.stall`: seconds (0: off); abort: whether the job ends then.
      workdir: the run folder.
    """
    if block.seconds < 0:
        raise ConfigError(f"config.stall.seconds must be at least 0, found {block.seconds}")
    if not block.seconds:
        yield
        return
    beat()
    done = threading.Event()
    thread = threading.Thread(target=_watch, args=(block, epath.Path(workdir), done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _watch(block, workdir, done) -> None:
    reported = None
    while not done.wait(min(block.seconds / 4, 10.0)):
        last = _last[0]
        silent = time.monotonic() - last
        if silent < block.seconds or reported == last:
            continue
        reported = last
        process = jax.process_index()
        text = (
            f"stall: process {process} on {socket.gethostname()} has placed no batch for "
            f"{silent:.0f} s (config.stall.seconds={block.seconds}); its threads:\n{_stacks()}"
        )
        warn(text)
        folder = workdir / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"process-{process}.txt").write_text(text)
        if block.abort:
            cluster.end(f"{text}ended by config.stall.abort; the last checkpoint is kept")


def _stacks() -> str:
    with tempfile.TemporaryFile("w+") as file:  # faulthandler writes to real files only
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()
