"""Conceptual Captions (3.3 million image-text pairs from the web), the pre-training data.

Files, from https://ai.google.com/research/ConceptualCaptions/download, in data.manual_dir:

  Train_GCC-training.tsv                train       3,318,333 lines: caption, tab, url
  Validation_GCC-1.1.0-Validation.tsv   validation     15,840
  train_frcnn.json, val_frcnn.json      train_frcnn, val_frcnn: the lists that VL-BERT's download
                                        scripts make of the images they got, {"image", "caption"}

`data.indexing` says what images are called in the region store: "crc32" of the url, a decimal
number, as ViLBERT's features have it (about a thousand pairs of urls share one, there as here; the
leak check tells a validation image from a training image of the same number by their urls), or
"row", the number of the line from 0 in eight digits, as VL-BERT's files are named. The lists have
no urls, so they go with "row" alone. Urls die: leave out what has no regions with
data.on_missing=skip.

A "row" is only right where the file has all lines that it had when the features were made, and in
one split alone: a store with rows that the file lacks is refused.

Captions come tokenised and lower-cased by Google's pipeline; nothing is cleaned but white space.
`tfds build` reads the files in one process, or with --config=crc32_beam or row_beam as a Beam
pipeline over stretches of the file.
"""

import functools
import pathlib
import zlib
from collections.abc import Iterator, Sequence

from core.console import warn
from core.errors import DataError
from input_pipeline.datasets.options import conceptual_captions as declared
from input_pipeline.datasets.options.conceptual_captions import INDEXINGS
from input_pipeline.datasets.reading import entries, official, stretches
from input_pipeline.datasets.reading import files as official_files
from input_pipeline.datasets.reading.builder import declare
from input_pipeline.datasets.reading.entries import check, need
from input_pipeline.datasets.reading.stretches import Stretch
from input_pipeline.datasets.records import Caption

SPLITS = ("train", "validation", "train_frcnn", "val_frcnn")
OPTIONS = tuple(declared.OPTIONS)
_NAMES = {"train": "GCC-training.tsv", "validation": "GCC-1.1.0-Validation.tsv"}
_LINES = {"train": 3_318_333, "validation": 15_840}  # of the published files
_DIGITS = 8  # of a row


def files(folder: str, split: str, *, indexing: str = "crc32") -> list[str]:
    """The official file of a split.

    Raises:
      DataError: it is missing, or an `indexing` that it does not have.
    """
    allowed = INDEXINGS if split in _NAMES else ("row",)
    if indexing not in allowed:
        where = f"--config.data.indexing, split {split!r}"
        raise entries.unknown("indexing", allowed, indexing, where)
    if split not in _NAMES:
        return [official_files.locate(folder, f"{split}.json")]
    name = _NAMES[split]
    return [official_files.locate(folder, f"{split.capitalize()}_{name}", name)]


def records(folder: str, split: str, *, indexing: str = "crc32") -> Iterator[Caption]:
    """The captions of a split, in file order.

    Raises:
      DataError: naming file and line: a malformed line, an empty caption or url, an image twice.
    """
    [path] = files(folder, split, indexing=indexing)
    if split in _NAMES:
        return (_caption(path, line, text, indexing) for line, text in official_files.lines(path))
    return _listed(path)


def count(folder: str, split: str, *, indexing: str = "crc32") -> int:
    """How many lines the file of a split has."""
    [path] = files(folder, split, indexing=indexing)
    return official_files.count_lines(path)


def urls(folder: str, split: str, *, indexing: str = "crc32") -> Iterator[tuple[str, str]]:
    """(image id, url) of each caption whose id is made of the url: several may have one id.

    Raises:
      DataError: as `records`.
    """
    [path] = files(folder, split, indexing=indexing)
    if split in _NAMES and indexing == "crc32":
        for line, text in official_files.lines(path):
            _, url = official_files.split_columns(text, ("caption", "url"), f"{path}:{line}")
            yield _crc32(url), url


def _crc32(url: str) -> str:
    return str(zlib.crc32(url.encode()))


def _caption(path: str, line: int, text: str, indexing: str) -> Caption:
    where, row = f"{path}:{line}", f"{line - 1:08d}"
    caption, url = official_files.split_columns(text, ("caption", "url"), where)
    url = entries.need_text(url, where, "url")
    image_id = _crc32(url) if indexing == "crc32" else row
    return Caption(row, image_id, entries.need_text(caption, where, "caption"))


def _listed(path: str) -> Iterator[Caption]:
    rows: set[int] = set()  # millions: their lines are not kept
    for line, item in official_files.json_lines(path):
        where = f"{path}:{line}"
        name = pathlib.PurePosixPath(need(item, "image", str, where)).stem
        row = int(entries.number(name, where, "image"))
        if row in rows:
            raise entries.twice("image", name, where)
        rows.add(row)
        words = [check(w, str, where, "caption") for w in need(item, "caption", list, where)]
        yield Caption(name, name, entries.need_text(" ".join(words), where, "caption"))


def beam_records(folder: str, split: str, *, indexing: str = "crc32"):
    """A Beam transform: (number from 0, record) of a split, equal to `records`."""
    import apache_beam as beam

    [path] = files(folder, split, indexing=indexing)
    if split not in _NAMES:
        return beam.Create(list(enumerate(records(folder, split, indexing=indexing))))
    return (
        beam.Create(list(stretches.of_file(path)))
        | beam.Reshuffle()
        | beam.FlatMap(functools.partial(_numbered, path, indexing))
    )


def cut(folder: str, split: str, size: int, *, indexing: str = "crc32") -> list[Stretch]:
    """Stretches of a split, of `size` bytes or little more each; a list is one."""
    [path] = files(folder, split, indexing=indexing)
    return list(stretches.of_file(path, size)) if split in _NAMES else [Stretch(0, stretches.ALL)]


def records_in(
    folder: str, split: str, stretch: Stretch, *, indexing: str = "crc32"
) -> Iterator[Caption]:
    """The captions of a stretch of `cut`; errors as of `records`."""
    if split not in _NAMES:
        return records(folder, split, indexing=indexing)
    [path] = files(folder, split, indexing=indexing)
    return (record for _, record in _numbered(path, indexing, stretch))


def _numbered(path: str, indexing: str, stretch: Stretch) -> Iterator[tuple[int, Caption]]:
    """(number from 0 in the file, caption) of a stretch."""
    at = dict(start=stretch.start, stop=stretch.stop, first=stretch.line)
    for i, (line, text) in enumerate(official_files.lines(path, **at), stretch.record):
        yield i, _caption(path, line, text, indexing)


def check_store(
    split: str, images: Sequence[str], keys: Sequence[str], *, indexing: str = "crc32"
) -> None:
    """Refuses rows of a file that are not those of a region store.

    Args:
      split: name of the split, or several joined.
      images: ids of its images.
      keys: ids in the region store.
      indexing: of the ids.

    Raises:
      DataError: several splits, which number their rows alike; rows in the store that the file does
        not have, so that lines are missing in it and all later ones have another number.
    """
    if indexing != "row":
        return
    if "+" in split:
        raise DataError(
            "two splits number their rows alike",
            where=f"data set conceptual_captions, split {split!r}, --config.data.indexing=row",
            expected="one split, since row 7 of each is another image",
            found=split.split("+"),
            fix="train on one of them, or import features by url: --config.data.indexing=crc32",
        )
    if split not in _NAMES:  # a list names its images
        return
    lines, stored = _rows(images), _rows(keys)
    if stored > lines:
        raise DataError(
            "the region store has rows that the file lacks",
            where=f"data set conceptual_captions, split {split!r}, --config.data.indexing=row",
            expected=f"a file of at least {stored:,} lines, as the store has row {stored - 1:08d}"
            + f" (published: {_LINES[split]:,} lines)",
            found=f"{lines:,} lines: after a missing one every caption has another image's row",
            fix="use the file that the features were made from, or the store of this split",
        )
    if lines != _LINES[split]:
        warn(
            f"data: the {split} file has {lines:,} lines, the published one {_LINES[split]:,}; "
            "with data.indexing=row it must be the one that the features were made from"
        )


def _rows(ids: Sequence[str]) -> int:
    """One more than the largest row number among ids."""
    return max((int(i) for i in ids if len(i) == _DIGITS and i.isdecimal()), default=-1) + 1


def image_name(image_id: str) -> str:
    """The image's name over data sets."""
    return f"conceptual_captions:{image_id}"


prepare = functools.partial(official.prepare, __name__)
BUILDER = declare(
    __name__, Caption, configs={name: {"indexing": name} for name in INDEXINGS}, beam=True
)
