"""A train step on batches of several sizes: losses as with full padding, lengths, work counted."""

import functools
import types

import jax
import numpy as np
import pytest

from configs import vilbert_pretrain, vlbert_pretrain
from core.errors import ConfigError
from input_pipeline.schema import SpecialIds
from input_pipeline.streams import limits
from objectives import masking
from objectives.model import MultiTaskModel
from training.run import throughput

B, FULL, BUCKET, F, C = 6, (12, 9, 18), (7, 5, 10), 8, 5
SPEC = types.SimpleNamespace(feature_dim=F, num_classes=C, global_feature="mean")
SPECIAL = SpecialIds(0, 1, 2, 3, 4, 64)
MODULES = {"vlbert": vlbert_pretrain, "vilbert": vilbert_pretrain}


def configure(name):
    config = MODULES[name].get_config("size=mini,data=jsonl")
    config.model.update(hidden=16, layers=2, heads=2, intermediate=16)
    if "image" in config.model:
        config.model.image.update(hidden=16, heads=2, intermediate=16, layers=2)
        config.model.connect.update(hidden=16, heads=2, text_at=(1,), image_at=(1,))
    else:
        config.streams.text.batch_size = 0
    config.streams.captions.update(
        dict(zip(("max_text", "max_regions", "max_length"), FULL, strict=True))
    )
    config.streams.captions.update(batch_size=B, buckets=(BUCKET,))
    config.objectives.masked_language.rate = config.objectives.masked_region.rate = 0.5
    return config


def made_up(config):
    """Examples that fit the bucket, at the full size and at the bucket's."""
    rng = np.random.default_rng(0)
    texts = 2 if config.streams.captions.negatives else 1
    regions = rng.integers(2, BUCKET[1] + 1, (B, 1, 1))
    room = np.minimum(BUCKET[0], BUCKET[2] - regions)
    size = np.minimum(rng.integers(3, BUCKET[0] + 1, (B, texts, 1)), room)

    def arrays(t, r):
        rng = np.random.default_rng(1)
        words, seen = np.arange(t) < size, np.arange(r) < regions
        ids = rng.integers(5, 60, (B, texts, FULL[0]))[..., :t]
        ids = np.where(words, ids, SPECIAL.pad).astype(np.int32)
        corner = rng.uniform(0, 30, (B, 1, FULL[1], 2))[:, :, :r]
        probs = rng.dirichlet(np.ones(C), (B, 1, FULL[1]))[:, :, :r]
        features = rng.standard_normal((B, 1, FULL[1], F))[:, :, :r]
        boxes = np.concatenate([corner, corner + 25], -1) * seen[..., None]
        return dict(
            text_ids=ids, text_mask=words, segment_ids=np.zeros_like(ids), word_starts=words,
            regions=(features * seen[..., None]).astype(np.float32), region_mask=seen,
            boxes=boxes.astype(np.float32), image_size=np.full((B, 1, 2), 64, np.float32),
            num_detected=(regions[..., 0] + 1).astype(np.int32), image_key=np.arange(B)[:, None],
            region_class_ids=np.broadcast_to(np.arange(C, dtype=np.int32), probs.shape),
            region_class_probs=probs.astype(np.float32),
            region_rest_prob=np.zeros(probs.shape[:-1], np.float32),
            _weight=np.ones(B, np.float32),
        )  # fmt: skip

    return arrays(*FULL[:2]), arrays(*BUCKET[:2])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vlbert", "vilbert"])
def test_loss_and_gradient_are_those_of_the_same_examples_padded_fully(name):
    config = configure(name)
    task = MultiTaskModel(config, SPECIAL, SPEC)
    full, bucket = made_up(config)
    params = jax.jit(task.init)(jax.random.key(1), {"captions": full})
    keys = masking.row_keys(jax.random.key(2), np.arange(B))

    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(params, batch):
        batch = task.corrupt("captions", batch, keys)
        sums, metrics = task.sums(params, "captions", batch, train=False)
        return task.total(sums, task.weights("captions", batch)), (sums, metrics)

    loss = jax.jit(loss)
    (want, (sums, metrics)), gradient = loss(params, full)
    (got, (narrow_sums, narrow_metrics)), narrow_gradient = loss(params, bucket)
    assert min(sums.values()) > 0  # every objective has targets
    np.testing.assert_allclose(got, want, rtol=2e-6)
    for key in sums:
        np.testing.assert_allclose(narrow_sums[key], sums[key], rtol=2e-6, err_msg=key)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-6),
        narrow_gradient,
        gradient,
    )
    (real, slots), (narrow_real, narrow_slots) = (
        found["captions/filled"] for found in (metrics, narrow_metrics)
    )
    assert real == narrow_real
    ratio = (10 + 1) / (18 + 1) if name == "vlbert" else (7 + 5) / (12 + 9)
    assert narrow_slots / slots == pytest.approx(ratio)


def test_rows_are_packed_to_the_length_of_their_bucket():
    config = configure("vlbert")
    task = MultiTaskModel(config, SPECIAL, SPEC)
    full, bucket = made_up(config)
    params = jax.eval_shape(task.init, jax.random.key(1), {"captions": bucket})
    whole = jax.eval_shape(task.init, jax.random.key(1), {"captions": full})
    assert jax.tree.map(lambda x: x.shape, params) == jax.tree.map(lambda x: x.shape, whole)
    for batch, length in ((full, 18), (bucket, 10)):
        attention = jax.eval_shape(
            lambda p, b: task.outputs(p, "captions", b, capture=("attention",)), params, batch
        )["attention"]
        assert attention[0].shape[-2:] == (length + 1, length + 1)


def test_work_is_counted_by_the_size_of_the_batch():
    config = configure("vlbert")
    task = MultiTaskModel(config, SPECIAL, SPEC)
    full, bucket = made_up(config)
    params = jax.eval_shape(task.init, jax.random.key(1), {"captions": full})
    flops = throughput.flops_of(config, params, task)
    assert flops({"captions": full}) == throughput.flops_per_step(config, params, task)
    small = configure("vlbert")
    small.streams.captions.update(max_text=7, max_regions=5, max_length=10, buckets=())
    small.objectives.masked_language.cap = config.objectives.masked_language.cap * 12 / 7
    want = throughput.flops_per_step(small, params, MultiTaskModel(small, SPECIAL, SPEC))
    assert flops({"captions": bucket}) == pytest.approx(want, rel=1e-12)
    assert want < flops({"captions": full})


def test_what_cannot_have_buckets_is_refused():
    config = configure("vilbert")
    config.objectives.masked_region.update(overlap="released", image_row="released")
    with pytest.raises(ConfigError, match=r"streams\.captions\.buckets.*masked_region\.image_row"):
        MultiTaskModel(config, SPECIAL, SPEC)
    config = configure("vlbert")
    config.streams.captions.buckets = tuple((3 + k // 2, 2 + k % 2, 9) for k in range(16))
    with pytest.raises(ConfigError, match=r"combination of the streams' sizes, 17 here.* 16"):
        MultiTaskModel(config, SPECIAL, SPEC)
    config.streams.captions.buckets = config.streams.captions.buckets[:15]
    assert len(limits.sizes(config.streams.captions)) == 16
    MultiTaskModel(config, SPECIAL, SPEC)
