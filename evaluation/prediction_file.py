"""Files of predictions: JSON lines, each with the "id" of its example."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from typing import Any, TextIO

from core import remote
from core.errors import DataError
from core.progress import atomic_file

Prediction = dict[str, Any]  # "id" and JSON values, as `Objective.describe` says


@dataclasses.dataclass(frozen=True)
class Answered:
    """A prediction, and what is known of its example.

    Attributes:
      prediction: as it is in the file of predictions.
      loss: of the example; None where its label is unknown.
      regions: that the model read, over all images of the example, without the whole image.
    """

    prediction: Prediction
    loss: float | None
    regions: int


@contextlib.contextmanager
def text_file(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """A text file to write, which is there whole at the end, or not at all after an error."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file


def read(path: str | os.PathLike[str]) -> Iterator[Prediction]:
    """The predictions of a file.

    Raises:
      DataError: no such file, or a line that is no prediction.
    """
    path = remote.path(path)
    if not path.is_file():
        raise DataError(
            f"no file of predictions: {path}\n  fix: python main.py --mode=predict writes "
            "WORKDIR/predictions/<split>.jsonl"
        )
    with remote.local(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                prediction = json.loads(line.decode("utf-8"))
                prediction["id"]
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise DataError(
                    f"{path}:{number} is no prediction: expected an object with an id, found "
                    f"{line[:60]!r}"
                ) from error
            yield prediction
