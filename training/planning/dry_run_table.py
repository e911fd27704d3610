"""A dry run's report as a table for the console."""

from collections.abc import Mapping
from typing import Any

from core import tables

_SHOWN = 6  # kinds of collectives, those of most bytes
Row = tuple[str, str]


def table(result: Mapping[str, Any]) -> str:
    """The values of `step_report.report` for people."""
    mesh = ", ".join(f"{axis} {size}" for axis, size in result["mesh"].items())
    batch = " + ".join(f"{size} {name}" for name, size in result["batch_sizes"].items())
    if result["accumulate"] > 1:
        batch += f", in {result['accumulate']} microbatches"
    if result["updates_per_step"] > 1:
        batch += f"; an update of each, {result['updates_per_step']} per step"
    devices = f"{result['devices']} x {result['device_kind']} on {result['hosts']} host(s); {mesh}"
    model = f"{result['model']}, {result['parameters']:,} parameters, {result['dtype']}"
    rows = [("devices", devices), ("model", model), ("batch", batch)]
    if "assumed" in result:
        rows.append(("assumed", result["assumed"]))
    rows += _memory_rows(result) + _work_rows(result)
    rows += _collective_rows(result["collectives"], result["no_collectives"])
    return tables.columns(rows)


def size_text(count: float | None) -> str:
    """1536 → "1.5 KiB"; None → "?"."""
    if count is None:
        return "?"
    for unit in ("B", "KiB", "MiB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:,.2f} GiB"


def _memory_rows(result: Mapping[str, Any]) -> list[Row]:
    memory = result["memory"]
    names = "parameters", "optimizer_state", "batch", "temporaries", "program"
    rows = [(f"  {name.replace('_', ' ')}", size_text(memory[name])) for name in names]
    total = size_text(memory["total"])
    if memory["fits"] is None:
        verdict = f"{total}; the devices' memory is not known"
    elif memory["fits"]:
        share = memory["total"] / memory["available"]
        verdict = f"{total}, fits: {share:.0%} of {size_text(memory['available'])}"
    else:
        verdict = (
            f"{total} DOES NOT FIT {size_text(memory['available'])}; smaller batches, "
            "config.optimizer.accumulate, or more devices along config.mesh.fsdp or tensor help"
        )
    rows.append(("  total", verdict))
    if result["platform"] == "cpu":
        note = "compiled for CPUs: an accelerator has other temporaries and other memory traffic"
        rows.append(("  note", note))
    if result["buckets"]:
        rows.append(("  note", "of the largest batches; length buckets make most of them smaller"))
    return [("memory per device", ""), *rows]


def _work_rows(result: Mapping[str, Any]) -> list[Row]:
    flops, step, reading = result["flops"], result["step"], result["input"]
    needed = f"{flops['model'] / 1e12:,.4g} TFLOP per step for the model"
    xla = "?" if flops["xla"] is None else f"{flops['xla'] / 1e12:,.4g}"
    rows = [("operations", f"{needed}; XLA counts {xla}")]
    read = f"{size_text(reading['bytes_per_step'])} per step"
    if step is None:
        return [*rows, ("step", "? (no data sheet of these devices)"), ("input", read)]
    read += (
        f": {size_text(reading['bytes_per_second'])}/s, "
        f"{size_text(reading['bytes_per_second_per_host'])}/s per host"
    )
    return [*rows, *_time_rows(step, result["devices"]), ("input", read)]


def _time_rows(step: Mapping[str, Any], devices: int) -> list[Row]:
    expected, xla, roofline, assumed = (
        step[name] for name in ("expected", "xla", "roofline", "assumed")
    )
    cycles = "?"
    if xla is not None:
        counted = f"{xla['cycles']:,} at {xla['clock'] / 1e9:.3g} GHz"
        cycles = f"{_seconds(xla['seconds'])} without exchanges: {counted}"
    return [
        ("step", f"{_lasting(expected, devices)} by {expected['by']}; not measured"),
        ("  XLA's cycles", cycles),
        ("  roofline", f"{_seconds(roofline['seconds'])} at best, the longest of"),
        ("    compute", _seconds(roofline["compute"])),
        ("    memory traffic", _seconds(roofline["memory"])),
        ("    exchanges", _seconds(roofline["exchanges"])),
        (
            "  assumed MFU",
            f"{_seconds(assumed['seconds'])} at {assumed['mfu']:.0%}",
        ),
    ]


def _seconds(value: float | None) -> str:
    return "?" if value is None else f"{1000 * value:,.4g} ms"


def _lasting(one: Mapping[str, float], devices: int) -> str:
    rate = one["examples_per_second"]
    return f"{_seconds(one['seconds'])}, {rate:,.0f} examples/s, {rate / devices:,.4g} per device"


def _collective_rows(found: list[dict[str, Any]] | None, reason: str) -> list[Row]:
    if found is None:
        return [("collectives", f"not known: {reason}")]
    if not found:
        return [("collectives", "none")]
    rows = [("collectives", "per device and step")]
    rows += [
        (
            f"  {row['kind']}",
            f"over {row['axes']} ({row['size']}): {row['count']} x, {size_text(row['bytes'])}",
        )
        for row in found[:_SHOWN]
    ]
    if rest := found[_SHOWN:]:
        count, size = sum(row["count"] for row in rest), sum(row["bytes"] for row in rest)
        rows.append(("  others", f"{count} x, {size_text(size)}"))
    return rows
