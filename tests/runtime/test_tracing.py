import functools

import jax
import jax.numpy as jnp
import pytest

from core.errors import ConfigError
from runtime import tracing


@functools.cache
def program():
    return jax.jit(lambda x: x @ x / 100)


def run(window, first, last):
    """Steps as the loop makes them."""
    state = jnp.ones((100, 100))
    for step in range(first, last + 1):
        window.step(step, state)
        state = program()(state)
    jax.block_until_ready(state)


def traced(folder):
    """Numbers of the annotated steps, from the one file that xprof reads."""
    (path,) = folder.glob("plugins/profile/*/*.xplane.pb")
    profile = jax.profiler.ProfileData.from_file(str(path))
    return [
        dict(event.stats)["step_num"]
        for plane in profile.planes
        for line in plane.lines
        for event in line.events
        if event.name == "train"
    ]


def test_a_window_holds_its_steps_and_no_others(tmp_path, capsys):
    window = tracing.Window("3:5", tmp_path / "profile")
    run(window, 1, 8)
    assert traced(tmp_path / "profile") == [3, 4]
    assert "profile of steps 3 to 4" in capsys.readouterr().out
    window.close()  # again does nothing


def test_a_run_that_ends_or_resumes_within_its_window_traces_what_is_there(tmp_path):
    window = tracing.Window("100:110", tmp_path / "a")
    run(window, 108, 109)
    assert not (tmp_path / "a").exists()
    window.close()
    assert traced(tmp_path / "a") == [108, 109]
    run(tracing.Window("100:110", tmp_path / "b"), 110, 112)
    assert not (tmp_path / "b").exists()


def test_the_window_waits_for_the_outputs_at_both_ends(tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(jax, "block_until_ready", waited.append)
    window = tracing.Window("2:4", tmp_path)
    for step in range(1, 6):
        window.step(step, f"outputs of {step - 1}")
    assert waited == ["outputs of 1", "outputs of 3"]


def test_a_remote_folder_gets_the_same_files(tmp_path, monkeypatch):
    """The bucket is a folder here: its paths are mapped where they are made."""
    real = tracing.epath.Path

    def mapped(path):
        return real(str(path).replace("gs://bucket", str(tmp_path)))

    monkeypatch.setattr(tracing.epath, "Path", mapped)
    window = tracing.Window("1:2", "gs://bucket/run/profile")
    run(window, 1, 2)
    assert traced(tmp_path / "run/profile") == [1]


def test_processes_do_not_write_each_others_files(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    run(tracing.Window("1:2", tmp_path), 1, 2)
    assert traced(tmp_path / "process_1") == [1]


def test_no_window_traces_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(jax.profiler, "start_trace", None)  # any use of it fails
    window = tracing.Window("", tmp_path / "profile")
    run(window, 0, 2)
    window.close()
    assert not (tmp_path / "profile").exists()


@pytest.mark.parametrize("spec", ["10:5", "5:5", "a:b", "100", "1:2:3", "-1:2", ":"])
def test_a_wrong_window_is_told_before_the_run(spec, tmp_path):
    with pytest.raises(ConfigError, match=r"config\.profile must be FIRST:END") as error:
        tracing.Window(spec, tmp_path)
    assert repr(spec) in str(error.value)
