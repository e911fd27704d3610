"""What a checkpoint says of its data, and whether the data at hand are the same."""

import dataclasses
import hashlib
import json
import socket
from collections.abc import Mapping
from typing import Any

import jax

from core.errors import DataError
from input_pipeline.regions import FeatureSpec
from input_pipeline.streams.pipeline import Data
from runtime import cluster


def of(data: Mapping[str, Data]) -> dict[str, Any]:
    """What a checkpoint must say of its data: JSON.

    Args:
      data: {stream: its data}; vocabulary and features are those of all.
    """
    common = next(iter(data.values()))
    answers = [_answers(one) for one in data.values()]
    labels = [list(one.prepared.labels) for one in data.values()]
    metadata = dict(
        feature_spec=common.spec.to_dict(),
        special=dataclasses.asdict(common.special),
        vocab=str(common.prepared.vocab),
        vocab_fingerprint=common.tokenizer.fingerprint,
        pieces=sorted(common.tokenizer.vocab, key=common.tokenizer.vocab.get),
        answers=next(filter(None, answers), None),
        labels=next(filter(None, labels), []),
    )
    if len({id(one) for one in data.values()}) > 1:
        metadata["streams"] = {
            name: dict(answers=_answers(one), labels=list(one.prepared.labels))
            for name, one in data.items()
        }
    return metadata


def _answers(data: Data) -> list[str] | None:
    return list(data.prepared.answers.labels) if data.prepared.answers else None


def digest(metadata: Mapping[str, Any]) -> str:
    """Hex digest of what `of` says, but for where the vocabulary lies."""
    text = json.dumps({name: value for name, value in metadata.items() if name != "vocab"})
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def require_same(
    data: Mapping[str, Data], saved: Mapping[str, Any], where: str, *, vocabulary: bool = True
) -> None:
    """Compares the metadata of a checkpoint with the data at hand, as far as it has any.

    Args:
      data: {stream: its data} at hand.
      saved: `of` the checkpoint's.
      where: its place, for the message.
      vocabulary: whether word pieces and answers must be the same, too; else they are mapped by
        name.

    Raises:
      DataError: other features, vocabulary or answers; names both.
    """
    common = next(iter(data.values()))
    if "feature_spec" in saved:
        spec = FeatureSpec.from_dict(saved["feature_spec"], where)
        common.spec.require_match(spec, "config.data.regions", where)
    if not vocabulary:
        return
    if saved["vocab_fingerprint"] != common.tokenizer.fingerprint:
        raise DataError(
            "the checkpoint was trained with another vocabulary: its word ids mean other words",
            where=where,
            expected=saved["vocab"],
            found=str(common.prepared.vocab),
            fix="--config.data.vocab=<the vocabulary of the checkpoint>",
        )
    here = of(data)
    _require_lists(here, saved, where)
    for name, lists in saved.get("streams", {}).items():
        if name in here.get("streams", {}):
            _require_lists(here["streams"][name], lists, f"{where}, stream {name!r}")


def _require_lists(here: Mapping[str, Any], saved: Mapping[str, Any], where: str) -> None:
    """Raises DataError where answers or classes are others than in the checkpoint."""
    answers, labels = here["answers"], here["labels"]
    if saved.get("answers") != answers:
        raise DataError(
            "the checkpoint was trained with another list of answers",
            where=where,
            expected=f"{len(saved.get('answers') or [])} answers, as in the checkpoint",
            found=f"{len(answers or [])} answers, in part others or in another order",
            fix="--config.data.answers=<the list of the checkpoint>",
        )
    if saved.get("labels", labels) != labels:
        raise DataError(
            "the checkpoint was trained with another list of classes",
            where=where,
            expected=saved["labels"][:20],
            found=labels[:20],
            fix="--config.data.answers=<the list of the checkpoint, a .json>",
        )


def require_same_on_all_processes(digests: Mapping[str, str]) -> None:
    """Compares what this process reads with what process 0 does; all processes must call it.

    Args:
      digests: {what: digest}, of everything that is shared out by row numbers.

    Raises:
      DataError: names what differs and the host.
    """
    first = json.loads(cluster.told_by_first(json.dumps(dict(digests))))
    differing = [
        name for name in sorted({*first, *digests}) if first.get(name) != digests.get(name)
    ]
    if differing:
        raise DataError(
            "the processes of this job read different data",
            where=f"process {jax.process_index()} on {socket.gethostname()}, {differing}",
            expected="the digests of process 0: " + ", ".join(str(first.get(n)) for n in differing),
            found=", ".join(str(digests.get(name)) for name in differing),
            fix="give all hosts the same files: annotations, regions, vocabulary, list of answers",
        )
