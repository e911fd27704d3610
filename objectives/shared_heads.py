"""Objectives that share a head must build it in the same way, and name its outputs in the same."""

from collections.abc import Sequence

from core.errors import ConfigError
from objectives.base import Objective
from vl_models.heads import HeadSpec


def refused(
    head: str, first: tuple[Objective, HeadSpec], second: tuple[Objective, HeadSpec]
) -> ConfigError:
    """The error of two objectives whose heads of one name are not the same.

    Args:
      head: its name.
      first, second: the objectives, each with the head that it would build.
    """
    (one, known), (other, spec) = first, second
    if known.named_by and known.named_by == spec.named_by and known.names != spec.names:
        return _other_names(head, one, other)
    return ConfigError(
        f"two objectives have a head {head!r} that is not the same",
        where=f"{other.where}.head",
        expected=f"{known}",
        found=f"{spec}",
        fix=f"--{other.where}.head=<another name>",
    )


def _other_names(head: str, first: Objective, second: Objective) -> ConfigError:
    """Two streams share a head, and their data sets name its outputs otherwise."""
    ours, theirs = first.output_names, second.output_names
    here = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    if here is None:
        here = min(len(ours), len(theirs))
    one, other = first.data_info.stream, second.data_info.stream

    def said(names: Sequence[str]) -> str:
        at = f", number {here} is {names[here]!r}" if here < len(names) else ""
        return f"{len(names):,} {second.named_by}{at}"

    fix = f"--{second.where}.head=<another name>"
    if second.named_by == "answers":
        fix = (
            f"one list for both, --config.streams.{one}.data.answers=FILE and "
            f"--config.streams.{other}.data.answers=FILE, or {fix}"
        )
    return ConfigError(
        f"streams {one!r} and {other!r} share head {head!r}, and their {second.named_by} differ",
        where=f"{second.where}.head",
        expected=f"as of {one!r}: {said(ours)}",
        found=said(theirs),
        fix=fix,
    )
