"""A run of the loop on the fake task, in this process or one to be killed, and what it leaves.

python -m tests.training.run_fake WORKDIR STEPS SLOW [JSON: "config" changes and options of `run`]
"""

import ctypes
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np

from checkpoints import checkpoint
from checkpoints.damage import DamageError
from core import interrupts, remote
from evaluation import evaluators
from runtime import cluster, sharding, signals, watchdog
from tests.training import fakes
from training import loop
from training.parts import Parts
from training.run import disk, goodput, metrics, run_checkpoints, runfolder

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 40  # of the run that others are compared with


class FakeEvaluator(evaluators.Evaluator):
    """A number that depends on the parameters, and one that does not."""

    def __init__(self, at_batch, slow):
        self._at_batch, self._slow = at_batch, slow

    def run(self, params):
        for number in range(3 if not self._slow else 500):
            time.sleep(self._slow)
            self._at_batch(params, number)
            signals.check()
        table = params["trunk"]["embeddings"]["word"]["embedding"]
        return {"spread": float(jax.numpy.square(table).mean()), "constant": 1.0}


def parts(
    config, *, broken_draws=(), slow=0.0, fails=None, hangs=None,
    slow_evaluation=0.0, at_draw=lambda draw: None, at_batch=lambda params, number: None,
    text_head="words",
) -> Parts:  # fmt: skip
    """Parts of a run on the fake task.

    Args:
      broken_draws: draws with features that are not finite.
      slow, slow_evaluation: seconds a batch takes, in training and in evaluation.
      at_draw, at_batch: called when a batch is asked for, in training and in evaluation.
      text_head: head of the text stream.
      fails, hangs: (process, draw) at which this process has an error, or waits for ever.
    """
    process, count = jax.process_index(), jax.process_count()

    def own(x):
        return np.split(x, count)[process]

    def batches(plan):
        for draws in plan:
            time.sleep(slow)
            captions = draws.get("captions")
            at_draw(captions)
            if [process, captions] == fails:
                raise OSError(f"the disk of process {process} is gone")
            if [process, captions] == hangs:
                time.sleep(1000)
            found = {
                name: fakes.batch(name, draw, config.streams[name].batch_size)
                for name, draw in draws.items()
            }
            if captions in broken_draws:
                found["captions"]["_weight"][3] = float("nan")
            yield draws, jax.tree.map(own, found)

    return Parts(
        model=fakes.FakeTask(dropout=0.1, text_head=text_head),
        example=jax.tree.map(own, fakes.batches(config, 0)),
        batches=batches,
        fingerprints={"captions": "aa", "text": "bb"},
        evaluators={"table": FakeEvaluator(at_batch, slow_evaluation)},
        data_metadata={"feature_spec": {"detector": "fake"}},
    )


def run(workdir, config, **options) -> dict:
    """As `loop.run` does."""
    ledger = goodput.Ledger()
    mesh = sharding.make_mesh(config.mesh)
    with (
        runfolder.alone(remote.path(workdir)),
        jax.set_mesh(mesh),
        signals.StopSignal(kept=lambda: disk.state(workdir)) as stop,
        watchdog.watching(config.stall, workdir),
        disk.explained(workdir),
    ):
        made = parts(config, **options)
        return loop.train(config, remote.path(workdir), made, mesh, stop, ledger)


def launch(workdir, slow=0.0, **options):
    """A run in a process of its own."""
    return start("-m", "tests.training.run_fake", workdir, STEPS, slow, json.dumps(options))


def start(*arguments):
    """Python with these arguments, from the project's root."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def wait_for(process, ready, seconds=120):
    """Waits until `ready()`; fails with the process's output if it ends before."""
    until = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.02)


def steps_of(workdir):
    """Steps of the complete checkpoints of a run."""
    folder = workdir / checkpoint.FOLDER
    names = [p.name for p in folder.iterdir()] if folder.exists() else []
    return sorted(int(name) for name in names if name.isdigit())


def losses(workdir):
    """Lines of a run's metrics, without what measures time."""
    lines = metrics.read(workdir / metrics.FILE)
    keys = [(line["step"], "train/loss" in line) for line in lines]
    assert len(set(keys)) == len(keys), "a step is there twice"
    return [metrics.untimed(line) for line in lines]


def break_reading(process: int) -> None:
    """In this process, the first checkpoint whose arrays are read has bad bytes."""
    original = run_checkpoints.Checkpoints._arrays

    def broken(self, step, shapes):
        run_checkpoints.Checkpoints._arrays = original
        if jax.process_index() == process:
            raise DamageError("bad bytes")
        return original(self, step, shapes)

    run_checkpoints.Checkpoints._arrays = broken


def get_stuck(marker: pathlib.Path) -> None:
    """Waits for ever in C, as in a compilation: Python handles no signal."""
    marker.touch()
    mutex = ctypes.create_string_buffer(128)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)


def hold_saves(name: str, marker: pathlib.Path) -> None:
    """A save goes no further than to the renaming of a path that ends so."""
    original = os.rename

    def rename(source, target, **kwargs):
        if str(source).endswith(name):
            marker.touch()
            time.sleep(1000)
        original(source, target, **kwargs)

    os.rename = rename


if __name__ == "__main__":
    # As at a terminal: a suite that runs in the background ignores Ctrl-C, and so would this.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts.begin()
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", 8)
    workdir, steps, slow, *more = sys.argv[1:]
    options = json.loads(more[0]) if more else {}
    made = fakes.config(total_steps=int(steps), **options.pop("config", {}))
    if "cannot_read" in options:
        break_reading(options.pop("cannot_read"))
    cluster.join(None)
    folder = pathlib.Path(workdir)
    if "held" in options:
        hold_saves(options.pop("held"), folder / "held")
    if options.pop("stuck", None) == jax.process_index():
        options["at_draw"] = lambda draw: get_stuck(folder / "stuck")
    with cluster.guard():
        run(workdir, made, slow=float(slow), **options)
