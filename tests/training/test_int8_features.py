"""int8 features become real values on the device before anything reads them."""

import types

import jax
import numpy as np

from configs import vlbert_pretrain
from input_pipeline.schema import SpecialIds
from objectives import masking
from objectives.model import MultiTaskModel, dequantised
from runtime import sharding

B, T, R, F = 4, 6, 5, 8


def make_task():
    config = vlbert_pretrain.get_config("size=mini,data=jsonl")
    config.model.update(hidden=16, layers=1, heads=2, intermediate=16)
    config.streams.captions.update(batch_size=B, max_text=T, max_regions=R, max_length=T + R)
    config.streams.text.batch_size = 0
    config.objectives.masked_region.update(target="regression", rate=0.6)
    spec = types.SimpleNamespace(feature_dim=F, num_classes=0, global_feature="mean")
    return MultiTaskModel(config, SpecialIds(0, 1, 2, 3, 4, 64), spec)


def make_batches():
    """The same stream batch twice: int8 with scales, and multiplied out by hand."""
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 60, (B, 1, T)).astype(np.int32)
    corner = rng.uniform(0, 40, (B, 1, R, 2)).astype(np.float32)
    real = dict(
        text_ids=ids, text_mask=ids > 0, segment_ids=np.zeros_like(ids), word_starts=ids > 0,
        boxes=np.concatenate([corner, corner + 20], -1), region_mask=np.ones((B, 1, R), bool),
        image_size=np.full((B, 1, 2), 64, np.float32), num_detected=np.full((B, 1), R - 1),
        image_key=np.arange(B)[:, None], _weight=np.ones(B, np.float32),
    )  # fmt: skip
    stored = rng.integers(-127, 128, (B, 1, R, F)).astype(np.int8)
    scale = rng.uniform(0, 0.02, (B, 1, R)).astype(np.float32)
    scale[0, 0, 2] = 0  # a row of zeros
    values = stored.astype(np.float32) * scale[..., None]
    return real | dict(regions=stored, region_scale=scale), real | dict(regions=values)


def equal(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_by_hand_and_others_untouched():
    int8, real = make_batches()
    out = dequantised(int8)
    equal(out, real)
    assert out["regions"].dtype == np.float32
    assert "region_scale" in int8  # the argument is as it was
    assert dequantised(real) is real


def test_targets_image_row_and_outputs_are_of_the_real_values():
    int8, real = make_batches()
    mesh = sharding.make_mesh(dict(data=2, fsdp=2, tensor=1), jax.devices()[:4])
    keys = masking.row_keys(jax.random.key(0), np.arange(B))
    task = make_task()
    corrupt = jax.jit(lambda batch: task.corrupt("captions", batch, keys))
    with jax.set_mesh(mesh):
        placed = sharding.place(int8, mesh)
        assert placed["regions"].dtype == np.int8  # a quarter of the bytes to the device
        got = corrupt(placed)
    want = corrupt(real)
    assert got.keys() == want.keys()
    assert "region_scale" not in got
    for key in want:  # the mean is summed in another order on the mesh
        np.testing.assert_allclose(got[key], want[key], atol=1e-6, err_msg=key)
    np.testing.assert_array_equal(got["region_target"], real["regions"])
    assert np.any(np.asarray(got["regions"])[:, :, 0] != real["regions"][:, :, 0])
    # Evaluators give the trunk batches that nothing corrupted.
    params = jax.jit(task.init)(jax.random.key(1), {"captions": int8})
    outputs = jax.jit(lambda batch: task.outputs(params, "captions", batch)["regions"])
    np.testing.assert_allclose(outputs(int8), outputs(real), atol=1e-6)
