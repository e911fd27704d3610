"""Collectives in the optimized HLO of a compiled program: what devices send each other."""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jax.sharding import Mesh

KINDS = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
_BITS = {"pred": 8, "c64": 64, "c128": 128}

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (.*)$")
_OPCODE = re.compile(r"(?:^|[\s)}])([a-z][a-z0-9-]*)\(")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:calls|body|condition|to_apply)=%?([\w.-]+)")
_BRANCHES = re.compile(
    r"\b(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.-]+))"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
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


@dataclasses.dataclass
class _Computation:
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)  # bytes by instruction
    lines: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)


def find(text: str, mesh: Mesh) -> list[Collective]:
    """All collectives of a program, those in loops with their trip counts.

    Of branches one runs; here it is the one that sends most.

    Args:
      text: `compiled.as_text()`.
      mesh: that the program was compiled for.

    Raises:
      ValueError: text that is no HLO module with an entry computation.
    """
    computations, entry = _parse(text)
    times: collections.Counter[str] = collections.Counter()
    _count(computations, entry, 1, times)
    out, chains = [], set()
    for name, rounds in times.items():
        here = computations[name]
        for _, opcode, rest in here.lines:
            kind = opcode.removesuffix("-start")
            if kind not in KINDS:
                continue
            if kind == "all-reduce" and name.startswith(_SUM_AND_SPLIT):
                kind = "reduce-scatter"
            chain = _CHAIN.search(rest)
            if chain:
                if (kind, *chain.groups()) in chains:
                    continue
                chains.add((kind, *chain.groups()))
            groups = _groups(rest, mesh)
            axes, size = _axes(groups, mesh), max(len(group) for group in groups)
            sent = sum(here.sizes.get(operand, 0) for operand in _operands(rest, opcode))
            if axes:
                whole = sent * size if kind == "all-gather" else sent
                out.append(Collective(kind, axes, size, whole, rounds))
    return out


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


def _parse(text: str) -> tuple[dict[str, _Computation], str]:
    computations: dict[str, _Computation] = {}
    entry, here = "", None
    for line in text.splitlines():
        started = _COMPUTATION.match(line)
        if started:
            here = computations.setdefault(started[2], _Computation())
            entry = started[2] if started[1] else entry
            continue
        found = _INSTRUCTION.match(line)
        if here is None or not found:
            continue
        name, rest = found.groups()
        opcode = _OPCODE.search(rest)
        if opcode is None:
            continue
        here.sizes[name] = _bytes(rest[: opcode.start()])
        here.lines.append((name, opcode[1], rest[opcode.start(1) :]))
    if not entry:
        raise ValueError("no HLO module: it has no entry computation")
    return computations, entry


def _count(
    computations: Mapping[str, _Computation],
    name: str,
    times: int,
    total: collections.Counter[str],
) -> None:
    """Adds how often each computation runs when `name` runs `times` times."""
    total[name] += times
    for _, opcode, rest in computations[name].lines:
        if opcode in ("async-update", "async-done"):  # they name what async-start began
            continue
        called = _CALLED.findall(rest)
        branches = [
            branch.strip(" %")
            for several, one in _BRANCHES.findall(rest)
            for branch in (several or one).split(",")
        ]
        if branches:
            called.append(max(branches, key=lambda branch: _sent(computations, branch)))
        trips = _TRIPS.search(rest) if opcode == "while" else None
        for other in called:
            if other in computations:
                _count(computations, other, times * (int(trips[1]) if trips else 1), total)


def _sent(computations: Mapping[str, _Computation], name: str) -> int:
    """Bytes that the collectives of a computation read, and of what it calls."""
    times: collections.Counter[str] = collections.Counter()
    _count(computations, name, 1, times)
    return sum(
        rounds * computations[other].sizes.get(operand, 0)
        for other, rounds in times.items()
        for _, opcode, rest in computations[other].lines
        if opcode.removesuffix("-start") in KINDS
        for operand in _operands(rest, opcode)
    )


def _bytes(text: str) -> int:
    """Bytes of all arrays in a type, tuples included."""
    total = 0
    for kind, sizes in _ARRAY.findall(text):
        bits = _BITS.get(kind) or int(re.search(r"\d+", kind)[0])
        total += math.prod(int(n) for n in sizes.split(",") if n) * bits // 8
    return total


def _operands(rest: str, opcode: str) -> Iterator[str]:
    """Names of an instruction's operands."""
    depth, start = 0, len(opcode)
    for end in range(start, len(rest)):
        depth += {"(": 1, ")": -1}.get(rest[end], 0)
        if depth == 0:
            break
    for found in re.finditer(r"%([\w.-]+)", rest[start:end]):
        yield found[1]


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
