"""Compiled programs are kept, and taken from the folder by whoever compiles them again."""

import os

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
            "jax_enable_compilation_cache",
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


@pytest.fixture
def own(tmp_path, monkeypatch, hits):
    """The user's own folder, in which JAX has been told of no other."""
    monkeypatch.setenv("VL_CACHE", str(tmp_path / "user"))
    jax.config.update("jax_compilation_cache_dir", None)
    return compile_cache.own_folder()


def test_the_users_own_folder_by_itself(own, hits, tmp_path):
    assert own.parent == tmp_path / "user" / "programs"
    compile_cache.enable(compile_cache.AUTO)
    first = compiled()
    assert not hits
    assert list(own.iterdir())
    assert compiled() == first
    assert hits


def test_a_damaged_program_is_compiled_again(own, hits, recwarn):
    compile_cache.enable(compile_cache.AUTO)
    first = compiled()
    for path in own.iterdir():
        path.write_bytes(b"damaged")
    assert compiled() == first
    assert not hits
    assert any("cache" in str(one.message) for one in recwarn)


def test_what_jax_was_told_stays(own, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "told"))  # by its environment
    compile_cache.enable(compile_cache.AUTO)
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "told")
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    compile_cache.enable(compile_cache.AUTO)
    assert jax.config.jax_compilation_cache_dir is None
    assert not own.exists()


def test_several_processes_need_not_see_one_folder(own, monkeypatch):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    compile_cache.enable(compile_cache.AUTO)
    assert jax.config.jax_compilation_cache_dir is None
    assert not own.exists()


@pytest.mark.parametrize("named", [False, True])
def test_a_folder_that_cannot_be_made_is_told(own, tmp_path, capsys, named):
    (tmp_path / "user").write_text("a file")
    compile_cache.enable(str(own) if named else compile_cache.AUTO)
    assert "compiled programs are not kept" in (told := capsys.readouterr().err)
    assert '--config.compile_cache=""' in told
    assert jax.config.jax_compilation_cache_dir is None
    assert compiled()


def test_the_oldest_programs_go(own, monkeypatch):
    own.mkdir(parents=True)
    for age, name in enumerate(["new", "middle", "old"]):
        (own / name).write_bytes(bytes(10))
        os.utime(own / name, (1000 - age, 1000 - age))
    monkeypatch.setattr(compile_cache, "LIMIT", 20)
    compile_cache.enable(compile_cache.AUTO)
    assert sorted(path.name for path in own.iterdir()) == ["middle", "new"]
    assert len(compile_cache.processor()) > 12
