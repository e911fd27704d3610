"""The parts of a run fit each other: what streams make is what the model takes."""

import importlib

import jax
import numpy as np
import pytest

from runtime import sharding
from training import setup


@pytest.mark.parametrize(("model", "margin"), [("vlbert", 1), ("vilbert", 0)])
def test_the_box_of_the_whole_image_is_the_models(model, margin, tmp_path_factory):
    """In training and in evaluation; VL-BERT counts pixels, ViLBERT their edges."""
    config = importlib.import_module(f"configs.{model}_pretrain").get_config()
    config.data.dir = str(tmp_path_factory.getbasetemp() / "scenes_of_setup")
    config.data.scenes.update(train=32, validation=16, test=8)
    config.data.vocab_size = 600
    mesh = sharding.make_mesh(dict(data=1, fsdp=1, tensor=1), jax.devices()[:1])
    parts = setup.build(config, mesh)
    evaluated = next(parts.evaluators["validation"].stream.batches())
    for batch in (parts.example["captions"], evaluated):
        height, width = batch["image_size"][:, 0].T
        expected = np.stack([0 * width, 0 * height, width - margin, height - margin], -1)
        np.testing.assert_array_equal(batch["boxes"][:, 0, 0], expected)
