"""Options that verbs share."""

from typing import Any

from core.errors import ConfigError


def top(top_k: Any, most: int) -> int:
    """A number of answers, at most as many as there are.

    Raises:
      ConfigError: it is none.
    """
    if not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1:
        raise ConfigError("top_k is no number", expected="a whole number from 1", found=repr(top_k))
    return min(top_k, most)
