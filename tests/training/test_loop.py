"""The loop: files of a run, a loss that is no number, starts from a checkpoint, the eval mode."""

import json
import pathlib

import jax
import numpy as np
import pytest

from checkpoints import checkpoint
from configs import vlbert_pretrain
from runtime import sharding
from tests.training import fakes, run_fake
from tests.training.run_fake import STEPS, losses, steps_of
from training import loop, modes
from training.run import divergence, metrics


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


def test_a_relative_workdir_is_as_good_as_an_absolute_one(tmp_path, monkeypatch):
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


def test_eval_mode_reads_the_run(unbroken):
    config = fakes.config(total_steps=STEPS)
    mesh = sharding.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        result = modes.evaluate(config, unbroken[0], run_fake.parts(config), mesh)
    assert result["step"] == STEPS
    after = metrics.read(unbroken[0] / metrics.FILE)[-1]
    assert result["evals/table/spread"] == after["evals/table/spread"]
    with pytest.raises(ValueError, match="--mode must be one of"):
        loop.run(vlbert_pretrain.get_config(), unbroken[0], "guess")
