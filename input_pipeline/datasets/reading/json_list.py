"""JSON files that are one long list: an item is held at a time.

Visual Genome's region descriptions, 700 MB, would take more than 3 GB as Python objects.
"""

import codecs
import os
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from core import strict_json
from input_pipeline.datasets.reading import files

PIECE = 2**20  # bytes read at a time


def items(path: str | os.PathLike) -> Iterator[tuple[int, Any]]:
    """(number from 0, item) of each item of a JSON file that is a list, packed or not.

    Raises:
      DataError: not readable, not UTF-8, no list, an item that is no JSON, or one of
        `files.MAX_LINE` characters or more.
    """
    number = 0
    with files.opened(path) as file:
        try:
            for item in strict_json.parse_items(_pieces(file, str(path)), files.MAX_LINE):
                yield number, item
                number += 1
        except strict_json.JSONError as error:
            where = f"{path}, at item {number}"
            raise files.no_json(error, where, "a list in JSON, its items one by one") from error


def _pieces(file: BinaryIO, path: str) -> Callable[[], str]:
    """A function that gives the next piece of a UTF-8 file, "" after the last."""
    decoder, before = codecs.getincrementaldecoder("utf-8-sig")(), 0

    def piece() -> str:
        nonlocal before
        text, raw = "", b"."
        while not text and raw:  # a piece may end within a character
            raw = file.read(PIECE)
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                kept = len(error.object) - len(raw)  # start of a character, of the piece before
                raise files.not_utf8(error, path, before - kept) from error
            before += len(raw)
        return text

    return piece
