"""A run of the loop on the fake task, for tests in this process and in processes to be killed.

python -m tests.training.run_fake WORKDIR STEPS SLOW [JSON: "config" changes and options of `run`]
"""

import json
import os
import sys
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np

from input_pipeline import remote
from tests.training import fakes
from training import checkpoint, cluster, loop, sharding, watchdog
from training.parts import Parts


class FakeEvaluator:
    """A number that depends on the parameters, and one that does not."""

    def run(self, params):
        table = params["trunk"]["embeddings"]["word"]["embedding"]
        return {"spread": float(jax.numpy.square(table).mean()), "constant": 1.0}


def parts(config, *, broken_draw=None, slow=0.0, fails=None, hangs=None) -> Parts:
    """Parts of a run on the fake task.

    Args:
      broken_draw: the draw with features that are not finite.
      slow: seconds a batch takes.
      fails, hangs: (process, draw) at which this process has an error, or waits for ever.
    """
    process, count = jax.process_index(), jax.process_count()

    def own(x):
        return np.split(x, count)[process]

    def batches(draws):
        draw = dict(draws)
        while True:
            time.sleep(slow)
            if [process, draw["captions"]] == fails:
                raise OSError(f"the disk of process {process} is gone")
            if [process, draw["captions"]] == hangs:
                time.sleep(1000)
            found = {
                name: fakes.batch(name, draw[name], config.streams[name].batch_size)
                for name in draw
            }
            if draw["captions"] == broken_draw:
                found["captions"]["_weight"][3] = float("nan")
            yield jax.tree.map(own, found)
            draw = {name: value + 1 for name, value in draw.items()}

    return Parts(
        task=fakes.FakeTask(dropout=0.1),
        example=jax.tree.map(own, fakes.batches(config, 0)),
        batches=batches,
        fingerprints={"captions": "aa", "text": "bb"},
        evaluators={"table": FakeEvaluator()},
        facts={"feature_spec": {"detector": "fake"}},
    )


def run(workdir, config, **options) -> dict:
    mesh = sharding.make_mesh(config.mesh)
    with jax.set_mesh(mesh), watchdog.watching(config.stall, workdir):
        return loop.train(config, remote.path(workdir), parts(config, **options), mesh)


def break_reading(process: int) -> None:
    """In this process, the first checkpoint whose arrays are read has bad bytes."""
    original = checkpoint.Checkpoints._arrays

    def broken(self, step, shapes):
        checkpoint.Checkpoints._arrays = original
        if jax.process_index() == process:
            raise ValueError("bad bytes")
        return original(self, step, shapes)

    checkpoint.Checkpoints._arrays = broken


if __name__ == "__main__":
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", 8)
    workdir, steps, slow, *more = sys.argv[1:]
    options = json.loads(more[0]) if more else {}
    made = fakes.config(total_steps=int(steps), **options.pop("config", {}))
    if "cannot_read" in options:
        break_reading(options.pop("cannot_read"))
    cluster.join(None)
    with cluster.guard(loop.USERS):
        run(workdir, made, slow=float(slow), **options)
