"""A run from pixels that is interrupted goes on to the last bit."""

import jax
import numpy as np
import pytest
from made_data import SPEC, WORDS, captions, image, write_images, write_jsonl
from PIL import Image

from configs import vlbert_pretrain
from input_pipeline.pictures import build
from tests.training import run_fake
from training import loop

IMAGES, STEPS = 12, 4


def files(folder):
    """Boxes, pictures of two shapes, captions and a vocabulary."""
    rng = np.random.default_rng(0)
    sizes = [(90, 120) if i % 2 else (120, 90) for i in range(IMAGES)]
    known = (
        (f"img{i}", image(i) | dict(height=height, width=width))
        for i, (height, width) in enumerate(sizes)
    )
    write_images(folder / "store", SPEC, *known)
    (folder / "files").mkdir()
    for i, size in enumerate(sizes):
        picture = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(picture).save(folder / "files" / f"img{i}.png")
    build.build(build.from_paths([str(folder / "files")]), str(folder / "pictures"))
    write_jsonl(folder / "captions.jsonl", captions(IMAGES))
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    (folder / "vocab.txt").write_text("\n".join((*special, *WORDS)) + "\n")


def configure(folder, steps):
    config = vlbert_pretrain.get_config("size=mini,data=jsonl,features=pixels")
    config.model.update(hidden=32, layers=1, heads=4, intermediate=64, geometry_dim=32)
    config.model.vision.update(width=2)
    config.streams.captions.update(
        batch_size=4, max_text=10, max_regions=6, max_length=16, resize=(60, 80), flip="boxes"
    )
    paths = dict(regions="store", pictures="pictures", annotations="captions.jsonl",
                 eval_annotations="captions.jsonl", vocab="vocab.txt", dir="data")  # fmt: skip
    config.data.update({name: str(folder / path) for name, path in paths.items()})
    config.data.leaks = "report"
    config.optimizer.update(schedule="step", warmup_steps=0)  # the same rate for any length
    config.update(total_steps=steps, eval_every=steps, log_every=1, compile_cache=f"{folder}/made")
    config.checkpoint.every = 2
    config.mesh.data = 1
    return config


@pytest.mark.slow
def test_a_run_in_parts_repeats_an_unbroken_one(tmp_path, monkeypatch):
    one = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *arguments: one)
    files(tmp_path)
    loop.run(configure(tmp_path, STEPS), tmp_path / "whole")
    for steps in (2, STEPS):
        loop.run(configure(tmp_path, steps), tmp_path / "parts")
    whole, parts = (run_fake.losses(tmp_path / name) for name in ("whole", "parts"))
    losses = [[line for line in lines if "train/loss" in line] for lines in (whole, parts)]
    assert [line["step"] for line in losses[0]] == list(range(1, STEPS + 1))
    assert losses[0] == losses[1]
