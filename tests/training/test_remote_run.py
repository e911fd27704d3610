"""main.py with its data and its run folder in a bucket, killed and resumed."""

import json
import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from checkpoints import checkpoint
from inference import load
from tests.training.test_main import ROOT, command
from training.run import metrics
from vl_models import loading

SHORT = (
    "--config.total_steps=12",
    "--config.optimizer.warmup_steps=2",
    "--config.log_every=2",
    "--config.eval_every=6",
    "--config.checkpoint.every=2",
)


def start(workdir, data, *more):
    return subprocess.Popen(
        command(workdir, data, *SHORT, *more),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def finish(*args) -> str:
    process = start(*args)
    out, _ = process.communicate(timeout=280)
    assert process.returncode == 0, out
    return out


def curve(text):
    lines = [json.loads(line) for line in text.splitlines()]
    return [metrics.untimed(line) for line in lines]


@pytest.mark.slow
def test_a_run_in_a_bucket_equals_a_local_one_though_it_was_killed(tmp_path, bucket):
    programs = f"--config.compile_cache={tmp_path / 'programs'}"
    finish(tmp_path / "local", tmp_path / "data", programs)
    bucket.copy(tmp_path / "data", "data")
    shutil.rmtree(tmp_path / "data")
    remote = (f"{bucket.url}/run", f"{bucket.url}/data", programs)

    process = start(*remote)
    while not any(n.startswith("run/checkpoints/6/") for n in bucket.names()):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "run/summary.json" not in bucket.objects
    out = finish(*remote)
    assert "resumed at step" in out

    there = {name: data for name, (data, _) in bucket.objects.items()}
    local = (tmp_path / "local" / metrics.FILE).read_text()
    assert curve(there[f"run/{metrics.FILE}"].decode()) == curve(local)
    assert {"run/config.json", "run/summary.json", "run/loss.png"} <= there.keys()
    # Regions were read in place; everything else of the data was copied here.
    copies = {path.name for path in (tmp_path / "cache").rglob("*")}
    assert "meta.json" in copies
    assert not any(name.startswith("shard-") for name in copies)

    for step in (10, 12):
        params, meta = checkpoint.load_params(f"{bucket.url}/run/checkpoints/{step}")
        expected, _ = checkpoint.load_params(tmp_path / "local" / "checkpoints" / str(step))
        assert meta["step"] == step
        for name, array in loading.flatten(expected).items():
            np.testing.assert_array_equal(loading.flatten(params)[name], array, err_msg=name)
    model, same = load(f"{bucket.url}/run"), load(str(tmp_path / "local"))
    assert model.heads == same.heads
    assert model.pieces == same.pieces
