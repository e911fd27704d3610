"""Model operations against sums worked out by hand, for both models at base size."""

import types

import jax
import jax.numpy as jnp
import pytest

from configs import vilbert_pretrain, vlbert_pretrain
from input_pipeline.schema import SpecialIds
from objectives.model import MultiTaskModel
from training import setup
from training.planning import assumed
from training.run import throughput


def flops(config):
    spec = types.SimpleNamespace(feature_dim=2048, num_classes=1601, global_feature="mean")
    task = MultiTaskModel(config, SpecialIds(0, 100, 101, 102, 103, 30522), spec)

    def arrays(block):
        texts = 2 if block.negatives else 1
        ids = jnp.zeros((2, texts, block.max_text), jnp.int32)
        out = dict(text_ids=ids, text_mask=ids > 0, segment_ids=ids, word_starts=ids > 0,
                   _weight=jnp.ones(2))  # fmt: skip
        if block.images:
            r = block.max_regions
            out |= dict(regions=jnp.zeros((2, 1, r, 2048)), boxes=jnp.zeros((2, 1, r, 4)),
                        region_mask=jnp.zeros((2, 1, r), bool), image_size=jnp.ones((2, 1, 2)),
                        num_detected=jnp.ones((2, 1), jnp.int32))  # fmt: skip
        return out

    batch = {name: arrays(block) for name, block in config.streams.items() if block.batch_size}
    params = jax.eval_shape(task.init, jax.random.key(0), batch)
    found = throughput.flops_per_step(config, params, task)
    assert throughput.flops_of(config, params, task)(batch) == found  # of every stream in it
    return found


def test_vlbert_base():
    config = vlbert_pretrain.get_config("size=base")
    config.streams.captions.batch_size = config.streams.text.batch_size = 1
    layer = 4 * 768 * 768 + 2 * 768 * 3072
    trunk = 12 * (6 * layer * 65 + 12 * 65**2 * 768)
    words = 6 * 4 * (768 * 768 + 768 * 30522)  # 4, 8, 16 or 26 gathered positions
    regions = 6 * 64 * 4096 * 768 + 6 * 16 * (768 * 768 + 768 * 1601)  # heads on 16 or all
    assert flops(config) == pytest.approx(2 * (trunk + words) + regions, rel=1e-12)


def test_vilbert_base():
    config = vilbert_pretrain.get_config("size=base")
    config.streams.captions.batch_size = 1
    t, r, h, v = 36, 37, 768, 1024
    text = 12 * (6 * (4 * h * h + 8 * h * h) * t + 12 * t**2 * h)
    image = 6 * (6 * 6 * v * v * r + 12 * r**2 * v)
    # queries and output at the reader's places, keys and values at those of what is read
    connect = 6 * (
        6 * (h * v + v * h) * t + 6 * 2 * v * v * r + 6 * 8 * h * h * t
        + 6 * (v * v + v * v) * r + 6 * 2 * h * v * t + 6 * 2 * v * v * r
        + 24 * t * r * v
    )  # fmt: skip
    other = 6 * (2048 * v + 5 * v) * r + 6 * (h * v + v * v)
    heads = 6 * 4 * (h * h + h * 30522) + 6 * 16 * (v * v + v * 1601) + 6 * 2 * h
    assert flops(config) == pytest.approx(text + image + connect + other + heads, rel=1e-3)


def test_a_parameter_without_a_rule_is_refused():
    with pytest.raises(ValueError, match="trunk/new_part"):
        throughput._positions_of("trunk/new_part/kernel", 1, 1)


def test_convolutions_of_pictures():
    """Of a picture, not of its pairs; of what does not train, the forward pass alone."""
    config = vlbert_pretrain.get_config("size=mini,features=pixels")
    config.streams.captions.update(batch_size=3, canvases=((30, 64), (64, 64)), resize=())
    config.model.vision.update(width=2, blocks=(1, 1, 1, 1), frozen_stages=0)
    spec = types.SimpleNamespace(feature_dim=0, num_classes=5, global_feature="mean")
    task = MultiTaskModel(config, SpecialIds(0, 1, 2, 3, 4, 50), spec)
    batch = assumed.batch(config, task, setup.assemblers(config))
    assert batch["captions"]["images"].shape == (3, 1, 64, 64, 3)
    params = jax.eval_shape(task.init, jax.random.key(0), batch)
    # Kernels of a block: 1x1 in, 3x3, 1x1 out and the shortcut.
    stem, res2, res3 = (
        7 * 7 * 3 * 2,
        2 * 2 + 9 * 4 + 2 * 8 + 2 * 8,
        8 * 4 + 9 * 16 + 4 * 16 + 8 * 16,
    )
    res4, res5 = 16 * 8 + 9 * 64 + 8 * 32 + 16 * 32, 32 * 16 + 9 * 256 + 16 * 64 + 32 * 64
    regions = config.streams.captions.max_regions
    picture = stem * 32**2 + res2 * 16**2 + res3 * 8**2 + res4 * 4**2 + res5 * regions * 7**2
    every = throughput.flops_per_step(config, params, task)
    lying = throughput.flops_per_step(config, params, task, canvases={"captions": (30, 64)})
    assert every - lying == 3 * 6 * sum(
        kernel * (across**2 - across * -(-30 // (64 // across)))
        for kernel, across in ((stem, 32), (res2, 16), (res3, 8), (res4, 4))
    )
    config.model.vision.frozen_stages = 5
    still = MultiTaskModel(config, SpecialIds(0, 1, 2, 3, 4, 50), spec)
    assert every - throughput.flops_per_step(config, params, still) == 3 * 4 * picture
