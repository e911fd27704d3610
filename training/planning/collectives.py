"""Collectives in the optimized HLO of a compiled program: what devices send each other."""

import dataclasses
import math
import re
from collections.abc import Sequence

import numpy as np
from jax.sharding import Mesh

from training.planning.hlo import Computation, Instruction, Program

KINDS = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
# A TPU program spreads one exchange over several fusions, each of which names it.
_CHAIN = re.compile(r'\bchannel_id=(\d+).*\bchain_id="(\d+)"')
_LIST = re.compile(r"\b(?:replica_groups|source_target_pairs)=\{(\{[\d,{} ]*\})\}")
# It runs a sum and its split as one, and writes them down as a fusion of this name.
_SUM_AND_SPLIT = "all-reduce-scatter"
# Groups are written in three ways: listed; the rows of a matrix made of transposed places,
# [4,2]<=[2,2,2]T(2,1,0); or axes (or parts of one, 'x':(before)size) of a mesh of XLA's own.
_IOTA = re.compile(r"\breplica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(
    r"\breplica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))?"
    r" \{([^}]*)\}"
)
_AXIS = re.compile(r"'([^']+)'(?:=(\d+)|:\((\d+)\)(\d+))?")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of a program.

    Attributes:
      kind: of KINDS.
      axes: the mesh axes over which devices exchange, such as ("data", "fsdp").
      size: devices that exchange with each other; of a permutation 2, source and target.
      bytes: of the whole array a device takes part in: what it has after an all-gather, what it
        has before a reduce-scatter.
      times: executions per run of the program.
    """

    kind: str
    axes: tuple[str, ...]
    size: int
    bytes: int
    times: int = 1


def find(text: str, mesh: Mesh) -> list[Collective]:
    """All collectives of a program, those in loops with their trip counts.

    Of branches one runs; here it is the one that sends most.

    Args:
      text: `compiled.as_text()`.
      mesh: that the program was compiled for.

    Raises:
      ValueError: text that is no HLO module with an entry computation.
    """
    program, out, chains = Program(text), [], set()
    for name, rounds in program.times(_sent).items():
        here = program.computations[name]
        for one in here.values():
            kind = one.opcode.removesuffix("-start")
            if kind not in KINDS:
                continue
            if kind == "all-reduce" and name.startswith(_SUM_AND_SPLIT):
                kind = "reduce-scatter"
            chain = _CHAIN.search(one.rest)
            if chain:
                if (kind, *chain.groups()) in chains:
                    continue
                chains.add((kind, *chain.groups()))
            groups = _groups(one.rest, mesh)
            axes, size = _axes(groups, mesh), max(len(group) for group in groups)
            sent = _sent(one, here)
            if axes:
                whole = sent * size if kind == "all-gather" else sent
                out.append(Collective(kind, axes, size, whole, rounds))
    return out


def _sent(one: Instruction, here: Computation) -> int:
    """Bytes that a collective reads; 0 of other instructions."""
    if one.opcode.removesuffix("-start") not in KINDS:
        return 0
    return sum(here[name].bytes for name in one.operands() if name in here)


def totals(found: Sequence[Collective]) -> list[dict]:
    """One row per kind and axes: {"kind", "axes", "size", "count", "bytes"}, most bytes first."""
    rows: dict[tuple, dict] = {}
    for one in found:
        key = one.kind, one.axes, one.size
        row = rows.setdefault(
            key, dict(kind=one.kind, axes="·".join(one.axes), size=one.size, count=0, bytes=0)
        )
        row["count"] += one.times
        row["bytes"] += one.times * one.bytes
    return sorted(rows.values(), key=lambda row: -row["bytes"])


def _groups(rest: str, mesh: Mesh) -> list[tuple[int, ...]]:
    """Groups of devices, by their places in the mesh; of a permutation, (source, target)."""
    found = _LIST.search(rest)
    if found:
        return [
            tuple(int(n) for n in group.split(","))
            for group in re.findall(r"\{([\d, ]+)\}", found[1])
        ]
    found = _IOTA.search(rest)
    if found:
        shape, source, order = map(_numbers, found.groups())
        return [tuple(row) for row in _places(source, order).reshape(shape).tolist()]
    found = _MESH.search(rest)
    if found:
        return _groups_of_axes(*found.groups())
    if "replica_groups={}" in rest:
        return [tuple(range(mesh.devices.size))]
    raise ValueError(f"groups of devices in a form that is not known: {rest[:300]}")


def _numbers(text: str | None) -> list[int]:
    return [int(n) for n in (text or "").split(",") if n]


def _places(shape: list[int], order: list[int]) -> np.ndarray:
    places = np.arange(math.prod(shape)).reshape(shape)
    return places.transpose(order) if order else places


def _groups_of_axes(
    mesh: str, source: str | None, order: str | None, chosen: str
) -> list[tuple[int, ...]]:
    """Groups along some axes of a mesh: "'x'=2,'y'=4", "2,2,2", "1,0,2", "'x','y':(1)2"."""
    sizes = {name: int(size) for name, size, _, _ in _AXIS.findall(mesh)}
    parts = {name: [(size, False)] for name, size in sizes.items()}
    for name, _, before, size in _AXIS.findall(chosen):
        if size:
            after = sizes[name] // (int(before) * int(size))
            parts[name] = [(int(before), False), (int(size), True), (after, False)]
        else:
            parts[name] = [(sizes[name], True)]
    flat = [part for name in sizes for part in parts[name]]
    places = _places(_numbers(source) or [math.prod(sizes.values())], _numbers(order))
    places = places.reshape([size for size, _ in flat])
    inner = [i for i, (_, along) in enumerate(flat) if along]
    outer = [i for i in range(len(flat)) if i not in inner]
    width = math.prod(flat[i][0] for i in inner)
    return [tuple(row) for row in places.transpose(outer + inner).reshape(-1, width).tolist()]


def _axes(groups: Sequence[tuple[int, ...]], mesh: Mesh) -> tuple[str, ...]:
    """Mesh axes along which the devices of a group differ."""
    places = [np.array(np.unravel_index(group, mesh.devices.shape)) for group in groups]
    differ = np.any([(p != p[:, :1]).any(1) for p in places], axis=0)
    return tuple(axis for axis, found in zip(mesh.axis_names, differ, strict=True) if found)
