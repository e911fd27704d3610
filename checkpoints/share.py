"""A checkpoint as a folder that explains itself: to keep, to send, to open anywhere.

config.json         model block, objectives, heads, step, where it came from
model.safetensors   parameters under our names, as they are
vocab.txt           word pieces by id
answers.json        answer list of the answer heads, where there is one
feature_spec.json   what the region features must be, where that is known
README.md           model card, free to be edited
SHA256SUMS          digests of all files but the card, for `sha256sum -c`; `read` verifies them
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core import remote
from core.console import warn
from core.errors import DataError, UserError
from core.messages import brief, clip, printable
from core.progress import atomic_folder
from input_pipeline.texts import vocabulary
from vl_models.heads import HeadSpec
from vl_models.heads import specs as head_specs

FORMAT = 1
CONFIG, WEIGHTS, VOCAB, ANSWERS, SPEC, CARD, SUMS = (
    "config.json",
    "model.safetensors",
    vocabulary.FILE,
    "answers.json",
    "feature_spec.json",
    "README.md",
    "SHA256SUMS",
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
    """Whether a folder was written by `write`, even if its files are damaged."""
    try:
        return json.loads((path / CONFIG).read_bytes()).get("format") == f"vl-models {FORMAT}"
    except (OSError, ValueError, AttributeError, RecursionError):
        return (path / SUMS).is_file() and (path / WEIGHTS).is_file()


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
                "digests": SUMS,
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
            vocabulary.write(temporary / VOCAB, shared.pieces)
        if shared.answers is not None:
            put(ANSWERS, list(shared.answers))
        if spec is not None:
            put(SPEC, spec)
        put(SUMS, _sums(temporary, sorted(path.name for path in temporary.iterdir())))
        put(CARD, card(shared, spec))


def _sums(folder: pathlib.Path, names: Sequence[str]) -> str:
    """Digests of files, as the program sha256sum writes them."""
    lines = []
    for name in names:
        with (folder / name).open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    return "".join(lines)


def _damaged(folder: pathlib.Path, file: str, expected: str, found: str) -> DataError:
    return DataError(
        "a shared checkpoint is damaged",
        where=str(folder / file),
        expected=expected,
        found=found,
        fix="copy the folder again, or write it again: python -m checkpoints.convert",
    )


def _verify(folder: pathlib.Path) -> bool:
    """Compares every file with its digest; False where the folder has none, as earlier versions
    wrote it.

    Raises:
      DataError: a file is missing or has changed.
    """
    if not (folder / SUMS).is_file():
        return False
    written = (folder / SUMS).read_bytes()
    # In file order, as `write` lists them; what is no such line is no digest of anything.
    names = [line[66:] for line in written.decode("utf-8", "replace").split("\n")[:-1]]
    for name in names:
        if name not in (CONFIG, WEIGHTS, VOCAB, ANSWERS, SPEC):
            raise _damaged(folder, SUMS, "digests of the files of such a folder", brief(name))
        if not (folder / name).is_file():
            raise _damaged(folder, name, "a file that the digests name", "none")
    found = _sums(folder, names).encode()
    read = {name for name in (CONFIG, WEIGHTS, VOCAB, ANSWERS, SPEC) if (folder / name).exists()}
    if found != written or not {CONFIG, WEIGHTS, *read} <= set(names):
        pairs = zip(names, found.split(b"\n"), written.split(b"\n"), strict=False)
        file = next((name for name, ours, theirs in pairs if ours != theirs), SUMS)
        raise _damaged(folder, file, f"its digest in {SUMS}", "another")
    return True


def read(folder: str | os.PathLike) -> Shared:
    """Reads a folder written by `write`, and verifies its digests.

    Raises:
      DataError: a folder of another format or version, or a damaged one.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = remote.mirror(folder)
    if not is_folder(folder):
        raise DataError(
            f"{folder} is no shared checkpoint: expected {CONFIG} of format 'vl-models {FORMAT}'"
        )
    verified, file = _verify(folder), CONFIG

    def get(name: str) -> Any:
        nonlocal file
        file = name
        path = folder / name
        return json.loads(path.read_bytes().decode("utf-8")) if path.is_file() else None

    try:
        about = get(CONFIG)
        if not verified:
            if "digests" in about:
                raise _damaged(folder, SUMS, "the digests of its files", "no such file")
            warn(
                f"note: {folder} has no digests, as earlier versions wrote it: whether it is "
                "damaged cannot be told (python -m checkpoints.convert SOURCE --out=NEW adds them)"
            )
        config, facts = dict(about["config"]), dict(about["facts"])
        step, origin = about["step"], about["origin"]
        heads = head_specs(about.get("heads", {}))
        spec, answers = get(SPEC), get(ANSWERS)
        file = WEIGHTS
        arrays = load_file(folder / WEIGHTS)
    except UserError:
        raise
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError
    ) as error:  # fmt: skip
        raise _damaged(
            folder, file, "what was written", f"{type(error).__name__}: {error}"
        ) from error
    return Shared(
        arrays=arrays,
        config=config,
        data_metadata=facts | ({"feature_spec": spec} if spec else {}),
        pieces=vocabulary.read(folder / VOCAB) if (folder / VOCAB).is_file() else None,
        answers=answers,
        step=step,
        origin=origin,
        heads=heads,
    )


def _quoted(text: object) -> str:
    """A name from elsewhere in Markdown: a plain word as it is, else as code on one line."""
    if isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9.-]+|[A-Za-z]\w*", text, re.ASCII):
        return text
    return f"`{clip(' '.join(printable(str(text)).replace('`', chr(39)).split()), 300)}`"


def card(shared: Shared, spec: Mapping | None) -> str:
    """The model card: what it is, what it was trained on, how to use it."""
    model = shared.config["model"]
    count = sum(array.size for array in shared.arrays.values())
    heads = sorted({path.split("/")[1] for path in shared.arrays if path.startswith("heads/")})
    lines = [
        f"# {_quoted(model['name'])}: {model['layers']} layers, {model['hidden']} wide",
        "",
        f"- parameters: {count:,}",
        f"- heads: {', '.join(map(_quoted, heads)) or 'none'}",
        f"- from: {_quoted(shared.origin)}" + (f", step {shared.step:,}" if shared.step else ""),
        f"- vocabulary: {len(shared.pieces):,} word pieces (`{VOCAB}`)"
        if shared.pieces
        else "- vocabulary: unknown",
    ]
    if shared.answers:
        lines.append(f"- answers: {len(shared.answers):,} (`{ANSWERS}`, in the head's order)")
    if spec:
        lines.append(
            f"- region features: {spec['feature_dim']}-d of {_quoted(spec['detector'])} "
            f"({spec['num_classes']} classes); other features give plausible nonsense"
        )
    else:
        lines.append("- region features: not recorded; use the detector it was trained with")
    data = shared.config.get("data")
    if data:
        lines.append(
            f"- trained on: data set {_quoted(data['dataset'])}, "
            f"split {_quoted(data['train_split'])}"
        )
    lines += [
        "",
        "Start a run from it with `--config.init=<this folder>`, or open it in Python:",
        "",
        "```python",
        "from inference import load",
        "",
        'model = load("<this folder>", regions="<region store>")',
        "print(model)  # what it can be asked, such as model.embed(text, image)",
        "```",
        "",
    ]
    return "\n".join(lines)
