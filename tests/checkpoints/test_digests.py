"""Digests of arrays: the same on every mesh, another for every changed bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from checkpoints import checkpoint, digests
from runtime import sharding
from training import state
from training.run import run_checkpoints

ARRAYS = {
    "matrix": np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32),
    "half": np.arange(64).reshape(8, 8).astype(jnp.bfloat16),
    "small": np.arange(8, dtype=np.int8),
    "flags": np.arange(16) % 3 == 0,
    "count": np.int32(7),
}


def test_alike_on_the_host_and_on_every_mesh():
    expected = digests.of({"tree": ARRAYS})
    assert set(expected) == {f"tree/{name}" for name in ARRAYS}
    mesh = sharding.make_mesh(dict(data=2, fsdp=2, tensor=2))
    for spec in (P(), P("data"), P(("data", "fsdp")), P("tensor", "fsdp")):
        placed = {
            name: jax.device_put(x, NamedSharding(mesh, P(*spec[: np.ndim(x)])))
            for name, x in ARRAYS.items()
        }
        assert digests.of({"tree": placed}) == expected


@pytest.mark.parametrize("name", ["matrix", "half", "small"])
def test_any_bit_changes_it(name):
    x, rng = ARRAYS[name], np.random.default_rng(1)
    seen = {digests.of({"x": x})["x"]}
    for _ in range(20):
        raw = bytearray(x.tobytes())
        raw[rng.integers(len(raw))] ^= 1 << rng.integers(8)
        changed = np.frombuffer(bytes(raw), x.dtype).reshape(x.shape)
        seen.add(digests.of({"x": changed})["x"])
    assert len(seen) > 15  # one bit may have been drawn twice
    assert digests.of({"x": x[::-1].copy()})["x"] not in seen


def test_of_json_values():
    values = {"a": [1, 2.5, None], "b": {"c": "é"}}
    assert digests.of_json(values) == digests.of_json({"b": {"c": "é"}, "a": [1, 2.5, None]})
    assert digests.of_json(values) != digests.of_json(values | {"a": [1, 2.5, 0]})


def test_a_changed_byte_among_large_arrays_is_noticed_and_the_checkpoint_before_taken(
    tmp_path, monkeypatch
):
    """Orbax alone would give wrong values: small arrays have checksums in its files, large none."""
    mesh = sharding.make_mesh(dict(data=2, fsdp=2, tensor=2))
    place = NamedSharding(mesh, P("fsdp"))
    values = np.random.default_rng(2).normal(size=(128, 96)).astype(np.float32)

    def made(step):
        arrays = [jax.device_put(values * step * factor, place) for factor in (1, 2)]
        return state.TrainState(
            jax.device_put(np.int32(step), NamedSharding(mesh, P())),
            {"kernel": arrays[0]},
            {"mean": arrays[1]},
        )

    store = run_checkpoints.Checkpoints(tmp_path, keep=3)
    for step in (1, 2, 3):
        store.save(made(step), dict(step=step, best=None))
    store.wait()
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), made(0)
    )
    for step, item in ((3, "params"), (2, "opt_state")):
        files = (tmp_path / checkpoint.FOLDER / str(step) / item).rglob("ocdbt.process_*/d/*")
        path = max(files, key=lambda path: path.stat().st_size)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 16
        path.write_bytes(bytes(data))
    with monkeypatch.context() as patch:
        patch.setattr(digests, "require_unchanged", lambda arrays, sums: None)
        wrong, _ = store.restore(shapes)
        assert int(wrong.step) == 3
        assert not np.array_equal(wrong.params["kernel"], values * 3)
    with pytest.raises(checkpoint.CheckpointError, match=r"have changed .*: params/kernel"):
        checkpoint.load_params(tmp_path)
    reports = []
    right, meta = store.restore(shapes, report=reports.append)
    store.close()
    assert (int(right.step), meta["step"]) == (1, 1)
    np.testing.assert_array_equal(right.params["kernel"], values)
    assert [text.splitlines()[1] for text in reports] == [
        "  because: bytes have changed since it was saved: params/kernel",
        "  because: bytes have changed since it was saved: opt_state/mean",
    ]
