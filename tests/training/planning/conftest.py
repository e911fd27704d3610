"""A small dry run on eight virtual devices, compiled once for all that report on it."""

import json
import sys

import pytest

from configs import vlbert_pretrain
from tests.training.planning.plans import small
from training import loop
from training.planning import dry_run, step_program, topology


@pytest.fixture(scope="package")
def compiled():
    """The train step of `told`, for whoever reports on it again."""
    return []


@pytest.fixture(scope="package")
def told(tmp_path_factory, compiled):
    """A dry run of VL-BERT on eight virtual devices: what it returns, what it wrote."""
    folder = tmp_path_factory.mktemp("dry") / "run"
    compile_step = step_program.compile_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            step_program,
            "compile_step",
            lambda *args, **options: compiled.append(compile_step(*args, **options)) or compiled[0],
        )
        result = loop.run(small(vlbert_pretrain), folder, "dry_run")
    return result, json.loads((folder / dry_run.FILE).read_text())


@pytest.fixture
def compiled_before(told, compiled, monkeypatch):
    """Nothing is compiled: the step is that of `told`."""
    monkeypatch.setattr(step_program, "compile_step", lambda *args, **options: compiled[0])
    for plugin in topology.CUDA_PLUGINS:  # with one GPUs are no virtual CPUs
        monkeypatch.setitem(sys.modules, plugin, None)
