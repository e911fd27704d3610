"""The one way to speak to whoever started the program."""

import sys

_muted = False


def say(text: str) -> None:
    """Prints to stdout; of several processes of a job the first one alone does."""
    if not _muted:
        print(text, flush=True)


def warn(text: str) -> None:
    """Prints to stderr, in every process: what its own machine or share of the work meets."""
    print(text, file=sys.stderr, flush=True)


def mute() -> None:
    """Makes `say` silent: this process is not the first of its job."""
    global _muted
    _muted = True
