"""What the folder of a task says of itself: config.json, and a README for people."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inference.export.task import Task
from inference.layout import Batch
from inference.tasks import TaskModel
from input_pipeline.schema import FIELDS
from input_pipeline.texts import vocabulary

FORMAT = "vl-models program 1"


def config(
    model: TaskModel,
    made: Task,
    sizes: Sequence[int],
    platforms: Sequence[str],
    batch: Batch,
    outputs: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """What a program reads and gives, and how texts and images become that."""
    found, layout = model.checkpoint, made.layout
    stream = found.config.streams[made.stream]
    objective = found.model.streams[made.stream][0]
    return dict(
        format=FORMAT,
        verb=made.verb,
        model=found.config.model.name,
        made_from=found.place,
        batch_sizes=list(sizes),
        platforms=list(platforms),
        inputs={
            name: dict(
                dtype=str(batch[name].dtype),
                shape=["B", *batch[name].shape[1:]],
                meaning=FIELDS[name].meaning if name in FIELDS else "",
            )
            for name in made.inputs
        },
        outputs={
            name: dict(dtype=str(array.dtype), shape=["B", *array.shape[1:]])
            for name, array in outputs.items()
        },
        text=dict(
            vocabulary=vocabulary.FILE,
            tokenizer="BERT's WordPiece, lower case",
            special=dataclasses.asdict(found.tokenizer.special),
            max_text=layout.max_text,
            layout=(inspect.getdoc(layout.assemble) or "").partition("\n\n")[0],
        ),
        regions=dict(
            feature_spec=found.spec.to_dict(),
            max_regions=layout.max_regions,
            max_length=layout.max_length,
            order=stream.order,
            resize=list(stream.resize),
            row_0="the whole image: its box, and "
            + (
                "the mean of the features" if found.spec.global_feature == "mean" else "its feature"
            ),
        ),
        names=list(objective.output_names) if made.verb in ("answer", "classify") else [],
    )


def card(config: Mapping[str, Any]) -> str:
    """The README of the folder."""
    text, regions = config["text"], config["regions"]
    rows = [
        f"| `{name}` | {one['dtype']} | {', '.join(map(str, one['shape']))} | {one['meaning']} |"
        for name, one in config["inputs"].items()
    ]
    outputs = [
        f"| `{name}` | {one['dtype']} | {', '.join(map(str, one['shape']))} |"
        for name, one in config["outputs"].items()
    ]
    return "\n".join(
        [
            f"# {config['verb']} of a {config['model']}",
            "",
            "A program and its weights. `load.py` runs it with jax, numpy and safetensors alone:",
            "",
            "```python",
            "from load import Program",
            "",
            'program = Program(".")  # this folder',
            "outputs = program(inputs)  # {name: array [B, ...]}, any B",
            "```",
            "",
            "`python load.py` runs the example that is here and compares. Programs are of the",
            f"platforms {', '.join(config['platforms'])} and of {config['batch_sizes']} rows, to",
            "which the loader pads; StableHLO, serialised by `jax.export`.",
            "",
            "| input | dtype | shape | |",
            "|---|---|---|---|",
            *rows,
            "",
            "| output | dtype | shape |",
            "|---|---|---|",
            *outputs,
            "",
            f"Text: {text['layout']} {text['tokenizer']}, the pieces of `{text['vocabulary']}`, at",
            f"most {text['max_text']} with the special ones. Regions: at most",
            f"{regions['max_regions']} with row 0, {regions['row_0']}; both together at most",
            f"{regions['max_length']}. Order of the regions: {regions['order']}.",
            "`config.json` has all of it, the feature spec that features must be of, and what the",
            "outputs are called.",
            "",
        ]
    )
