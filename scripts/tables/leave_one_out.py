"""What each part of the pre-training recipe is for: words filled in on test images without it."""

from scripts.experimenting.declared import Cell, Table, Trial
from scripts.tables.downstream import GAIN, KINDS, MODELS

# The published numbers of a box, as `base` has them.
PUBLISHED = {
    "vlbert": {"offset": (0.0, 0.0), "scale": (100.0, 100.0), "base": 1000.0},
    "vilbert": {"offset": (0.0, 0.0), "scale": (1.0, 1.0)},
}
ALIGNMENT = {"vlbert": (), "vilbert": ("alignment",)}


def without(model: str) -> dict[str, dict]:
    """{what is left out: the changes of the config}."""
    masked = ("masked_language", "masked_region", *ALIGNMENT[model])
    geometry = {f"model.geometry.{name}": value for name, value in PUBLISHED[model].items()}
    found = {
        "the whole recipe": {},
        "no pointing": {
            "streams.captions.objectives": masked,
            "streams.cloze.objectives": ("masked_word",),
        },
        "no texts of one marked word": {
            "streams.cloze.batch_size": 0,
            "streams.captions.batch_size": 80,
            "stream_schedule.starts": (),
        },
        "captions from the first step on": {"stream_schedule.starts": ()},
        "published geometry": geometry,
        "no masked regions": {
            "streams.captions.objectives": tuple(
                name for name in (*masked, "phrase_grounding") if name != "masked_region"
            )
        },
    }
    if model == "vlbert":
        found["no told regions"] = {"objectives.phrase_grounding.tagged": 0.0}
        found["features read as published"] = {"model.region_feature_gain": 1.0}
        found["pointing by the last states"] = {"objectives.phrase_grounding.states": "last"}
    else:
        found["words hidden in mismatched captions"] = {"objectives.alignment.drop_labels": False}
    return found


def _trial(model: str, left_out: str, changes: dict) -> Trial:
    row = f"{MODELS[model]}, {left_out}"
    cells = [Cell(row, "visual gain", GAIN, share=False)]
    cells += [
        Cell(row, title, f"visual_gain/by_kind/{kind}/within") for kind, title in KINDS.items()
    ]
    whole = f"{model}/the whole recipe"
    name = f"{model}/{left_out}"
    return Trial(
        name,
        f"configs/{model}_pretrain.py",
        tuple(cells),
        changes,
        against="" if name == whole else whole,
        validates=("validation", "visual_gain"),
    )


TABLE = Table(
    "Pre-training without one of its parts, embedded data, test images",
    tuple(
        _trial(model, left_out, changes)
        for model in MODELS
        for left_out, changes in without(model).items()
    ),
    seeds=1,
    notes="Visual gain in points: marked words filled in with the image's own regions, less with "
    "another's. Kinds: right among the words of the kind.",
)
