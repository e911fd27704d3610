"""Lines of one's own JSONL files, with their images and places, and the labels they have."""

import dataclasses
from collections.abc import Iterator, Sequence

from core.errors import DataError
from input_pipeline.datasets.reading import text_corpus
from input_pipeline.datasets.reading.files import parse
from input_pipeline.datasets.reading.stretches import Stretch


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of the split: its object, image, place for messages and number of its file."""

    item: dict
    image_id: str
    where: str
    source: int

    def error(self, what: str, expected, found, fix: str) -> DataError:
        """An error at this line."""
        return DataError(what, where=self.where, expected=expected, found=found, fix=fix)


def lines(files: Sequence[str], keys, split: str, stretch: Stretch | None = None) -> Iterator[Line]:
    """The lines of JSONL files.

    Args:
      files: paths; the number of the file is the line's source.
      keys: names of `image_id`, `split` and others in the objects (data.json_keys).
      split: value of keys.split to keep, where that is set.
      stretch: the lines to read; None: all.

    Raises:
      DataError: naming file and line: malformed JSON, no object, no image id or split.
    """
    for source, path in enumerate(files):
        if stretch and stretch.file != source:
            continue
        at = dict(start=stretch.start, stop=stretch.stop, first=stretch.line) if stretch else {}
        for number, raw in text_corpus.lines(path, **at):
            line = Line(_object(raw, f"{path}:{number}"), "", f"{path}:{number}", source)
            for name in ("image_id", "split"):
                if keys[name] and keys[name] not in line.item:
                    raise missing(line, keys, name)
            if not keys.split or line.item[keys.split] == split:
                image_id = line.item[keys.image_id]
                yield dataclasses.replace(line, image_id=identifier(line, image_id, "an image id"))


def _object(raw: str, where: str) -> dict:
    item = parse(raw, where)
    if not isinstance(item, dict):
        raise DataError(
            "a line is no object",
            where=where,
            expected="{...}",
            found=raw[:60],
            fix="correct the line",
        )
    return item


def missing(line: Line, keys, name: str) -> DataError:
    """The error of a key that a line lacks."""
    return line.error(
        f"the key {keys[name]!r} is missing",
        f"keys such as {keys[name]!r} (data.json_keys.{name})",
        sorted(line.item),
        f"correct the line, or set --config.data.json_keys.{name}",
    )


def identifier(line: Line, value, what: str) -> str:
    """A string or whole number of a line as text.

    Raises:
      DataError: it is neither, or empty.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise line.error(
            f"{what} is neither text nor a whole number",
            "a string or an integer",
            repr(value),
            "correct the line",
        )
    return str(value)


def class_name(line: Line, keys) -> str:
    """The label of a line as text."""
    return identifier(line, line.item[keys.label], f"the label {keys.label!r}")


def class_names(files: Sequence[str], keys, split: str) -> list[str]:
    """Every label of a split once: whole numbers by size, else in alphabetical order.

    Raises:
      DataError: no labels, a label of another kind, or numbers beside texts.
    """
    found: dict[str, type] = {}
    for line in lines(files, keys, split):
        if keys.label in line.item:
            name = class_name(line, keys)
            kind = type(line.item[keys.label])
            if kind is not next(iter(found.values()), kind):
                raise line.error(
                    "labels are numbers and texts",
                    "all of one kind",
                    repr(line.item[keys.label]),
                    "correct the lines",
                )
            found[name] = kind
    if not found:
        raise DataError(
            "no line has a label",
            where=", ".join(files),
            expected=f"{keys.label!r} (data.json_keys.label): a string or a whole number",
            found="none",
            fix="add labels, or set --config.data.json_keys.label",
        )
    return sorted(found, key=int if int in found.values() else str)
