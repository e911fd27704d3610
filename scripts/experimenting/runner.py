"""Runs the trials of a table, each seed a process, and knows nothing of what they are.

A run has a folder, OUT/<trial>/<seed>: the run folder of `main.py`, and beside it

  recipe.json     what was asked for; a folder of another recipe is refused
  attempts.jsonl  a line a process: how it ended, its CPU and wall seconds, commit, cores
  log.txt         what the processes printed
  result.json     the cells, once it is done
"""

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from checkpoints import run_config
from core.console import say
from core.errors import DataError
from core.progress import atomic_file
from scripts.experimenting import declared

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECIPE, ATTEMPTS, LOG, RESULT = "recipe.json", "attempts.jsonl", "log.txt", "result.json"
# The part of a recipe that depends on where it runs.
_PLACES = ("init", "compile_cache")


@dataclasses.dataclass(frozen=True)
class Job:
    """A trial with a seed."""

    trial: declared.Trial
    seed: int
    folder: pathlib.Path

    @property
    def name(self) -> str:
        return f"{self.trial.name}, seed {self.seed}"

    @property
    def result(self) -> dict[str, Any] | None:
        """What `child` wrote, None where the run is not done."""
        path = self.folder / RESULT
        return json.loads(path.read_text()) if path.is_file() else None

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """Its processes so far."""
        path = self.folder / ATTEMPTS
        return [json.loads(x) for x in path.read_text().splitlines()] if path.is_file() else []


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
      name: of the table, as `declared.load` takes it.
      table: the table.
      trials: that take part, starts before those who start from them.
      seeds: of each trial.
      out: folder of all runs.
      data_dir: folder of prepared data.
    """

    name: str
    table: declared.Table
    trials: Sequence[declared.Trial]
    seeds: Sequence[int]
    out: pathlib.Path
    data_dir: str

    def job(self, trial: str, seed: int) -> Job:
        return Job(self.table.trial(trial), seed, self.out / trial / str(seed))

    def jobs(self) -> list[Job]:
        """One seed of everything first."""
        return [self.job(t.name, seed) for seed in self.seeds for t in self.trials]

    def recipe(self, job: Job) -> dict[str, Any]:
        """What a run is told by: its config without places, and the recipe of its start."""
        config = run_config.plain(job.trial.config_of(job.seed, ""))
        for name in _PLACES:
            config.pop(name)
        found: dict[str, Any] = dict(config=config, validates=list(job.trial.validates))
        found |= dict(train=job.trial.train, cells=[c.metric for c in job.trial.cells])
        if job.trial.start:
            found["start"] = self.recipe(self.job(job.trial.start, job.seed))
        return json.loads(json.dumps(found, default=list))


def check(plan: Plan) -> None:
    """Everything that can be known before the first run.

    Raises:
      DataError: a trial that names what there is not, or a folder of another recipe.
    """
    for job in plan.jobs():
        recipe, path = plan.recipe(job), job.folder / RECIPE
        if path.is_file() and (saved := json.loads(path.read_text())) != recipe:
            raise DataError(
                "the folder holds a run of another recipe",
                where=str(job.folder),
                expected="\n    ".join(["", *_differences(saved, recipe)]),
                fix="another --out, or remove the folder",
            )
    with tempfile.TemporaryDirectory() as folder:
        answer = pathlib.Path(folder) / "problems.json"
        done = subprocess.run(
            _child("check", plan, answer, *(trial.name for trial in plan.trials)),
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise DataError("the table cannot be checked", found=done.stderr[-3000:])
        problems = json.loads(answer.read_text())
    if problems:
        listed = "\n  ".join(f"{name}: {text}" for name, text in problems.items())
        raise DataError(f"{len(problems)} trials cannot run:\n  {listed}")


def _differences(saved: Any, wanted: Any, path: str = "") -> Iterator[str]:
    if isinstance(saved, dict) and isinstance(wanted, dict):
        for key in sorted({*saved, *wanted}):
            yield from _differences(saved.get(key), wanted.get(key), f"{path}.{key}".lstrip("."))
    elif saved != wanted:
        yield f"{path}: {wanted} (the folder has {saved})"


def _child(work: str, plan: Plan, out: pathlib.Path, *rest: str) -> list[str]:
    module = (sys.executable, "-m", "scripts.experimenting.child")
    return [*module, work, plan.name, plan.data_dir, str(out), *rest]


@dataclasses.dataclass
class _Running:
    job: Job
    process: subprocess.Popen
    place: int
    began: float


def run(
    plan: Plan,
    *,
    jobs: int,
    devices: Sequence[str],
    after: Callable[[dict[str, str]], object],
) -> dict[str, str]:
    """Runs what is not done yet.

    Args:
      plan: checked.
      jobs: processes at a time; each has its share of the cores.
      devices: names of accelerators, one a process; empty: all see what there is.
      after: after({name of a job: why it has no result}), called when a run has ended.

    Returns:
      {name of a job: why it has no result}.
    """
    waiting = collections.deque(job for job in plan.jobs() if job.result is None)
    failed: dict[str, str] = {}
    total, walls = len(waiting), list[float]()
    places, running = list(range(jobs)), list[_Running]()
    if total:
        say(f"{total} of {len(plan.jobs())} runs are to be done, {jobs} at a time, in {plan.out}")
    terminated = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        while waiting or running:
            while places and (job := _next(plan, waiting, running, failed)):
                running.append(_start(plan, job, places.pop(0), jobs, devices))
            if not running:  # all that waits starts from one that died
                break
            done = _wait(running)
            running.remove(done)
            places.append(done.place)
            job, count = done.job, total - len(waiting) - len(running)
            seconds = time.monotonic() - done.began
            walls.append(seconds)
            if job.result is None:
                failed[job.name] = _reason(job)
                say(f"[{count}/{total}] {job.name}: died after {seconds:.0f} s: "
                    f"{failed[job.name]}; {job.folder / LOG}")  # fmt: skip
            else:
                left = sum(walls) / len(walls) * (total - count) / jobs
                say(f"[{count}/{total}] {job.name}: {_values(job)} in {seconds:.0f} s, "
                    f"about {left / 60:.0f} min left")  # fmt: skip
            after(failed)
    except BaseException:
        for one in running:  # a run that is told to stop saves a checkpoint first
            one.process.send_signal(signal.SIGTERM)
        for one in running:
            one.process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, terminated)
    return failed


def _next(
    plan: Plan, waiting: collections.deque, running: list[_Running], failed: dict[str, str]
) -> Job | None:
    """Takes the first job out of the queue whose start is there."""
    for job in list(waiting):
        if not job.trial.start:
            waiting.remove(job)
            return job
        start = plan.job(job.trial.start, job.seed)
        if start.result is not None:
            waiting.remove(job)
            return job
        if start.name in failed:
            waiting.remove(job)
            failed[job.name] = f"not run, since {start.name} died"
    return None


def _start(plan: Plan, job: Job, place: int, jobs: int, devices: Sequence[str]) -> _Running:
    job.folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(job.folder / RECIPE) as temporary:
        temporary.write_text(json.dumps(plan.recipe(job), indent=2, sort_keys=True) + "\n")
    start = str(plan.job(job.trial.start, job.seed).folder) if job.trial.start else ""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    mine = set(cores[place * len(cores) // jobs : (place + 1) * len(cores) // jobs])
    environment = dict(os.environ)
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(plan.out / "compiled"))
    if devices:
        environment["CUDA_VISIBLE_DEVICES"] = devices[place]

    def with_its_cores() -> None:
        if mine:
            os.sched_setaffinity(0, mine)

    with (job.folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            _child("run", plan, job.folder, job.trial.name, str(job.seed), start),
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=with_its_cores,
            start_new_session=True,  # Ctrl-C is for the runner, which tells them
        )
    return _Running(job, process, place, time.monotonic())


def _wait(running: list[_Running]) -> _Running:
    """The next one to end; its attempt is written down."""
    while True:
        for one in running:
            pid, status, usage = os.wait4(one.process.pid, os.WNOHANG)
            if pid:
                one.process.returncode = os.waitstatus_to_exitcode(status)
                attempt = dict(
                    exit_code=one.process.returncode,
                    wall_seconds=round(time.monotonic() - one.began, 1),
                    cpu_seconds=round(usage.ru_utime + usage.ru_stime, 2),
                    commit=commit(),
                    cores=os.cpu_count(),
                )
                with (one.job.folder / ATTEMPTS).open("a") as file:
                    file.write(json.dumps(attempt) + "\n")
                return one
        time.sleep(0.2)


def _reason(job: Job) -> str:
    """What the log of a run that died ends with."""
    code = job.attempts[-1]["exit_code"]
    lines = (job.folder / LOG).read_text(errors="replace").strip().splitlines()
    errors = [line for line in lines if line.startswith("error:")] or lines[-1:] or [""]
    return f"exit status {code}, {errors[-1][:200]}"


def _values(job: Job) -> str:
    result = job.result
    assert result is not None
    shown = [
        f"{cell.column} {'–' if found['value'] is None else format(found['value'], '.4g')}"
        for cell, found in zip(job.trial.cells, result["cells"], strict=True)
    ]
    return ", ".join(shown[:4]) + ", …" * (len(shown) > 4) if shown else "done"


def commit() -> str:
    """Of the project; "+" where files differ from it."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        text = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        return text
    return "unknown"
