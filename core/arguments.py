"""Types of command line arguments: what is wrong with one is told before any work begins."""

import argparse
import importlib.util
import math
import os
import pathlib
import re
from collections.abc import Callable, Sequence


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A whole number within inclusive bounds."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,18}", text.strip()):
            raise argparse.ArgumentTypeError(f"expected a whole number, found {text!r}")
        value = int(text)
        if value < least or (most is not None and value > most):
            bounds = f"at least {least}" if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"expected a number of {bounds}, found {value}")
        return value

    return parse


def number(least: float) -> Callable[[str], float]:
    """A finite number of at least so much."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < least:
            raise argparse.ArgumentTypeError(
                f"expected a number of at least {least:g}, found {text!r}"
            )
        return value

    return parse


def some_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Comma-separated names."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"expected some of {', '.join(known)}, separated by commas; found {unknown[0]!r}"
            )
        return names

    return parse


def wholes(count: int, *, least: int = 1, separator: str = ",") -> Callable[[str], tuple[int, ...]]:
    """So many whole numbers of at least so much; -1, where a mesh leaves an axis open, is one."""

    def parse(text: str) -> tuple[int, ...]:
        parts = text.split(separator)
        if len(parts) != count or not all(re.fullmatch(r"-1|\d{1,9}", part) for part in parts):
            raise argparse.ArgumentTypeError(
                f"expected {count} whole numbers separated by {separator!r}, found {text!r}"
            )
        values = tuple(map(int, parts))
        if any(value != -1 and value < least for value in values):
            raise argparse.ArgumentTypeError(f"expected numbers of at least {least}, found {text}")
        return values

    return parse


def to_write(text: str) -> pathlib.Path:
    """A file that can be written; its folder must be there."""
    path = pathlib.Path(text)
    folder = path.absolute().parent
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file to write, found the folder {text}")
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"no such folder: {folder}")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot be written: {text}")
    return path


def missing_packages(*names: str) -> list[str]:
    """Those that are not installed."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def require_packages(parser: argparse.ArgumentParser, what: str, *names: str) -> None:
    """Ends the program where packages that an option needs are not installed."""
    if missing := missing_packages(*names):
        parser.error(f"{what} needs {', '.join(missing)}: pip install {' '.join(missing)}")
