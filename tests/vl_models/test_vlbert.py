"""VL-BERT piece by piece: published numbers, packing, sizes, names, initial values."""

import types

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import models, vlbert_pretrain
from input_pipeline.schema import SpecialIds
from objectives.model import MultiTaskModel
from vl_models import embeddings, loading
from vl_models.published import translate


def test_geometry_embedding_of_a_known_box():
    out = np.asarray(
        embeddings.geometry_embedding(
            jnp.array([[[10.0, 20, 110, 220]]]), jnp.array([[300.0, 400]]), 2048
        )
    ).ravel()
    expected = {
        0: 0.650287, 1: 0.894496, 255: 0.015410, 256: -0.759689, 257: -0.447076, 511: 0.999881,
        512: 0.745113, 768: -0.666938, 1024: -0.132352, 1280: 0.991203, 1536: -0.639022,
        1792: -0.769189, 2047: 0.997655,
    }  # fmt: skip
    for index, value in expected.items():
        assert out[index] == pytest.approx(value, abs=2e-5), index
    assert out.sum() == pytest.approx(654.56946, abs=1e-2)


def test_numbers_of_a_box_are_centred_and_spread_as_told():
    boxes, size = jnp.array([[[10.0, 20, 110, 220]]]), jnp.array([[300.0, 400]])
    published = embeddings.geometry_embedding(boxes, size, 16)
    same = embeddings.Geometry(scale=(100.0, 100.0), base=1000.0)
    np.testing.assert_array_equal(published, embeddings.geometry_embedding(boxes, size, 16, same))
    spread = embeddings.Geometry(offset=(0.5, 0.2), scale=(6.0, 20.0), base=4.0)
    out = np.asarray(embeddings.geometry_embedding(boxes, size, 16, spread)).reshape(4, 4)
    numbers = [
        (60 / 400 - 0.5) * 6,
        (120 / 300 - 0.5) * 6,
        (0.25 - 0.2) * 20,
        (200 / 300 - 0.2) * 20,
    ]
    for row, number in zip(out, numbers, strict=True):
        waves = [np.sin(number), np.sin(number / 2), np.cos(number), np.cos(number / 2)]
        np.testing.assert_allclose(row, waves, rtol=1e-5, atol=1e-6)
    place = embeddings.location(boxes, size, embeddings.Geometry((0.5, 0.1), (20.0, 100.0)))
    corners = [10 / 400, 20 / 300, 110 / 400, 220 / 300]
    expected = [*((x - 0.5) * 20 for x in corners), (100 * 200 / 120_000 - 0.1) * 100]
    np.testing.assert_allclose(np.asarray(place)[0, 0], expected, rtol=1e-5)


# --- The tiny network whose values the original was asked for, weights 0.05·sin(...) ---

TINY = dict(hidden=16, layers=2, heads=2, intermediate=32, positions=32)


def tiny_task():
    config = vlbert_pretrain.get_config("size=base")
    config.dtype = "float32"
    config.model.update(TINY)
    config.streams.captions.update(max_text=5, max_regions=3, max_length=8)
    config.streams.text.max_text = 4
    special = SpecialIds(0, 3, 1, 2, 4, 50)
    spec = types.SimpleNamespace(feature_dim=2048, num_classes=7, global_feature="mean")
    return MultiTaskModel(config, special, spec)


def tiny_params(shapes):
    """Every weight by the rule, in PyTorch layout, through the converter."""
    zeros = {k: np.zeros(v.shape, np.float32) for k, v in loading.flatten(shapes).items()}
    state = translate.to_torch("vlbert", zeros)
    for name, array in state.items():
        local = name.removeprefix("vlbert.").removeprefix("image_feature_extractor.")
        if local == "mlm_head.predictions.decoder.weight":
            local = "word_embeddings.weight"
        i = np.arange(array.size, dtype=np.float64).reshape(array.shape)
        value = 0.05 * np.sin(1 + 0.37 * i + len(local))
        if array.ndim == 1 and name.endswith("weight"):
            value += 1.0
        state[name] = value.astype(np.float32)
    i = np.arange(16)
    state["object_linguistic_embeddings.weight"] = np.float32(0.02 * ((i % 5) - 2))[None]
    state["aux_text_visual_embedding.weight"] = np.float32(0.03 * ((i % 4) - 1.5))[None]
    return golden_files.fitted(shapes, translate.translate("vlbert", state).arrays)


def tiny_batch():
    boxes = np.zeros((2, 1, 3, 4), np.float32)
    boxes[:, 0, 0, 2:] = [(399, 299), (199, 99)]  # the whole image
    boxes[0, 0, 1:] = [(10, 20, 110, 220), (50, 60, 300, 200)]
    boxes[1, 0, 1] = (5, 6, 70, 80)
    b, k, j = np.ogrid[:2, :3, :2048]
    ids = np.array([[[1, 7, 9, 2, 0]], [[1, 5, 8, 11, 2]]], np.int32)
    return dict(
        text_ids=ids,
        text_mask=ids > 0,
        segment_ids=np.zeros_like(ids),
        word_starts=ids > 0,
        regions=np.sin(0.01 * j * (1 + 3 * b + k)).astype(np.float32)[:, None],
        boxes=boxes,
        region_mask=np.array([[[True, True, True]], [[True, True, False]]]),
        image_size=np.array([[[300, 400]], [[100, 200]]], np.float32),
        num_detected=np.array([[2], [1]], np.int32),
        _weight=np.ones(2, np.float32),
    )


@pytest.fixture(scope="module")
def tiny():
    task, batch = tiny_task(), tiny_batch()
    text = {k: batch[k][:, :, :4] for k in ("text_ids", "text_mask", "segment_ids", "word_starts")}
    text = dict(text, _weight=batch["_weight"])
    shapes = jax.eval_shape(task.init, jax.random.key(0), {"captions": batch, "text": text})
    return task, batch, tiny_params(shapes)


def test_tiny_network_with_regions(tiny):
    task, batch, params = tiny

    @jax.jit
    def forward(params, batch):
        outputs = task.outputs(params, "captions", batch, capture=("hidden", "attention"))
        regions = task.trunk.bind({"params": params["trunk"]}).regions
        states = regions(
            batch["regions"][:, 0],
            batch["boxes"][:, 0],
            batch["image_size"][:, 0],
            batch["region_mask"][:, 0],
            None,
            train=False,
        )
        mlm = task.head(params, "masked_language")(outputs["text"], outputs["word_embedding"])
        mvrc = task.head(params, "masked_region")(outputs["regions"])
        return outputs, states, mlm, mvrc

    outputs, states, mlm, mvrc = jax.tree.map(np.asarray, forward(params, batch))

    def close(found, expected, tolerance=2e-5):
        np.testing.assert_allclose(found, expected, atol=tolerance)

    close(states[0, 1, :6], [0, 0, 0.589085, 0.568690, 0, 0])
    close(states.sum(), 31.48432, 1e-3)
    close(outputs["hidden"][0][0, 0, :4], [-0.8242, -0.07355, 1.89058, 0.00008], 6e-5)
    close(outputs["hidden"][0][0, 7, :4], [1.38909, 1.01981, 0.52949, -0.00602])
    close(mlm[0, 1, :6], [-0.435019, -0.505906, -0.511023, -0.449716, -0.329963, -0.167338])
    valid = mlm[batch["text_mask"][:, 0]]
    close([valid.sum(), abs(valid).sum()], [1.2282, 151.3014], 1e-3)
    close(mvrc[1, 1], [-0.0368, -0.018971, 0.001344, 0.021405, 0.038519, 0.050393, 0.055451])
    close(mvrc[0, 0, :3], [-0.034039, -0.010189, 0.015002])
    close(mvrc[0, 2, :3], [-0.036826, -0.016764, 0.005496])
    valid = mvrc[batch["region_mask"][:, 0]]
    close([valid.sum(), abs(valid).sum()], [0.80921, 1.3091], 1e-4)
    assert len(outputs["attention"]) == 2
    assert outputs["attention"][0].shape == (2, 2, 9, 9)
    close(outputs["attention"][1].sum(-1), 1.0, 1e-5)
    close(outputs["attention"][0][0, :, :, 8], 0.0, 0)  # sample 0 has 8 positions of 9


def run(task, params, stream, batch, **options):
    return jax.jit(lambda p, b: task.outputs(p, stream, b, **options))(params, batch)


def test_tiny_network_text_only(tiny):
    task, _, params = tiny
    ids = np.array([[[5, 8, 11, 9]]], np.int32)
    batch = dict(text_ids=ids, text_mask=ids > 0, segment_ids=np.zeros_like(ids))
    outputs = run(task, params, "text", batch)
    mlm = task.head(params, "masked_language")(outputs["text"], outputs["word_embedding"])
    np.testing.assert_allclose(mlm[0, 0, :4], [0.589816, 0.547702, 0.433904, 0.263254], atol=2e-5)
    assert float(mlm.sum()) == pytest.approx(-3.6271, abs=1e-3)
    assert "regions" not in outputs


def test_packing_is_padding_invariant(tiny):
    """Wider padding of text and regions changes nothing at valid positions."""
    task, batch, params = tiny
    wide = dict(batch)
    for key in ("text_ids", "text_mask", "segment_ids"):
        wide[key] = np.pad(batch[key], [(0, 0), (0, 0), (0, 3)])
    for key in ("regions", "boxes"):
        wide[key] = np.pad(batch[key], [(0, 0), (0, 0), (0, 4), (0, 0)], constant_values=7)
    wide["region_mask"] = np.pad(batch["region_mask"], [(0, 0), (0, 0), (0, 4)])
    narrow = run(task, params, "captions", batch)
    padded = run(task, params, "captions", wide)
    mask = batch["text_mask"][:, 0]
    np.testing.assert_allclose(padded["text"][:, :5][mask], narrow["text"][mask], atol=2e-6)
    np.testing.assert_allclose(padded["regions"][:, :3], narrow["regions"], atol=2e-6)
    assert not np.any(padded["regions"][:, 3:])


def test_pairs_expand_texts_and_images(tiny):
    """Two texts and two images an example give the rows that single examples give."""
    task, batch, params = tiny
    both = {k: np.concatenate([v[:1], v[1:]], axis=1) for k, v in batch.items() if v.ndim > 1}
    pairs = ((0, 0), (1, 1), (0, 1))
    rows = run(task, params, "captions", both, pairs=pairs)["regions"]
    single = run(task, params, "captions", batch)["regions"]
    np.testing.assert_allclose(rows[:2], single, atol=2e-6)
    assert not np.allclose(rows[2], single[1], atol=1e-3)


def test_unknown_capture_is_refused(tiny):
    task, batch, params = tiny
    with pytest.raises(ValueError, match="capture must be among"):
        run(task, params, "captions", batch, capture=("everything",))


def shapes_of(size):
    """Shapes of a named size at the paper's vocabulary, features and classes."""
    config = vlbert_pretrain.get_config(f"size={size},data=jsonl")
    config.streams.text.batch_size = 2
    special = SpecialIds(0, 100, 101, 102, 103, 30522)
    spec = types.SimpleNamespace(feature_dim=2048, num_classes=1601, global_feature="mean")
    task = MultiTaskModel(config, special, spec)
    text, regions = config.streams.captions.max_text, config.streams.captions.max_regions

    def arrays(width):
        ids = jnp.zeros((2, 1, width), jnp.int32)
        return dict(
            text_ids=ids, text_mask=ids > 0, segment_ids=ids, word_starts=ids > 0,
            _weight=jnp.ones(2),
        )  # fmt: skip

    captions = arrays(text) | dict(
        regions=jnp.zeros((2, 1, regions, 2048)),
        boxes=jnp.zeros((2, 1, regions, 4)),
        region_mask=jnp.zeros((2, 1, regions), bool),
        image_size=jnp.ones((2, 1, 2)),
        num_detected=jnp.ones((2, 1), jnp.int32),
    )
    batch = {"captions": captions, "text": arrays(config.streams.text.max_text)}
    return loading.flatten(jax.eval_shape(task.init, jax.random.key(0), batch))


COUNTS = {"mini": 2_404_987, "small": 12_240_507, "base": 114_491_515, "large": 342_071_675}


def test_every_size_has_a_count():
    assert set(COUNTS) == set(models.SIZES)


@pytest.mark.parametrize("size", sorted(COUNTS))
def test_parameter_counts(size):
    """base and large: the counts of the original's checkpoints."""
    shapes = shapes_of(size)
    assert sum(np.prod(s.shape, dtype=int) for s in shapes.values()) == COUNTS[size]
    if size == "base":
        # the published state dict: all of ours and the tied decoder's alias
        zeros = {k: np.broadcast_to(np.float32(0), s.shape) for k, s in shapes.items()}
        assert len(translate.to_torch("vlbert", zeros)) == 218


def test_initial_values_follow_the_paper():
    config = vlbert_pretrain.get_config("size=base")
    config.model.update(TINY)
    config.streams.text.batch_size = 0
    config.streams.captions.update(max_text=5, max_regions=3, max_length=8)
    spec = types.SimpleNamespace(feature_dim=2048, num_classes=7, global_feature="mean")
    task = MultiTaskModel(config, SpecialIds(0, 3, 1, 2, 4, 3000), spec)
    flat = loading.flatten(jax.jit(task.init)(jax.random.key(1), {"captions": tiny_batch()}))
    assert np.std(flat["trunk/embeddings/word/embedding"]) == pytest.approx(0.02, rel=0.02)
    assert not np.any(flat["trunk/embeddings/text_visual_norm/scale"])  # visual gain 0
    assert not np.any(flat["trunk/regions/mask"])
    kernel = np.asarray(flat["trunk/regions/projection/kernel"])  # PyTorch's default, not 0.02
    assert abs(kernel).max() == pytest.approx(1 / 64, rel=0.01)
    assert "trunk/embeddings/text_visual" not in flat  # no text-only stream
