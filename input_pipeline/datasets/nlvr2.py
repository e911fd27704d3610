"""NLVR2: is a sentence true of a pair of photographs? (Suhr et al., 2019).

Files, from https://github.com/lil-lab/nlvr (folder nlvr2/data), in data.manual_dir:

  train.json  dev.json  test1.json (Test-P)  test2.json (Test-U, public since 2022)
                                                      one JSON object a line

Each line has `identifier` (train-10171-0-0), `sentence` and `label` ("True" or "False"). The four
examples on a pair of pictures differ in the last number: without it the identifier names the pair,
whose pictures are `<pair>-img0.png` (left) and `<pair>-img1.png`. Images are therefore looked up
in the region store as `<pair>-img0` and `<pair>-img1`, as 12-in-1 names them.

Label 0 is False, 1 is True. Lines of a test split may lack theirs.
"""

import functools
import re
from collections.abc import Iterator

from core.errors import DataError
from input_pipeline.datasets.reading import entries, official
from input_pipeline.datasets.reading import files as official_files
from input_pipeline.datasets.reading.builder import declare
from input_pipeline.datasets.records import Statement

SPLITS = ("train", "dev", "test1", "test2")
LABELS = ("False", "True")
PAIR = re.compile(r"(.+)-\d+", re.ASCII)


def files(folder: str, split: str) -> list[str]:
    """The file of a split."""
    fix = "download it from https://github.com/lil-lab/nlvr (nlvr2/data)"
    return [official_files.locate(folder, f"{split}.json", fix=fix)]


def records(folder: str, split: str) -> Iterator[Statement]:
    """The sentences of a split, in file order.

    Raises:
      DataError: naming file and line: see `files.json_lines`; an identifier that names no pair or
        occurs twice, a label that is none, an empty sentence.
    """
    identifiers = entries.Unique("identifier")
    for path in files(folder, split):
        for line, item in official_files.json_lines(path):
            where = f"{path}:{line}"
            name = identifiers.add(entries.need_id(item, "identifier", where), where)
            pair = PAIR.fullmatch(name)
            if not pair:
                raise DataError(
                    "an identifier names no pair of images",
                    where=where,
                    expected="<split>-<set>-<pair>-<sentence>, as dev-850-0-0",
                    found=repr(name),
                    fix="check that this is the official file",
                )
            unknown = split.startswith("test") and "label" not in item
            label = "" if unknown else entries.need(item, "label", str, where)
            if label not in LABELS and not unknown:
                raise entries.unknown("label", LABELS, label, where)
            sentence = entries.need(item, "sentence", str, where)
            yield Statement(
                text_id=name,
                image_ids=(f"{pair[1]}-img0", f"{pair[1]}-img1"),
                text=entries.need_text(sentence, where, "sentence"),
                label=-1 if unknown else LABELS.index(label),
                label_name=label,
            )


def image_name(image_id: str) -> str:
    """The image's name over data sets."""
    return f"nlvr2:{image_id}"


prepare = functools.partial(official.prepare, __name__)
BUILDER = declare(__name__, Statement)
