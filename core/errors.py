"""Errors that a user can cause and mend; everything else that is raised is a bug."""


class UserError(ValueError):
    """Something only the user can put right: told without a traceback, exit status 1.

    The message says what is wrong and, each where it is known, where, what was expected, what was
    found, and the fix.
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
        parts = [what]
        for label, text in (("where", where), ("expected", expected), ("found", found)):
            if text != "":
                parts.append(f"{label}: {text}")
        if fix:
            parts.append(f"fix: {fix}")
        super().__init__("\n  ".join(parts))


class DataError(UserError):
    """A file, record or folder that is wrong or missing."""


class ConfigError(UserError):
    """A setting that is unknown, or does not fit others; the message names it and what would."""
