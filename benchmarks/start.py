"""What a start costs: seconds from `python main.py` to the end of the first step, by part.

  python benchmarks/start.py --rounds=2 -- --config=configs/vlbert_pretrain.py
  python benchmarks/start.py --imports -- --config=configs/vqa.py       # packages, too

Arguments after `--` are those of main.py. Each start is a process and a run folder of its own; data
stay in --data-dir and are made before anything counts. Rounds start in turns without programs kept
("cold") and with those of an earlier start ("warm"). CPU seconds are of all threads of the process.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from core import arguments
from core.console import command, warn
from core.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULT = "start.json "  # begins the child's line
PARTS = ("imports", "data and model", "shapes", "initial values", "evaluation", "first step")
PACKAGES = 12  # that take longest

# Runs main.py's `main` and ends it after the first step.
MEASURED = """
import time
begun = time.perf_counter()
import json, os, sys
sys.path.insert(0, os.getcwd())
import main
import jax
from absl import app
from training import loop, starts, trainer
from training.run import steps

spent, programs, last = {}, [], [0.0, 0.0]

def until(part):
    now = time.perf_counter() - begun, time.process_time()
    wall, cpu = spent.get(part, (0.0, 0.0))
    spent[part] = wall + now[0] - last[0], cpu + now[1] - last[1]
    last[:] = now

def marked(owner, name, before, after):
    plain = getattr(owner, name)
    def call(*args, **options):
        until(before)
        try:
            return plain(*args, **options)
        finally:
            until(after)
    setattr(owner, name, call)

def listen(event, seconds, **about):
    if event.endswith("backend_compile_duration"):
        programs.append([about.get("fun_name", ""), seconds])

hits = []
jax.monitoring.register_event_duration_secs_listener(listen)
jax.monitoring.register_event_listener(
    lambda event, **_: hits.append(event) if event.endswith("/cache_hits") else None)
marked(loop, "run", "imports", "rest")
marked(loop, "StateMaker", "data and model", "shapes")
marked(starts, "begin", "rest", "initial values")
marked(trainer.Trainer, "evaluate", "rest", "evaluation")
step = steps.StepRunner.__call__

def first_step(self, *args, **options):
    step(self, *args, **options)
    until("first step")
    jax.effects_barrier()
    print("start.json " + json.dumps(dict(
        spent=spent, wall=last[0], cpu=last[1], programs=programs, hits=len(hits))), flush=True)
    os._exit(0)

steps.StepRunner.__call__ = first_step
app.run(main.main, flags_parser=main.LINE.parse)
"""


def start(line: Sequence[str], data: pathlib.Path, cache: pathlib.Path, python: Sequence[str] = ()):
    """Starts a run in a new folder, to the end of its first step.

    Args:
      line: arguments of main.py.
      data: folder of its data.
      cache: of the programs that it keeps.
      python: options of the interpreter.

    Returns:
      ({"spent": {part: (wall, CPU seconds)}, "wall", "cpu", "programs": [[name, seconds to compile
      or to read it]], "hits": programs that were kept}, what it wrote to stderr).

    Raises:
      UserError: it ended before its first step.
    """
    with tempfile.TemporaryDirectory() as workdir:
        own = [f"--workdir={workdir}/run", f"--config.data.dir={data}"]
        own += [f"--config.compile_cache={cache}"]
        done = subprocess.run(
            [sys.executable, *python, "-c", MEASURED, *own, *line],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
    found = [text for text in done.stdout.splitlines() if text.startswith(RESULT)]
    if not found:
        raise UserError(f"no first step was reached:\n{(done.stdout + done.stderr)[-2000:]}")
    return json.loads(found[0].removeprefix(RESULT)), done.stderr


def packages(log: str) -> dict[str, float]:
    """{package: seconds of its own imports, without those of others}, of `-X importtime`."""
    total: collections.Counter[str] = collections.Counter()
    for own, name in re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", log, re.MULTILINE):
        total[name.split(".")[0]] += int(own) / 1e6
    return dict(total.most_common())


def table(rounds: Sequence[dict]) -> str:
    """Parts, wall and CPU seconds, share of the CPU's; of the round with the least CPU seconds."""
    best = min(rounds, key=lambda one: one["cpu"])
    lines = ["| part | wall s | CPU s | share |", "|---|---:|---:|---:|"]
    for part in (*PARTS, "rest"):
        wall, cpu = best["spent"].get(part, (0.0, 0.0))
        lines.append(f"| {part} | {wall:.1f} | {cpu:.1f} | {100 * cpu / best['cpu']:.0f} % |")
    lines.append(f"| all | {best['wall']:.1f} | {best['cpu']:.1f} | |")
    slow = sorted(best["programs"], key=lambda one: -one[1])[:5]
    lines += ["", f"{len(best['programs'])} programs, {best['hits']} of them kept; seconds each:"]
    lines.append(", ".join(f"{name} {seconds:.1f}" for name, seconds in slow))
    cpus = ", ".join(f"{one['cpu']:.1f}" for one in rounds)
    return "\n".join([*lines, f"CPU seconds of all rounds: {cpus}"])


@command
def main(argv: Sequence[str]) -> None:
    """Prints a table for cold and one for warm starts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=arguments.whole(1), default=1)
    parser.add_argument("--data-dir", type=pathlib.Path, help="of data sets; else made each time")
    parser.add_argument("--imports", action="store_true", help="also tell packages apart")
    parser.add_argument("line", nargs="+", help="arguments of main.py, after --")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        kept, data = pathlib.Path(folder), args.data_dir or pathlib.Path(folder, "data")
        warn("makes the data, and programs to be kept")
        _, log = start(args.line, data, kept / "warm", ("-X", "importtime") if args.imports else ())
        if args.imports:
            found = list(packages(log).items())
            print("import seconds (wall, with -X importtime):")
            print(", ".join(f"{name} {seconds:.2f}" for name, seconds in found[:PACKAGES]))
        measured: dict[str, list] = {"cold": [], "warm": []}
        for number in range(args.rounds):
            measured["cold"].append(start(args.line, data, kept / f"cold{number}")[0])
            measured["warm"].append(start(args.line, data, kept / "warm")[0])
    for name, rounds in measured.items():
        print(f"\n{name}\n\n{table(rounds)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
