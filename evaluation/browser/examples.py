"""Predictions as the browser's examples: each with its text, truth, confidence, loss and boxes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.errors import DataError
from evaluation.prediction_file import Answered
from evaluation.report import cards, thumbnails
from evaluation.stream import EvaluationStream
from input_pipeline.datasets.records import Record, Shown

# An example, as JSON values:
#   id, stream   of the prediction
#   text, true   what was asked and what is right, "" where unknown
#   groups       {what it is a kind of: the kind}
#   regions      number that the model read
#   images       [[id, height, width], ...]
#   answers      one of each run: {"predicted", "right", "score", "confidence", "loss", "lines",
#                "boxes"}; a box is [x1, y1, x2, y2, label, kind] in pixels of the first image
Example = dict[str, Any]

SIDE = 360  # longer side of a picture in the page, pixels
MOST_PICTURES, MOST_BYTES = 2000, 16_000_000  # of all pictures of a page together


def of_streams(
    answered: Mapping[str, Sequence[Answered]], streams: Mapping[str, EvaluationStream]
) -> list[Example]:
    """The examples of all streams that predict, in order; of several each says which it is of.

    Args:
      answered: {stream: its predictions}.
      streams: {stream: their examples}.
    """
    made: list[Example] = []
    for name, rows in answered.items():
        records = cards.records_of((row.prediction for row in rows), streams[name])
        for example in of_records(rows, records, streams[name]):
            if len(answered) > 1:
                example["groups"] = {"stream": name} | example["groups"]
            made.append({"stream": name} | example)
    return made


def of_records(
    rows: Sequence[Answered], records: Mapping[str, Record], stream: EvaluationStream
) -> Iterator[Example]:
    """An example for each prediction, without the name of its stream.

    Args:
      rows: predictions.
      records: {id of a prediction: what it is of}, as far as that is known.
      stream: of which they are.
    """
    shown = []
    for one in rows:
        record = records.get(one.prediction["id"], Record())
        own = record.images if one.prediction["id"] in records else ()
        found = record.shown(one.prediction, stream.record_kind)
        shown.append((one, found, [*own, *found.images]))
    images = list({image: None for _, _, names in shown for image in names})
    store, places = stream.store, stream.store.rows_of(images)
    sizes = {
        image: [int(store.heights[row]), int(store.widths[row])]
        for image, row in zip(images, places, strict=True)
    }
    for one, found, names in shown:
        yield _example(one, found, [[image, *sizes[image]] for image in names])


def _example(one: Answered, shown: Shown, images: Sequence[Sequence[Any]]) -> Example:
    return dict(
        id=one.prediction["id"],
        text=shown.text,
        true=shown.true,
        groups=dict(shown.groups),
        regions=one.regions,
        images=list(images),
        answers=[
            dict(
                predicted=shown.predicted,
                right=shown.right,
                score=_score(shown),
                confidence=_rounded(shown.confidence),
                loss=_rounded(one.loss),
                lines=[list(line) for line in shown.lines],
                boxes=[
                    [*(round(float(x), 1) for x in box), label, name]
                    for box, label, name in shown.boxes
                ],
            )
        ],
    )


def _score(shown: Shown) -> float | None:
    """What it counts in the accuracy; None where the truth is unknown."""
    return float(shown.right) if shown.score is None and shown.right is not None else shown.score


def _rounded(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else round(number, 5)


def pictures(
    examples: Sequence[Example], streams: Mapping[str, EvaluationStream]
) -> dict[str, str]:
    """{image id: data: URI} of as many images as a page holds: those of the worst examples first.

    Args:
      examples: of `of_streams`.
      streams: have the pictures.
    """
    out: dict[str, str] = {}
    total = 0
    for name, stream in streams.items():
        ordered = sorted((one for one in examples if one["stream"] == name), key=badness)
        sizes = {image: (h, w) for one in ordered for image, h, w in one["images"]}
        wanted = list(sizes)[: MOST_PICTURES - len(out)]
        found = stream.pictures(wanted)
        for image in wanted:
            if image not in found or image in out:
                continue
            try:
                uri, _ = thumbnails.data_uri(found[image], sizes[image], SIDE)
            except DataError:
                continue  # shown as a frame without a picture
            total += len(uri)
            if total > MOST_BYTES:
                return out
            out[image] = uri
    return out


def badness(example: Example) -> tuple[bool, float]:
    """A key that sorts wrong examples first, those of the largest loss before others."""
    answer = example["answers"][0]
    return answer["right"] is not False, -(answer["loss"] or 0.0)
