"""Writes a page that `content` describes, see `evaluation.report.static_page`."""

import os
from collections.abc import Mapping
from typing import Any

from evaluation.report import static_page

SCRIPTS = ("maps.js", "scene.js", "panels.js", "save.js", "main.js")


def write(path: str | os.PathLike[str], content: Mapping[str, Any]) -> int:
    """Writes a page, whole or not at all; returns its size in bytes.

    Args:
      path: of the file; its folder is made.
      content: of `content.page`.
    """
    return static_page.write(path, "inference.look", SCRIPTS, content)


def html(content: Mapping[str, Any]) -> str:
    """The page."""
    return static_page.html("inference.look", SCRIPTS, content)
