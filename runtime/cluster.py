"""Several processes as one job: how they meet, and how all of them end when one fails.

JAX alone leaves the others waiting in a collective when a process raises, for as long as its heart
still beats, and says nothing of the cause. Here the process that fails leaves its traceback with
the job's coordinator (process 0), where the others look every second: all print it and exit 1. Of a
process that is killed nothing is left to read; its missing heartbeat, or a broken connection before
that, ends the others within `HEARTBEAT_SECONDS`.
"""

import contextlib
import importlib.util
import itertools
import os
import pathlib
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator

import jax

from core import console, interrupts, lock
from core.errors import ConfigError, UserError
from runtime import coordination

HEARTBEAT_SECONDS = 60
POLL_SECONDS = 1.0
LAST_SECONDS = 24 * 3600  # to wait, at the end, for processes that still work
_FAILED = "cluster/failed"
_STOPPED = "cluster/stopped"
_numbers = itertools.count()  # of meetings: all processes come to the same ones in the same order
_exit_lock = threading.Lock()


def join(multihost: bool | None) -> None:
    """Meets the other processes of the job; before any other use of JAX.

    Args:
      multihost: None: where scripts/launch.py started this process, or this machine has TPUs.

    Raises:
      ConfigError: nothing tells who the other processes are.
    """
    told = "JAX_NUM_PROCESSES" in os.environ
    if multihost is None:
        multihost = told or _has_tpu()
    if not multihost:
        return
    known = {}
    if told:
        known = dict(
            num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
            process_id=int(os.environ["JAX_PROCESS_ID"]),
            cluster_detection_method="deactivate",
        )
    # It would take SIGTERM away from Python; runtime/signals.py starts it when steps are done.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS, **known)
    except ValueError as error:
        raise ConfigError(
            f"--multihost: nothing here tells who the other processes are ({error})\n  fix: start "
            "it on TPU VMs, under SLURM or Open MPI, by scripts/launch.py, or with "
            "JAX_COORDINATOR_ADDRESS=host:port, JAX_NUM_PROCESSES and JAX_PROCESS_ID set"
        ) from None
    if coordination.process_id():
        console.mute()


def _has_tpu(devices: pathlib.Path = pathlib.Path("/dev")) -> bool:
    """Whether JAX would use TPUs of this machine."""
    platforms = jax.config.jax_platforms
    if (platforms and "tpu" not in platforms) or importlib.util.find_spec("libtpu") is None:
        return False
    return any(devices.glob("accel[0-9]*")) or any((devices / "vfio").glob("[0-9]*"))


@contextlib.contextmanager
def guard() -> Iterator[None]:
    """Context of a process' whole work: where it or another process fails, all of them exit 1.

    The others are told the message of a `UserError`, of other exceptions the traceback. Nothing to
    do for a process that is alone: errors pass.
    """
    client = coordination.client()
    if client is None:
        yield
        return
    done = threading.Event()
    threading.Thread(target=_watch, args=(client, done), daemon=True).start()
    try:
        yield
        client.wait_at_barrier("cluster/done", 1000 * LAST_SECONDS)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            stop(interrupts.TEXT, interrupts.STATUS)
        text = f"error: {error}" if isinstance(error, UserError) else traceback.format_exc()
        end(f"{_name()} failed:\n{text}")
    done.set()


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """Context that process 0 goes through before the others enter it; all must come here.

    What it leaves on a folder that they share is there for them, made once.
    """
    client, meeting = coordination.client(), f"cluster/first/{next(_numbers)}"
    first = coordination.process_id() == 0
    if client is not None and not first:
        client.wait_at_barrier(meeting, 1000 * LAST_SECONDS)
    try:
        yield
    finally:  # after an error, too: the others find what is wrong for themselves
        if client is not None and first:
            client.wait_at_barrier(meeting, 1000 * LAST_SECONDS)


def told_by_first(text: str) -> str:
    """What process 0 says here, on every process; all must come here. Needs no devices."""
    client = coordination.client()
    if client is None:
        return text
    key = f"cluster/told/{next(_numbers)}"
    if coordination.process_id() == 0:
        client.key_value_set(key, text)
        return text
    return client.blocking_key_value_get(key, 1000 * LAST_SECONDS)


def end(text: str) -> None:
    """Ends this process and, if it is the first to fail, leaves `text` to the others. No return."""
    if not _exit_lock.acquire(blocking=False):
        time.sleep(LAST_SECONDS)  # another thread is about to end the process
    client = coordination.client()
    if client is not None:
        try:
            client.key_value_set(_FAILED, text[-100_000:])
        except jax.errors.JaxRuntimeError:  # another was first, which may be why this one failed
            text = _failure(client) or text
    _exit(text)


def stop(text: str, code: int = 0) -> None:
    """Ends this process with an exit code, all others with 0, as asked from outside. No return."""
    if not _exit_lock.acquire(blocking=False):
        time.sleep(LAST_SECONDS)
    client = coordination.client()
    if client is not None:
        client.key_value_set(_STOPPED, text, allow_overwrite=True)
        time.sleep(2 * POLL_SECONDS)  # the others would take its end for a failure
    _exit(text, code)


def _name() -> str:
    number, count = coordination.process_id(), coordination.num_processes()
    return f"process {number} of {count} on {socket.gethostname()}"


def _stopped(client) -> str | None:
    """What a process that was asked to stop left, if one was."""
    try:
        return client.key_value_try_get(_STOPPED)
    except jax.errors.JaxRuntimeError:
        return None


def _failure(client) -> str | None:
    """What the first process to fail left, if one has."""
    try:
        return client.key_value_try_get(_FAILED)
    except jax.errors.JaxRuntimeError as error:
        if "NOT_FOUND" in str(error):
            return None
        return f"{_name()} cannot reach process 0 any more: {error}"


def _watch(client, done: threading.Event) -> None:
    while not done.wait(POLL_SECONDS):
        stopped = _stopped(client)
        text = stopped or _failure(client)
        if text and not done.is_set() and _exit_lock.acquire(blocking=False):
            _exit(text, code=0 if stopped else 1)


def _exit(text: str, code: int = 1) -> None:
    together = coordination.client() is not None
    if together:
        text = f"{text.rstrip()}\n{_name()} ends with the job"
    # Whichever process it is: `say` would be silent in all but the first.
    print(text, file=sys.stderr if code else sys.stdout, flush=True)
    sys.stdout.flush()
    if together and coordination.process_id() == 0:
        time.sleep(3 * POLL_SECONDS)  # the store ends with this process; the others read it first
    lock.release_all()
    # Shutting down in good order would wait for processes that are stuck.
    os._exit(code)
