"""Real runs of two and four processes on this machine: stopped, failing, killed and stuck."""

import os
import pathlib
import re
import shutil
import signal
import time

import numpy as np
import pytest

from checkpoints import checkpoint
from checkpoints.checkpoint import FOLDER
from runtime import cluster, signals
from tests.training import fakes, run_fake
from tests.training.run_fake import steps_of, wait_for
from training.run import metrics

STEPS = 24
# Sums over processes are taken in another order than sums over the devices of one.
CLOSE = 1e-5


def launch(workdir, slow=0.0, options="{}", processes=2):
    """The fake run as several processes with eight devices together."""
    return run_fake.start(
        *("scripts/launch.py", f"--processes={processes}", f"--devices={8 // processes}"),
        *("--grace=60", "--", "-m", "tests.training.run_fake", workdir, STEPS, slow, options),
    )


def children(process):
    """Process ids of what the launcher started, in their order."""
    text = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(number) for number in text.split()]


def require_same_curve(workdir, expected):
    found, expected = (
        [metrics.untimed(line) for line in metrics.read(folder / metrics.FILE)]
        for folder in (workdir, expected)
    )
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    for a, b in zip(found, expected, strict=True):
        assert set(a) == set(b)
        for name in a:
            assert a[name] == pytest.approx(b[name], rel=CLOSE), (a["step"], name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process."""
    workdir = tmp_path_factory.mktemp("alone")
    run_fake.run(workdir, fakes.config(total_steps=STEPS))
    return workdir


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run of two processes that SIGTERM stopped; (folder, output, seconds it took to end)."""
    workdir = tmp_path_factory.mktemp("two")
    process = launch(workdir, slow=0.2)
    wait_for(process, lambda: steps_of(workdir))
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    return workdir, out, time.monotonic() - asked


def copy_of(stopped, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(stopped[0], workdir)
    return workdir


@pytest.mark.slow
def test_sigterm_ends_two_processes_with_one_checkpoint_and_one_continues(stopped, alone, tmp_path):
    workdir, out, seconds = stopped
    assert seconds < 20
    step = steps_of(workdir)[-1]
    assert step < STEPS
    # Each line once: the second process is silent, and writes nothing but its arrays.
    assert out.count(f"stopped by a signal; step {step} is saved") == 1
    assert out.count("parameters, 0 arrays frozen") == 1
    workdir = copy_of(stopped, tmp_path)
    run_fake.run(workdir, fakes.config(total_steps=STEPS))
    require_same_curve(workdir, alone)
    saved = [checkpoint.load_params(folder)[0] for folder in (workdir, alone)]
    for a, b in zip(*(jax_leaves(tree) for tree in saved), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def jax_leaves(tree):
    return [leaf for value in tree.values()
            for leaf in (jax_leaves(value) if isinstance(value, dict) else [value])]  # fmt: skip


@pytest.mark.slow
def test_one_that_raises_ends_all_with_its_traceback(tmp_path):
    """Process 0 waits for it in a collective, or has an error of its own because of it."""
    process = launch(tmp_path, options='{"fails": [1, 5]}')
    out, _ = process.communicate(timeout=90)
    assert process.returncode == 1
    for line in ("process 1 of 2 on .* failed:", "OSError: the disk of process 1 is gone"):
        for number in (0, 1):
            assert re.search(rf"\[{number}\] {line}", out), out
    assert re.search(r"\[0\] process 0 of 2 on .* ends with the job", out)
    assert "ending processes" not in out  # the launcher had nothing to do
    assert steps_of(tmp_path) == [4]


@pytest.mark.slow
def test_one_that_is_killed_ends_the_other(tmp_path):
    process = launch(tmp_path, slow=0.2)
    wait_for(process, lambda: steps_of(tmp_path))
    asked = time.monotonic()
    os.kill(children(process)[1], signal.SIGKILL)
    out, _ = process.communicate(timeout=cluster.HEARTBEAT_SECONDS + 60)
    assert time.monotonic() - asked < cluster.HEARTBEAT_SECONDS + 15
    assert process.returncode == 128 + signal.SIGKILL
    assert "process 1 ended with exit code -9" in out
    assert "ending processes" not in out


@pytest.mark.slow
def test_one_that_hangs_is_noticed_and_shown(tmp_path):
    changes = '"config": {"stall.seconds": 30.0, "stall.abort": true}'
    process = launch(tmp_path, options=f'{{"hangs": [1, 5], {changes}}}')
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "has placed no batch for" in out
    text = (tmp_path / "stalls" / "process-1.txt").read_text()
    assert re.search(r'run_fake.py", line \d+ in batches', text), text
    assert steps_of(tmp_path) == [4]


@pytest.mark.slow
def test_sigterm_to_one_of_two_in_its_start_up_ends_both_in_good_order(tmp_path):
    process = launch(tmp_path, options='{"stuck": 1}')
    wait_for(process, (tmp_path / "stuck").exists)
    time.sleep(1)  # process 0 waits for it in the first step
    asked = time.monotonic()
    os.kill(children(process)[1], signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert time.monotonic() - asked < 10
    for number in (0, 1):
        assert f"[{number}] {signals.EARLY}" in out
    assert steps_of(tmp_path) == []


@pytest.mark.slow
def test_sigterm_to_one_of_two_in_an_evaluation_ends_both_within_a_batch(alone, tmp_path):
    # The evaluation of step 0 takes 500 batches, too: only this one is slow enough to be met.
    process = launch(tmp_path, options='{"slow_evaluation": 0.02}')
    wait_for(process, lambda: '"step": 6,' in text_of(tmp_path / metrics.FILE))
    time.sleep(1)
    asked = time.monotonic()
    os.kill(children(process)[1], signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert time.monotonic() - asked < 8  # of the 10 s of an evaluation, and a save
    assert "stopped by a signal; step 6 is saved" in out
    run_fake.run(tmp_path, fakes.config(total_steps=STEPS))
    require_same_curve(tmp_path, alone)


def text_of(path):
    return path.read_text() if path.exists() else ""


@pytest.mark.slow
def test_two_agree_to_pass_over_a_checkpoint_that_one_of_them_cannot_read(stopped, alone, tmp_path):
    workdir = copy_of(stopped, tmp_path)
    older, newest = steps_of(workdir)[-2:]
    process = launch(workdir, options='{"cannot_read": 1}')
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert out.count("cannot read the checkpoint") == 1
    assert "process 1: bad bytes" in out
    assert f"resumed at step {older}" in out
    assert (workdir / FOLDER / f"unusable-{newest}").exists()
    require_same_curve(workdir, alone)


@pytest.mark.slow
def test_four_processes_continue_what_two_saved(stopped, alone, tmp_path):
    workdir = copy_of(stopped, tmp_path)
    process = launch(workdir, processes=4)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert steps_of(workdir)[-1] == STEPS
    require_same_curve(workdir, alone)
