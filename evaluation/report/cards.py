"""Predictions as cards of the report: each beside its record's texts, truth, pictures and boxes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evaluation.report.report import Card, Picture
from evaluation.stream import EvaluationStream
from input_pipeline.datasets.records import Record, Shown
from input_pipeline.regions import RegionStore


def make(predictions: Sequence[Mapping[str, Any]], stream: EvaluationStream) -> list[Card]:
    """A card for each prediction, in order.

    Args:
      predictions: of `Predictor.run`.
      stream: whose examples they are of.
    """
    found = records_of(predictions, stream)
    images = {image: None for record in found.values() for image in record.images}
    pictures = stream.pictures(images)
    return [
        _card(row, found.get(row["id"]), stream.store, pictures, stream.record_kind)
        for row in predictions
    ]


def records_of(
    predictions: Iterable[Mapping[str, Any]], stream: EvaluationStream
) -> dict[str, Record]:
    """{id of a prediction: the record that it is of}, without those of no record.

    Args:
      predictions: of `Predictor.run`.
      stream: whose examples they are of.
    """
    # Rationales of one question come with each answer in turn, as predictions of their own.
    names = {row["id"]: row["id"] for row in predictions}
    if stream.record_kind == "rationales":
        names = {name: name.rpartition("/a")[0] or name for name in names}
    found = stream.records.find(set(names.values())) if stream.records else {}
    return {name: found[of] for name, of in names.items() if of in found}


def _card(
    row: Mapping[str, Any],
    record: Record | None,
    store: RegionStore,
    pictures: Mapping[str, bytes],
    kind: str,
) -> Card:
    if record is None:
        return Card(row["id"], lines=Record().shown(row).lines)
    shown = record.shown(row, kind)
    drawn = [
        _picture(image, store, pictures, shown if place == 0 else None)
        for place, image in enumerate(record.images)
    ]
    return Card(row["id"], shown.lines, drawn, shown.right)


def _picture(
    image: str, store: RegionStore, pictures: Mapping[str, bytes], shown: Shown | None
) -> Picture:
    (row,) = store.rows_of([image])
    size = (int(store.heights[row]), int(store.widths[row]))
    return Picture(size, pictures.get(image), shown.boxes if shown else (), image)
