"""Writes a page: one HTML file that loads nothing and runs no script but its own.

Texts of others never become markup: they go in as JSON, in an element that is not executed, and
the script shows them as plain text. The page's policy allows its own style and script by their
hashes, and nothing from elsewhere.
"""

import base64
import hashlib
import importlib.resources
import json
import os
from collections.abc import Mapping
from typing import Any

from core.progress import atomic_file

# In the order in which they need each other.
SCRIPTS = ("base.js", "maps.js", "scene.js", "panels.js", "save.js", "main.js")


def write(path: str | os.PathLike[str], content: Mapping[str, Any]) -> int:
    """Writes a page, whole or not at all; returns its size in bytes.

    Args:
      path: of the file; its folder is made.
      content: of `content.page`.
    """
    data = html(content).encode()
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)
    return len(data)


def html(content: Mapping[str, Any]) -> str:
    """The page."""
    script = "\n".join(['"use strict";', "(() => {", *map(_asset, SCRIPTS), "})();"])
    style = _asset("page.css")
    parts = {
        "POLICY": f"default-src 'none'; img-src data: blob:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'",
        "STYLE": style,
        "CONTENT": escaped(content),
        "SCRIPT": script,
    }
    page = _asset("page.html")
    # One pass over the template: what is put in is not looked through again.
    pieces = page.split("@@")
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def escaped(content: Mapping[str, Any]) -> str:
    """JSON in ASCII letters that no HTML parser takes for markup."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _asset(name: str) -> str:
    return (importlib.resources.files("inference.look") / "assets" / name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
