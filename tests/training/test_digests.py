"""Digests of arrays: the same on every mesh, another for every changed bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from training import digests, sharding

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
