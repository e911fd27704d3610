"""Batches that the devices cannot share are refused before anything is opened or compiled."""

import pytest

from configs import vlbert_pretrain, vqa
from core.errors import ConfigError
from runtime import sharding
from training import loop, mesh_checks, setup


@pytest.fixture
def mesh():
    return sharding.make_mesh(dict(data=8, fsdp=1, tensor=1))


def test_an_evaluation_is_refused_before_the_data_are_opened(monkeypatch, tmp_path):
    monkeypatch.setattr(setup, "build", lambda *_: pytest.fail("opened"))
    config = vlbert_pretrain.get_config()
    config.evals.validation.batch_size = 12
    message = (
        r"(?s)config\.evals\.validation\.batch_size\n.*a multiple of 8 = .*found: 12\n"
        r".*--config\.evals\.validation\.batch_size=16"
    )
    with pytest.raises(ConfigError, match=message):
        loop.run(config, tmp_path / "run", "train")
    assert not (tmp_path / "run").exists()


def test_each_mode_asks_for_the_batches_that_it_runs(mesh):
    config = vqa.get_config()
    config.streams.examples.batch_size = 12
    with pytest.raises(ConfigError, match=r"config\.streams\.examples\.batch_size"):
        mesh_checks.check(config, mesh, "train")
    with pytest.raises(ConfigError, match=r"config\.streams\.examples\.batch_size"):
        mesh_checks.check(config, mesh, "predict")
    mesh_checks.check(config, mesh, "eval")  # runs no batch of that stream's size
    config.streams.examples.batch_size = 8
    config.optimizer.accumulate = 2
    mesh_checks.check(config, mesh, "predict")  # nothing accumulates
    with pytest.raises(ConfigError, match=r"(?s)x optimizer\.accumulate 2\n.*batch_size=16"):
        mesh_checks.check(config, mesh, "train")
