"""The real model's loss curve on one device, on meshes of eight, and with accumulation.

Tolerance: losses within 1e-4 relative over the steps below. Sums are taken in another order on
another mesh, and Adam amplifies rounding where a gradient is zero in exact arithmetic.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vilbert_pretrain, vlbert_pretrain
from input_pipeline.regions.spec import FeatureSpec
from input_pipeline.schema import SpecialIds
from objectives.model import MultiTaskModel
from runtime import sharding
from training import state, step
from vl_models import loading

STEPS, ROWS = 4, 16
SPEC = FeatureSpec(detector="none", feature_dim=24, num_classes=9, background_class=0,
                   global_feature="mean", dtype="float32", top_k=4, max_regions=6)  # fmt: skip


def configure(module, **changes):
    config = module.get_config("size=mini,data=jsonl")
    config.model.update(hidden=32, layers=2, heads=4, intermediate=64)
    if "image" in config.model:
        config.model.image.update(hidden=32, intermediate=32)
        config.model.connect.update(hidden=32, text_at=(0, 1))
    config.streams.captions.update(batch_size=ROWS, max_text=8, max_regions=6, max_length=12)
    config.optimizer.update(warmup_steps=2, **changes)
    config.total_steps = 10
    return config


def add_text_rows(config):
    config.streams.text.update(batch_size=ROWS, max_text=8)
    return config


def made_up(config, draw):
    """A batch of every stream, uneven in length."""
    rng = np.random.default_rng(draw)
    texts = 2 if config.streams.captions.negatives else 1

    def words(texts):
        length = rng.integers(3, 7, (ROWS, texts, 1))
        mask = np.arange(8) < length
        ids = np.where(mask, rng.integers(5, 60, (ROWS, texts, 8)), 0).astype(np.int32)
        return dict(text_ids=ids, text_mask=mask, segment_ids=np.zeros_like(ids), word_starts=mask,
                    _weight=np.ones(ROWS, np.float32),
                    example_index=np.arange(ROWS, dtype=np.int32))  # fmt: skip

    count = rng.integers(1, 6, (ROWS, 1))
    corner = rng.uniform(0, 40, (ROWS, 1, 6, 2))
    probs = -np.sort(-rng.dirichlet(np.ones(9), (ROWS, 1, 6)))[..., :4]
    batch = {
        "captions": words(texts)
        | dict(
            regions=rng.standard_normal((ROWS, 1, 6, 24)).astype(np.float32),
            boxes=np.concatenate([corner, corner + 20], -1).astype(np.float32),
            region_mask=np.arange(6) <= count[..., None],
            image_size=np.full((ROWS, 1, 2), 64, np.float32),
            num_detected=count.astype(np.int32),
            region_class_ids=np.argsort(rng.random((ROWS, 1, 6, 9)))[..., :4].astype(np.int32),
            region_class_probs=probs.astype(np.float32),
            region_rest_prob=(1 - probs.sum(-1)).astype(np.float32),
        )
    }
    if "text" in config.streams and config.streams.text.batch_size:
        batch["text"] = words(1)
    return batch


def curve(config, sizes, devices):
    """Losses of the first steps, and the parameters after them."""
    task = MultiTaskModel(config, SpecialIds(0, 1, 2, 3, 4, 64), SPEC)
    mesh = sharding.make_mesh(dict(zip(sharding.AXES, sizes, strict=True)), devices)
    with jax.set_mesh(mesh):
        maker = state.StateMaker(task, config, made_up(config, 0), mesh)
        now = maker.fresh()
        shardings = jax.tree.map(lambda x: x.sharding, maker.state)
        train = step.make_train_step(
            task, maker.optimizer, mesh, shardings,
            seed=0, accumulate=config.optimizer.accumulate,
            reduce_dtype=config.reduce_dtype,
        )  # fmt: skip
        losses = []
        for draw in range(STEPS):
            batch = made_up(config, draw)
            draws = {stream: np.int32(draw) for stream in batch}
            now, out = train(now, sharding.place(batch, mesh), draws)
            losses.append(float(out["pairs"]["loss"][0]))
        return np.array(losses), jax.tree.map(np.asarray, now.params)


CONFIGS = {
    "vlbert": lambda **k: add_text_rows(configure(vlbert_pretrain, **k)),
    "vilbert": lambda **k: configure(vilbert_pretrain, **k),
}


@pytest.fixture(scope="module", params=["vilbert", "vlbert"])
def single(request):
    losses, params = curve(CONFIGS[request.param](), (1, 1, 1), jax.devices()[:1])
    assert np.all(np.isfinite(losses))
    assert len(set(losses.tolist())) == STEPS
    return request.param, losses, params


@pytest.mark.slow  # test_sharding_and_step.py has the same on a small stand-in
@pytest.mark.parametrize(
    "sizes", [(8, 1, 1), (1, 8, 1), (2, 2, 2)], ids=["data", "fsdp", "data-fsdp-tensor"]
)
def test_meshes_give_one_loss_curve(single, sizes):
    name, expected, _ = single
    losses, _ = curve(CONFIGS[name](), sizes, jax.devices())
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


@pytest.mark.slow
def test_accumulation_is_the_big_batch(single):
    name, expected, _ = single
    losses, _ = curve(CONFIGS[name](accumulate=4), (1, 1, 1), jax.devices()[:1])
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


@pytest.mark.slow
def test_bfloat16_products_keep_float32_parameters():
    config = CONFIGS["vlbert"]()
    config.dtype = "bfloat16"
    losses, params = curve(config, (1, 1, 1), jax.devices()[:1])
    exact, _ = curve(CONFIGS["vlbert"](), (1, 1, 1), jax.devices()[:1])
    assert all(x.dtype == np.float32 for x in jax.tree.leaves(params))
    np.testing.assert_allclose(losses, exact, rtol=0.02)
    assert not np.array_equal(losses, exact)
    # Kernels are gathered in bfloat16; gradients are summed in float32, or in bfloat16, too.
    split, params = curve(config, (1, 8, 1), jax.devices())
    np.testing.assert_allclose(split, losses, rtol=2e-3)
    assert all(x.dtype == np.float32 for x in jax.tree.leaves(params))


@pytest.mark.slow
def test_an_empty_batch_of_targets_has_a_finite_loss():
    """No word and no region drawn: the original's loss is NaN here."""
    config = CONFIGS["vlbert"]()
    config.objectives.masked_language.rate = 0.0
    config.objectives.masked_region.rate = 0.0
    task = MultiTaskModel(config, SpecialIds(0, 1, 2, 3, 4, 64), SPEC)
    batch = made_up(config, 0)
    params = jax.jit(task.init)(jax.random.key(0), batch)
    keys = step.row_keys(0, "captions", 0, ROWS)

    @jax.jit
    def loss(params):
        sums, weights = {}, {}
        for stream, arrays in batch.items():
            arrays = task.corrupt(stream, jax.tree.map(jnp.asarray, arrays), keys)
            sums |= task.sums(params, stream, arrays, train=False)[0]
            weights |= task.weights(stream, arrays)
        return task.total(sums, weights)

    value, grads = jax.value_and_grad(loss)(params)
    assert float(value) == 0.0
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))


def test_tensor_rules_reach_every_layer_of_vilbert():
    task = MultiTaskModel(CONFIGS["vilbert"](), SpecialIds(0, 1, 2, 3, 4, 64), SPEC)
    mesh = sharding.make_mesh({"data": 1, "fsdp": 1, "tensor": 8}, jax.devices())
    with jax.set_mesh(mesh):
        config = CONFIGS["vilbert"]()
        maker = state.StateMaker(task, config, made_up(config, 0), mesh)
    flat = loading.flatten(maker.params)
    for path in (
        "trunk/layer_0/mlp/intermediate/kernel",
        "trunk/image_layer_0/attention/query/kernel",
        "trunk/connection_1/text_attention/output/kernel",
        "trunk/connection_1/image_mlp/intermediate/kernel",
    ):
        assert "tensor" in flat[path].sharding.spec, path


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_padding_share_counts_the_rows_that_a_model_runs(name):
    """VL-BERT packs to max_length and [END]; ViLBERT keeps T + R places."""
    task = MultiTaskModel(CONFIGS[name](), SpecialIds(0, 1, 2, 3, 4, 64), SPEC)
    batch = made_up(CONFIGS[name](), 0)["captions"]
    batch = {k: x[:, :1] if k in ("text_mask", "text_ids") else x for k, x in batch.items()}
    batch = jax.tree.map(jnp.asarray, batch)
    real, places = task._fill_rate("captions", batch)
    tokens = batch["text_mask"].sum() + batch["region_mask"].sum()
    expected = (tokens + ROWS, ROWS * 13) if name == "vlbert" else (tokens, ROWS * 14)
    assert (float(real), float(places)) == expected
