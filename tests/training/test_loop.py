"""The loop: files of a run, resuming to the last bit after SIGKILL and SIGTERM, refusals."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tests.training import fakes, run_fake
from training import (
    checkpoint,
    divergence,
    evaluation,
    goodput,
    loop,
    metrics,
    sharding,
    signals,
    state,
)

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 40


def launch(workdir, slow=0.0, **options):
    """A run in a process of its own."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.training.run_fake", str(workdir), str(STEPS)),
            *(str(slow), json.dumps(options)),
        ],
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
    folder = workdir / checkpoint.FOLDER
    names = [p.name for p in folder.iterdir()] if folder.exists() else []
    return sorted(int(name) for name in names if name.isdigit())


def losses(workdir):
    """{step: everything that does not measure time}."""
    lines = metrics.read(workdir / metrics.FILE)
    keys = [(line["step"], "train/loss" in line) for line in lines]
    assert len(set(keys)) == len(keys), "a step is there twice"
    return [metrics.untimed(line) for line in lines]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "unbroken"
    summary = run_fake.run(workdir, fakes.config(total_steps=STEPS))
    return workdir, summary


def test_files_of_a_run(unbroken):
    workdir, summary = unbroken
    assert summary == json.loads((workdir / "summary.json").read_text())
    assert summary["step"] == STEPS
    assert summary["spread"] > 0
    assert summary["before"]["spread"] != summary["spread"]
    assert summary["examples_per_second"] > 0
    assert (workdir / "loss.png").stat().st_size > 1000
    assert json.loads((workdir / "config.json").read_text())["seed"] == 0
    assert steps_of(workdir) == [36, 40]  # keep = 2
    last = summary["train"]
    parts = last["loss/captions/words"] + 0.5 * last["loss/text/words"]
    assert last["loss"] == pytest.approx(parts, rel=0.02)  # windows weigh targets
    assert 0 < last["captions/padding"] < 1
    for name in ("learning_rate", "gradient_norm", "examples_per_second", "input_wait"):
        assert name in last


def test_kill_and_restart_repeats_the_unbroken_run_to_the_last_bit(unbroken, tmp_path):
    # Checkpoints every 4 steps, log lines of 2 steps, and a kill at no particular moment; the
    # second run, in this process, resumes. Also proves that a process repeats another.
    process = launch(tmp_path, slow=0.03)
    wait_for(process, lambda: len(steps_of(tmp_path)) >= 2)
    time.sleep(np.random.default_rng().uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < steps_of(tmp_path)[-1] < STEPS
    began = json.loads((tmp_path / goodput.FILE).read_text())["began"]
    summary = run_fake.run(tmp_path, fakes.config(total_steps=STEPS))
    assert losses(tmp_path) == losses(unbroken[0])
    # Where the time went, over both processes: no second is missing or there twice.
    spent = summary["goodput"]["seconds"]
    assert summary["goodput"]["attempts"] == 2
    assert sum(spent.values()) == pytest.approx(time.time() - began, abs=5)
    assert spent["downtime"] > 0
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
        "8.orbax-checkpoint-tmp",
    ],
)
def test_a_kill_during_a_save_leaves_the_checkpoint_before(unbroken, tmp_path, held):
    process = launch(tmp_path, held=held)
    wait_for(process, (tmp_path / "held").exists)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = [4] if held.startswith("8") else []
    assert steps_of(tmp_path) == kept
    folder = tmp_path / checkpoint.FOLDER
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
        patch.setattr(checkpoint.Checkpoints, "amend", Interruption())
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


@pytest.fixture
def copied(unbroken, tmp_path):
    """The unbroken run as it was at step 36, to be continued."""
    workdir = tmp_path / "copy"
    shutil.copytree(unbroken[0], workdir)
    shutil.rmtree(workdir / checkpoint.FOLDER / "40")
    return workdir


# Orbax's other reads, under way when one fails, report to an event loop that is closed by then.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_newest_checkpoint_is_passed_over(unbroken, tmp_path, capsys):
    workdir = tmp_path / "copy"
    shutil.copytree(unbroken[0], workdir)
    for path in (workdir / checkpoint.FOLDER / "40" / "opt_state").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:10])
    run_fake.run(workdir, fakes.config(total_steps=STEPS))
    out = capsys.readouterr().out
    assert "cannot read the checkpoint" in out
    assert "resumed at step 36" in out
    assert steps_of(workdir) == [36, 40]
    assert losses(workdir) == losses(unbroken[0])


def restored(workdir):
    """(step, reports) of what a run in `workdir` would continue from."""
    config = fakes.config(total_steps=STEPS)
    mesh = sharding.make_mesh(config.mesh)
    maker = state.StateMaker(fakes.FakeTask(), config, fakes.batches(config, 0), mesh)
    store, reports = checkpoint.Checkpoints(workdir, keep=2), []
    found = store.restore(maker.state, report=reports.append)
    store.close()
    return found[1]["step"], "".join(reports)


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 16
    path.write_bytes(bytes(data))


def values_of(folder):
    """The file that holds an item's arrays, small ones; the files' own checks guard it."""
    return max((folder / "d").iterdir(), key=lambda path: path.stat().st_size)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: values_of(folder / "params").unlink(),
        lambda folder: shutil.rmtree(folder / "opt_state"),
        lambda folder: flip(values_of(folder / "params"), 0.3),
        lambda folder: flip(values_of(folder / "opt_state"), 0.6),
        lambda folder: flip(folder / "params" / "manifest.ocdbt", 0.5),
        lambda folder: flip(folder / "params" / "_METADATA", 0.4),
        lambda folder: flip(folder / "meta" / "metadata", 0.5),
        lambda folder: (folder / "meta" / "metadata").write_text(""),
    ],
    ids=["no-values", "no-item", "value", "moment", "manifest", "tree", "meta", "empty-meta"],
)
def test_any_damage_to_the_newest_checkpoint_is_noticed(unbroken, tmp_path, damage):
    workdir = tmp_path / "copy"
    shutil.copytree(unbroken[0], workdir)
    assert restored(workdir) == (40, "")
    damage(workdir / checkpoint.FOLDER / "40")
    step, reports = restored(workdir)
    assert step == 36
    assert f"cannot read the checkpoint {workdir / checkpoint.FOLDER / '40'}" in reports
    assert steps_of(workdir) == [36]


def test_a_value_that_the_files_give_differently_is_noticed(unbroken, tmp_path, monkeypatch):
    workdir = tmp_path / "copy"
    shutil.copytree(unbroken[0], workdir)
    original = checkpoint.Checkpoints._arrays

    def changed(self, step, shapes):
        arrays = original(self, step, shapes)
        if step == 40:
            kernel = arrays["params"]["heads"]["words"]
            kernel["kernel"] = kernel["kernel"].at[3, 5].multiply(1 + 2**-23)
        return arrays

    monkeypatch.setattr(checkpoint.Checkpoints, "_arrays", changed)
    step, reports = restored(workdir)
    assert step == 36
    assert "bytes have changed since it was saved: params/heads/words/kernel" in reports


def test_parameters_alone_are_checked_too(unbroken, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(unbroken[0], workdir)
    flip(values_of(workdir / checkpoint.FOLDER / "40" / "params"), 0.3)
    with pytest.raises(checkpoint.CheckpointError, match=r"cannot read the checkpoint .*/40"):
        checkpoint.load_params(workdir)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("seed", 7, "seed: saved 0, now 7"),
        ("streams.text.batch_size", 32, "streams.text.batch_size: saved 16, now 32"),
    ],
)
def test_resume_refuses_what_would_not_be_the_same_run(copied, field, value, message):
    with pytest.raises(checkpoint.CheckpointError, match=message):
        run_fake.run(copied, fakes.config(total_steps=STEPS, **{field: value}))


def test_resume_refuses_other_data_and_another_optimizer(copied, monkeypatch):
    config = fakes.config(total_steps=STEPS, **{"optimizer.name": "sgd"})
    with pytest.raises(checkpoint.CheckpointError, match=r"square/.*kernel"):
        run_fake.run(copied, config)
    original = run_fake.parts

    def other(*args, **kwargs):
        made = original(*args, **kwargs)
        made.fingerprints["text"] = "cc"
        return made

    monkeypatch.setattr(run_fake, "parts", other)
    with pytest.raises(
        checkpoint.CheckpointError, match=r"text data fingerprint: saved bb, now cc"
    ):
        run_fake.run(copied, fakes.config(total_steps=STEPS))
    assert steps_of(copied) == [36]  # nothing was moved or deleted


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_cause(tmp_path):
    config = fakes.config(log_every=100, eval_every=100)
    with pytest.raises(divergence.NonFiniteError) as caught:
        run_fake.run(tmp_path, config, broken_draws=[6])
    text = str(caught.value)
    assert "step 7:" in text
    assert "loss/captions/words" in text
    assert "loss/text" not in text
    assert "trunk/layer_0" in text
    assert "stream captions, draw 6" in text
    assert str(list(range(96, 112))) in text  # the ids of draw 6
    assert steps_of(tmp_path) == [4]


def test_updates_that_are_not_finite_may_be_left_out(tmp_path, capsys):
    config = fakes.config(**{
        "optimizer.skip_nonfinite": 2, "checkpoint.every": 1, "checkpoint.keep": 20,
    })  # fmt: skip
    run_fake.run(tmp_path / "two", config, broken_draws=[6, 7])
    out = capsys.readouterr().out
    assert "step 7: the loss or its gradient is not finite" in out
    assert f"stream captions, draw 7, example_index {list(range(112, 128))}" in out
    assert "this update is left out: 2 in a row of at most 2, 2 in all" in out
    saved = {
        step: checkpoint.read(tmp_path / "two" / checkpoint.FOLDER / str(step))[0]
        for step in (5, 6, 8, 9)
    }
    assert same(saved[6], saved[8])
    assert not same(saved[5], saved[6])
    assert not same(saved[8], saved[9])
    lines = [x for x in metrics.read(tmp_path / "two" / metrics.FILE) if "train/loss" in x]
    assert lines[-1]["train/skipped_updates"] == 2
    # Two updates are missing in the schedule; it ends above 0, which the line says.
    assert lines[-1]["train/learning_rate"] == pytest.approx(0.02 * 2 / 9)
    assert all(np.isfinite(line["train/loss"]) for line in lines)
    with pytest.raises(divergence.NonFiniteError, match="step 9:"):
        run_fake.run(tmp_path / "three", config, broken_draws=[6, 7, 8])


def same(a, b):
    return all(np.array_equal(a[item][path], b[item][path]) for item in a for path in a[item])


def test_a_guard_that_skips_nothing_changes_nothing(unbroken, tmp_path):
    run_fake.run(tmp_path, fakes.config(total_steps=STEPS, **{"optimizer.skip_nonfinite": 3}))
    found = losses(tmp_path)
    assert {line.pop("train/skipped_updates", 0) for line in found} == {0}
    assert found == losses(unbroken[0])
    ends = [checkpoint.read(folder / checkpoint.FOLDER / "40")[0] for folder in
            (tmp_path, unbroken[0])]  # fmt: skip
    assert same(*ends)


def test_the_best_checkpoint_outlives_newer_ones(tmp_path):
    config = fakes.config(**{
        "checkpoint.best": "evals/table/constant", "checkpoint.every": 2, "checkpoint.keep": 1,
        "eval_every": 4,
    })  # fmt: skip
    summary = run_fake.run(tmp_path, config)
    assert summary["best"]["step"] == 4  # equal values later are no improvement
    assert steps_of(tmp_path) == [4, 12]
    shapes = fakes.FakeTask().init(jax.random.key(0), fakes.batches(config, 0))
    assert checkpoint.load_params(tmp_path, shapes)[1]["step"] == 4
    assert checkpoint.load_params(tmp_path, prefer_best=False)[1]["step"] == 12
    with pytest.raises(ValueError, match=r"checkpoint.best must name.*'evals/x/y'.*table/spread"):
        run_fake.run(tmp_path / "other", fakes.config(**{"checkpoint.best": "evals/x/y"}))


def test_a_relative_workdir_is_as_good_as_an_absolute_one(unbroken, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_fake.run(pathlib.Path("here/run"), fakes.config())
    assert steps_of(tmp_path / "here/run") == steps_of(pathlib.Path("here/run")) != []
    assert checkpoint.load_params("here/run")[1]["step"] > 0


def test_init_from_a_checkpoint_takes_parameters_only(unbroken, tmp_path, capsys):
    summary = run_fake.run(tmp_path, fakes.config(init=str(unbroken[0])))
    assert f"(run at step {STEPS})" in capsys.readouterr().out
    assert summary["before"]["spread"] == unbroken[1]["spread"]
    assert summary["step"] == 12
    first = metrics.read(tmp_path / metrics.FILE)[1]
    assert first["train/learning_rate"] == pytest.approx(0.02 * 2 / 3)  # warms up again


def test_init_lists_every_mismatch(unbroken):
    shapes = state.init_params(fakes.FakeTask(), 0, fakes.batches(fakes.config(), 0))
    shapes["heads"] = {"other": {"kernel": np.zeros((2, 2), np.float32)}}
    shapes["trunk"]["embeddings"]["word"]["embedding"] = np.zeros((3, 3), np.float16)
    with pytest.raises(checkpoint.CheckpointError) as caught:
        checkpoint.load_params(unbroken[0], shapes)
    text = str(caught.value)
    assert "missing in the checkpoint: heads/other/kernel" in text
    assert "not in the model: heads/words/kernel" in text
    assert "((24, 16), 'float32') in the checkpoint, ((3, 3), 'float16') in the model" in text
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint in"):
        checkpoint.load_params(unbroken[0] / "nowhere")


def test_restoring_on_another_mesh_gives_the_same_values(unbroken):
    config = fakes.config(total_steps=STEPS)
    mesh = sharding.make_mesh(dict(data=2, fsdp=2, tensor=2))
    maker = state.StateMaker(fakes.FakeTask(), config, fakes.batches(config, 0), mesh)
    store = checkpoint.Checkpoints(unbroken[0], keep=2)
    restored, meta = store.restore(maker.state)
    store.close()
    params, _ = checkpoint.load_params(unbroken[0])
    jax.tree.map(np.testing.assert_array_equal, restored.params, params)
    assert int(restored.step) == meta["step"] == STEPS
    assert restored.params["heads"]["words"]["kernel"].sharding.mesh.shape["tensor"] == 2


def test_eval_mode_reads_the_run(unbroken, capsys):
    config = fakes.config(total_steps=STEPS)
    mesh = sharding.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        result = evaluation.evaluate(config, unbroken[0], run_fake.parts(config), mesh)
    assert result["step"] == STEPS
    after = metrics.read(unbroken[0] / metrics.FILE)[-1]
    assert result["evals/table/spread"] == after["evals/table/spread"]
    with pytest.raises(ValueError, match="--mode must be one of"):
        loop.run(config, unbroken[0], "guess")
