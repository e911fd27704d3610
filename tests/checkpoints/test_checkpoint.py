"""Checkpoints: damage is noticed and passed over, what does not fit refused, the best one kept."""

import math
import shutil

import jax
import numpy as np
import pytest

from checkpoints import checkpoint
from runtime import sharding
from tests.training import fakes, run_fake
from tests.training.run_fake import STEPS, losses, steps_of
from training import state
from training.run import run_checkpoints


@pytest.fixture
def copied(unbroken, tmp_path):
    """The unbroken run as it was at step 36, to be continued."""
    workdir = tmp_path / "copy"
    shutil.copytree(unbroken[0], workdir)
    shutil.rmtree(workdir / checkpoint.FOLDER / "40")
    return workdir


@pytest.mark.usefixtures("settled")
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
    store, reports = run_checkpoints.Checkpoints(workdir, keep=2), []
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


@pytest.mark.usefixtures("settled")
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
    original = run_checkpoints.Checkpoints._arrays

    def changed(self, step, shapes):
        arrays = original(self, step, shapes)
        if step == 40:
            kernel = arrays["params"]["heads"]["words"]
            kernel["kernel"] = kernel["kernel"].at[3, 5].multiply(1 + 2**-23)
        return arrays

    monkeypatch.setattr(run_checkpoints.Checkpoints, "_arrays", changed)
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


def test_another_metric_for_the_best_checkpoint_begins_anew_before_the_next_step(tmp_path, capsys):
    changes = {"checkpoint.best": "evals/table/constant", "eval_every": 4}
    run_fake.run(tmp_path, fakes.config(**changes))
    changes["checkpoint.best"] = "evals/table/none"
    with pytest.raises(ValueError, match=r"checkpoint.best must name.*table/none.*table/spread"):
        run_fake.run(tmp_path, fakes.config(**changes))
    changes["checkpoint.best"] = "evals/table/spread"
    found = run_fake.run(tmp_path, fakes.config(**changes))["best"]
    assert (found["step"], found["metric"]) == (12, "evals/table/spread")
    assert "of step 4, was told by evals/table/constant" in capsys.readouterr().err
    assert checkpoint.load_params(tmp_path)[1]["best"] == found


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


LAYOUTS = {
    "one device": (dict(data=1, fsdp=1, tensor=1), True),
    "copied": (dict(data=8, fsdp=1, tensor=1), False),
    "split over data": (dict(data=8, fsdp=1, tensor=1), True),
    "split over all": (dict(data=2, fsdp=2, tensor=2), True),
}


def opened(workdir, layout):
    """(state, meta) of the newest checkpoint, on a mesh."""
    sizes, shard_state = LAYOUTS[layout]
    config = fakes.config(total_steps=STEPS, shard_state=shard_state)
    mesh = sharding.make_mesh(sizes, jax.devices()[: math.prod(sizes.values())])
    maker = state.StateMaker(fakes.FakeTask(), config, fakes.batches(config, 0), mesh)
    store = run_checkpoints.Checkpoints(workdir, keep=2)
    found = store.restore(maker.state)
    store.close()
    for x, shape in zip(jax.tree.leaves(found[0]), jax.tree.leaves(maker.state), strict=True):
        assert x.sharding == shape.sharding
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_checkpoint_is_the_same_whatever_the_layout(unbroken, tmp_path, layout):
    restored, meta = opened(unbroken[0], layout)
    assert int(restored.step) == meta["step"] == STEPS
    store = run_checkpoints.Checkpoints(tmp_path, keep=2)
    store.save(restored, meta)
    store.wait()
    store.close()
    expected, found = (
        checkpoint.read(folder / checkpoint.FOLDER / str(STEPS))
        for folder in (unbroken[0], tmp_path)
    )
    for item, arrays in expected[0].items():
        assert list(found[0][item]) == list(arrays)
        for path, x in arrays.items():
            np.testing.assert_array_equal(found[0][item][path], x, strict=True)
    folders = (folder / checkpoint.FOLDER / str(STEPS) for folder in (unbroken[0], tmp_path))
    assert len({str(checkpoint.read_meta(checkpoint.absolute(one))[1]) for one in folders}) == 1
    for other in LAYOUTS:
        again, _ = opened(tmp_path, other)
        jax.tree.map(np.testing.assert_array_equal, again, restored)
