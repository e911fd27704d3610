"""absl's flags with a config file among them: what the user got wrong is one message."""

import os
import sys
import traceback
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from core.console import warn


def parse(argv: Sequence[str]) -> list[str]:
    """For `app.run(main, flags_parser=parse)`: parses, or exits 1 with a message.

    ml_collections puts the whole traceback of a config's ValueError into its message, and lets
    the AttributeError of a field that no config has pass. Errors of another kind in a config file
    are bugs, and show where.
    """
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        cause = _first(error)
        warn(
            f"error: {cause if 'Traceback' in str(error) and type(cause) is ValueError else error}"
        )
        sys.exit(1)
    except (AttributeError, KeyError) as error:
        if any(frame.name == "get_config" for frame in traceback.extract_tb(error.__traceback__)):
            raise
        told = str(_first(error).args[0]).replace("\n", ". ")
        warn(f"error: the config has no such field: {told}")
        sys.exit(1)
    file = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0]
    if not os.path.isfile(file):  # ml_collections tells it when the config is first read
        warn(f"error: --config: no such file: {file}")
        sys.exit(1)
    return rest


def _first(error: BaseException) -> BaseException:
    """The error that the others came from."""
    while cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = cause
    return error
