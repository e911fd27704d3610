"""Reports of the hosts of a job: gathered, compared, and shown as a table.

A host's report is {what: value}, with the texts of `host_checks`.
"""

import collections
import hashlib
import json
import time
from collections.abc import Mapping

import jax

from core import tables
from runtime import coordination

Report = Mapping[str, str]

FIXES = {
    "commit": "check out the same commit on every host",
    "source": "copy the same files to every host",
    "command": "start every host with the same --workdir and --mode",
    "config": "start every host with the same --config and overrides",
    "versions": "pip install -r requirements.lock on every host",
    "devices": "all hosts need the same number and kind of devices",
    "data": "give every host the same data; the digests above are of what it holds",
}


def gather(stage: str, report: Report, seconds: float) -> dict[int, dict[str, str]]:
    """The reports of all processes, by their numbers.

    Args:
      stage: a name of its own for each call.
      report: of this process.
      seconds: to wait for the slowest.

    Returns:
      {process: report}, without the processes that sent none in time.
    """
    client, count = coordination.client(), coordination.num_processes()
    if client is None:
        return {0: dict(report)}
    client.key_value_set(f"preflight/{stage}/{coordination.process_id()}", json.dumps(report))
    found: dict[int, dict[str, str]] = {}
    deadline = time.monotonic() + seconds
    for process in range(count):
        wait = max(1.0, deadline - time.monotonic())
        try:
            text = client.blocking_key_value_get(f"preflight/{stage}/{process}", int(1000 * wait))
        except jax.errors.JaxRuntimeError:
            continue
        found[process] = json.loads(text)
    return found


def compare(found: Mapping[int, Report], count: int, seconds: float) -> list[str]:
    """What is wrong with the hosts: one text per problem.

    Args:
      found: {process: report}.
      count: of processes there should be.
      seconds: that were waited.
    """

    def name(process: int) -> str:
        return f"{found[process]['host']} (process {process})"

    problems = [
        f"process {process} of {count} did not report within {seconds:g} s\n"
        "  fix: look at its own output; was the command started on every host?"
        for process in range(count)
        if process not in found
    ]
    for what in dict.fromkeys(what for report in found.values() for what in report):
        values = {process: report[what] for process, report in found.items() if what in report}
        failed = [process for process, value in values.items() if value.startswith("FAILED")]
        problems += [f"{what}: {name(process)}: {values[process]}" for process in failed]
        groups: dict[str, list[int]] = collections.defaultdict(list)
        for process in values.keys() - failed:
            groups[values[process]].append(process)
        if what not in FIXES or len(groups) < 2:
            continue
        most, *others = sorted(groups, key=lambda value: (-len(groups[value]), groups[value]))
        for other in others:
            hosts = ", ".join(name(process) for process in sorted(groups[other]))
            usual, odd = _difference(most, other)
            problems.append(
                f"{what}: {hosts}: {odd}\n  the other {len(groups[most])}: {usual}\n"
                f"  fix: {FIXES[what]}"
            )
    return problems


def _difference(first: str, second: str) -> tuple[str, str]:
    """Two comma-separated lists without the parts they share."""
    a, b = first.split(", "), second.split(", ")

    def only(mine: list[str], others: list[str]) -> str:
        return ", ".join(part for part in mine if part not in others) or "(nothing)"

    return only(a, b), only(b, a)


def table(found: Mapping[int, Report]) -> str:
    """One line per host; long values as a digest, failures as that word."""
    names = list(dict.fromkeys(what for report in found.values() for what in report))
    rows = [("process", *names)]
    for process, report in sorted(found.items()):
        rows.append((str(process), *(_short(what, report.get(what, "")) for what in names)))
    return tables.columns(rows)


def _short(what: str, value: str) -> str:
    if value.startswith("FAILED"):
        return "FAILED"
    if what in ("versions", "command"):
        return hashlib.sha256(value.encode()).hexdigest()[:8]
    return value
