"""Optimized HLO as text, read back: instructions by computation, and how often each runs."""

import collections
import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping

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


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a program.

    Attributes:
      name: of it.
      opcode: such as "fusion".
      rest: of the line, from the opcode on: operands and attributes.
      bytes: of its result, tuples included.
    """

    name: str
    opcode: str
    rest: str
    bytes: int

    def operands(self) -> Iterator[str]:
        """Names of the instruction's operands."""
        depth, start = 0, len(self.opcode)
        for end in range(start, len(self.rest)):
            depth += {"(": 1, ")": -1}.get(self.rest[end], 0)
            if depth == 0:
                break
        for found in re.finditer(r"%([\w.-]+)", self.rest[start:end]):
            yield found[1]


# {name: instruction} of one computation.
Computation = dict[str, Instruction]
# Of two branches the one for which this is greater counts.
Weight = Callable[[Instruction, Computation], float]


class Program:
    """An HLO module.

    Attributes:
      computations: {name: its instructions}.
      entry: name of the computation that runs.
    """

    def __init__(self, text: str):
        """Reads `compiled.as_text()`.

        Raises:
          ValueError: text that is no HLO module with an entry computation.
        """
        self.computations: dict[str, Computation] = {}
        self.entry, here = "", None
        for line in text.splitlines():
            started = _COMPUTATION.match(line)
            if started:
                here = self.computations.setdefault(started[2], {})
                self.entry = started[2] if started[1] else self.entry
                continue
            found = _INSTRUCTION.match(line)
            if here is None or not found:
                continue
            name, rest = found.groups()
            opcode = _OPCODE.search(rest)
            if opcode is not None:
                size = _bytes(rest[: opcode.start()])
                here[name] = Instruction(name, opcode[1], rest[opcode.start(1) :], size)
        if not self.entry:
            raise ValueError("no HLO module: it has no entry computation")

    def times(self, weight: Weight) -> Mapping[str, int]:
        """{computation: how often it runs per run of the program}; fusions' bodies included.

        Rounds of a loop count where their number is known. Of branches one runs; here it is the one
        whose instructions weigh most, with all they call.
        """
        total: collections.Counter[str] = collections.Counter()
        self._count(self.entry, 1, total, weight)
        return total

    def _count(
        self, name: str, times: int, total: collections.Counter[str], weight: Weight
    ) -> None:
        total[name] += times
        for one in self.computations[name].values():
            if one.opcode in ("async-update", "async-done"):  # they name what async-start began
                continue
            called = _CALLED.findall(one.rest)
            branches = [
                branch.strip(" %")
                for several, single in _BRANCHES.findall(one.rest)
                for branch in (several or single).split(",")
            ]
            if branches:
                called.append(max(branches, key=lambda branch: self._weighed(branch, weight)))
            trips = _TRIPS.search(one.rest) if one.opcode == "while" else None
            for other in called:
                if other in self.computations:
                    self._count(other, times * (int(trips[1]) if trips else 1), total, weight)

    def _weighed(self, name: str, weight: Weight) -> float:
        times: collections.Counter[str] = collections.Counter()
        self._count(name, 1, times, weight)
        return sum(
            rounds * weight(one, self.computations[other])
            for other, rounds in times.items()
            for one in self.computations[other].values()
        )


def _bytes(text: str) -> int:
    """Bytes of all arrays in a type, tuples included."""
    total = 0
    for kind, sizes in _ARRAY.findall(text):
        bits = _BITS.get(kind) or int(re.search(r"\d+", kind)[0])
        total += math.prod(int(n) for n in sizes.split(",") if n) * bits // 8
    return total
