"""Numbered layers of a source and of a model: whether they are as many, and the first ones alone.

A source may be deeper than the model on purpose (`config.init_layers`): the lowest layers of a BERT
know words well enough for a shallow model. Layers that only one side has are else an error, since
a model of another depth by accident would train and never say so.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping

from checkpoints.sources import Source

ALL, FIRST = CHOICES = ("all", "first")
FLAG = "--config.init_layers"
_NUMBERED = re.compile(r"trunk/(\w*?)_(\d+)/")

Layers = Mapping[str, frozenset[int]]  # {kind, such as "layer" or "image_layer": numbers}


def of(paths: Iterable[str]) -> Layers:
    """The numbered layers that parameters belong to.

    Args:
      paths: of parameters, ours.
    """
    found: dict[str, set[int]] = {}
    for path in paths:
        if match := _NUMBERED.match(path):
            found.setdefault(match[1], set()).add(int(match[2]))
    return {kind: frozenset(numbers) for kind, numbers in sorted(found.items())}


def differences(theirs: Layers, mine: Layers) -> list[str]:
    """A sentence for each kind of layer of which source and model have not the same ones."""
    said = []
    for kind in sorted(set(theirs) & set(mine)):
        if theirs[kind] != mine[kind]:
            text = f"{kind}s: {len(theirs[kind])} in the source, {len(mine[kind])} in the model"
            if mine[kind] < theirs[kind]:
                text += f"; for the first {len(mine[kind])} alone: {FLAG}={FIRST}"
            said.append(text)
    return said


def first_layers(source: Source, target: Iterable[str]) -> tuple[Source, list[str]]:
    """The source without the layers above those that the model has.

    Args:
      source: as deep as the model, or deeper; where it is shallower, `differences` has the error.
      target: paths of the model's parameters.

    Returns:
      The source, whose `dropped` names what was left out, and a line for each kind of layer that
      says which were taken and which dropped.
    """
    theirs, mine = of(source.arrays), of(target)
    above: dict[tuple[str, int], str] = {}
    said = []
    for kind in sorted(set(theirs) & set(mine)):
        if left := theirs[kind] - mine[kind]:
            kept = theirs[kind] & mine[kind]
            why = f"the model has the first {len(mine[kind])} of {len(theirs[kind])} {kind}s"
            above |= {(kind, number): why for number in left}
            said.append(f"{kind}s {_span(kept)} of the source taken, {_span(left)} dropped")
    out = {
        path: above[match[1], int(match[2])]
        for path in source.arrays
        if (match := _NUMBERED.match(path)) and (match[1], int(match[2])) in above
    }
    dropped = dict(source.dropped) | {source.names[path]: why for path, why in out.items()}
    arrays = {path: array for path, array in source.arrays.items() if path not in out}
    return dataclasses.replace(source, arrays=arrays, dropped=dropped), said


def _span(numbers: frozenset[int]) -> str:
    """ "0", "0 to 2" or "0, 2" of layer numbers."""
    low, high = min(numbers), max(numbers)
    if len(numbers) > 1 and len(numbers) == high - low + 1:
        return f"{low} to {high}"
    return ", ".join(map(str, sorted(numbers)))
