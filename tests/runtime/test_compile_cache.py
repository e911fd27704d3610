"""Compiled programs are kept, and taken from the folder by whoever compiles them again."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from runtime import compile_cache

HIT = "/jax/compilation_cache/cache_hits"


@pytest.fixture
def hits():
    """Events of programs taken from the folder; the cache is off again afterwards."""
    found, names = (
        [],
        (
            "jax_compilation_cache_dir",
            "jax_persistent_cache_min_compile_time_secs",
            "jax_persistent_cache_min_entry_size_bytes",
        ),
    )
    before = {name: getattr(jax.config, name) for name in names}

    def listen(event, **_):
        if event == HIT:
            found.append(event)

    jax.monitoring.register_event_listener(listen)
    yield found
    jax.monitoring.unregister_event_listener(listen)
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def compiled():
    """A program of its own, compiled anew each time as far as memory goes."""
    jax.clear_caches()
    return float(jax.jit(lambda x: jnp.sin(x) * 1234.5)(jnp.float32(2)))


def test_a_second_compilation_comes_from_the_folder(tmp_path, hits):
    compile_cache.enable("")
    first = compiled()
    assert not hits
    compile_cache.enable(str(tmp_path / "programs"))
    compiled()
    assert not hits
    assert list((tmp_path / "programs").iterdir())
    assert compiled() == first
    assert hits
