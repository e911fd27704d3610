"""Keeps known noise of other people's libraries off stderr; everything else passes, as it comes."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

# Runs in a process of its own: were it a thread, a crash of this process would take along what it
# had not passed on yet. Its file descriptor 2 is the real stderr.
_FILTER = """
import os, sys
noise = [os.fsencode(text) for text in sys.argv[1:]]
left = b""
while data := os.read(0, 65536):
    *lines, left = (left + data).split(b"\\n")
    lines = [line + b"\\n" for line in lines]
    kept = b"".join(line for line in lines if not any(text in line for text in noise))
    while kept:
        kept = kept[os.write(2, kept):]
if left and not any(text in left for text in noise):
    os.write(2, left)
"""
_PATIENCE = 5.0  # seconds for the filter to pass on its last lines


@contextlib.contextmanager
def without_lines(noise: Sequence[str]) -> Iterator[None]:
    """Drops the lines that contain one of some texts from file descriptor 2.

    Lines of this process, of its libraries in other languages, threads and child processes, for as
    long as the context lasts; what is no such line reaches stderr when it is complete, even if this
    process crashes. Where stderr is closed or no process can be started nothing is dropped.

    Args:
      noise: texts.
    """
    started = _start_filter(noise)
    if started is None:
        yield
        return
    kept, process = started
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        # Not for ever: a child process that still speaks keeps the filter alive.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)


def _start_filter(noise: Sequence[str]) -> tuple[int, subprocess.Popen] | None:
    """Puts the filter before stderr; (the real one's descriptor, the filter), None: cannot."""
    try:
        kept = os.dup(2)
    except OSError:  # closed
        return None
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _FILTER, *noise],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C ends this process, whose last words it passes on
        )
    except OSError:
        os.close(kept)
        return None
    assert process.stdin is not None
    os.dup2(process.stdin.fileno(), 2)
    process.stdin.close()
    return kept, process
