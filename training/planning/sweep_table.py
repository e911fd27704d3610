"""A sweep's plans as lines and a table for the console."""

from collections.abc import Mapping, Sequence
from typing import Any

from core import tables
from training.planning.dry_run_table import size_text

# What VL-BERT's authors say of their own run, for comparison: base, regions stored, float32.
ORIGINAL = dict(model="vlbert", total_steps=250_000, text="120 V100-hours, 30 h on four of them")
_HEAD = (
    "data", "fsdp", "tensor", "examples", "memory", "XLA's ms", "roofline ms", "MFU ms",
    "expected ms", "examples/s", "hours", "device-hours", "",
)  # fmt: skip


def line(plan: Mapping[str, Any]) -> str:
    """One plan, as soon as it is known."""
    told = f"{_mesh(plan)}, {_batch(plan)}: "
    if plan["memory"]:
        told += f"{size_text(plan['memory']['total'])} per device, "
    if plan["reason"]:
        return told + plan["reason"]
    expected = plan["step"]["expected"]
    return f"{told}{1000 * expected['seconds']:,.4g} ms by {expected['by']}"


def table(result: Mapping[str, Any], flags: Sequence[str]) -> str:
    """The values of `sweep.run` for people; `flags` as of `sweep.flags`, of the fastest plan."""
    rows = [_HEAD]
    for number, plan in enumerate(result["plans"]):
        mark = "fastest that fits" if number == result["fastest"] else plan["reason"]
        rows.append((*_cells(plan), mark))
    lines = [tables.columns(rows, right=range(len(_HEAD) - 1))]
    if result["fastest"] is None:
        return lines[0]
    best = result["plans"][result["fastest"]]
    lines += [
        f"fastest that fits: {_mesh(best)}, {_batch(best)} per step, by "
        f"{best['step']['expected']['by']}; not measured",
        f"the run's {result['examples']:,} examples ({result['total_steps']:,} steps as it is "
        f"configured): {best['hours']:,.3g} h on {result['devices']} x {result['device_kind']}, "
        f"{best['device_hours']:,.3g} device-hours, evaluations and saves not counted",
    ]
    if (result["model"], result["total_steps"]) == (ORIGINAL["model"], ORIGINAL["total_steps"]):
        lines.append(
            f"the original's {ORIGINAL['total_steps']:,} steps of 256 rows, VL-BERT base on stored "
            f"regions, took {ORIGINAL['text']}, say its authors"
        )
    if flags:
        lines.append("to train so: " + " ".join(flags))
    if best["times"] != 1:
        lines.append("the learning rate is for the configured batch: another one needs its own")
    return "\n".join(lines)


def _mesh(plan: Mapping[str, Any]) -> str:
    return ", ".join(f"{axis} {size}" for axis, size in plan["mesh"].items())


def _batch(plan: Mapping[str, Any]) -> str:
    return " + ".join(f"{size} {name}" for name, size in plan["batch_sizes"].items())


def _cells(plan: Mapping[str, Any]) -> tuple[str, ...]:
    sizes = [str(size) for size in plan["mesh"].values()]
    examples = sum(plan["batch_sizes"].values())
    memory = size_text(plan["memory"]["total"]) if plan["memory"] else ""
    step = plan["step"]
    if step is None:
        return (*sizes, f"{examples:,}", memory, *[""] * 7)
    shown = [
        f"{1000 * step[name]['seconds']:,.4g}" if step[name] else ""
        for name in ("xla", "roofline", "assumed", "expected")
    ]
    rate = f"{step['expected']['examples_per_second']:,.0f}"
    ends = f"{plan['hours']:,.3g}", f"{plan['device_hours']:,.3g}"
    return (*sizes, f"{examples:,}", memory, *shown, rate, *ends)
