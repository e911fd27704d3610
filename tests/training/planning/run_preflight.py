"""One of two processes that run the preflight several times, each time with something wrong.

python -m tests.training.planning.run_preflight PORT INDEX FOLDER
"""

import json
import os
import pathlib
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

from runtime import coordination
from tests.training import fakes
from training.planning import host_checks, preflight


def scenarios(index, folder):
    """(name, patches of `preflight`, run folder, changes of the config) for this process."""
    other = index == 1
    yield "alike", {}, folder, {}
    yield "versions", {"versions": lambda: f"python 3.11.9, jax 0.10.{index}"}, folder, {}
    yield "config", {}, folder, {"seed": index}
    yield "command", {}, folder / str(index), {}
    yield "not shared", {}, "run", {}  # in the current folder, which each has of its own
    yield "devices", {"devices": lambda: f"{4 - other} × TPU v4"}, folder, {}
    yield "data", {"data": (lambda config: 1 / 0) if other else (lambda config: "aa")}, folder, {}
    yield "late", None if other else {}, folder, {}


def main(port, index, folder):
    index, folder = int(index), pathlib.Path(folder)
    current = folder / f"current_{index}"
    current.mkdir()
    os.chdir(current)
    jax.distributed.initialize(f"localhost:{port}", 2, index)
    real = {name: getattr(host_checks, name) for name in ("versions", "devices")}
    for name, patches, workdir, changes in scenarios(index, folder):
        for what, function in (real | {"data": lambda config: "aa"} | (patches or {})).items():
            setattr(host_checks, what, function)
        config = fakes.config(**changes)
        config.unlock()
        config.data = dict(dir=str(folder))
        if patches is not None:
            problems = preflight.run(
                config, str(workdir), mode="train", seconds=2 if name == "late" else 60, least_gb=0
            )
            print("RESULT " + json.dumps([name, problems]), flush=True)
        client = coordination.client()
        client.wait_at_barrier(f"after {name}", 60000)
        if index == 0:
            client.key_value_delete("preflight/")
        client.wait_at_barrier(f"next after {name}", 60000)


if __name__ == "__main__":
    main(*sys.argv[1:])
