"""ViLBERT's ablations at small scale (paper, section 4): streams, connections, data, zero-shot.

Each variant is pre-trained and fine-tuned; "no pre-training" is the two streams from scratch. The
single stream is the paper's baseline, for which the tasks of a pooled state alone are written.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from scripts.experimenting.declared import Cell, Table, Trial
from scripts.tables import downstream

TASKS = ("refcoco", "vqa", "vcr", "retrieval")
IMAGES = 4000  # of the whole pre-training, as `scenes` has them
PRETRAIN = "configs/vilbert_pretrain.py"


def connections(count: int) -> dict[str, Any]:
    """The fields of a model with so many co-attention layers, of three text layers."""
    return {
        "model.image.layers": count,
        "model.connect.text_at": tuple(range(3 - count, 3)),
        "model.connect.image_at": tuple(range(count)),
    }


def variant(
    row: str,
    *,
    model: str = "vilbert",
    sizes: Mapping[str, Any] | None = None,
    pretraining: Mapping[str, Any] | None = None,
    tasks: tuple[str, ...] = TASKS,
) -> list[Trial]:
    """A row: pre-training, and the tasks that start from it.

    Args:
      row: its title.
      model: of the configs.
      sizes: changes of the model, in pre-training and tasks.
      pretraining: more changes of the pre-training; None: there is none.
      tasks: of `downstream`.
    """
    sizes, trials, start = dict(sizes or {}), [], ""
    if pretraining is not None:
        start = f"{row}/pre-training"
        trials.append(
            Trial(
                start,
                f"{PRETRAIN}:model={model}",
                changes=sizes | dict(pretraining),
                validates=("validation", "visual_gain"),
            )
        )
    for name in tasks:
        made = downstream.task(name, "vilbert", start)
        (cell,) = made.cells
        trials.append(
            dataclasses.replace(
                made,
                name=f"{row}/{name}",
                config=made.config.replace("model=vilbert", f"model={model}"),
                cells=(dataclasses.replace(cell, row=row, column=cell.row),),
                changes=dict(made.changes) | sizes,
                against="",
            )
        )
    return trials


def zero_shot(row: str, start: str) -> Trial:
    """Retrieval by the pre-trained alignment head."""
    title, _, metric, changes = downstream.TASKS["retrieval"]
    return Trial(
        f"{row}/retrieval",
        "configs/retrieval.py:model=vilbert,zero_shot=true",
        (Cell(row, title, metric),),
        changes,
        start=start,
        train=False,
    )


TABLE = Table(
    "ViLBERT: streams, connections and amount of pre-training, embedded data, test images",
    (
        *variant("two streams, 2 connections", pretraining={}),
        *variant("no pre-training"),
        *variant("single stream", model="single_stream", pretraining={}, tasks=("vqa",)),
        *variant("single stream, no pre-training", model="single_stream", tasks=("vqa",)),
        *variant("1 connection", sizes=connections(1), pretraining={}),
        *variant("3 connections", sizes=connections(3), pretraining={}),
        *(
            trial
            for percent in (25, 50)
            for trial in variant(
                f"{percent} % of the pre-training images",
                pretraining={"data.scenes.train": IMAGES * percent // 100},
            )
        ),
        zero_shot("zero-shot", "two streams, 2 connections/pre-training"),
    ),
    seeds=1,
    notes="Prior as in the table of downstream tasks.",
)
