"""Pre-training on captions whose phrases have boxes: words learn to point at regions."""

import importlib

import jax
import numpy as np
import pytest
from entities_data import IMAGES, region, write_entities, write_regions
from made_data import SPEC, image, write_images

from core import remote
from runtime import sharding, signals
from training import loop, setup
from training.run import goodput, metrics

STEPS = 3


def flickr30k_entities(folder):
    """Two images to train on: "Dogs" and "each other" of one; "Two men" and "the other"."""
    write_entities(folder, train=["42", "1007"], val=["7"], images=IMAGES | {"7": IMAGES["42"]})
    return {
        "1007": ((100, 80), (8, 5, 89, 72)),
        "42": ((60, 50), (0, 0, 59, 49)),
        "7": ((60, 50), (0, 0, 59, 49)),
    }


def visual_genome_regions(folder):
    made = {i: [region(1, i), region(2, i, "a dog", (30, 0, 4, 4))] for i in (4, 5, 100)}
    write_regions(folder, made)
    return {str(i): ((80, 60), (2, 3, 12, 23)) for i in made}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "made"), [("vlbert", flickr30k_entities), ("vilbert", visual_genome_regions)]
)
def test_three_steps(tmp_path, model, made):
    """Without an evaluation, whose programs take longer to compile than the steps."""
    images = []
    for name, ((width, height), box) in made(tmp_path).items():
        boxes = np.asarray([(40, 30, 59, 49), box], np.float32)
        arguments = image(3, 2) | dict(boxes=boxes, width=width, height=height)
        images.append((name, arguments))
    write_images(tmp_path / "store", SPEC, *images)
    args = f"data={made.__name__}"
    config = importlib.import_module(f"configs.{model}_pretrain").get_config(args)
    config.data.update(
        dir=str(tmp_path / "cache"), manual_dir=str(tmp_path), regions=str(tmp_path / "store"),
        eval_split="val", vocab_size=140,
    )  # fmt: skip
    with config.unlocked():
        config.evals = {}
    config.streams.captions.update(batch_size=8, max_text=12, max_regions=4, max_length=16)
    config.model.update(hidden=16, layers=1, intermediate=16)
    if model == "vilbert":
        config.model.image.update(hidden=16, layers=1, intermediate=16)
        config.model.connect.update(text_at=(0,), image_at=(0,))
    config.checkpoint.best = ""
    config.update(total_steps=STEPS, log_every=1, eval_every=STEPS)
    config.optimizer.warmup_steps = 1
    mesh = sharding.make_mesh(dict(data=1, fsdp=1, tensor=1), jax.devices()[:1])
    with jax.set_mesh(mesh), signals.StopSignal() as stop:
        parts = setup.build(config, mesh)
        workdir = remote.path(tmp_path / "run")
        loop.train(config, workdir, parts, mesh, stop, goodput.Ledger())
    assert (parts.example["captions"]["phrase_region"] > 0).any()
    lines = [line for line in metrics.read(workdir / metrics.FILE) if "train/loss" in line]
    losses = [line["train/loss/captions/phrase_grounding"] for line in lines]
    assert len(losses) == STEPS
    assert np.isfinite(losses).all()
    assert min(losses) > 0
    assert lines[-1]["train/gradient_norm/heads/phrase_grounding"] > 0
