"""How long a step might take, three ways; none of them is a measurement.

XLA's cycles     what its cost model gives the instructions of the compiled program, one after the
                 other (TPUs). It gives none to exchanges.
the roofline     what the data sheets allow: operations, the least memory traffic and exchanges,
                 each as if it were alone and perfect. No step is faster than the longest of them.
an assumed MFU   operations at a share of the peak: a rule of thumb, blind to everything else.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from runtime.data_sheets import DataSheet
from training.planning.hlo import Computation, Instruction, Program

CYCLES, ASSUMED = "XLA's cycles", "the assumed MFU or memory"
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_NO_ESTIMATE = 2**63 - 1  # what stands there of instructions that it cannot judge


def cycles(text: str) -> int | None:
    """Cycles of a run of a program by XLA's cost model; None where it says nothing of them.

    Exchanges are not among them, nor is what XLA has no estimate of (work for a SparseCore).

    Args:
      text: `compiled.as_text()`.
    """
    program = Program(text)
    total = sum(
        rounds * _cycles(one)
        for name, rounds in program.times(_weight).items()
        for one in program.computations[name].values()
    )
    return total or None


def _cycles(one: Instruction) -> int:
    found = _CYCLES.search(one.rest)
    count = int(found[1]) if found else 0
    return count if count < _NO_ESTIMATE else 0


def _weight(one: Instruction, here: Computation) -> int:
    del here
    return _cycles(one)


def exchange_seconds(rows: Sequence[Mapping[str, Any]], mesh: Mesh, sheet: DataSheet) -> float:
    """Least seconds of a step's exchanges, one after the other, over perfectly shared links.

    Of devices in several islands each one sends within its own island what the links carry, and
    through the network its share of what the islands exchange (as hierarchical rings do).

    Args:
      rows: see `collectives.totals`.
      mesh: whose devices are numbered along islands.
      sheet: of the devices.
    """
    total = 0.0
    for row in rows:
        size = row["size"]
        near, far = _near_and_far(row["axes"].split("·"), size, mesh, sheet.island)
        kind = row["kind"]
        if kind == "collective-permute":
            within, between = (0.0, 1.0) if far > 1 else (1.0, 0.0)
        elif kind == "all-to-all":
            within, between = (near - 1) / size, (size - near) / size
        else:
            passes = 2 if kind == "all-reduce" else 1
            within = passes * (near - 1) / near
            between = passes * (far - 1) / far / near
        total += row["bytes"] * within / sheet.link
        if between:
            total += row["bytes"] * between / sheet.network
    return total


def _near_and_far(axes: Sequence[str], size: int, mesh: Mesh, island: int) -> tuple[int, int]:
    """Of devices that exchange along mesh axes: those in one island, and how many islands."""
    if not island:
        return size, 1
    numbers = np.arange(mesh.devices.size).reshape(mesh.devices.shape)
    along = [slice(None) if axis in axes else 0 for axis in mesh.axis_names]
    islands = set((numbers[tuple(along)].ravel()[:size] // island).tolist())
    return max(size // len(islands), 1), len(islands)


def estimates(
    *,
    sheet: DataSheet,
    devices: int,
    operations: float,
    mfu: float,
    examples: int,
    cycles: int | None,
    moved: float | None,
    exchanges: float | None,
) -> dict[str, Any]:
    """The estimates of a step.

    Args:
      sheet: of its devices.
      devices: their number.
      operations: of the model, all devices together.
      mfu: share of their peak to assume.
      examples: of a step.
      cycles: of one device, see `cycles`.
      moved: bytes that one device reads and writes at least.
      exchanges: see `exchange_seconds`.

    Returns:
      JSON values: {"expected": {"by"}, "xla": {"cycles", "clock"}, "roofline": {"compute",
      "memory", "exchanges"} in seconds, "assumed": {"mfu"}}, None for what is not known; each with
      "seconds" of the step and "examples_per_second". Expected are XLA's cycles; without them
      operations at the assumed MFU, or memory traffic where that takes longer. Exchanges come on
      top, as if nothing hid them.
    """
    compute = operations / (sheet.operations * devices)
    memory = moved / sheet.bandwidth if moved is not None else None
    parts = dict(compute=compute, memory=memory, exchanges=exchanges)
    longest = max(part for part in parts.values() if part is not None)

    def lasting(seconds: float, **values: Any) -> dict[str, Any]:
        return values | dict(seconds=seconds, examples_per_second=examples / seconds)

    xla, alone, by = None, max(compute / mfu, memory or 0.0), ASSUMED
    if cycles and sheet.clock:
        xla = lasting(cycles / sheet.clock, cycles=cycles, clock=sheet.clock)
        alone, by = xla["seconds"], CYCLES
    by += " and exchanges" if exchanges is not None else ", without exchanges"
    return dict(
        expected=lasting(alone + (exchanges or 0.0), by=by),
        xla=xla,
        roofline=lasting(longest, **parts),
        assumed=lasting(compute / mfu, mfu=mfu),
    )
