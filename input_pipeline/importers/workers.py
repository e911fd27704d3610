"""Parts of an import in worker processes, each with a reader of its own."""

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.synchronize import Event

from core.errors import DataError, UserError
from input_pipeline.importers import load
from input_pipeline.importers.base import opened_layout
from input_pipeline.importers.parts import Job, PartImporter, Task


def in_processes(job: Job, tasks: Sequence[Task], workers: int) -> Iterator[tuple[int, int]]:
    """Imports parts in processes.

    Args:
      job: what all parts share.
      tasks: one per part.
      workers: processes, at most one per task.

    Yields:
      (index of a task, its number of images), as they are done.

    Raises:
      DataError: of a part, or a process that died. The other parts are given up.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks
    stop, todo = context.Event(), list(reversed(range(len(tasks))))
    processes, running = [], {}  # running: {connection: index of its task}
    try:
        # Ctrl-C reaches all processes, and this one decides: workers inherit that it is blocked.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            for _ in range(workers):
                connection, theirs = context.Pipe()
                processes.append(context.Process(target=_serve, args=(job, stop, theirs)))
                running[connection] = -1
                processes[-1].start()
                theirs.close()  # so that the end of the process is the end of the connection
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for connection in running:
            _give(connection, running, todo, tasks)
        while busy := [connection for connection, index in running.items() if index >= 0]:
            for connection in wait(busy):
                index = running[connection]
                images = _receive(connection, workers, _place(job, tasks[index]))
                _give(connection, running, todo, tasks)
                yield index, images
    finally:
        stop.set()
        for connection in running:
            connection.close()
        for process in processes:
            if process.pid:
                process.join()


def _give(
    connection: Connection, running: dict[Connection, int], todo: list[int], tasks: Sequence[Task]
) -> None:
    """Gives a worker its next task; index -1 where none is left."""
    running[connection] = todo.pop() if todo else -1
    if running[connection] >= 0:
        with contextlib.suppress(ConnectionError):  # a dead worker is noticed when it is read
            connection.send(tasks[running[connection]])


def _place(job: Job, task: Task) -> str:
    """What a worker is at, for messages."""
    first, last = task.parts[0], task.parts[-1]
    if first.file != last.file:
        return f"{job.files[first.file]} to {job.files[last.file]}"
    unit = "record" if first.key else "byte or record"
    return f"{job.files[first.file]}, {unit} {first.start} to {last.stop}"


def _receive(connection: Connection, workers: int, place: str) -> int:
    """Images of the part that a worker has finished; raises its error."""
    try:
        result = connection.recv()
    except (EOFError, ConnectionError) as error:
        raise DataError(
            "a worker process died",
            where=f"one of {workers} workers, at {place}",
            expected="workers that live until the end",
            found="one that was killed (short of memory?) or could not start (see above)",
            fix="run the same command again, with fewer --workers",
        ) from error
    if isinstance(result, BaseException):
        raise result
    return result


def _serve(job: Job, stop: Event, connection: Connection) -> None:
    """A worker's life: imports the parts it is sent, until the connection ends."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    importer = None
    while True:
        try:
            task = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            if importer is None:
                reader = opened_layout(load(job.layout).Layout, job.files, **job.options)
                importer = PartImporter(job, reader, stop.is_set)
            result = importer(task)
        except Exception as error:
            if not isinstance(error, UserError):  # a bug: its place is in this process
                error.add_note(traceback.format_exc())
            result = error
        try:
            connection.send(result)
        except ConnectionError:  # given up by the parent
            return


def _exit_with_parent() -> None:
    """Else workers of a killed parent would go on, beside those of the next."""
    multiprocessing.parent_process().join()
    os._exit(1)
