"""Parameters that a run computes from a checkpoint's others, such as answers from their words."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from checkpoints import transfer
from checkpoints.sources import Source, SourceError
from runtime import paths


def add(fitted: transfer.Fitted, source: Source, shapes: Any, compute: Callable) -> transfer.Fitted:
    """What was fitted with the parameters that objectives compute from it.

    A parameter that the source brought itself stays as it is, unless the value says otherwise.

    Args:
      fitted: of `transfer.fit`.
      source: what was fitted.
      shapes: nested dict of arrays or shapes, the model's.
      compute: compute(arrays, known) → {path: `objectives.base.InitialValue`}.

    Raises:
      SourceError: a computed array of another shape than the model's.
    """
    target = paths.flatten(shapes)
    given = {path: fitted.arrays.get(path, array) for path, array in source.arrays.items()}
    arrays, known, used = dict(fitted.arrays), dict(fitted.known), {}
    for path, value in compute(given, fitted.known).items():
        if path in fitted.arrays and not value.replaces:
            continue
        if value.array.shape != tuple(target[path].shape):
            raise SourceError(
                f"{path}: {value.array.shape} {value.note}, {tuple(target[path].shape)} in the "
                "model"
            )
        arrays[path] = value.array.astype(target[path].dtype)
        known.pop(path, None)
        if value.known is not None:
            known[path] = value.known
        used[path] = value
    report = _report(fitted.report, source, target, used)
    return dataclasses.replace(fitted, arrays=arrays, known=known, report=report)


def _report(
    report: Sequence[transfer.Line], source: Source, target: Mapping[str, Any], used: Any
) -> list[transfer.Line]:
    """The report with the lines of what was computed, and without those of what went into it."""
    spent = {source.names[v.origin] for v in used.values() if v.origin not in target}
    out = []
    for line in report:
        if line.path in used:
            value = used[line.path]
            # A line that was "mapped" says what was changed on the way; it still was.
            before = line.note if line.fate == "mapped" else ""
            line = dataclasses.replace(
                line,
                fate="mapped",
                name=source.names[value.origin],
                note="; ".join(filter(None, (before, value.note))),
            )
        elif line.fate == "dropped" and line.name in spent:
            continue
        out.append(line)
    return out
