"""Parameters of a damaged run, for evaluation, conversion and another run's start: a sentence."""

import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from checkpoints import checkpoint, convert
from checkpoints.checkpoint import CheckpointError
from training.run import run_checkpoints
from training.state import TrainState


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run folder with checkpoints of the steps 1 (the best) and 2."""
    workdir = tmp_path_factory.mktemp("run")
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    state = jax.device_put(
        TrainState(jnp.int32(1), {"a": {"kernel": jnp.arange(300.0)}}, {"mean": jnp.ones(5)}), whole
    )
    store = run_checkpoints.Checkpoints(workdir, keep=2)
    for step in (1, 2):
        store.save(state, dict(step=step, best=dict(step=1, metric="m", value=0.5), facts={}))
    store.close()
    return workdir


def flipped(data, at, bit):
    return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("step", [1, 2])
def test_damaged_meta_of_the_best_or_newest_is_told(saved, tmp_path, step, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(saved, workdir)
    path = workdir / "checkpoints" / str(step) / "meta" / "metadata"
    data = path.read_bytes()
    texts = [b"", b"[]", b"null", b"{}", b"\xff\xfe{}", b'{"step": "x"}', b"[" * 100_000, None,
             b'{"step": 1, "best": 3, "digests": []}', data[:-9]]  # fmt: skip
    texts += [flipped(data, at, bit) for at in range(0, len(data), 29) for bit in (1, 0x80)]
    # Their name damaged, digests must not be taken for absent.
    texts.append(data.replace(b'"digests"', b'"digestt"'))
    for text in texts:
        path.unlink() if text is None else path.write_bytes(text)
        with pytest.raises(CheckpointError, match=rf"(?s)checkpoint .*/{step}: it is damaged.*fix"):
            checkpoint.load_params(workdir)
    assert convert.main([str(workdir)]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: cannot read the checkpoint {path.parents[1]}")
    assert str(path.parents[2] / str(3 - step)) in told


@pytest.mark.usefixtures("settled")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damage_of_any_file_of_the_best_is_told_or_harmless(saved, tmp_path):
    expected = np.arange(300.0)
    files = [p.relative_to(saved) for p in (saved / "checkpoints" / "1").rglob("*") if p.is_file()]
    told = 0
    for number, file in enumerate(files):
        for kind in ("gone", "cut", "flip", "text"):
            workdir = tmp_path / f"{number}-{kind}"
            shutil.copytree(saved, workdir)
            path = workdir / file
            data = path.read_bytes()
            if kind == "gone":
                path.unlink()
            else:
                half = len(data) // 2
                texts = dict(cut=data[:half], text=b'{"a": 1}')
                path.write_bytes(flipped(data, half, 0xFF) if kind == "flip" else texts[kind])
            try:
                params, _ = checkpoint.load_params(workdir)
            except CheckpointError:
                told += 1
            else:
                assert np.array_equal(params["a"]["kernel"], expected)
    assert told >= 8


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("text", [b'{"init_timestamp_nsecs": 1.5}', b"[]", b"\xff", b"3"])
def test_damaged_notes_of_times_keep_nobody_from_the_arrays(saved, tmp_path, text):
    workdir = tmp_path / "run"
    shutil.copytree(saved, workdir)
    for step in ("1", "2"):
        (workdir / "checkpoints" / step / run_checkpoints._NOTE).write_bytes(text)
    assert checkpoint.load_params(workdir)[1]["step"] == 1
    store = run_checkpoints.Checkpoints(workdir, keep=2)
    assert store.steps() == [1, 2]
    store.close()


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("text", [b"[]", b"3", b'{"tree_metadata": {"a": {"key_metadata": 0}}}'])
def test_a_tree_that_is_not_understood_is_damage(saved, tmp_path, text):
    workdir = tmp_path / "run"
    shutil.copytree(saved, workdir)
    (workdir / "checkpoints" / "1" / "params" / "_METADATA").write_bytes(text)
    with pytest.raises(CheckpointError, match="it is damaged"):
        checkpoint.load_params(workdir)


def test_a_checkpoint_that_a_run_replaces_meanwhile_is_no_damage(saved, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    shutil.copytree(saved, workdir)
    original, asked = checkpoint.read_meta, []

    def read_meta(folder):
        if not asked and folder.name == "1":
            asked.append(folder)
            shutil.rmtree(folder)
        return original(folder)

    monkeypatch.setattr(checkpoint, "read_meta", read_meta)
    _, meta = checkpoint.load_params(pathlib.Path(workdir))
    assert meta["step"] == 2
