"""GPUs that the CUDA plugin compiles for, without the plugin: what it is asked for."""

import types

import jax
import pytest

from core.errors import ConfigError
from runtime import data_sheets
from training.planning import cuda_targets, topology


@pytest.fixture
def asked(monkeypatch):
    """As if the plugin were installed; the questions it is asked."""
    questions = []

    def describe(name, **options):
        questions.append(options)
        count = 1
        for size in options["topology"].split("x"):
            count *= int(size)
        return types.SimpleNamespace(devices=[types.SimpleNamespace(process_index=0)] * count)

    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: name == PLUGIN)
    monkeypatch.setattr(topology.topologies, "get_topology_desc", describe)
    return questions


PLUGIN = topology.CUDA_PLUGINS[1]


@pytest.mark.parametrize(("name", "shape"), [("h100:4", "1x1x4"), ("h100:16", "1x2x8")])
def test_the_plugin_is_asked_for_the_gpus_of_each_machine(asked, name, shape):
    found = topology.find(name)
    (question,) = asked
    assert (question["platform"], question["topology"]) == ("cuda", shape)
    assert "core_count: 132" in question["target_config"]
    assert "major: 9 minor: 0" in question["target_config"]
    assert f"device_memory_size: {80 * 10**9}" in question["target_config"]
    assert (len(found.devices), found.hosts) == (int(name[5:]), -(-int(name[5:]) // 8))
    assert found.options["xla_gpu_autotune_level"] == 0  # there is nothing to try kernels on


@pytest.mark.parametrize(
    "error", [NotImplementedError("no topology"), jax.errors.JaxRuntimeError("another version")]
)
def test_a_plugin_that_does_not_work_is_an_error_and_no_other_compiler(asked, monkeypatch, error):
    def refuse(name, **options):
        raise error

    monkeypatch.setattr(topology.topologies, "get_topology_desc", refuse)
    with pytest.raises(ConfigError, match=rf"(?s){error}.*h100:8.*jax {jax.__version__}"):
        topology.find("h100:8")


def test_every_gpu_with_a_data_sheet_has_a_description():
    for kind, sheet in data_sheets.GPUS.items():
        text = cuda_targets.of(kind, sheet)
        assert text.count("{") == text.count("}")
        assert f'device_description_str: "{sheet.name}"' in text
