"""SNLI-VE: does a picture entail a sentence? (Xie et al., 2019).

Files, from https://github.com/necla-ml/SNLI-VE, in data.manual_dir:

  snli_ve_train.jsonl  snli_ve_dev.jsonl  snli_ve_test.jsonl     one JSON object a line

Each line has `pairID`, `sentence2` (the hypothesis), `gold_label` and the Flickr30k picture that
takes the premise's place: `Flikr30kID` in the published files (their spelling), `Flickr30K_ID` in
files made by the generator; with or without ".jpg". The image's id in the region store is that
number. The premise text (`sentence1`) is not used.

Label 0 is contradiction, 1 neutral, 2 entailment; "-" (no majority among annotators) is -1.
"""

import functools
import re
from collections.abc import Iterator

from core.errors import DataError
from input_pipeline.datasets.reading import entries, official
from input_pipeline.datasets.reading import files as official_files
from input_pipeline.datasets.reading.builder import declare
from input_pipeline.datasets.records import Statement

SPLITS = ("train", "dev", "test")
LABELS = ("contradiction", "neutral", "entailment")
NO_MAJORITY = "-"
IMAGE_KEYS = ("Flikr30kID", "Flickr30K_ID")
IMAGE = re.compile(r"(\d{1,30})(\.jpg)?", re.ASCII)


def files(folder: str, split: str) -> list[str]:
    """The file of a split."""
    fix = "download it as https://github.com/necla-ml/SNLI-VE tells"
    return [official_files.locate(folder, f"snli_ve_{split}.jsonl", fix=fix)]


def records(folder: str, split: str) -> Iterator[Statement]:
    """The hypotheses of a split, in file order.

    Raises:
      DataError: naming file and line: see `files.json_lines`; an image that is no number, an
        unknown label, an empty hypothesis, a pairID that occurs twice.
    """
    pairs = entries.Unique("pairID")
    for path in files(folder, split):
        for line, item in official_files.json_lines(path):
            where = f"{path}:{line}"
            key = next((key for key in IMAGE_KEYS if key in item), IMAGE_KEYS[0])
            image_id = entries.need_id(item, key, where)
            image = IMAGE.fullmatch(image_id)
            if not image:
                raise DataError(
                    "an image id is no Flickr30k number",
                    where=where,
                    expected="digits, with or without .jpg",
                    found=f"{key}={image_id!r}",
                    fix="check that this is the official file",
                )
            label = entries.need(item, "gold_label", str, where)
            if label not in (*LABELS, NO_MAJORITY):
                raise entries.unknown("label", (*LABELS, NO_MAJORITY), label, where)
            hypothesis = entries.need(item, "sentence2", str, where)
            yield Statement(
                text_id=pairs.add(entries.need_id(item, "pairID", where), where),
                image_ids=(str(int(image[1])),),
                text=entries.need_text(hypothesis, where, "hypothesis (sentence2)"),
                label=LABELS.index(label) if label in LABELS else -1,
                label_name=label,
            )


def image_name(image_id: str) -> str:
    """The image's name over data sets."""
    return f"flickr30k:{image_id}"


prepare = functools.partial(official.prepare, __name__)
BUILDER = declare(__name__, Statement)
