"""The one way to speak to whoever started the program."""

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from core import disk, interrupts
from core.errors import UserError
from core.messages import printable

_muted = False


def say(text: str) -> None:
    """Prints to stdout; of several processes of a job the first one alone does."""
    if not _muted:
        _print(text, sys.stdout)


def warn(text: str) -> None:
    """Prints to stderr, in every process: what its own machine or share of the work meets."""
    _print(text, sys.stderr)


def _print(text: str, stream: TextIO) -> None:
    """Prints names of others' files, too: no terminal obeys them, and every encoding takes them."""
    text, encoding = printable(text), getattr(stream, "encoding", None) or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except BrokenPipeError:  # nobody reads any more, as after `| head`: the work goes on
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def mute() -> None:
    """Makes `say` silent: this process is not the first of its job."""
    global _muted
    _muted = True


def command(main: Callable[[Sequence[str]], int | None]) -> Callable[..., int]:
    """Decorates the `main` of a command line, so that it ends with a message and a status.

    Args:
      main: main(argv), without the program's name → exit status, None for 0.

    Returns:
      main(argv=None) → exit status. A `UserError` is told on stderr without its traceback, with
      the notes that were added to it, and gives 1; so do files that cannot be used, full disks,
      and Ctrl-C, which gives 130. Other exceptions are bugs and pass.
    """

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        try:
            return main(list(sys.argv[1:] if argv is None else argv)) or 0
        except UserError as error:
            warn("\n".join([f"error: {error}", *getattr(error, "__notes__", ())]))
            return 1
        except KeyboardInterrupt as error:
            warn("\n".join([interrupts.STOPPED, *getattr(error, "__notes__", ())]))
            return interrupts.STATUS
        except BrokenPipeError:  # whoever read the output has seen enough
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # Python flushes it at its end
            return 1
        except Exception as error:
            found = disk.told(error)
            if found is None:
                raise
            warn("\n".join([f"error: {found}", *getattr(error, "__notes__", ())]))
            return 1

    return run
