"""What the browser's page holds, and the page of two runs from the pages of each."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import DataError
from evaluation.browser import mcnemar
from evaluation.browser.examples import Example
from evaluation.report import report_pictures, static_page
from evaluation.report.details import Details

SCRIPTS = ("examples.js", "charts.js", "list.js", "example.js", "main.js")
_PACKAGE = "evaluation.browser"


def write(path: str | os.PathLike[str], content: Mapping[str, Any]) -> int:
    """Writes a page, whole or not at all; returns its size in bytes."""
    return static_page.write(path, _PACKAGE, SCRIPTS, content)


def html(content: Mapping[str, Any]) -> str:
    """The page."""
    return static_page.html(_PACKAGE, SCRIPTS, content)


def content(
    title: str,
    name: str,
    examples: Sequence[Example],
    pictures: Mapping[str, str],
    details: Details,
    *,
    place: str = "",
    splits: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The content of a run's page.

    Args:
      title: of the page.
      name: of the run.
      examples: of `examples.of_streams`.
      pictures: {image id: data: URI}.
      details: metrics, command and settings.
      place: of the run, for commands to copy; empty: none.
      splits: {stream: split that its examples are of}.
    """
    images = {image for one in examples for image, *_ in one["images"]}
    notes = list(details.notes)
    if images and not pictures:
        notes.append(
            "There are no pictures: boxes are drawn on empty frames. Name the pictures' folder: "
            "--config.data.pictures=FOLDER."
        )
    elif len(pictures) < len(images):
        notes.append(
            f"The page holds {len(pictures):,} of {len(images):,} pictures; frames stand for the "
            "others. A page has room for some, those of the worst examples first."
        )
    return dict(
        title=title,
        lines=[f"{len(examples):,} predictions on {len(images):,} images"],
        notes=notes,
        runs=[name],
        place=place,
        splits=dict(splits or {}),
        sections=[dataclasses.asdict(section) for section in details.sections],
        command=details.command,
        settings=details.settings,
        styles={kind: dataclasses.asdict(one) for kind, one in report_pictures.KINDS.items()},
        mentioned=list(report_pictures.MENTIONED),
        pictures=dict(pictures),
        attention={},  # {"stream\nid": [[label, file beside the page], ...]}
        mcnemar=None,
        examples=static_page.packed(json.dumps(examples, allow_nan=False).encode()),
    )


def examples_of(content: Mapping[str, Any]) -> list[Example]:
    """The examples of a page's content."""
    return json.loads(static_page.unpacked(content["examples"]))


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a page of predictions.

    Raises:
      DataError: no such page.
    """
    found = static_page.content_of(path)
    if "examples" not in found:
        raise DataError(
            "a page has no predictions",
            where=path,
            expected="WORKDIR/report/predict-<split>.html, of --mode=predict",
            found=f"a page with {', '.join(sorted(found))}",
        )
    return found


def compared(
    first: Mapping[str, Any], second: Mapping[str, Any], names: Sequence[str]
) -> dict[str, Any]:
    """The content of a page that compares two runs on the examples that both predicted.

    Args:
      first, second: contents of the runs' pages.
      names: of the runs, which must differ.

    Raises:
      DataError: no common examples, or one that is not the same in both.
    """
    for one in (first, second):
        if len(one["runs"]) != 1:
            raise DataError(
                "a page compares runs already", expected="pages of one run", found=one["title"]
            )
    others = {(one["stream"], one["id"]): one for one in examples_of(second)}
    mine = examples_of(first)
    both = []
    for one in mine:
        other = others.get((one["stream"], one["id"]))
        if other is None:
            continue
        _require_same(one, other)
        both.append(one | dict(answers=[*one["answers"], *other["answers"]]))
    if not both:
        raise DataError(
            "the two pages have no example in common",
            expected="predictions of one split by two runs",
            found=f"{first['title']!r} and {second['title']!r}",
        )
    judged = [[answer["right"] for answer in one["answers"]] for one in both]
    known = [tuple(pair) for pair in judged if None not in pair]
    images = {image for one in both for image, *_ in one["images"]}
    notes = []
    left_out = len(mine) + len(others) - 2 * len(both)
    if left_out:
        notes.append(f"{left_out:,} predictions that only one of the runs has are left out.")
    return dict(first) | dict(
        title=f"{names[0]} and {names[1]}",
        lines=[f"{len(both):,} predictions of both on {len(images):,} images"],
        notes=notes,
        runs=list(names),
        place="",
        sections=[],
        command="",
        settings="",
        pictures={k: v for k, v in (second["pictures"] | first["pictures"]).items() if k in images},
        attention={},
        mcnemar=dataclasses.asdict(mcnemar.test(known)) if known else None,
        examples=static_page.packed(json.dumps(both, allow_nan=False).encode()),
    )


def _require_same(one: Example, other: Example) -> None:
    for key in ("text", "true", "images"):
        if one[key] != other[key]:
            raise DataError(
                "an example of one name differs between the two pages",
                where=f"example {one['id']!r}, its {key}",
                expected=one[key],
                found=other[key],
                fix="compare predictions of the same split and files",
            )
