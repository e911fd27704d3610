"""Which group of tasks helps which: each group by itself and with each other one, test images.

A row is a task, a column the group that its own group learns with; on the task's own group's
column it learns by itself. All start from the same pre-trained run and have the same rounds.
"""

import itertools

from configs import task_table
from scripts.experimenting.declared import Cell, Table, Trial
from scripts.tables import downstream
from scripts.tables.multitask import MODELS, TITLES, metric_of

ROUNDS = 600
GROUPS: dict[str, list[str]] = {}
for _name, _task in task_table.SCENES.items():
    GROUPS.setdefault(_task.group, []).append(_name)


def trial(model: str, one: str, other: str) -> Trial:
    """The groups `one` and `other` together; the same: one by itself."""
    tasks = [*GROUPS[one], *(GROUPS[other] if other != one else [])]
    rows = [(task, other if task in GROUPS[one] else one) for task in tasks]
    return Trial(
        f"{one}+{other}/{model}" if other != one else f"{one}/{model}",
        f"configs/multitask.py:model={model},tasks={'+'.join(tasks)}",
        tuple(
            Cell(
                f"{MODELS[model]}: {TITLES[task]}",
                group.replace("_", " "),
                metric_of(task),
            )
            for task, group in rows
        ),
        {"total_steps": ROUNDS},
        start=f"pretrain/{model}",
        validates=tuple(metric_of(task).split("/")[0] for task in tasks),
    )


TABLE = Table(
    "Which group of tasks helps which, embedded data, test images",
    (
        *(downstream.pretraining(model) for model in MODELS),
        *(
            trial(model, one, other)
            for model in MODELS
            for one, other in itertools.combinations_with_replacement(GROUPS, 2)
        ),
    ),
    corner="learned with",
    seeds=1,
    notes=f"{ROUNDS} rounds each, from the same pre-trained run. In the column of its own group a "
    "task learns with that group alone.",
)
