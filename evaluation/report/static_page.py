"""Pages with a script: one HTML file that loads nothing and runs no script but its own.

Texts of others never become markup: they go in as JSON, in an element that is not executed, and
the script shows them as plain text. The page's policy allows its own style and script by their
hashes, and nothing from elsewhere.

A kind of page is a folder `assets/` of a package: page.html, page.css and scripts. `base.js` and
`base.css`, which come before these, are what all kinds share.
"""

import base64
import hashlib
import importlib.resources
import json
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from core import remote
from core.errors import DataError
from core.progress import atomic_file

_CONTENT = re.compile(r'<script type="application/json" id="content">([^<]*)</script>')


def write(
    path: str | os.PathLike[str], package: str, scripts: Sequence[str], content: Mapping[str, Any]
) -> int:
    """Writes a page, whole or not at all; returns its size in bytes.

    Args:
      path: of the file; its folder is made.
      package: whose `assets/` say how the page looks.
      scripts: names of its scripts, in the order in which they need each other.
      content: JSON values; "title", "lines" and "notes" are what every page begins with.
    """
    data = html(package, scripts, content).encode()
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)
    return len(data)


def html(package: str, scripts: Sequence[str], content: Mapping[str, Any]) -> str:
    """The page; arguments as `write` has them."""
    parts_of_script = [_asset(__package__, "base.js"), *(_asset(package, one) for one in scripts)]
    script = "\n".join(['"use strict";', "(() => {", *parts_of_script, "})();"])
    style = _asset(__package__, "base.css") + _asset(package, "page.css")
    parts = {
        "POLICY": f"default-src 'none'; img-src data: blob:; style-src '{hash_of(style)}'; "
        f"script-src '{hash_of(script)}'",
        "STYLE": style,
        "CONTENT": escaped(content),
        "SCRIPT": script,
    }
    # One pass over the template: what is put in is not looked through again.
    pieces = _asset(package, "page.html").split("@@")
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def content_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a page was made of.

    Raises:
      DataError: no such file, or no page of this project.
    """
    where = remote.path(path)
    try:
        text = where.read_bytes().decode()
        found = _CONTENT.search(text)
        content = json.loads(found[1]) if found else None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError("a page cannot be read", where=where, found=str(error)[:200]) from error
    if not isinstance(content, dict):
        raise DataError(
            "a file is no page of this project",
            where=where,
            expected="a page that --mode=predict or python -m inference.look wrote",
            found="another file",
        )
    return content


def packed(data: bytes, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> str:
    """Bytes deflated, as letters; the script's `unpacked` gives them back.

    Args:
      data: bytes.
      strategy: one of zlib's.
    """
    packer = zlib.compressobj(strategy=strategy)
    return base64.b64encode(packer.compress(data) + packer.flush()).decode()


def unpacked(text: str) -> bytes:
    """What `packed` was given."""
    return zlib.decompress(base64.b64decode(text))


def escaped(content: Mapping[str, Any]) -> str:
    """JSON in ASCII letters that no HTML parser takes for markup."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def hash_of(text: str) -> str:
    """A style or script as the page's policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _asset(package: str, name: str) -> str:
    return (importlib.resources.files(package) / "assets" / name).read_text("utf-8")
