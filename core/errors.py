"""Errors that a user can cause and mend; everything else that is raised is a bug."""

from core.messages import clip, printable

LONGEST = 10_000  # characters of one part of a message


class UserError(ValueError):
    """Something only the user can put right: told without a traceback, exit status 1.

    The message says what is wrong and, each where it is known, where, what was expected, what was
    found, and the fix. Names and values of files are in it: characters that a terminal would obey
    are shown as escape sequences, and long parts are cut.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        expected: object = "",
        found: object = "",
        fix: str = "",
    ):
        parts = [clip(what, LONGEST)]
        # A place is a line: a line end in a file's name begins no further part.
        for label, text in (
            ("where", str(where).replace("\n", "\\n")),
            ("expected", expected),
            ("found", found),
            ("fix", fix),
        ):
            if text != "":
                parts.append(f"{label}: {clip(str(text), LONGEST)}")
        super().__init__(printable("\n  ".join(parts)))


class DataError(UserError):
    """A file, record or folder that is wrong or missing."""


class ConfigError(UserError):
    """A setting that is unknown, or does not fit others; the message names it and what would."""


class ForeignError(Exception):
    """A mistake in code that the user named, as an extractor: no fault of the file it was given.

    It ends the program with its traceback, whatever was being read.
    """
