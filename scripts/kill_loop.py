"""Kills a run again and again, and holds what comes out against a run that nobody touched.

  python scripts/kill_loop.py --out=runs/kill_loop            # VL-BERT, thirty kills
  python scripts/kill_loop.py --model=vilbert --kills=10 --seed=1

A short pre-training on the embedded data is done twice: OUT/whole in one go; OUT/broken with
SIGKILL at random moments, of three kinds: somewhere in the start-up, after some steps, and while a
checkpoint is being written. After each kill every checkpoint that is there is read and checked, and
the same command is given again, which must continue from the newest. At the end parameters,
optimizer state and metrics of the two must be the same to the last bit: else the exit code is 1.
"""

import argparse
import json
import pathlib
import random
import shutil
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from checkpoints import checkpoint
from core import arguments
from training.run import metrics

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Odds against each other that no two of them fall together: windows of log lines are cut by
# checkpoints, evaluations by both.
STEPS, LOG, SAVE, EVALUATE = 240, 3, 5, 70
KINDS = {"start-up": 2, "steps": 4, "save": 4}  # how often, in tenths
SMALL = (
    "data.scenes.train=96", "data.scenes.validation=24", "data.scenes.test=8",
    "data.vocab_size=600", "streams.captions.batch_size=16", "evals.validation.batch_size=8",
    "evals.visual_gain.batch_size=8", "model.dropout=0.1", "optimizer.warmup_steps=20",
    f"total_steps={STEPS}", f"log_every={LOG}", f"eval_every={EVALUATE}",
    f"checkpoint.every={SAVE}",
)  # fmt: skip
SIZES = {
    "vlbert": ("model.hidden=32", "model.layers=2"),
    "vilbert": ("evals.alignment.batch_size=8",),
}


class Attempt:
    """The run as a process, and what it has printed."""

    def __init__(self, args, workdir: pathlib.Path):
        changes = [*SMALL, *SIZES[args.model], f"data.dir={args.out / 'data'}",
                   f"compile_cache={args.out / 'compiled'}"]  # fmt: skip
        self.folder = workdir / checkpoint.FOLDER
        self.began = time.monotonic()
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [
                *(sys.executable, "main.py", f"--config=configs/{args.model}_pretrain.py"),
                *(f"--workdir={workdir}", *(f"--config.{change}" for change in changes)),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        self.lines.extend(line.rstrip() for line in self._process.stdout)

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def ended(self) -> bool:
        return self._process.poll() is not None

    def first(self, start: str) -> str | None:
        """The first line that begins so."""
        return next((line for line in list(self.lines) if line.startswith(start)), None)

    def resumed_from(self) -> int:
        line = self.first("resumed at step")
        return int(line.split()[3]) if line else 0

    def stepping(self) -> bool:
        return self.first("first step with compilation") is not None

    def step(self) -> int:
        """The last step it has told of."""
        told = [x for x in list(self.lines) if x.startswith("step ") and "/" in x.split("|")[0]]
        return int(told[-1].split("/")[0].split()[1]) if told else self.resumed_from()

    def saving(self) -> bool:
        """Whether a checkpoint is being written."""
        return self.folder.exists() and any("tmp" in path.name for path in self.folder.iterdir())

    def steps(self) -> list[int]:
        """Of the complete checkpoints."""
        names = [path.name for path in self.folder.iterdir()] if self.folder.exists() else []
        return sorted(int(name) for name in names if name.isdigit())

    def kill(self) -> None:
        self._process.kill()
        self.wait()

    def wait(self) -> int:
        code = self._process.wait()
        self._reader.join()
        return code


def wait_until(attempt: Attempt, ready, limit: float = 600) -> None:
    """Returns when `ready()`, or when the process has ended or taken `limit` seconds for it."""
    until = time.monotonic() + limit
    while not ready() and not attempt.ended() and time.monotonic() < until:
        time.sleep(0.002)


def strike(attempt: Attempt, kind: str, draw: random.Random, startup: float) -> None:
    """Kills the process at a moment of that kind."""
    if kind == "start-up":
        moment = draw.uniform(0, startup)
        wait_until(attempt, lambda: attempt.seconds() > moment or attempt.stepping())
    else:
        count = draw.randint(1, 24)
        wait_until(attempt, attempt.stepping)
        begun = attempt.resumed_from()
        wait_until(attempt, lambda: attempt.step() >= begun + count)
        if kind == "save":
            wait_until(attempt, attempt.saving)
        time.sleep(draw.uniform(0, 0.05))
    attempt.kill()


def unsound(attempt: Attempt) -> list[str]:
    """What is wrong with the checkpoints that are there."""
    found = []
    for step in attempt.steps():
        try:
            checkpoint.read(attempt.folder / str(step))
        except Exception as error:
            found.append(f"checkpoint {step}: {error}")
    return found


def differences(whole: pathlib.Path, broken: pathlib.Path) -> list[str]:
    """What is not the same to the last bit in two runs that are done."""
    found = []
    (a, _), (b, _) = (
        checkpoint.read(folder / checkpoint.FOLDER / str(STEPS)) for folder in (whole, broken)
    )
    for item in a:
        if a[item].keys() != b[item].keys():
            found.append(f"{item} holds other arrays")
        found += [
            f"{item}/{path} differs"
            for path in a[item].keys() & b[item].keys()
            if a[item][path].tobytes() != b[item][path].tobytes()
        ]
    curves = [
        [metrics.untimed(line) for line in metrics.read(folder / metrics.FILE)]
        for folder in (whole, broken)
    ]
    if curves[0] != curves[1]:
        found.append(f"{metrics.FILE} differs: {len(curves[0])} and {len(curves[1])} lines")
    return found


def finish(attempt: Attempt) -> Attempt:
    """Waits for the process' own end, which must be a good one."""
    if attempt.wait():
        sys.exit("\n".join([*attempt.lines, "the run failed"]))
    return attempt


def goodput(workdir: pathlib.Path) -> str:
    """Of a run that is done, and the seconds of each category."""
    found = json.loads((workdir / "summary.json").read_text())["goodput"]
    seconds = ", ".join(f"{name} {value:.0f}" for name, value in found["seconds"].items())
    return f"{100 * found['share']:.1f} % of {sum(found['seconds'].values()):.0f} s ({seconds})"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=arguments.whole(0), default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--model", choices=sorted(SIZES), default="vlbert")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/kill_loop"))
    args = parser.parse_args()
    args.out = args.out.absolute()
    whole, broken = args.out / "whole", args.out / "broken"
    for folder in (whole, broken):
        shutil.rmtree(folder, ignore_errors=True)
    draw, problems = random.Random(args.seed), []

    finish(Attempt(args, whole))
    print(f"the run nobody touched: {STEPS} steps, goodput {goodput(whole)}", flush=True)
    startup, newest = 10.0, 0
    for number in range(1, args.kills + 1):
        (kind,) = draw.choices(list(KINDS), KINDS.values())
        attempt = Attempt(args, broken)
        strike(attempt, kind, draw, startup)
        if attempt.first("done:"):
            problems.append(f"the run was done before kill {number}")
            break
        began = attempt.first("first step with compilation")
        if began:
            startup = 0.8 * startup + 0.2 * attempt.seconds()
        resumed = attempt.first("resumed at step") or attempt.first("parameters from scratch")
        if resumed and attempt.resumed_from() != newest and not attempt.first("cannot read"):
            problems.append(f"kill {number}: there was checkpoint {newest}, but: {resumed}")
        problems += (wrong := unsound(attempt))
        steps = attempt.steps()
        newest_was, newest = newest, steps[-1] if steps else 0
        came = "came to nothing"
        if resumed:
            came = f"resumed at {attempt.resumed_from()}" if newest_was else "began from scratch"
        where = "before its first step"
        if began:
            where = f"at step {attempt.step()}" + ", in a save" * attempt.saving()
        print(
            f"kill {number:>2}, {attempt.seconds():5.1f} s after a start that {came}: {where}; "
            f"checkpoints {steps or 'none'} {'DAMAGED' if wrong else 'sound'}",
            flush=True,
        )
    last = finish(Attempt(args, broken))
    print(f"left alone it resumed at {last.resumed_from()} and was done at step {last.step()}")
    problems += differences(whole, broken)
    print(f"the run that was killed: goodput {goodput(broken)}")
    print("\n".join(problems) if problems else
          "parameters, optimizer state and metrics are those of the run nobody touched, to the "
          "last bit")  # fmt: skip
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
