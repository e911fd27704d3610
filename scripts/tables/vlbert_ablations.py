"""VL-BERT's ablations at small scale (paper, table 4): what pre-training consists of.

Each setting is pre-trained and fine-tuned. Beside the paper's there are ours: words that point at
their regions, which small models bind by. The paper's last setting, training Fast R-CNN with the
rest, needs pixels.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from scripts.experimenting.declared import Table, Trial
from scripts.tables import downstream

TASKS = ("refcoco", "vqa", "vcr")
_CAPTIONS, _CLOZE = "streams.captions.objectives", "streams.cloze.objectives"
# Setting: what differs from the config, None without pre-training.
SETTINGS: dict[str, Mapping[str, Any] | None] = {
    "no pre-training": None,
    "masked words": {_CAPTIONS: ("masked_language",), _CLOZE: ("masked_word",)},
    "+ masked regions": {_CAPTIONS: ("masked_language", "masked_region"), _CLOZE: ("masked_word",)},
    "+ pointing (the recipe)": {},
    "+ relationship, no told regions": {
        "objectives.phrase_grounding.tagged": 0.0,  # they would give away which captions match
        _CAPTIONS: ("masked_language", "masked_region", "phrase_grounding", "alignment"),
        "streams.captions.negatives": True,
        "model.pooler": True,
    },
    "+ text corpus, without relationship": {"streams.text.batch_size": 32},
}


def _trials(setting: str, changes: Mapping[str, Any] | None) -> list[Trial]:
    trials, start = [], ""
    if changes is not None:
        start = f"{setting}/pre-training"
        made = downstream.pretraining("vlbert")
        trials.append(dataclasses.replace(made, name=start, changes=changes))
    for name in TASKS:
        made = downstream.task(name, "vlbert", start)
        (cell,) = made.cells
        trials.append(
            dataclasses.replace(
                made,
                name=f"{setting}/{name}",
                cells=(dataclasses.replace(cell, row=setting, column=cell.row),),
                against="",
            )
        )
    return trials


TABLE = Table(
    "VL-BERT: what pre-training consists of, embedded data, test images",
    tuple(trial for setting, changes in SETTINGS.items() for trial in _trials(setting, changes)),
    seeds=1,
    notes="Prior as in the table of downstream tasks.",
)
