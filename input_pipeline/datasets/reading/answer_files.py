"""Lists of answers, or of classes, in any form of a file."""

import os
import pathlib
import re
from collections.abc import Sequence

from core import safe_pickle
from core.errors import DataError
from input_pipeline.datasets.reading import entries, files


def read_list(path: str | os.PathLike) -> list[str]:
    """The texts of a list in a file, as they are written.

    Args:
      path: .txt with a text a line, without the blanks around it, blank lines left out; .json or
        .pkl with a list, or an object {text: its number from 0}.

    Raises:
      DataError: not readable, another form, numbers that are not 0, 1, ...
    """
    where, suffix = str(path), pathlib.Path(path).suffix
    if suffix == ".txt":
        with files.opened(path) as file:
            text = files.decode(file.read(), where)
        lines = (line.strip() for line in re.split(r"\r\n|\r|\n", text))
        return [line for line in lines if line]
    if suffix == ".json":
        found = files.read_json(path)
    elif suffix == ".pkl":
        with files.opened(path) as file:
            found = safe_pickle.loads(file.read(), where)
    else:
        raise DataError(
            "unknown form of an answer list",
            where=where,
            expected="a file .txt, .json or .pkl",
            found=repr(suffix),
            fix="rename or convert it",
        )
    if isinstance(found, dict):
        found = _in_order(found, where)
    return entries.check(found, list, where)


def require_sound(labels: Sequence[str], where: str, *, repeats: bool = False) -> None:
    """Raises DataError for no labels, one that is no string, or unless `repeats` one twice."""
    label_of: dict[str, int] = {}
    for label, answer in enumerate(labels):
        entries.check(answer, str, f"{where}, label {label}", "answer")
        first = label_of.setdefault(answer, label)
        if first != label and not repeats:
            raise DataError(
                "an answer has two labels",
                where=where,
                expected="each answer once",
                found=f"{answer!r} at labels {first} and {label}",
                fix="remove one; a checkpoint's classifier needs the list it was trained with",
            )
    if not label_of:
        raise DataError(
            "an answer vocabulary is empty", where=where, expected="answers", found="none"
        )


def _in_order(label_of: dict, where: str) -> list[str]:
    """The answers of {answer: label} by label."""
    for answer, label in label_of.items():
        entries.check(label, int, f"{where}, answer {answer!r}", "label")
    answers = {label: answer for answer, label in label_of.items()}
    holes = [label for label in range(len(label_of)) if label not in answers]
    if holes:
        raise DataError(
            "labels of an answer list are not 0, 1, 2, ...",
            where=where,
            expected=f"each label from 0 to {len(label_of) - 1} once",
            found=f"none of these: {holes[:10]}",
            fix="use the list as published",
        )
    return [answers[label] for label in range(len(label_of))]
