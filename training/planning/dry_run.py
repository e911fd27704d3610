"""What a train step needs, told by compiling it: memory, operations, exchanges, input.

Nothing is allocated and nothing runs, so the devices need not be there, nor (with
`config.dry_run.assume`) the data. The program is the one that training compiles, for batches of the
streams' full sizes: with length buckets most steps need less.
"""

import json
import math
import pathlib
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from core.console import say
from core.errors import ConfigError
from runtime import sharding
from training.planning import assumed, collectives, topology
from training.run import throughput
from training.state import StateMaker
from training.step import make_train_step

FILE = "dry_run.json"
_SHOWN = 6  # kinds of exchanges, those of most bytes
_GIB = 2**30
_NO_MACHINE_CODE = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
# How XLA refuses to compile for a TPU what does not fit it.
_FULL = re.compile(r"Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm")


def run(config, workdir: pathlib.Path) -> dict:
    """Compiles the train step of a config for `config.dry_run.topology`; prints what it needs.

    Returns:
      What WORKDIR/dry_run.json holds; see `report`.

    Raises:
      ConfigError, DataError: whatever training would refuse before its first step, and options of
        the dry run.
    """
    options = config.dry_run
    if not 0 < options.mfu <= 1 or options.hosts < 0:
        raise ConfigError(
            "config.dry_run must have 0 < mfu <= 1 and hosts >= 0, found "
            f"mfu={options.mfu}, hosts={options.hosts}"
        )
    found = topology.find(options.topology)
    mesh = sharding.make_mesh(config.mesh, found.devices)
    task, batch, flops = (_assumed if options.assume else _opened)(config, mesh)
    result = report(config, found, mesh, task, batch, flops)
    if options.assume:
        result["assumed"] = assumed.describe(task)
    say(table(result))
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / FILE).write_text(json.dumps(result, indent=2) + "\n")
        say(f"done: {workdir / FILE}; nothing has been trained")
    return result


def _opened(config, mesh):
    """(task, shapes of a global batch, flops) from the data, as training opens them."""
    from training import setup

    parts = setup.build(config, mesh)
    hosts = jax.process_count()
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((hosts * len(x), *x.shape[1:]), x.dtype), parts.example
    )
    return parts.model, batch, parts.flops


def _assumed(config, mesh):
    """The same without data."""
    from training import setup

    sharding.check_processes(mesh)
    for name, block in config.evals.items():
        sizes = {block.stream: block.batch_size}
        sharding.check_batch_sizes(sizes, mesh, 1, f"config.evals.{name}")
    task = assumed.model(config)
    batch = assumed.batch(config, task, setup.assemblers(config))
    return task, batch, throughput.of_model(config, task)


def report(config, found, mesh, task, batch, flops: Callable) -> dict:
    """Compiles the train step and reads off what it needs.

    Args:
      config: of the run.
      found: a `topology.Topology`.
      mesh: of its devices.
      task: a `MultiTaskModel`.
      batch: {stream: {key: array or shape}} of a global batch at full sizes.
      flops: see `parts.Parts`.

    Returns:
      JSON values: topology, devices, hosts, mesh, batch_sizes; "memory": bytes of one device, its
      "fits" None where its memory is not known; "flops" of an update, of all devices; "collectives"
      as `collectives.totals`, of one device, None where nothing could be compiled; "step" and
      "input", None where the devices' peak is not known.
    """
    sizes = {name: config.streams[name].batch_size for name in batch}
    sharding.check_batch_sizes(sizes, mesh, config.optimizer.accumulate)
    began = time.perf_counter()
    with jax.set_mesh(mesh):
        maker = StateMaker(task, config, batch, mesh)
        batch = sharding.shapes_of(batch, mesh)
        compiled, used = _compile(config, task, maker, mesh, batch)
    device = mesh.devices.ravel()[0]
    operations = flops(maker.params)(batch)
    hosts = config.dry_run.hosts or found.hosts
    result = dict(
        topology=found.name,
        devices=mesh.devices.size,
        device_kind=device.device_kind,
        platform=device.platform,
        hosts=hosts,
        mesh=dict(mesh.shape),
        model=config.model.name,
        parameters=sum(x.size for x in jax.tree.leaves(maker.params)),
        dtype=config.dtype,
        batch_sizes=sizes,
        accumulate=config.optimizer.accumulate,
        buckets=any(config.streams[name].buckets for name in sizes),
        memory=_memory(compiled, used, maker, batch, found.memory),
        flops=dict(model=operations, xla=None),
        collectives=None,
        compile_seconds=round(time.perf_counter() - began, 1),
    )
    if compiled is not None:
        analysis = compiled.cost_analysis() or {}
        if "flops" in analysis:
            result["flops"]["xla"] = analysis["flops"] * mesh.devices.size
        result["collectives"] = collectives.totals(collectives.find(compiled.as_text(), mesh))
    result |= _speed(config.dry_run.mfu, operations, mesh, sizes, batch, hosts)
    return result


def _compile(config, task, maker: StateMaker, mesh, batch):
    """(the compiled step, None), or (None, bytes it would use) where XLA refuses its size."""
    train_step = make_train_step(
        task,
        maker.optimizer,
        mesh,
        jax.tree.map(lambda x: x.sharding, maker.state),
        seed=config.seed,
        accumulate=config.optimizer.accumulate,
    )
    draws = {name: jax.ShapeDtypeStruct((), np.int32) for name in batch}
    lowered = train_step.lower(maker.state, batch, draws)
    # Of CPUs the machine code, which nobody will run, takes most of the time.
    cpu = mesh.devices.ravel()[0].platform == "cpu"
    try:
        return lowered.compile(compiler_options=_NO_MACHINE_CODE if cpu else None), None
    except jax.errors.JaxRuntimeError as error:
        full = _FULL.search(str(error))
        if not full:
            raise
        return None, round(float(full[1]) * 1024 ** " KMGT".index(full[2] or " "))


def bytes_of(tree) -> int:
    """Bytes of arrays or placed shapes on one device."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


def _memory(compiled, used: int | None, maker: StateMaker, batch, available: int | None) -> dict:
    memory: dict[str, Any] = dict(
        parameters=bytes_of(maker.state.params),
        optimizer_state=bytes_of(maker.state.opt_state),
        batch=bytes_of(batch),
        temporaries=None,
        program=None,
        total=used,
        available=available,
        fits=None,
    )
    if compiled is not None:
        found = compiled.memory_analysis()
        memory["temporaries"] = found.temp_size_in_bytes
        memory["program"] = found.generated_code_size_in_bytes
        # What the step does not read, such as the parameters of a layer without gradient, is there
        # all the same. The new state takes the old one's place; other outputs come beside it.
        held = memory["parameters"] + memory["optimizer_state"] + memory["batch"]
        memory["total"] = (
            max(held, found.argument_size_in_bytes)
            + found.output_size_in_bytes
            - found.alias_size_in_bytes
            + memory["temporaries"]
            + memory["program"]
        )
    if used is not None:
        memory["fits"] = False
    elif available is not None:
        memory["fits"] = memory["total"] <= available
    return memory


def _speed(mfu: float, operations: float, mesh, sizes: Mapping[str, int], batch, hosts: int):
    """{"step": …, "input": …}: time of a step at an assumed MFU, and what it reads meanwhile."""
    read = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(batch))
    peak = throughput.peak(mesh.devices.ravel())
    feed = dict(bytes_per_step=read, bytes_per_second=None, bytes_per_second_per_host=None)
    if peak is None:
        return dict(step=None, input=feed)
    seconds = operations / (mfu * peak)
    rate = sum(sizes.values()) / seconds
    feed |= dict(bytes_per_second=read / seconds, bytes_per_second_per_host=read / seconds / hosts)
    step = dict(
        mfu=mfu,
        seconds=seconds,
        examples_per_second=rate,
        examples_per_second_per_device=rate / mesh.devices.size,
    )
    return dict(step=step, input=feed)


def table(result: Mapping) -> str:
    """A report for people."""
    mesh = ", ".join(f"{axis} {size}" for axis, size in result["mesh"].items())
    batch = " + ".join(f"{size} {name}" for name, size in result["batch_sizes"].items())
    rows = [
        (
            "devices",
            f"{result['devices']} x {result['device_kind']} on {result['hosts']} host(s); {mesh}",
        ),
        ("model", f"{result['model']}, {result['parameters']:,} parameters, {result['dtype']}"),
        (
            "batch",
            batch + f", in {result['accumulate']} microbatches" * (result["accumulate"] > 1),
        ),
    ]
    if "assumed" in result:
        rows.append(("assumed", result["assumed"]))
    rows += _memory_rows(result) + _work_rows(result)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def size_text(count: float | None) -> str:
    """1536 → "1.5 KiB"."""
    if count is None:
        return "?"
    for unit in ("B", "KiB", "MiB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:,.2f} GiB"


def _memory_rows(result: Mapping) -> list[tuple[str, str]]:
    memory = result["memory"]
    names = "parameters", "optimizer_state", "batch", "temporaries", "program"
    rows = [(f"  {name.replace('_', ' ')}", size_text(memory[name])) for name in names]
    total = size_text(memory["total"])
    if memory["fits"] is None:
        verdict = f"{total}; how much a device has is not known"
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
        rows.append(("  note", "compiled for CPUs: temporaries are others on an accelerator"))
    if result["buckets"]:
        rows.append(("  note", "of the largest batches; length buckets make most of them smaller"))
    return [("memory a device", ""), *rows]


def _work_rows(result: Mapping) -> list[tuple[str, str]]:
    flops, step, feed = result["flops"], result["step"], result["input"]
    needed = f"{flops['model'] / 1e12:,.4g} TFLOP a step for the model"
    xla = "?" if flops["xla"] is None else f"{flops['xla'] / 1e12:,.4g}"
    rows = [("operations", f"{needed}; XLA counts {xla}")]
    if step is None:
        rows.append(("step", "? (the devices' peak is not known)"))
        rows.append(("input", f"{size_text(feed['bytes_per_step'])} a step"))
    else:
        rows.append(
            (
                "step",
                f"{step['seconds']:.4g} s at an assumed MFU of {step['mfu']:.0%}: "
                f"{step['examples_per_second']:,.0f} examples/s, "
                f"{step['examples_per_second_per_device']:,.1f} a device",
            )
        )
        rows.append(
            (
                "input",
                f"{size_text(feed['bytes_per_step'])} a step: "
                f"{size_text(feed['bytes_per_second'])}/s, "
                f"{size_text(feed['bytes_per_second_per_host'])}/s a host",
            )
        )
    found = result["collectives"]
    if found is None:
        return [*rows, ("exchanges", "? (not compiled)")]
    rows.append(("exchanges", "of a device, a step" if found else "none"))
    rows += [
        (
            f"  {row['kind']}",
            f"over {row['axes']} ({row['size']}): {row['count']} x, {size_text(row['bytes'])}",
        )
        for row in found[:_SHOWN]
    ]
    if found[_SHOWN:]:
        rest = sum(row["bytes"] for row in found[_SHOWN:])
        rows.append(("  others", f"{sum(r['count'] for r in found[_SHOWN:])} x, {size_text(rest)}"))
    return rows
