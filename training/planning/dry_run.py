"""What a train step needs, from compiling it: memory, operations, collectives, input.

Nothing is allocated and nothing runs, so the devices need not be there, nor (with
`config.dry_run.assume`) the data. The program is the one that training compiles, for batches of the
streams' full sizes: with length buckets most steps need less.
"""

import json
import math
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from core.console import say
from objectives.model import MultiTaskModel
from runtime import sharding
from training import stream_schedule
from training.parts import Flops
from training.planning import assumed, collectives, dry_run_table, step_program, topology
from training.run import throughput
from training.state import StateMaker

FILE = "dry_run.json"

# Without data or with it: the model, shapes of a global batch, and `Parts.flops`.
Planned = tuple[MultiTaskModel, PyTree, Flops]


def run(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
    """Compiles the train step of a config for `config.dry_run.topology`; prints what it needs.

    Returns:
      What WORKDIR/dry_run.json holds; see `report`.

    Raises:
      ConfigError, DataError: whatever training would refuse before its first step, and options of
        the dry run.
    """
    options = config.dry_run
    found = topology.find(options.topology)
    mesh = sharding.make_mesh(config.mesh, found.devices)
    model, batch, flops = (_assumed if options.assume else _opened)(config, mesh)
    result = report(config, found, mesh, model, batch, flops)
    if options.assume:
        result["assumed"] = assumed.describe(model)
    say(dry_run_table.table(result))
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / FILE).write_text(json.dumps(result, indent=2) + "\n")
        say(f"done: {workdir / FILE}; nothing has been trained")
    return result


def _opened(config: ConfigDict, mesh: jax.sharding.Mesh) -> Planned:
    """From the data, as training opens them."""
    from training import setup

    parts = setup.build(config, mesh)
    hosts = jax.process_count()
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((hosts * len(x), *x.shape[1:]), x.dtype), parts.example
    )
    return parts.model, batch, parts.flops


def _assumed(config: ConfigDict, mesh: jax.sharding.Mesh) -> Planned:
    """Without data, of assumed sizes."""
    from training import setup

    sharding.check_processes(mesh)
    for name, block in config.evals.items():
        sizes = {block.stream: block.batch_size}
        sharding.check_batch_sizes(sizes, mesh, 1, f"config.evals.{name}")
    model = assumed.model(config)
    batch = assumed.batch(config, model, setup.assemblers(config))
    return model, batch, throughput.of_model(config, model)


def report(
    config: ConfigDict,
    found: topology.Topology,
    mesh: jax.sharding.Mesh,
    model: MultiTaskModel,
    batch: PyTree,
    flops: Flops,
) -> dict[str, Any]:
    """Compiles the train step and reads off what it needs.

    Args:
      config: of the run.
      found: the devices to compile for.
      mesh: of them.
      model: what is trained.
      batch: {stream: {key: array or shape}} of a global batch at full sizes.
      flops: see `parts.Parts`.

    Returns:
      JSON values: topology, devices, hosts, mesh, batch_sizes; "updates_per_step", more than one
      where each stream has its own; "memory" of one device in the largest of them, see
      `step_program.memory_of`; "flops" of a step, of all devices; "collectives"
      as `collectives.totals`, of one device, None where nothing could be compiled; "step" and
      "input", None where the devices' peak is not known.
    """
    sizes = {name: config.streams[name].batch_size for name in batch}
    sharding.check_batch_sizes(sizes, mesh, config.optimizer.accumulate)
    began = time.perf_counter()
    with jax.set_mesh(mesh):
        maker = StateMaker(model, config, batch, mesh)
        batch = sharding.shapes_of(batch, mesh)
        alone = stream_schedule.is_separate(config)
        updates = [{name: arrays} for name, arrays in batch.items()] if alone else [batch]
        made = [
            step_program.compile_step(config, model, maker, mesh, update, alone=alone)
            for update in updates
        ]
    memory = [
        step_program.memory_of(*one, maker, update, found.memory)
        for one, update in zip(made, updates, strict=True)
    ]
    programs = [compiled for compiled, _ in made if compiled is not None]
    device = mesh.devices.ravel()[0]
    flops_of = flops(maker.params)
    operations = sum(flops_of(update) for update in updates)
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
        updates_per_step=len(updates),
        memory=max(memory, key=lambda one: one["total"]),
        flops=dict(model=operations, xla=None),
        collectives=None,
        compile_seconds=round(time.perf_counter() - began, 1),
    )
    if len(programs) == len(updates):
        counted = [(compiled.cost_analysis() or {}).get("flops") for compiled in programs]
        if None not in counted:
            result["flops"]["xla"] = sum(counted) * mesh.devices.size
        result["collectives"] = collectives.totals(
            [one for program in programs for one in collectives.find(program.as_text(), mesh)]
        )
    result |= _speed(config.dry_run.mfu, operations, mesh, sizes, batch, hosts)
    return result


def _speed(
    mfu: float,
    operations: float,
    mesh: jax.sharding.Mesh,
    sizes: Mapping[str, int],
    batch: PyTree,
    hosts: int,
) -> dict[str, Any]:
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
