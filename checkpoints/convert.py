"""Checkpoints in and out: shows one, writes it as a shared folder or in the original's layout.

  python -m checkpoints.convert SOURCE                          # what it is, array by array
  python -m checkpoints.convert SOURCE --out=FOLDER             # a folder that explains itself
  python -m checkpoints.convert SOURCE --torch=FILE             # names and layout of the originals

FILE ends in .safetensors, or in .bin, which the originals' own scripts read (with torch).

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

from checkpoints import export, published_model, share, sources, transfer
from core import remote, strict_json
from core.console import command, say
from core.errors import DataError
from vl_models.heads import HeadSpec


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
    answers: Sequence[Sequence[str]] = (),
    spec: dict | None = None,
    heads: int = 0,
    image_heads: int = 0,
) -> share.Shared:
    """Writes a shared folder (see `share`).

    Args:
      source: any.
      folder: new.
      answers: the answer lists of a published checkpoint, of different lengths.
      spec: the feature spec of a published checkpoint, as JSON.
      heads, image_heads: see `published_model.block`.

    Raises:
      SourceError: no whole model, or an answer list of another length than the head.
      DataError: the folder exists.
    """
    specs = _named(source, answers) if answers else dict(source.heads)
    config = dict(source.config) or {
        "model": published_model.block(source, heads=heads, image_heads=image_heads)
    }
    shared = share.Shared(
        arrays=source.arrays,
        config=config,
        data_metadata=dict(source.data_metadata) | ({"feature_spec": spec} if spec else {}),
        pieces=source.pieces,
        answers=answers[0] if answers else source.answers,
        step=source.step,
        origin=f"{source.place} ({source.kind})",
        heads=specs,
    )
    share.write(folder, shared)
    return shared


def _named(source: sources.Source, lists: Sequence[Sequence[str]]) -> dict[str, HeadSpec]:
    """The source's heads; those with an output per answer of a list have its names.

    Raises:
      SourceError: a list that no head has as many outputs as, or two of one length.
    """
    out = dict(source.heads)
    of_answers = {n: spec for n, spec in out.items() if spec.named_by == "answers"}
    counts = {name: spec.options["outputs"] for name, spec in of_answers.items()}
    by_length = {len(answers): tuple(answers) for answers in lists}
    if len(by_length) < len(lists):
        raise sources.SourceError(
            f"{source.place}: several answer lists of one length, so that none can be told from "
            f"another: {[len(answers) for answers in lists]}\n  fix: give each list once"
        )
    if unused := set(by_length) - set(counts.values()):
        raise sources.SourceError(
            f"{source.place}: the answer heads have {counts} answers, the list {min(unused)}\n"
            "  fix: give the list that the checkpoint was trained with"
        )
    for name, spec in of_answers.items():
        if counts[name] in by_length:
            out[name] = dataclasses.replace(spec, names=by_length[counts[name]])
    return out


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
    parser.add_argument("--torch", help="new .safetensors or .bin file in the original's layout")
    parser.add_argument("--without", default="", help="heads that --torch leaves out: vqa,gqa")
    parser.add_argument("--kind", default="", help="of a published file, if its names mislead")
    parser.add_argument("--vocab", default="", help="vocab.txt of a published file")
    parser.add_argument(
        "--answers", default="", help="answer list(s) of a published file: JSON, or one per line"
    )
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
            answers=[_answers(path) for path in filter(None, args.answers.split(","))],
            spec=_json(args.feature_spec),
            heads=args.heads,
            image_heads=args.image_heads,
        )
        say(f"wrote {args.out}")
    if args.torch:
        without = [name for name in args.without.split(",") if name]
        state = export.to_torch(source, args.torch, without=without)
        say(f"wrote {args.torch}: {len(state)} arrays")


def _json(path: str | None) -> Any:
    if not path:
        return None
    try:
        return strict_json.parse(remote.path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise DataError("no readable JSON file", where=path, found=str(error)) from error


def _answers(path: str) -> list[str]:
    from input_pipeline.datasets.reading.answers import AnswerVocabulary

    return list(AnswerVocabulary.load(path).labels)


if __name__ == "__main__":
    sys.exit(main())
