"""--mode=dry_run: a train step is compiled and not run; what it needs is printed.

Nothing is allocated and nothing runs, so the devices need not be there, nor (with
`config.dry_run.assume`) the data. The program is the one that training compiles, for batches of the
streams' full sizes: with length buckets most steps need less.
"""

import json
import pathlib
from typing import Any

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from core.console import say
from objectives.model import MultiTaskModel
from runtime import sharding
from training import mesh_checks
from training.planning import (
    assumed,
    dry_run_table,
    step_report,
    sweep,
    sweep_table,
    topology,
)
from training.run import throughput

FILE = "dry_run.json"


def run(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
    """Compiles the train step of a config for `config.dry_run.topology`; prints what it needs.

    With `config.dry_run.sweep` the steps of several plans, and which is the fastest.

    Returns:
      What WORKDIR/dry_run.json holds; see `step_report.report` and `sweep.run`.

    Raises:
      ConfigError, DataError: whatever training would refuse before its first step, and options of
        the dry run.
      UserError: a sweep in which no plan fits; its file is written all the same.
    """
    found, sweeping = topology.find(config.dry_run.topology), bool(config.dry_run.sweep)
    if sweeping:
        sweep.require(found)
    mesh = sharding.make_mesh(config.mesh, found.devices)
    if not sweeping:
        mesh_checks.check(config, mesh, "dry_run")
    model, batch = planned(config, mesh)
    if sweeping:
        result = sweep.run(config, found, model, batch)
        best = result["fastest"]
        flags = [] if best is None else sweep.flags(config, result["plans"][best])
        text = sweep_table.table(result, flags)
    else:
        flops = throughput.of_model(config, model)
        result = step_report.report(config, found, mesh, model, batch, flops)
        if config.dry_run.assume:
            result["assumed"] = assumed.describe(model)
        text = dry_run_table.table(result)
    say(text)
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / FILE).write_text(json.dumps(result, indent=2) + "\n")
        say(f"done: {workdir / FILE}; nothing has been trained")
    if sweeping:
        sweep.require_fitting(result)
    return result


def planned(config: ConfigDict, mesh: jax.sharding.Mesh) -> tuple[MultiTaskModel, PyTree]:
    """The model, and shapes of a global batch: of the data, or of assumed sizes."""
    from training import setup

    if config.dry_run.assume:
        model = assumed.model(config)
        return model, assumed.batch(config, model, setup.assemblers(config))
    parts = setup.build(config, mesh)
    hosts = jax.process_count()
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((hosts * len(x), *x.shape[1:]), x.dtype), parts.example
    )
    return parts.model, batch
