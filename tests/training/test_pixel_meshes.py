"""VL-BERT from pixels: the same losses on a mesh as on one device; frozen parts stay."""

import jax
import numpy as np
import pytest

from configs import vlbert_pretrain
from tests.training import test_meshes as meshes
from vl_models import loading

CANVAS = (48, 64)


def configure():
    config = vlbert_pretrain.get_config("size=mini,data=jsonl,features=pixels")
    config.model.update(hidden=32, layers=1, heads=4, intermediate=64)
    config.model.vision.update(width=2, frozen_stages=1)
    config.streams.captions.update(
        batch_size=meshes.ROWS, max_text=8, max_regions=6, max_length=12, canvases=(CANVAS,)
    )
    config.optimizer.warmup_steps = 2
    config.total_steps = 10
    return config


@pytest.fixture
def curve(monkeypatch):
    """`test_meshes.curve` on batches of pictures."""
    made_up = meshes.made_up

    def of_pictures(config, draw):
        batch = made_up(config, draw)
        rng, captions = np.random.default_rng(draw), batch["captions"]
        del captions["regions"]
        shape = (meshes.ROWS, 1, *CANVAS, 3)
        captions["images"] = rng.integers(0, 256, shape).astype(np.uint8)
        return batch

    monkeypatch.setattr(meshes, "made_up", of_pictures)
    monkeypatch.setattr(meshes, "STEPS", 2)
    monkeypatch.setattr(meshes, "ROWS", 4)
    return meshes.curve


@pytest.mark.slow
def test_losses_are_those_of_one_device(curve):
    losses, params = curve(configure(), (1, 1, 1), jax.devices()[:1])
    assert np.isfinite(losses).all()
    found, same = curve(configure(), (2, 2, 1), jax.devices()[:4])
    np.testing.assert_allclose(found, losses, rtol=1e-4)
    flat, other = loading.flatten(params), loading.flatten(same)
    # Of a stage that does not train and of the norms' statistics every bit stays.
    still = [path for path in flat if "/stem/" in path or path.endswith(("/mean", "/variance"))]
    assert len(still) > 30
    for path in still:
        np.testing.assert_array_equal(flat[path], other[path])
