"""Attention for a page of predictions: pages of its worst examples, which it then links to."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from core import remote
from core.errors import DataError
from core.progress import Progress
from evaluation.browser import page as browser
from evaluation.browser.examples import Example, badness
from inference.look import page
from inference.look.examples import Examples, Pair

Make = Callable[[Pair, str], dict[str, Any]]  # of an example's id → content of a page


def add_attention(
    path: str | os.PathLike[str],
    count: int,
    examples_of: Callable[[str, str], Examples],
    make: Make,
) -> tuple[int, remote.Path]:
    """Writes pages of attention into a folder beside a page of predictions, and links to them.

    The folder is named after the page; links of before are replaced.

    Args:
      path: of the page, which is written anew.
      count: examples, the wrong ones of the largest loss first.
      examples_of: examples_of(stream, split) → the examples of a stream.
      make: makes the content of a page.

    Returns:
      How many pages were written, and the folder.

    Raises:
      DataError: no page of one run's predictions.
    """
    path = remote.path(path)
    content = browser.read(path)
    if len(content["runs"]) != 1:
        raise DataError("a page compares runs", where=path, expected="a page of one run")
    chosen = sorted(browser.examples_of(content), key=badness)[:count]
    folder = path.parent / f"{path.stem}-attention"
    opened: dict[str, Examples] = {}
    links: dict[str, list[list[str]]] = {}
    progress, written = Progress("attention", len(chosen), unit="examples"), 0
    for number, one in enumerate(chosen, 1):
        stream = one["stream"]
        if stream not in opened:
            opened[stream] = examples_of(stream, content["splits"].get(stream, ""))
        pairs = _shown(one, opened[stream].pairs(one["id"]))
        links[f"{stream}\n{one['id']}"] = found = []
        for place, pair in enumerate(pairs, 1):
            name = f"{number}.html" if len(pairs) == 1 else f"{number}-{place}.html"
            page.write(folder / name, make(pair, one["id"]))
            found.append([pair.label or "attention", f"{folder.name}/{name}"])
            written += 1
        progress.add(1)
    browser.write(path, content | dict(attention=links))
    return written, folder


def _shown(example: Example, pairs: Sequence[Pair]) -> list[Pair]:
    """Of choices the predicted and the true one; else all."""
    named: Mapping[str, Pair] = {pair.label: pair for pair in pairs}
    wanted = [example["answers"][0]["predicted"], example["true"]]
    found = [named[label] for label in dict.fromkeys(wanted) if label in named]
    return found or list(pairs)
