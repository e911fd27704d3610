"""A checkpoint as a folder that explains itself: to keep, to send, to open anywhere.

config.json         model block, objectives, heads, step, where it came from
model.safetensors   parameters under our names, as they are
vocab.txt           word pieces by id
answers.json        answer list of the answer heads, where there is one
feature_spec.json   what the region features must be, where that is known
README.md           model card
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core import remote
from core.errors import DataError
from core.progress import atomic_folder
from vl_models.heads import HeadSpec
from vl_models.heads import specs as head_specs

FORMAT = 1
CONFIG, WEIGHTS, VOCAB, ANSWERS, SPEC, CARD = (
    "config.json",
    "model.safetensors",
    "vocab.txt",
    "answers.json",
    "feature_spec.json",
    "README.md",
)


@dataclasses.dataclass(frozen=True)
class Shared:
    """What such a folder holds.

    Attributes:
      arrays: {our path: array}.
      config: model block and, as far as known, objectives, streams and dtype.
      data_metadata: special ids, and the feature spec where it is known.
      pieces: vocabulary by id, None where unknown.
      answers: answer list, None without one.
      step: of training, None where unknown.
      origin: where the parameters came from.
      heads: {head: how it is built}; {} in folders of earlier versions.
    """

    arrays: Mapping[str, np.ndarray]
    config: Mapping[str, Any]
    data_metadata: Mapping[str, Any]
    pieces: Sequence[str] | None
    answers: Sequence[str] | None
    step: int | None
    origin: str
    heads: Mapping[str, HeadSpec] = dataclasses.field(default_factory=dict)


def is_folder(path: pathlib.Path) -> bool:
    """Whether a folder was written by `write`."""
    try:
        return json.loads((path / CONFIG).read_text()).get("format") == f"vl-models {FORMAT}"
    except (OSError, ValueError, AttributeError):
        return False


def write(folder: str | os.PathLike, shared: Shared) -> None:
    """Writes a new folder, whole or not at all.

    Raises:
      DataError: the folder exists.
    """
    from safetensors.numpy import save_file

    with atomic_folder(folder, last=CONFIG) as temporary:

        def put(name: str, value: Any) -> None:
            text = value if isinstance(value, str) else json.dumps(value, indent=2) + "\n"
            (temporary / name).write_text(text, encoding="utf-8")

        data_metadata = {
            k: v for k, v in shared.data_metadata.items() if k not in ("pieces", "answers", "vocab")
        }
        spec = data_metadata.pop("feature_spec", None)
        put(
            CONFIG,
            {
                "format": f"vl-models {FORMAT}",
                "step": shared.step,
                "origin": shared.origin,
                "facts": data_metadata,
                "config": dict(shared.config),
                "heads": {name: spec.to_dict() for name, spec in shared.heads.items()},
            },
        )
        arrays = {name: np.asarray(array, order="C") for name, array in shared.arrays.items()}
        save_file(arrays, temporary / WEIGHTS)
        if shared.pieces is not None:
            put(VOCAB, "".join(f"{piece}\n" for piece in shared.pieces))
        if shared.answers is not None:
            put(ANSWERS, list(shared.answers))
        if spec is not None:
            put(SPEC, spec)
        put(CARD, card(shared, spec))


def read(folder: str | os.PathLike) -> Shared:
    """Reads a folder written by `write`.

    Raises:
      DataError: a folder of another format or version.
    """
    from safetensors.numpy import load_file

    folder = remote.mirror(folder)
    if not is_folder(folder):
        raise DataError(
            f"{folder} is no shared checkpoint: expected {CONFIG} of format 'vl-models {FORMAT}'"
        )
    about = json.loads((folder / CONFIG).read_text())

    def get(name: str) -> Any:
        path = folder / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    vocab, spec = folder / VOCAB, get(SPEC)
    return Shared(
        arrays=load_file(folder / WEIGHTS),
        config=about["config"],
        data_metadata=about["facts"] | ({"feature_spec": spec} if spec else {}),
        pieces=vocab.read_text(encoding="utf-8").split("\n")[:-1] if vocab.is_file() else None,
        answers=get(ANSWERS),
        step=about["step"],
        origin=about["origin"],
        heads=head_specs(about.get("heads", {})),
    )


def card(shared: Shared, spec: Mapping | None) -> str:
    """The model card: what it is, what it was trained on, how to use it."""
    model = shared.config["model"]
    count = sum(array.size for array in shared.arrays.values())
    heads = sorted({path.split("/")[1] for path in shared.arrays if path.startswith("heads/")})
    lines = [
        f"# {model['name']}: {model['layers']} layers, {model['hidden']} wide",
        "",
        f"- parameters: {count:,}",
        f"- heads: {', '.join(heads) or 'none'}",
        f"- from: {shared.origin}" + (f", step {shared.step:,}" if shared.step else ""),
        f"- vocabulary: {len(shared.pieces):,} word pieces (`{VOCAB}`)"
        if shared.pieces
        else "- vocabulary: unknown",
    ]
    if shared.answers:
        lines.append(f"- answers: {len(shared.answers):,} (`{ANSWERS}`, in the head's order)")
    if spec:
        lines.append(
            f"- region features: {spec['feature_dim']}-d of {spec['detector']!r} "
            f"({spec['num_classes']} classes); other features give plausible nonsense"
        )
    else:
        lines.append("- region features: not recorded; use the detector it was trained with")
    data = shared.config.get("data")
    if data:
        lines.append(f"- trained on: data set {data['dataset']!r}, split {data['train_split']!r}")
    lines += [
        "",
        "Start a run from it with `--config.init=<this folder>`, or open it in Python:",
        "",
        "```python",
        "from inference import load",
        "",
        'model = load("<this folder>")',
        "outputs = model(batch)  # numpy in, as input_pipeline.schema describes",
        "```",
        "",
    ]
    return "\n".join(lines)
