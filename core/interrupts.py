"""Ctrl-C: a line or two instead of a traceback."""

import sys
import types

STATUS = 130  # exit status after Ctrl-C
KEPT = "what is whole is kept: the same command goes on from there"
TEXT = f"stopped by Ctrl-C\n  {KEPT}"
STOPPED = "stopped"  # what a command line says
AGAIN = "stopped at once by a second Ctrl-C: a save that was under way is lost"


def begin(text: str = TEXT) -> None:
    """From now on this process ends with a text where a KeyboardInterrupt ends it.

    Called before the imports that take seconds: programs that can be stopped then do it first.
    """
    before = sys.excepthook

    def told(
        kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print(text, file=sys.stderr, flush=True)
        else:
            before(kind, error, trace)

    sys.excepthook = told
