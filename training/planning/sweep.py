"""--config.dry_run.sweep: plans of several batches and meshes, compiled one after the other."""

import math
from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from core.console import say
from core.errors import ConfigError, UserError
from objectives.model import MultiTaskModel
from runtime import data_sheets, sharding
from training.planning import step_report, sweep_table, topology
from training.planning.dry_run_table import size_text
from training.run import throughput

BATCH, MESH = "batch", "mesh"
FORMS = ("", BATCH, MESH, f"{BATCH},{MESH}", f"{MESH},{BATCH}")
UNFIT = "does not fit"


def require(found: topology.Topology) -> None:
    """Raises ConfigError where nothing is known of the devices that plans are to be compared on."""
    if found.sheet is None:
        raise ConfigError(
            "plans cannot be compared without a data sheet of the devices",
            where="config.dry_run.topology",
            expected=f"one of {', '.join([*data_sheets.TPUS, *data_sheets.GPUS])}",
            found=found.name,
            fix="--config.dry_run.topology=v5e:4x4",
        )


def run(
    config: ConfigDict, found: topology.Topology, model: MultiTaskModel, batch: PyTree
) -> dict[str, Any]:
    """Compiles the train step of every plan.

    Args:
      config: of the run; what is not swept is as it says.
      found: devices to compile for, with a data sheet.
      model: what is trained.
      batch: {stream: {key: shape}} of a global batch of the config's sizes.

    Returns:
      JSON values: topology, devices, device_kind, hosts; "examples", of the whole run that `config`
      describes; "plans", see `_plan`, each with its "times" the config's batch; "fastest", the
      number of the one that fits and is fastest, None where none fits.
    """
    meshes, batches = _meshes(config, found), _batches(config)
    count, plans = len(meshes) * len(batches), []
    work = config.total_steps * sum(config.streams[name].batch_size for name in batch)
    for mesh in meshes:
        unfit = False
        for times in batches:
            changed, shapes = _changed(config, mesh, times, batch)
            one = _plan(changed, found, model, shapes, work, tried=not unfit) | dict(times=times)
            unfit = one["reason"] == UNFIT or unfit
            plans.append(one)
            say(f"plan {len(plans)} of {count}: {sweep_table.line(one)}")
    fitting = [i for i, one in enumerate(plans) if not one["reason"]]
    return dict(
        topology=found.name,
        devices=len(found.devices),
        device_kind=found.kind,
        hosts=found.hosts,
        mfu=config.dry_run.mfu,
        model=config.model.name,
        total_steps=config.total_steps,
        examples=work,
        plans=plans,
        fastest=min(fitting, key=lambda i: plans[i]["hours"], default=None),
    )


def require_fitting(result: Mapping[str, Any]) -> None:
    """Raises UserError where no plan of a sweep fits."""
    if result["fastest"] is not None:
        return
    needed = [one["memory"] for one in result["plans"] if one["memory"]]
    if not needed:
        raise UserError(
            "no plan of the sweep can be run",
            expected="batches that the meshes can share",
            found=result["plans"][0]["reason"],
            fix="other --config.dry_run.meshes or batch sizes of the streams",
        )
    least = min(needed, key=lambda one: one["total"])
    raise UserError(
        "no plan of the sweep fits the devices",
        expected=f"at most {size_text(least['available'])} per device",
        found=f"{size_text(least['total'])} in the smallest plan",
        fix="more devices, smaller batch sizes of the streams, --config.optimizer.accumulate=2 or "
        "--config.remat=full",
    )


def flags(config: ConfigDict, plan: Mapping[str, Any]) -> list[str]:
    """What the command line of a plan's training has more than the one that was given."""
    changes = {f"mesh.{axis}": size for axis, size in plan["mesh"].items()}
    shards = plan["mesh"]["data"] * plan["mesh"]["fsdp"]
    changes |= {f"streams.{k}.batch_size": size for k, size in plan["batch_sizes"].items()}
    changes |= {
        f"evals.{name}.batch_size": -(-block.batch_size // shards) * shards
        for name, block in config.evals.items()
    }
    changes["total_steps"] = math.ceil(config.total_steps / plan["times"])
    flat = config.to_dict()

    def now(path: str) -> Any:
        value = flat
        for part in path.split("."):
            value = value[part]
        return value

    return [f"--config.{path}={value}" for path, value in changes.items() if value != now(path)]


def _meshes(config: ConfigDict, found: topology.Topology) -> list[dict[str, int]]:
    """Meshes to try: those named; or along `fsdp` one device, those of a host, and all."""
    if MESH not in config.dry_run.sweep:
        return [dict(sharding.make_mesh(config.mesh, found.devices).shape)]
    if config.dry_run.meshes:
        sizes = [dict(zip(sharding.AXES, mesh, strict=True)) for mesh in config.dry_run.meshes]
    else:
        tensor = config.mesh.tensor if config.mesh.tensor > 0 else 1
        rest = len(found.devices) // tensor
        tried = sorted({1, math.gcd(rest, len(found.devices) // found.hosts), rest})
        sizes = [dict(data=rest // fsdp, fsdp=fsdp, tensor=tensor) for fsdp in tried]
    for one in sizes:
        sharding.make_mesh(one, found.devices)  # all of them, before the first is compiled
    return sizes


def _batches(config: ConfigDict) -> tuple[int, ...]:
    """Batches to try, in multiples of the config's."""
    return (BATCH in config.dry_run.sweep and tuple(config.dry_run.batches)) or (1,)


def _changed(
    config: ConfigDict, mesh: Mapping[str, int], times: int, batch: PyTree
) -> tuple[ConfigDict, PyTree]:
    """The config of a plan, and shapes of its batch."""
    changed = config.copy_and_resolve_references()
    changed.mesh.update(mesh)
    for name in batch:
        changed.streams[name].batch_size = config.streams[name].batch_size * times
    shapes = {
        name: {
            key: jax.ShapeDtypeStruct((changed.streams[name].batch_size, *x.shape[1:]), x.dtype)
            for key, x in arrays.items()
        }
        for name, arrays in batch.items()
    }
    return changed, shapes


def _plan(
    config: ConfigDict,
    found: topology.Topology,
    model: MultiTaskModel,
    batch: PyTree,
    work: int,
    *,
    tried: bool,
) -> dict[str, Any]:
    """One plan: "mesh", "batch_sizes"; "reason" why it is none, or "".

    Of one that was compiled also "memory", "flops", "collectives" and "no_collectives", of one that
    fits "step", all as of `step_report.report`; "hours" and "device_hours" of `work` examples.
    """
    sizes = {name: config.streams[name].batch_size for name in batch}
    mesh = sharding.make_mesh(config.mesh, found.devices)
    plan: dict[str, Any] = dict(mesh=dict(mesh.shape), batch_sizes=sizes, reason="")
    plan |= dict.fromkeys(("memory", "step", "hours", "device_hours"))
    if not tried:
        return plan | dict(reason="more than a batch that does not fit")
    try:
        sharding.check_processes(mesh)
        sharding.check_batch_sizes(sizes, mesh, config.optimizer.accumulate)
    except ConfigError as error:
        return plan | dict(reason=str(error).splitlines()[0])
    flops = throughput.of_model(config, model)
    result = step_report.report(config, found, mesh, model, batch, flops)
    names = ("memory", "flops", "collectives", "no_collectives", "compile_seconds")
    plan |= {name: result[name] for name in names}
    if not result["memory"]["fits"]:
        return plan | dict(reason=UNFIT)
    hours = work / result["step"]["expected"]["examples_per_second"] / 3600
    return plan | dict(step=result["step"], hours=hours, device_hours=hours * len(found.devices))
