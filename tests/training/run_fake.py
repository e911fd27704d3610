"""A run of the loop on the fake task, for tests in this process and in processes to be killed."""

import os
import pathlib
import sys
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

from tests.training import fakes
from training import loop, sharding
from training.parts import Parts


class FakeEvaluator:
    """A number that depends on the parameters, and one that does not."""

    def run(self, params):
        table = params["trunk"]["embeddings"]["word"]["embedding"]
        return {"spread": float(jax.numpy.square(table).mean()), "constant": 1.0}


def parts(config, *, broken_draw=None, slow=0.0) -> Parts:
    """broken_draw: the draw with features that are not finite; slow: seconds a batch takes."""

    def batches(draws):
        draw = dict(draws)
        while True:
            time.sleep(slow)
            found = {
                name: fakes.batch(name, draw[name], config.streams[name].batch_size)
                for name in draw
            }
            if draw["captions"] == broken_draw:
                found["captions"]["_weight"][3] = float("nan")
            yield found
            draw = {name: value + 1 for name, value in draw.items()}

    return Parts(
        task=fakes.FakeTask(dropout=0.1),
        example=fakes.batches(config, 0),
        batches=batches,
        fingerprints={"captions": "aa", "text": "bb"},
        evaluators={"table": FakeEvaluator()},
        facts={"feature_spec": {"detector": "fake"}},
    )


def run(workdir, config, **options) -> dict:
    mesh = sharding.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        return loop.train(config, pathlib.Path(workdir), parts(config, **options), mesh)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    run(sys.argv[1], fakes.config(total_steps=int(sys.argv[2])), slow=float(sys.argv[3]))
