"""Predictions in the official formats of the data sets, ready for their servers and scripts.

--mode=predict writes them by itself. VCR's leaderboard wants one file of two runs, and so does the
accuracy of answers with their rationales (Q→AR): see `__main__`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from core import remote
from evaluation import prediction_file
from evaluation.prediction_file import Prediction
from evaluation.submissions import vcr
from evaluation.submissions.csv_lines import csv_line
from input_pipeline.datasets.records import Record

Records = Callable[[], Iterable[Record]]
# The text of a file from predictions, their records and the kind of these; nothing where there is
# no file for them.
Format = Callable[[Iterable[Prediction], Records | None, str], Iterator[str]]


def _json_list(items: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    separator = "[\n"
    for item in items:
        yield separator + json.dumps(item, ensure_ascii=False)
        separator = ",\n"
    yield "\n]\n" if separator != "[\n" else "[]\n"


def _vqa(rows: Iterable[Prediction], records: Records | None, kind: str) -> Iterator[str]:
    """EvalAI's list for VQA v2."""
    return _json_list({"question_id": int(row["id"]), "answer": row["answer"]} for row in rows)


def _gqa(rows: Iterable[Prediction], records: Records | None, kind: str) -> Iterator[str]:
    """GQA's list, which its evaluation script reads, too."""
    return _json_list({"questionId": row["id"], "prediction": row["answer"]} for row in rows)


def _refcoco(rows: Iterable[Prediction], records: Records | None, kind: str) -> Iterator[str]:
    """One box per expression, by the id of the referred object, as VL-BERT writes it.

    Nothing for files of sentences with their boxes, which leave these ids out.
    """
    ref_ids = {record.text_id: record.ref_id for record in (records() if records else ())}
    if min(ref_ids.values(), default=-1) < 0:
        return iter(())
    return _json_list({"ref_id": ref_ids[row["id"]], "box": row["box"]} for row in rows)


def _vcr(rows: Iterable[Prediction], records: Records | None, kind: str) -> Iterator[str]:
    """One of the two halves of VCR's file; nothing for rationales of the right answers alone."""
    return vcr.rationales_file(rows) if kind == "rationales" else vcr.answers_file(rows)


def _nlvr2(rows: Iterable[Prediction], records: Records | None, kind: str) -> Iterator[str]:
    """identifier,True or False: what NLVR2's script reads, without a header."""
    for row in rows:
        yield csv_line(row["id"], row["name"])


def _snli_ve(rows: Iterable[Prediction], records: Records | None, kind: str) -> Iterator[str]:
    """pairID,label; SNLI-VE itself has no format."""
    yield csv_line("pairID", "label")
    for row in rows:
        yield csv_line(row["id"], row["name"])


# {data set: (suffix, format)}. Data sets that are not here have no server.
FORMATS: Mapping[str, tuple[str, Format]] = {
    "vqa": ("json", _vqa),
    "visual_genome_qa": ("json", _vqa),
    "gqa": ("json", _gqa),
    "refcoco": ("json", _refcoco),
    "vcr": ("csv", _vcr),
    "nlvr2": ("csv", _nlvr2),
    "snli_ve": ("csv", _snli_ve),
}


def write(
    dataset: str,
    predictions: remote.Path,
    folder: remote.Path,
    *,
    records: Records | None,
    kind: str,
) -> list[remote.Path]:
    """Writes what a data set's server takes.

    Args:
      dataset: name of the data set.
      predictions: file of predictions, named after its split.
      folder: for the new file.
      records: records() -> the records of the split.
      kind: of the records, where a data set has several.

    Returns:
      The paths written: one, or none where the data set has no format for these predictions.
    """
    if dataset not in FORMATS:
        return []
    suffix, format_of = FORMATS[dataset]
    lines = format_of(prediction_file.read(predictions), records, kind)
    first = next(lines, None)
    if first is None:
        return []
    path = folder / f"{dataset}-{predictions.stem}.{suffix}"
    with prediction_file.text_file(path) as file:
        file.write(first)
        file.writelines(lines)
    return [path]
