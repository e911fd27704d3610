"""ViLBERT's schedules, sizes, options and the text-once path."""

import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vilbert_pretrain
from input_pipeline.schema import SpecialIds
from objectives.model import MultiTaskModel
from vl_models import embeddings, heads, layers, loading, vilbert
from vl_models.published import translate
from vl_models.trunk import TrunkSpec

# arguments: parameters of the published trunk, pre-training model and task model (without the task
# table), dead ones included.
PUBLISHED = {
    "size=base,connections=2": (157_465_600, 160_782_973, 178_752_443),
    "size=base,connections=4": (202_096_128, 205_413_501, 223_382_971),
    "size=base,connections=6": (246_726_656, 250_044_029, 268_013_499),
    "size=base,connections=8": (291_357_184, 294_674_557, 312_644_027),
    "size=large,connections=2": (392_895_488, 396_672_381, 414_642_107),
    "size=large,connections=4": (447_493_120, 451_270_013, 469_239_739),
    "size=large,connections=6": (502_090_752, 505_867_645, 523_837_371),
}


def task_head_count(hidden):
    """Parameters of the task heads of 12-in-1 at a text width, 1024 wide image and connections."""
    text, image = layers.LayerSizes(hidden, 12, 1), layers.LayerSizes(1024, 8, 1)
    inputs = [
        (heads.Classifier(text, 3129, 2048, norm=True), 1024),
        (heads.Classifier(text, 1533, 2048, norm=True), 1024),
        (heads.Classifier(text, 2, 2048, norm=True), 2048),
        (heads.Linear(text, 3), 1024),
        (heads.Linear(text, 1), 1024),
        (heads.Linear(image, 1), 1024),
        (heads.Linear(text, 1), hidden),
    ]
    shapes = [
        jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((2, width)))
        for module, width in inputs
    ]
    return sum(x.size for x in jax.tree.leaves(shapes))


def make_batch(texts, images, seed=0, width=6, slots=4, features=12):
    """One example with several texts and images of uneven lengths."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, 40, (1, texts, width)).astype(np.int32)
    mask = np.arange(width) < rng.integers(3, width + 1, (1, texts, 1))
    corner = rng.uniform(0, 40, (1, images, slots, 2)).astype(np.float32)
    return jax.tree.map(
        jnp.asarray,
        dict(
            text_ids=np.where(mask, ids, 0),
            text_mask=mask,
            segment_ids=np.zeros_like(ids),
            word_starts=mask,
            regions=rng.standard_normal((1, images, slots, features)).astype(np.float32),
            boxes=np.concatenate([corner, corner + 20], -1),
            region_mask=np.arange(slots) < rng.integers(2, slots + 1, (1, images, 1)),
            image_size=np.full((1, images, 2), 64, np.float32),
            num_detected=np.full((1, images), slots - 1, np.int32),
            task_id=np.array([3], np.int32),
            _weight=np.ones(1, np.float32),
        ),
    )


def small_trunk(**changes):
    config = vilbert_pretrain.get_config("size=mini").model
    config.update(hidden=16, heads=2, intermediate=32, layers=3)
    config.image.update(hidden=24, heads=3, intermediate=24, layers=2)
    config.connect.update(hidden=24, heads=3, text_at=(1, 2), image_at=(0, 1))
    for name, value in changes.items():
        block = config
        *path, last = name.split("__")
        for part in path:
            block = block[part]
        block[last] = value
    return vilbert.build(
        config,
        TrunkSpec(
            vocab_size=50,
            feature_dim=12,
            text_only=False,
            masked_regions=False,
            dtype=jnp.float32,
        ),
    )


def start(trunk, batch):
    return jax.jit(functools.partial(trunk.init, train=False))(jax.random.key(0), batch)


def run(trunk, variables, batch, **options):
    return jax.jit(functools.partial(trunk.apply, train=False, **options))(variables, batch)


def shapes_of(arg):
    config = vilbert_pretrain.get_config(arg)
    spec = types.SimpleNamespace(feature_dim=2048, num_classes=1601, global_feature="mean")
    task = MultiTaskModel(config, SpecialIds(0, 100, 101, 102, 103, 30522), spec)
    batch = make_batch(2, 1, features=2048)
    return loading.flatten(jax.eval_shape(task.init, jax.random.key(0), {"captions": batch}))


@pytest.mark.parametrize("arg", sorted(PUBLISHED))
def test_published_parameter_counts(arg):
    shapes = shapes_of(arg)
    zeros = {k: np.broadcast_to(np.float32(0), s.shape) for k, s in shapes.items()}
    published = translate.to_torch("vilbert", zeros)
    if arg == "size=base,connections=6":
        assert len(published) == 533
    alias = published.pop("cls.predictions.decoder.weight")
    hidden = shapes["trunk/embeddings/word/embedding"].shape[1]
    assert alias.shape == (30522, hidden)
    trunk = sum(x.size for name, x in published.items() if name.startswith("bert."))
    everything = sum(x.size for x in published.values())
    assert (trunk, everything, everything + task_head_count(hidden)) == PUBLISHED[arg]


def test_location_numbers():
    found = embeddings.location(jnp.array([[[10.0, 20, 110, 70]]]), jnp.array([[100.0, 200]]))
    np.testing.assert_allclose(found[0, 0], [0.05, 0.2, 0.55, 0.7, 0.25], atol=1e-6)


@pytest.mark.parametrize("dynamic", [pytest.param(False, marks=pytest.mark.slow), True])
def test_one_text_against_many_images_equals_single_pairs(dynamic):
    """The text-once path: shared below the first connection, the same numbers as repeating."""
    trunk = small_trunk(dynamic_attention=dynamic)
    batch = make_batch(2, 3)
    variables = start(trunk, batch)
    pairs = ((0, 0), (0, 1), (0, 2), (1, 1))
    out = run(trunk, variables, batch, pairs=pairs)
    repeated = {
        key: jnp.concatenate([x[:, pick] for pick in [tuple(p[side] for p in pairs)]], 1)[0][
            :, None
        ]
        for side, keys in (
            (0, ("text_ids", "text_mask", "segment_ids")),
            (1, ("regions", "boxes", "region_mask", "image_size")),
        )
        for key, x in ((k, batch[k]) for k in keys)
    }
    single = run(trunk, variables, repeated)
    for name in ("text", "regions", "pooled"):
        assert out[name].shape[0] == 4
        np.testing.assert_allclose(out[name], single[name], atol=2e-6, err_msg=name)


def test_text_layers_below_the_connection_run_once_a_text():
    """Shared layers see one row a text, however many images it is ranked against."""
    trunk, batch = small_trunk(), make_batch(1, 5)
    variables = start(trunk, batch)
    pairs = tuple((0, m) for m in range(5))
    out = run(trunk, variables, batch, pairs=pairs, capture=("attention",))
    assert [a.shape[0] for a in out["attention"]["text"]] == [1, 5, 5]
    assert [a.shape[0] for a in out["attention"]["image"]] == [5, 5]
    assert len(out["attention"]["connection"]) == 2


def test_fixed_layers_get_no_gradient():
    batch = make_batch(1, 1)
    trunk = small_trunk(fixed_text_layers=1, connect__image_at=(1,), connect__text_at=(2,),
                        image__fixed_layers=1)  # fmt: skip
    variables = start(trunk, batch)

    def total(variables):
        return trunk.apply(variables, batch, train=False)["pooled"].sum()

    grads = loading.flatten(jax.jit(jax.grad(total))(variables)["params"])
    still = {name for name, g in grads.items() if not np.any(g)}
    fixed = {
        n for n in grads if n.startswith(("layer_0", "image_layer_0", "embeddings", "regions"))
    }
    # attention key biases have no gradient in exact arithmetic; all other parameters move
    assert fixed <= still
    assert {n for n in still - fixed if not n.endswith("key/bias")} == set()
    # and the optimizer leaves alone what the trunk names, the tied word table apart
    named = {n for n in grads if any(re.fullmatch(p, f"trunk/{n}") for p in trunk.fixed)}
    assert named == {n for n in fixed if not n.startswith("embeddings/word")}


def test_task_tokens_need_a_task():
    batch = make_batch(1, 1)
    del batch["task_id"]
    with pytest.raises(ValueError, match=r"config\.model\.tasks > 0 needs `task_id`"):
        jax.eval_shape(lambda: small_trunk(tasks=20).init(jax.random.key(0), batch, train=False))


def test_task_tokens_stand_beside_the_text():
    batch = make_batch(1, 1)
    trunk = small_trunk(tasks=20)
    variables = start(trunk, batch)
    out = run(trunk, variables, batch)
    assert out["text"].shape == (1, 6, 16)  # positions are the text's own
    assert out["task_token"].shape == (1, 16)
    other = run(trunk, variables, dict(batch, task_id=jnp.array([7])))
    assert not np.allclose(other["text"], out["text"], atol=1e-4)


def test_padding_changes_nothing_at_real_positions():
    trunk, batch = small_trunk(), make_batch(1, 1, seed=3)
    variables = start(trunk, batch)
    text, image = batch["text_mask"][..., None], batch["region_mask"][..., None]
    noisy = dict(
        batch,
        text_ids=jnp.where(text[..., 0], batch["text_ids"], 9),
        regions=jnp.where(image, batch["regions"], 5.0),
    )
    a = run(trunk, variables, batch)
    b = run(trunk, variables, noisy)
    np.testing.assert_allclose(a["text"][0][text[0, 0, :, 0]], b["text"][0][text[0, 0, :, 0]],
                               atol=2e-6)  # fmt: skip
    assert not text.all() or not image.all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(connect__text_at=(2, 3)), r"text_at must rise within 0 … 2, found \(2, 3\)"),
        (dict(connect__text_at=(1,)), "differ in length"),
        (dict(connect__image_at=(1, 0)), "image_at must rise"),
        (dict(fixed_text_layers=2), "2 fixed layers reach past the first connection"),
        (dict(fusion="max"), r"fusion must be one of \['mul', 'sum'\]"),
    ],
)
def test_schedules_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_trunk(**changes)
