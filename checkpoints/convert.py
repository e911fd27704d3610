"""Checkpoints in and out: shows one, writes it as a shared folder or in the original's layout.

  python -m checkpoints.convert SOURCE                          # what it is, array by array
  python -m checkpoints.convert SOURCE --out=FOLDER             # a folder that explains itself
  python -m checkpoints.convert SOURCE --torch=FILE.safetensors # names and layout of the originals

SOURCE is a run's folder (or one of its checkpoints), a folder written here, a published checkpoint
of VL-BERT, ViLBERT or BERT (.safetensors; .bin, .pth, .model with torch), or a hub name. A run
starts from any of them with `--config.init=SOURCE`; it prints what was taken and what was not.
"""

if __name__ == "__main__":
    from core import interrupts

    interrupts.begin(interrupts.STOPPED)  # before what takes seconds to import

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

import vl_models
from checkpoints import published_model, share, sources, transfer
from core import remote, strict_json
from core.console import command, say, warn
from core.errors import DataError
from core.progress import atomic_file
from vl_models import embeddings
from vl_models.heads import HeadSpec
from vl_models.published import translate


def show(source: sources.Source) -> str:
    """What a source is and holds, as a table."""
    lines = [f"{source.place}: {source.kind}" + (f", step {source.step}" if source.step else "")]
    report = [
        transfer.Line("mapped", path, source.names[path], array.shape, _kept(array))
        for path, array in source.arrays.items()
    ] + [transfer.Line("dropped", "", name, (), why) for name, why in source.dropped.items()]
    lines.append(transfer.table(report))
    for what, found in (("word pieces", source.pieces), ("answers", source.answers)):
        lines.append(f"{what}: {f'{len(found):,}' if found else 'not recorded'}")
    spec = source.data_metadata.get("feature_spec")
    lines.append(f"region features: {json.dumps(spec) if spec else 'not recorded'}")
    return "\n".join(lines)


def _kept(array: np.ndarray) -> str:
    return "" if array.dtype == np.float32 else f"is {array.dtype}"


def to_folder(
    source: sources.Source,
    folder: str,
    *,
    answers: Sequence[str] | None = None,
    spec: dict | None = None,
    heads: int = 0,
    image_heads: int = 0,
) -> share.Shared:
    """Writes a shared folder (see `share`).

    Args:
      source: any.
      folder: new.
      answers: the answer list of a published checkpoint.
      spec: the feature spec of a published checkpoint, as JSON.
      heads, image_heads: see `published_model.block`.

    Raises:
      SourceError: no whole model, or an answer list of another length than the head.
      DataError: the folder exists.
    """
    specs = _named(source, answers) if answers else dict(source.heads)
    answers = answers or source.answers
    config = dict(source.config) or {
        "model": published_model.block(source, heads=heads, image_heads=image_heads)
    }
    shared = share.Shared(
        arrays=source.arrays,
        config=config,
        data_metadata=dict(source.data_metadata) | ({"feature_spec": spec} if spec else {}),
        pieces=source.pieces,
        answers=answers,
        step=source.step,
        origin=f"{source.place} ({source.kind})",
        heads=specs,
    )
    share.write(folder, shared)
    return shared


def _named(source: sources.Source, answers: Sequence[str]) -> dict[str, HeadSpec]:
    """The source's heads; those with an output per answer of the list have its names.

    Raises:
      SourceError: there are heads of answers, and none has as many as the list.
    """
    out = dict(source.heads)
    of_answers = {n: spec for n, spec in out.items() if spec.named_by == "answers"}
    counts = {name: spec.options["outputs"] for name, spec in of_answers.items()}
    if counts and len(answers) not in counts.values():
        raise sources.SourceError(
            f"{source.place}: the answer heads have {counts} answers, the list {len(answers)}\n"
            "  fix: give the list that the checkpoint was trained with"
        )
    for name, spec in of_answers.items():
        if counts[name] == len(answers):
            out[name] = dataclasses.replace(spec, names=tuple(answers))
    return out


def to_torch(source: sources.Source, path: str) -> dict[str, np.ndarray]:
    """Writes the original's state dict as safetensors; returns it.

    What the original cannot have is told: heads of objectives that are ours alone are left out, and
    VL-BERT's embedding of boxes may be another. ViLBERT's is folded into the location's layer.

    Raises:
      SourceError: a parameter that the originals have no name for, or the file exists.
    """
    from safetensors.numpy import save_file

    if remote.path(path).exists():
        raise sources.SourceError(f"{path} exists already: remove it or choose another path")
    model = source.config.get("model", {}).get("name") or source.kind.split("_")[0]
    if source.kind == "single_stream":
        model = source.kind
    arrays = _as_published(source)
    try:
        state = translate.to_torch(translate.kind_for(model, arrays), arrays)
    except KeyError as error:
        raise sources.SourceError(f"{source.place}: {error.args[0]}") from error
    with atomic_file(path) as temporary:
        save_file({name: np.asarray(x, order="C") for name, x in state.items()}, temporary)
    return state


def _as_published(source: sources.Source) -> dict[str, np.ndarray]:
    """The source's arrays as the original's code would need them."""
    arrays = dict(source.arrays)
    for head in (name for name, spec in source.heads.items() if spec.module == "pointer"):
        warn(f"{source.place}: the head {head!r} is left out: no original has one like it")
        arrays = {p: x for p, x in arrays.items() if not p.startswith(f"heads/{head}/")}
    if "model" not in source.config:  # a published file
        return arrays
    model = vl_models.completed(source.config["model"])
    geometry = embeddings.Geometry.of(model["geometry"])
    if model["name"] == "vlbert" and geometry != embeddings.VLBERT:
        warn(
            f"{source.place}: boxes are embedded by config.model.geometry {geometry}, which the "
            "original's code does not have: there, (share - offset) * scale / base^(i / n) has to "
            f"stand for its {embeddings.VLBERT}"
        )
    elif model["name"] != "vlbert" and geometry != embeddings.VILBERT:
        layer = "trunk/regions/location"
        kernel, bias = arrays[f"{layer}/kernel"], arrays[f"{layer}/bias"]
        offset, scale = (
            np.repeat(np.asarray(pair, kernel.dtype), (4, 1))[:, None]
            for pair in (geometry.offset, geometry.scale)
        )
        arrays[f"{layer}/kernel"] = kernel * scale
        arrays[f"{layer}/bias"] = bias - (offset * scale * kernel).sum(0)
    return arrays


@command
def main(argv: Sequence[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m checkpoints.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source")
    parser.add_argument("--out", help="new folder: weights, config, vocabulary, card")
    parser.add_argument("--torch", help="new .safetensors file in the original's layout")
    parser.add_argument("--kind", default="", help="of a published file, if its names mislead")
    parser.add_argument("--vocab", default="", help="vocab.txt of a published file")
    parser.add_argument("--answers", help="answer list of a published file: JSON, or one per line")
    parser.add_argument("--feature_spec", help="spec.json of the region store it was trained on")
    parser.add_argument("--heads", type=int, default=0, help="attention heads, 0: as released")
    parser.add_argument("--image_heads", type=int, default=0, help="the same of the image stream")
    args = parser.parse_args(argv)
    source = sources.open_source(args.source, kind=args.kind, vocab=args.vocab)
    say(show(source))
    if args.out:
        to_folder(
            source,
            args.out,
            answers=_answers(args.answers),
            spec=_json(args.feature_spec),
            heads=args.heads,
            image_heads=args.image_heads,
        )
        say(f"wrote {args.out}")
    if args.torch:
        state = to_torch(source, args.torch)
        say(f"wrote {args.torch}: {len(state)} arrays")


def _json(path: str | None) -> Any:
    if not path:
        return None
    try:
        return strict_json.parse(remote.path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise DataError("no readable JSON file", where=path, found=str(error)) from error


def _answers(path: str | None) -> list[str] | None:
    if not path:
        return None
    from input_pipeline.datasets.reading.answers import AnswerVocabulary

    return list(AnswerVocabulary.load(path).labels)


if __name__ == "__main__":
    sys.exit(main())
