"""Throughput of a run over several tasks against that of its single-task runs.

  python benchmarks/multitask.py                                       # all tasks, embedded data
  python benchmarks/multitask.py --tasks=vqa+nlvr2 --model=vlbert --size=small --rounds=20
  python benchmarks/multitask.py --config.data.scenes.train=200        # fields, as of main.py

A round has an update of each task. What a round takes is compared with what the same updates take
in runs of one task each: the same data, batches, reading ahead, placement and train step, of a
model that has this task alone. All runs take turns, so that what slows the machine down slows all
of them; printed are medians over the repetitions. Compilations do not count, and before a run is
timed it uses up the batches that it has read while others ran.

  share of the mean of single-task runs = Σ seconds of an update alone / seconds of a round
"""

import argparse
import ast
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import numpy as np

from configs import models, multitask, task_table
from core import arguments
from runtime import sharding
from training import setup, stream_schedule
from training.run import ahead, goodput, metrics
from training.state import StateMaker
from training.step import Turn, make_train_step


class Feed:
    """A run that is timed: batches read ahead and placed, and updates dispatched as in training.

    Attributes:
      streams: of a step, in order.
      batch_sizes: {stream: examples}.
    """

    def __init__(self, config, mesh: jax.sharding.Mesh):
        """Opens the data; compiles when it first runs."""
        parts = setup.build(config, mesh)
        self._mesh, self._step = mesh, 0
        maker = StateMaker(parts.model, config, parts.example, mesh)
        self._train_step = make_train_step(
            parts.model,
            maker.optimizer,
            mesh,
            jax.tree.map(lambda x: x.sharding, maker.state),
            seed=0,
            accumulate=1,
        )
        self._state = maker.fresh()
        # Batches placed, ready, and read in threads when a run is resumed.
        self._ready = ahead.IN_FLIGHT + config.data.prefetch + config.data.threads
        self._schedule = stream_schedule.of_config(config, parts.passes)
        self.streams = self._schedule.streams(0)
        self.batch_sizes = {name: config.streams[name].batch_size for name in self.streams}
        plan = stream_schedule.plan(self._schedule, 0, dict.fromkeys(self.streams, 0))
        self._batches = ahead.placed(parts.batches(plan), mesh, metrics.Clock(), goodput.Ledger())

    def timed(self, steps: int) -> float:
        """Seconds of a step, the mean of so many in a row."""
        self.run(-(-self._ready // len(self.streams)))
        return self.run(steps) / steps

    def run(self, steps: int) -> float:
        """Seconds of so many steps."""
        began, under_way = time.perf_counter(), []
        for _ in range(steps):
            for _ in stream_schedule.turns(self._schedule, self._step):
                draws, _, batch = next(self._batches)
                turn = Turn(np.int32(self._step), np.int32(self._step + 1))
                more = (turn,) if self._schedule.separate else ()
                self._state, out = self._train_step(self._state, batch, draws, *more)
                under_way.append(out["pairs"]["loss"][0])
                if len(under_way) > ahead.IN_FLIGHT:
                    jax.device_get(under_way.pop(0))
            self._step += 1
        jax.block_until_ready(self._state.params)
        return time.perf_counter() - began

    def programs(self) -> int:
        """Programs that were compiled."""
        return self._train_step._cache_size()


def measure(args, changes: dict) -> dict:
    """Times all runs in turns; see the top of this file.

    Args:
      args: of the command line.
      changes: {field: value} of the config.

    Returns:
      JSON: "tasks", {name: batch, milliseconds of an update alone, examples per second};
      "round_ms", "alone_ms", "share", "programs" and whether a switch "recompiled".
    """
    mesh = sharding.make_mesh(dict(data=-1, fsdp=1, tensor=1))
    names = task_table.chosen(args.tasks, "scenes")

    def feed(tasks: str, schedule: str) -> Feed:
        config = multitask.get_config(
            f"model={args.model},size={args.size},tasks={tasks},schedule={schedule}"
        )
        own = {field: value for field, value in changes.items() if _applies(config, field)}
        config.update_from_flattened_dict(own)
        with config.unlocked():
            config.evals = {}
        return Feed(config, mesh)

    with jax.set_mesh(mesh):
        together = feed("+".join(names), "round_robin")
        alone = {name: feed(name, "summed") for name in names}
        for one in (together, *alone.values()):
            one.run(2)
        programs = together.programs()
        rounds, updates = [], {name: [] for name in names}
        for _ in range(args.repeats):
            rounds.append(together.timed(args.rounds))
            for name, one in alone.items():
                updates[name].append(one.timed(args.rounds))
    round_ = statistics.median(rounds)
    single = {name: statistics.median(seconds) for name, seconds in updates.items()}
    return dict(
        model=args.model,
        size=args.size,
        device=jax.devices()[0].device_kind,
        tasks={
            name: dict(
                batch=together.batch_sizes[name],
                update_ms=1e3 * seconds,
                examples_per_second=together.batch_sizes[name] / seconds,
            )
            for name, seconds in single.items()
        },
        round_ms=1e3 * round_,
        alone_ms=1e3 * sum(single.values()),
        share=sum(single.values()) / round_,
        programs=programs,
        recompiled=together.programs() != programs,
    )


def _applies(config, field: str) -> bool:
    """Whether a config has a field: one of a single task lacks the others' streams."""
    block = config
    for part in field.split("."):
        if not hasattr(block, "keys") or part not in block:
            return False
        block = block[part]
    return True


def table(found: dict) -> str:
    """Markdown: a row a task, and all together."""
    lines = ["| task | batch | ms per update, alone | examples/s |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {row['batch']} | {row['update_ms']:,.1f} | {row['examples_per_second']:,.0f} |"
        for name, row in found["tasks"].items()
    ]
    batch = sum(row["batch"] for row in found["tasks"].values())
    lines += [
        f"| sum | {batch} | {found['alone_ms']:,.1f} | {1e3 * batch / found['alone_ms']:,.0f} |",
        f"| **a round of all** | {batch} | {found['round_ms']:,.1f} | "
        f"{1e3 * batch / found['round_ms']:,.0f} |",
        "",
        f"{found['share']:.1%} of the mean of single-task runs; {found['programs']} programs, "
        f"{'recompiled' if found['recompiled'] else 'none compiled after the first round'}",
    ]
    return "\n".join(lines)


def main(argv=None) -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="vilbert", choices=("vilbert", "vlbert"))
    parser.add_argument("--size", default="mini", choices=tuple(models.SIZES))
    parser.add_argument("--tasks", default="all", help="as of configs/multitask.py")
    parser.add_argument("--rounds", type=arguments.whole(1), default=10)
    parser.add_argument("--repeats", type=arguments.whole(1), default=5)
    parser.add_argument("--json", type=arguments.to_write, help="file for the figures")
    args, rest = parser.parse_known_args(argv)
    changes = {}
    for given in rest:
        field, equals, value = given.removeprefix("--config.").partition("=")
        if not equals or not given.startswith("--config."):
            parser.error(f"unknown argument {given!r}; fields are --config.FIELD=VALUE")
        try:
            changes[field] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            changes[field] = value
    found = measure(args, changes)
    print(table(found))
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
