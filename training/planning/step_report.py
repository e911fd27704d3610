"""What a train step needs, from compiling it: memory, operations, collectives, time, input."""

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from objectives.model import MultiTaskModel
from runtime import sharding
from training import stream_schedule
from training.parts import Flops
from training.planning import collectives, step_program, step_time, topology
from training.state import StateMaker


def report(
    config: ConfigDict,
    found: topology.Topology,
    mesh: jax.sharding.Mesh,
    model: MultiTaskModel,
    batch: PyTree,
    flops: Flops,
) -> dict[str, Any]:
    """Compiles the train step and reads off what it needs.

    Nothing is compiled for devices that cannot even hold state and batch.

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
      `step_program.memory_of`; "flops" of a step, of all devices; "collectives" as
      `collectives.totals`, of one device, None where they are not known, for the reason in
      "no_collectives"; "step" as `step_time.estimates`, and "input" at the expected time, None
      without a data sheet of the devices.
    """
    sizes = {name: config.streams[name].batch_size for name in batch}
    sharding.check_batch_sizes(sizes, mesh, config.optimizer.accumulate)
    began = time.perf_counter()
    with jax.set_mesh(mesh):
        maker = StateMaker(model, config, batch, mesh)
        batch = sharding.shapes_of(batch, mesh)
        alone = stream_schedule.is_separate(config)
        updates = [{name: arrays} for name, arrays in batch.items()] if alone else [batch]
        state = [maker.state.params, maker.state.opt_state]
        held = [step_program.bytes_of([*state, update]) for update in updates]
        too_large = found.memory is not None and max(held) > found.memory
        made = [
            (None, bytes_held)
            if too_large
            else step_program.compile_step(
                config, model, maker, mesh, update, alone=alone, options=found.options
            )
            for update, bytes_held in zip(updates, held, strict=True)
        ]
    memory = [
        step_program.memory_of(*one, maker, update, found.memory)
        for one, update in zip(made, updates, strict=True)
    ]
    programs = [compiled for compiled, _ in made if compiled is not None]
    flops_of = flops(maker.params)
    operations = sum(flops_of(update) for update in updates)
    hosts = config.dry_run.hosts or found.hosts
    result = dict(
        topology=found.name,
        devices=mesh.devices.size,
        device_kind=found.kind,
        platform=mesh.devices.ravel()[0].platform,
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
        compile_seconds=round(time.perf_counter() - began, 1),
    )
    complete = len(programs) == len(updates)
    read = _read(programs if complete else [], mesh)
    if complete and read["collectives"] is None and topology.is_slice(found.name):
        read["reason"] += f" (jax {jax.__version__} goes with {topology.LIBTPU})"
    if complete and read["flops"] is not None:
        result["flops"]["xla"] = read["flops"] * mesh.devices.size
    result |= dict(collectives=read["collectives"], no_collectives=read["reason"])
    step = None
    if found.sheet is not None:
        sent = read["collectives"]
        step = step_time.estimates(
            sheet=found.sheet,
            devices=mesh.devices.size,
            operations=operations,
            mfu=config.dry_run.mfu,
            cycles=read["cycles"],
            moved=read["moved"],
            exchanges=None if sent is None else step_time.exchange_seconds(sent, mesh, found.sheet),
            examples=sum(sizes.values()),
        )
    return result | dict(step=step, input=_input(step, batch, hosts))


def _read(programs: list[jax.stages.Compiled], mesh: jax.sharding.Mesh) -> dict[str, Any]:
    """What the programs of a step say of themselves, per device; None for what they do not say."""
    none: dict[str, Any] = dict(flops=None, moved=None, cycles=None, collectives=None)
    if not programs:
        return none | dict(reason="not compiled")
    costs = [program.cost_analysis() or {} for program in programs]
    found = none | dict(
        flops=_total(cost.get("flops") for cost in costs),
        moved=sum(map(step_program.traffic_of, programs)),
        reason="",
    )
    texts = []
    for program in programs:
        text, reason = step_program.text_of(program)
        if text is None:
            return found | dict(reason=reason)
        texts.append(text)
    return found | dict(
        cycles=_total(map(step_time.cycles, texts)),
        collectives=collectives.totals(
            [one for text in texts for one in collectives.find(text, mesh)]
        ),
    )


def _total(values: Iterable[float | None]) -> float | None:
    """Their sum; None where one is not known."""
    known = list(values)
    return None if None in known else sum(known)


def _input(step: Mapping[str, Any] | None, batch: PyTree, hosts: int) -> dict[str, Any]:
    """What a step reads, and how fast at its expected time."""
    read = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(batch))
    if step is None:
        return dict(bytes_per_step=read, bytes_per_second=None, bytes_per_second_per_host=None)
    rate = read / step["expected"]["seconds"]
    return dict(bytes_per_step=read, bytes_per_second=rate, bytes_per_second_per_host=rate / hosts)
