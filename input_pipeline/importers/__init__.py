"""Region-feature layouts found in the wild: one file each -> a region store.

  python -m input_pipeline.importers LAYOUT FILES... --out STORE

A module with a class `Layout` (see `importers.base`) is a layout; its name is the module's.
"""

import importlib
import pathlib
from types import ModuleType

from core.errors import DataError


def known() -> dict[str, str]:
    """{layout: first line of its file's docstring}, sorted; imports none of them."""
    found = {}
    paths = (path for folder in __path__ for path in pathlib.Path(folder).glob("*.py"))
    for path in sorted(paths, key=lambda path: path.stem):
        text = path.read_text()
        if path.stem != "base" and "\nclass Layout" in text:
            found[path.stem] = text.removeprefix('"""').partition("\n")[0].removesuffix('"""')
    return found


def load(name: str) -> ModuleType:
    """The module of a layout.

    Raises:
      DataError: there is no such layout, or a package it needs is not installed.
    """
    if name not in known():
        raise DataError(
            "unknown layout of region features",
            expected=f"one of {list(known())}",
            found=repr(name),
            fix="choose one, or add input_pipeline/importers/<name>.py with a class `Layout`",
        )
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "input_pipeline":
            raise
        raise DataError(
            "a package that this layout needs is not installed",
            where=f"layout {name!r}",
            expected=f"the package {error.name!r}",
            found=str(error),
            fix=f"pip install {error.name}",
        ) from error
