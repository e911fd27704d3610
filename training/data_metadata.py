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


def of(data: Data) -> dict[str, Any]:
    """What a checkpoint must say of its data: JSON."""
    answers = data.prepared.answers
    return dict(
        feature_spec=data.spec.to_dict(),
        special=dataclasses.asdict(data.special),
        vocab=str(data.prepared.vocab),
        vocab_fingerprint=data.tokenizer.fingerprint,
        pieces=sorted(data.tokenizer.vocab, key=data.tokenizer.vocab.get),
        answers=list(answers.labels) if answers else None,
        labels=list(data.prepared.labels),
    )


def digest(metadata: Mapping[str, Any]) -> str:
    """Hex digest of what `of` says, but for where the vocabulary lies."""
    text = json.dumps({name: value for name, value in metadata.items() if name != "vocab"})
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def require_same(
    data: Data, saved: Mapping[str, Any], where: str, *, vocabulary: bool = True
) -> None:
    """Compares the metadata of a checkpoint with the data at hand, as far as it has any.

    Args:
      data: at hand.
      saved: `of` the checkpoint's.
      where: its place, for the message.
      vocabulary: whether word pieces and answers must be the same, too; else they are mapped by
        name.

    Raises:
      DataError: other features, vocabulary or answers; names both.
    """
    if "feature_spec" in saved:
        spec = FeatureSpec.from_dict(saved["feature_spec"], where)
        data.spec.require_match(spec, "config.data.regions", where)
    if not vocabulary:
        return
    if saved["vocab_fingerprint"] != data.tokenizer.fingerprint:
        raise DataError(
            "the checkpoint was trained with another vocabulary: its word ids mean other words",
            where=where,
            expected=saved["vocab"],
            found=str(data.prepared.vocab),
            fix="--config.data.vocab=<the vocabulary of the checkpoint>",
        )
    here = of(data)["answers"]
    if saved.get("answers") != here:
        raise DataError(
            "the checkpoint was trained with another list of answers",
            where=where,
            expected=f"{len(saved.get('answers') or [])} answers, as in the checkpoint",
            found=f"{len(here or [])} answers, in part others or in another order",
            fix="--config.data.answers=<the list of the checkpoint>",
        )
    labels = list(data.prepared.labels)
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
