"""What a device holds of both models on several meshes: a Markdown table.

  python benchmarks/meshes.py                                      # cpu:8, base
  python benchmarks/meshes.py --sizes=base,large --state_only      # seconds: nothing is compiled
  python benchmarks/meshes.py --topology=v5e:4x4 --meshes=16,1,1:1,16,1

Batches are the papers' (VL-BERT 128 captions and 128 text rows, ViLBERT 512 captions), data sizes
assumed as in `--mode=dry_run --config.dry_run.assume=true`, which tells one mesh in full.
"""

import argparse
import importlib
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax

from configs import models
from core import arguments
from core.errors import UserError
from runtime import sharding
from training import setup
from training.planning import assumed, dry_run_table, step_program, step_report, topology
from training.run import throughput
from training.state import StateMaker

HEAD = (
    "| model | mesh | parameters | optimizer state | batch | temporaries | total | sent a step |\n"
    "|---|---|---:|---:|---:|---:|---:|---:|"
)


def measure(model: str, size: str, sizes, found, *, shard_state: bool, state_only: bool) -> dict:
    """A row: bytes of one device."""
    config = importlib.import_module(f"configs.{model}_pretrain").get_config(
        f"size={size},data=jsonl"
    )
    config.shard_state = shard_state
    mesh = sharding.make_mesh(dict(zip(sharding.AXES, sizes, strict=True)), found.devices)
    task = assumed.model(config)
    batch = assumed.batch(config, task, setup.assemblers(config))
    row = dict(model=f"{model} {size}", mesh=sizes, topology=found.name, sent=None)
    if state_only:
        with jax.set_mesh(mesh):
            maker = StateMaker(task, config, batch, mesh)
            placed = sharding.shapes_of(batch, mesh)
        names = ("parameters", "optimizer_state", "batch")
        trees = (maker.state.params, maker.state.opt_state, placed)
        memory = {
            name: step_program.bytes_of(tree) for name, tree in zip(names, trees, strict=True)
        }
        return row | memory | dict(temporaries=None, total=None)
    flops = throughput.of_model(config, task)
    result = step_report.report(config, found, mesh, task, batch, flops)
    if result["collectives"] is not None:
        row["sent"] = sum(one["bytes"] for one in result["collectives"])
    return row | result["memory"] | dict(step=result["step"], input=result["input"])


def line(row: dict) -> str:
    """The row as Markdown."""
    names = ("parameters", "optimizer_state", "batch", "temporaries", "total", "sent")
    cells = (dry_run_table.size_text(row[name]) if row[name] is not None else "" for name in names)
    mesh = "·".join(map(str, row["mesh"]))
    return f"| {row['model']} | {mesh} | " + " | ".join(cells) + " |"


def main(argv=None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--topology", default="cpu:8", help="see config.dry_run.topology")
    parser.add_argument(
        "--models", type=arguments.some_of(("vlbert", "vilbert")), default="vlbert,vilbert"
    )
    parser.add_argument(
        "--sizes",
        type=arguments.some_of(list(models.SIZES)),
        default="base",
        help="of " + ", ".join(models.SIZES),
    )
    parser.add_argument(
        "--meshes", default="8,1,1:1,8,1:2,2,2:1,1,8", help="data,fsdp,tensor:data,fsdp,tensor:…"
    )
    parser.add_argument("--whole_state", action="store_true", help="config.shard_state=false")
    parser.add_argument("--state_only", action="store_true", help="compile nothing")
    parser.add_argument(
        "--json", type=arguments.to_write, help="also append the rows to this file, one a line"
    )
    args = parser.parse_args(argv)
    try:
        topology.prepare(args.topology)
        found = topology.find(args.topology)
        meshes = [arguments.wholes(3)(mesh) for mesh in args.meshes.split(":")]
        for mesh in meshes:  # all of them, before the first is compiled
            sharding.make_mesh(dict(zip(sharding.AXES, mesh, strict=True)), found.devices)
    except (UserError, argparse.ArgumentTypeError) as error:
        parser.error(str(error))
    print(HEAD, flush=True)
    for model in args.models:
        for size in args.sizes:
            for sizes in meshes:
                row = measure(
                    model,
                    size,
                    sizes,
                    found,
                    shard_state=not args.whole_state,
                    state_only=args.state_only,
                )
                print(line(row), flush=True)
                if args.json:
                    with open(args.json, "a") as file:
                        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
