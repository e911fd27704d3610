"""Damage of every file of a checkpoint, failing storage, and bugs are told apart."""

import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from checkpoints import checkpoint
from checkpoints.damage import DamageError, StorageError
from training.run import run_checkpoints
from training.state import TrainState


def whole(x):
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    return jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(run folder, shapes) with checkpoints of the steps 1 and 2."""
    workdir = tmp_path_factory.mktemp("run")
    params = {"a": {"kernel": whole(jnp.arange(3000.0).reshape(30, 100))}}
    store = run_checkpoints.Checkpoints(workdir, keep=2)
    for step in (1, 2):
        state = TrainState(whole(jnp.int32(step)), params, {"mean": whole(jnp.ones(5))})
        store.save(state, dict(step=step, best=None))
    store.close()
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
    return workdir, shapes


@pytest.fixture
def copied(saved, tmp_path):
    shutil.copytree(saved[0], tmp_path / "run")
    return tmp_path / "run", saved[1]


def restore(workdir, shapes):
    store = run_checkpoints.Checkpoints(workdir, keep=2)
    try:
        state, _ = store.restore(shapes, report=lambda text: None)
        assert np.asarray(state.params["a"]["kernel"])[1, 0] == 100
        return int(state.step)
    finally:
        store.close()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


# Of several arrays Orbax tells the first that fails; the others fail unheard.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("harm", [pathlib.Path.unlink, cut, change])
def test_harm_to_any_file_is_damage_or_does_none(saved, tmp_path, harm):
    files = [p.relative_to(saved[0]) for p in (saved[0] / "checkpoints" / "2").rglob("*")]
    noticed = 0
    for number, file in enumerate(f for f in files if (saved[0] / f).is_file()):
        workdir = tmp_path / str(number)
        shutil.copytree(saved[0], workdir)
        harm(workdir / file)
        step = restore(workdir, saved[1])
        aside = (workdir / "checkpoints" / "unusable-2").exists()
        assert (step == 1) == aside
        noticed += aside
    assert noticed >= 6  # meta, and of both items the tree, the manifest and the values


@pytest.mark.parametrize(
    ("file", "sound", "harmed"),
    [
        ("params/_METADATA", rb'"key_type": \d+', b'"key_type": 0'),
        ("params/_METADATA", rb'"key_metadata": \[', b'"key_metadata": [[]'),
    ],
)
def test_metadata_of_other_kinds_is_damage(copied, file, sound, harmed):
    path = copied[0] / "checkpoints" / "2" / file
    found, count = re.subn(sound, harmed, path.read_bytes())
    assert count
    path.write_bytes(found)
    with pytest.raises(checkpoint.CheckpointError, match=r"(?s)damaged.*found: .*fix: "):
        checkpoint.load_params(str(copied[0]))


@pytest.mark.parametrize(
    "error",
    [
        OSError(5, "Input/output error"),
        TimeoutError("no answer"),
        ValueError('UNAVAILABLE: Error reading "gs://b/run/d/1": HTTP response code: 503'),
        ValueError('Error reading local file "/run/d/1": [OS error 5: EIO Input/output error]'),
    ],
)
def test_failing_storage_is_asked_again_and_then_ends_the_run(copied, monkeypatch, capsys, error):
    workdir, shapes = copied
    original, answers = run_checkpoints.Checkpoints._arrays, []

    def fail(self, step, shapes):
        answers.append(step)
        if len(answers) <= times:
            raise error
        return original(self, step, shapes)

    monkeypatch.setattr(run_checkpoints.Checkpoints, "_arrays", fail)
    monkeypatch.setattr(run_checkpoints, "WAITS", (0.0, 0.0))
    times = 2
    assert restore(workdir, shapes) == 2
    assert "asking again" in capsys.readouterr().err
    times, answers[:] = 3, []
    with pytest.raises(StorageError, match=r"(?s)storage fails.*asked 3 times.*fix:"):
        restore(workdir, shapes)
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["1", "2"]


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("too many values"), TypeError("x")])
def test_a_bug_is_raised_as_it_is(copied, monkeypatch, error):
    workdir, shapes = copied

    def fail(self, step, shapes):
        raise error

    monkeypatch.setattr(run_checkpoints.Checkpoints, "_arrays", fail)
    with pytest.raises(type(error)) as caught:
        restore(workdir, shapes)
    assert not isinstance(caught.value, DamageError | StorageError)
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["1", "2"]
