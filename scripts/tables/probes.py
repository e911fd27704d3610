"""Where the pre-trained models look: words filled in without the region that they speak of."""

from scripts.experimenting.declared import Cell, Table, Trial
from scripts.tables.downstream import KINDS, MODELS

SEEN = {
    "all regions": "nothing",
    "without the named object's": "named",
    "the whole image alone": "objects",
}


def _trial(model: str, seen: str) -> Trial:
    row, first = f"{MODELS[model]}, {seen}", next(iter(SEEN))
    cells = [Cell(row, "all words", "visual_gain/word_accuracy")]
    cells += [
        Cell(row, title, f"visual_gain/by_kind/{kind}/within") for kind, title in KINDS.items()
    ]
    return Trial(
        f"{model}/{seen}",
        f"configs/{model}_pretrain.py",
        tuple(cells),
        {"evals.visual_gain.hidden": SEEN[seen]},
        start=f"{model}/pre-training",
        against="" if seen == first else f"{model}/{first}",
        train=False,
    )


TABLE = Table(
    "Words filled in without regions, embedded data, test images",
    tuple(
        trial
        for model in MODELS
        for trial in (
            Trial(
                f"{model}/pre-training",
                f"configs/{model}_pretrain.py",
                validates=("validation", "visual_gain"),
            ),
            *(_trial(model, seen) for seen in SEEN),
        )
    ),
    seeds=1,
    notes="All words: right over the whole vocabulary; kinds: right among the words of the kind. "
    "Without the named object's region, words that no region was found for are left out.",
)
