"""Makes a table of experiments: Markdown, CSV and a picture, from runs that it starts itself.

  python scripts/experiments.py downstream --out=runs/downstream
  python scripts/experiments.py downstream --only="vqa/*" --seeds=1 --jobs=2
  python scripts/experiments.py                               # lists the tables

A table is a short list of trials in `scripts/tables/<name>.py`, or one's own as module:NAME: each a
config with changes, and the metrics that it fills cells with. Each trial is run with every seed in
a process of its own, in OUT/<trial>/<seed>. All of them are checked before the first one starts. A
run that is done is not run again, one that was interrupted goes on, and a folder that holds another
recipe is refused. OUT/table.md, .csv and .png are written anew after each run. A run that dies is
told beside the table, and the exit status is 1.
"""

import argparse
import fnmatch
import os
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from core import arguments, lock
from core.console import command, say
from scripts.experimenting import declared, report, runner


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", nargs="?", help=f"{', '.join(declared.known())}, or module:NAME")
    parser.add_argument("--out", help="folder of the runs; default: runs/<table>")
    parser.add_argument("--seeds", type=arguments.whole(1), help="runs of each trial, from seed 0")
    parser.add_argument(
        "--jobs",
        type=arguments.whole(1),
        help="runs at a time, each with its share of the cores; default: one a core or device",
    )
    parser.add_argument("--only", help="patterns of trials, separated by commas, as vqa/*,nlvr2/*")
    parser.add_argument("--devices", default="", help="of CUDA, one a run: 0,1,2,3")
    parser.add_argument("--data-dir", default="data", help="folder of prepared data")
    return parser.parse_args(argv)


def _plan(args: argparse.Namespace) -> runner.Plan:
    table = declared.load(args.table)
    names = [trial.name for trial in table.trials]
    for pattern in filter(None, (args.only or "").split(",")):
        if not fnmatch.filter(names, pattern):
            raise declared.TableError(
                "--only names no trial", expected=f"patterns of {', '.join(names)}", found=pattern
            )
    wanted = [
        name
        for name in names
        if not args.only or any(fnmatch.fnmatchcase(name, p) for p in args.only.split(","))
    ]
    return runner.Plan(
        args.table,
        table,
        table.with_starts(wanted),
        range(args.seeds or table.seeds),
        pathlib.Path(args.out or f"runs/{args.table.rpartition(':')[2].lower()}").absolute(),
        str(pathlib.Path(args.data_dir).absolute()),
    )


@command
def main(argv: Sequence[str]) -> int:
    """Checks, runs and shows a table."""
    args = _parse(argv)
    if args.table is None:
        for name in declared.known():
            table = declared.load(name)
            say(f"{name}: {table.title}; {len(table.trials)} trials, {table.seeds} seeds")
        return 0
    plan = _plan(args)
    devices = args.devices.split(",") if args.devices else []
    jobs = args.jobs or len(devices) or os.cpu_count() or 1
    if devices and jobs > len(devices):
        raise declared.TableError(
            "more runs at a time than devices", expected=f"--jobs of at most {len(devices)}",
            found=jobs,
        )  # fmt: skip
    plan.out.mkdir(parents=True, exist_ok=True)
    shown = ["scripts/experiments.py", *argv]
    with lock.held(plan.out / "table.lock", f"the folder {plan.out}", fix="another --out"):
        say(f"checking {len(plan.trials)} trials")
        runner.check(plan)
        failed = runner.run(
            plan, jobs=jobs, devices=devices, after=lambda failed: report.write(plan, failed, shown)
        )
        say("\n" + report.write(plan, failed, shown))
    say(f"{plan.out / 'table.md'}, table.csv, table.png")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
