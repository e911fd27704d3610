"""Runs that are killed or stopped at any moment: the same command repeats the unbroken run."""

import json
import os
import signal
import time

import numpy as np
import pytest

from checkpoints import checkpoint
from core import interrupts
from core.errors import DataError
from runtime import signals
from tests.training import fakes, run_fake
from tests.training.run_fake import STEPS, launch, losses, steps_of, wait_for
from training.run import goodput, metrics, run_checkpoints, runfolder


def test_kill_and_restart_repeats_the_unbroken_run_to_the_last_bit(unbroken, tmp_path):
    # Checkpoints every 4 steps, log lines of 2 steps, and a kill at no particular moment; the
    # second run, in this process, resumes. Also proves that a process repeats another.
    process = launch(tmp_path, slow=0.03)
    wait_for(process, lambda: len(steps_of(tmp_path)) >= 2)
    time.sleep(np.random.default_rng().uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.2)  # figures have one decimal: a shorter downtime would be 0
    assert 0 < steps_of(tmp_path)[-1] < STEPS
    began = json.loads((tmp_path / goodput.FILE).read_text())["began"]
    summary = run_fake.run(tmp_path, fakes.config(total_steps=STEPS))
    assert losses(tmp_path) == losses(unbroken[0])
    # Where the time went, over both processes: no second is missing or there twice.
    spent = summary["goodput"]["seconds"]
    assert summary["goodput"]["attempts"] == 2
    assert sum(spent.values()) == pytest.approx(time.time() - began, abs=5)
    assert spent["downtime"] >= 0.2
    assert spent["steps"] / sum(spent.values()) == pytest.approx(
        summary["goodput"]["share"], abs=0.01
    )
    last = metrics.read(tmp_path / metrics.FILE)[-2]
    assert 0 < last["goodput/share"] < 1
    assert last["goodput/downtime"] == pytest.approx(spent["downtime"], abs=0.1)


# Where the save of step 4 stands when it is killed: the first of its items is written, or all.
@pytest.mark.parametrize(
    "held",
    [
        pytest.param("params.orbax-checkpoint-tmp", marks=pytest.mark.slow),
        pytest.param("8.orbax-checkpoint-tmp", marks=pytest.mark.slow),
    ],
)
def test_a_kill_during_a_save_leaves_the_checkpoint_before(unbroken, tmp_path, held):
    process = launch(tmp_path, held=held)
    wait_for(process, (tmp_path / "held").exists)
    kept = [4] if held.startswith("8") else []
    folder = tmp_path / checkpoint.FOLDER
    # A second run is refused, and does not touch what the first is about to save.
    with pytest.raises(DataError, match=rf"(?s)at work in the run folder.*process {process.pid} "):
        run_fake.run(tmp_path, fakes.config(total_steps=STEPS))
    if kept:  # an evaluation reads beside it
        assert checkpoint.load_params(tmp_path)[1]["step"] == 4
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert steps_of(tmp_path) == kept
    assert [path for path in folder.iterdir() if "tmp" in path.name]
    run_fake.run(tmp_path, fakes.config(total_steps=STEPS))
    assert losses(tmp_path) == losses(unbroken[0])
    assert not [path for path in folder.iterdir() if "tmp" in path.name]
    for step in steps_of(tmp_path):
        checkpoint.read(folder / str(step))


def test_sigterm_before_the_first_step_ends_even_a_compilation(tmp_path):
    process = launch(tmp_path, stuck=0)
    wait_for(process, (tmp_path / "stuck").exists)
    time.sleep(0.5)
    asked = time.monotonic()
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert time.monotonic() - asked < 5
    assert out.splitlines()[-1] == signals.EARLY
    assert steps_of(tmp_path) == []


def test_ctrl_c_ends_even_a_compilation_in_two_lines(tmp_path):
    process = launch(tmp_path, stuck=0)
    wait_for(process, (tmp_path / "stuck").exists)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == interrupts.STATUS, out
    assert out.endswith(f"\n{interrupts.TEXT}\n")
    assert "Traceback" not in out
    assert not (tmp_path / runfolder.LOCK).exists()


@pytest.mark.slow
def test_a_second_ctrl_c_in_a_save_ends_at_once_in_two_lines(tmp_path):
    process = launch(tmp_path, held="8.orbax-checkpoint-tmp")
    wait_for(process, (tmp_path / "held").exists)
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)  # it waits for the save
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == interrupts.STATUS, out
    first, second = out.splitlines()[-2:]
    assert first == interrupts.AGAIN
    assert second.startswith(f"  whole checkpoints in {tmp_path}: 4; free there:")
    assert second.endswith("; the same command continues")
    assert "SIGINT: finishing the step and saving" in out
    assert "Traceback" not in out
    assert not (tmp_path / runfolder.LOCK).exists()


class Interrupted:
    """SIGTERM to this process in the second batch of some evaluations of a run."""

    def __init__(self, *evaluations):
        self._evaluations, self._count = evaluations, 0

    def __call__(self, params, number):
        self._count += number == 0
        if number == 1 and self._count in self._evaluations:
            os.kill(os.getpid(), signal.SIGTERM)
        assert number < 2 or self._count not in self._evaluations, "it went on"


def test_sigterm_breaks_an_evaluation_off_and_the_next_start_begins_it_anew(
    tmp_path, capsys, monkeypatch
):
    changes = {"checkpoint.best": "evals/table/spread", "checkpoint.every": 5, "eval_every": 6}
    config = fakes.config(**changes)
    expected = run_fake.run(tmp_path / "whole", config)
    workdir = tmp_path / "broken"
    run_fake.run(workdir, config, at_batch=Interrupted(2))  # the first is that of step 0
    assert "stopped by a signal; step 6 is saved" in capsys.readouterr().out
    assert steps_of(workdir)[-1] == 6
    # Killed when it is done, and before that is written down: it comes a third time.
    with monkeypatch.context() as patch:
        patch.setattr(run_checkpoints.Checkpoints, "amend", Interruption())
        with pytest.raises(KeyboardInterrupt):
            run_fake.run(workdir, config)
    # At the last step, too: nothing but the evaluation is left to do.
    run_fake.run(workdir, config, at_batch=Interrupted(2))
    assert "stopped by a signal; step 12 is saved" in capsys.readouterr().out
    found = run_fake.run(workdir, config)
    assert losses(workdir) == losses(tmp_path / "whole")
    assert found["best"] == expected["best"]
    newest = checkpoint.load_params(workdir, prefer_best=False)[1]
    assert (newest["step"], newest["best"]) == (12, expected["best"])
    assert not newest["unevaluated"]


class Interruption:
    def __call__(self, *args):
        raise KeyboardInterrupt


def test_sigterm_saves_and_exits_in_good_order(unbroken, tmp_path):
    process = launch(tmp_path, slow=0.1)
    wait_for(process, lambda: (tmp_path / metrics.FILE).exists() and losses(tmp_path)[1:])
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert "the same command continues" in out
    stopped = steps_of(tmp_path)[-1]
    assert f"step {stopped} is saved" in out
    assert stopped < STEPS
    run_fake.run(tmp_path, fakes.config(total_steps=STEPS))
    assert losses(tmp_path) == losses(unbroken[0])
