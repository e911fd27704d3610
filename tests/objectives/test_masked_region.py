"""Masked-region targets and rules against numbers worked out by hand."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from core.errors import DataError
from input_pipeline.schema import SpecialIds
from objectives import base, masked_region, masking

DATA_INFO = base.DataInfo(SpecialIds(0, 1, 2, 3, 4, 9), 8, 6, 5, True)


def make(data_info=DATA_INFO, **changes):
    block = common.lock(common.objective_blocks()).masked_region
    block.update(changes)
    return masked_region.MaskedRegion("masked_region", block, data_info)


def make_batch(rows=3, slots=5, seed=0):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (rows, 1, slots, 2))
    mask = np.arange(slots) < rng.integers(2, slots + 1, (rows, 1, 1))
    return dict(
        regions=jnp.asarray(rng.standard_normal((rows, 1, slots, 6)), jnp.float32),
        boxes=jnp.asarray(np.concatenate([corner, corner + 30], -1), jnp.float32),
        region_mask=jnp.asarray(mask),
        num_detected=jnp.asarray(mask.sum(-1) - 1, jnp.int32),
        image_key=jnp.arange(rows)[:, None],
        _weight=jnp.ones(rows),
    )


def iou(a, b):
    """Inclusive pixels, one pair at a time."""
    w = min(a[2], b[2]) - max(a[0], b[0]) + 1
    h = min(a[3], b[3]) - max(a[1], b[1]) + 1
    inner = max(w, 0) * max(h, 0)
    area = [(x[2] - x[0] + 1) * (x[3] - x[1] + 1) for x in (a, b)]
    return inner / (sum(area) - inner)


def test_overlaps_match_the_plain_definition():
    assert iou((0, 0, 9, 9), (5, 5, 14, 14)) == pytest.approx(25 / 175)
    batch = make_batch(rows=20, slots=6)
    found = np.asarray(masking.overlaps(batch["boxes"], batch["region_mask"], 0.2))[:, 0]
    boxes, mask = np.asarray(batch["boxes"])[:, 0], np.asarray(batch["region_mask"])[:, 0]
    for b in range(20):
        for i in range(6):
            for j in range(6):
                real = i > 0 and j > 0 and mask[b, i] and mask[b, j]
                assert found[b, i, j] == (real and iou(boxes[b, i], boxes[b, j]) > 0.2)
    assert 20 < found.sum() < found.size / 2


def test_overlapping_regions_are_hidden_as_the_paper_says_and_marked_as_released():
    keys = masking.row_keys(jax.random.key(0), jnp.arange(200))
    batch = make_batch(rows=200, slots=6)
    plain = make(keep=0.0, rate=0.3).corrupt(batch, keys)
    paper = make(keep=0.0, rate=0.3, iou=0.2, overlap="paper").corrupt(batch, keys)
    near = np.asarray(masking.overlaps(batch["boxes"], batch["region_mask"], 0.2))
    hidden = np.asarray(plain["region_masked"])
    expected = hidden | (near & hidden[..., None, :]).any(-1)
    assert np.array_equal(paper["region_masked"], expected)
    assert expected.sum() > hidden.sum() + 20
    # only the drawn regions are targets
    assert np.array_equal(paper["region_weight"], plain["region_weight"])
    # released: inputs as without overlap, a smaller denominator of the whole-image row
    released = make(keep=0.0, rate=0.3, iou=0.2, overlap="released", image_row="released")
    released = released.corrupt(batch, keys)
    assert np.array_equal(released["region_masked"], hidden)
    row = 0
    while not (expected & ~hidden)[row].any():
        row += 1
    regions, seen = np.asarray(batch["regions"])[row, 0], ~hidden[row, 0]
    count = int(batch["num_detected"][row, 0])
    total = count * regions[0] - regions[1:][hidden[row, 0, 1:]].sum(0)
    marked = expected[row, 0, 1:].sum()
    np.testing.assert_allclose(
        released["regions"][row, 0, 0], total / (5 - marked), rtol=1e-4, atol=1e-5
    )
    assert seen[0]


def test_zeroed_image_row_counts_hidden_regions():
    batch = make_batch()
    hidden = jnp.zeros((3, 1, 5), bool).at[:, :, 1].set(True)
    out = masking.whole_image_row(batch["regions"], hidden, batch["num_detected"], hidden, "zeroed")
    n = np.asarray(batch["num_detected"], np.float32)
    regions = np.asarray(batch["regions"])
    expected = (n * regions[:, 0, 0] - regions[:, 0, 1]) / n
    np.testing.assert_allclose(out[:, 0, 0], expected, rtol=1e-5, atol=1e-6)
    same = masking.whole_image_row(
        batch["regions"], hidden, batch["num_detected"], hidden, "stored"
    )
    assert same is batch["regions"]


def test_kl_is_zero_at_the_target_and_cross_entropy_for_one_class():
    task = make(target="kl")
    probs = jnp.array([[[[0.5, 0.3, 0.2]]]])
    batch = dict(
        region_class_ids=jnp.array([[[[4, 0, 2]]]]),
        region_class_probs=probs,
        region_rest_prob=jnp.zeros((1, 1, 1)),
        region_weight=jnp.ones((1, 1, 1)),
    )
    logits = (
        jnp.full((1, 1, 5), -jnp.inf).at[0, 0, jnp.array([4, 0, 2])].set(jnp.log(probs[0, 0, 0]))
    )
    assert float(task.loss(jnp.maximum(logits, -60.0), batch)) == pytest.approx(0.0, abs=1e-5)
    one = dict(batch, region_class_probs=jnp.array([[[[1.0, 0.0, 0.0]]]]))
    logits = jnp.arange(5.0)[None, None]
    expected = float(jax.nn.logsumexp(jnp.arange(5.0)) - 4)
    assert float(task.loss(logits, one)) == pytest.approx(expected, rel=1e-5)


def test_regression_is_the_mean_square_over_dimensions():
    task, batch = make(target="regression", normalize="mean"), make_batch()
    keys = masking.row_keys(jax.random.key(1), jnp.arange(3))
    out = task.corrupt(batch, keys)
    out["region_weight"] = out["region_mask"].astype(jnp.float32).at[:, :, 0].set(0)
    logits = jnp.zeros((3, 5, 6))
    mean = float(task.loss(logits, out) / task.weight(out))
    targets = np.asarray(batch["regions"])[:, 0, 1:][np.asarray(batch["region_mask"])[:, 0, 1:]]
    assert mean == pytest.approx((targets**2).mean(), rel=1e-5)


def test_contrastive_against_a_literal_loop():
    task, batch = make(target="contrastive", negatives=10, elsewhere=0.7), make_batch(rows=4)
    out = task.corrupt(batch, masking.row_keys(jax.random.key(2), jnp.arange(4)))
    assert out["negative_image"].shape == (4, 1, 5, 10)
    out["region_weight"] = out["region_mask"].astype(jnp.float32).at[:, :, 0].set(0)
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((4, 5, 6)).astype(np.float32)
    features, mask = np.asarray(batch["regions"])[:, 0], np.asarray(batch["region_mask"])[:, 0]
    u, v = np.asarray(out["negative_image"])[:, 0], np.asarray(out["negative_region"])[:, 0]
    total = 0.0
    for b in range(4):
        for r in range(1, 5):
            if not mask[b, r]:
                continue
            candidates = [features[b, r]]
            for n in range(10):
                if n < 7:  # another image, any place
                    image, slot = (b + 1 + int(u[b, r, n] * 3)) % 4, int(v[b, r, n] * 4)
                    assert image != b
                else:  # the same image, another region
                    image, slot = b, (r - 1 + 1 + int(v[b, r, n] * 3)) % 4
                    assert slot != r - 1
                if mask[image, slot + 1]:
                    candidates.append(features[image, slot + 1])
            scores = np.array(candidates) @ logits[b, r]
            total += np.log(np.exp(scores).sum()) - scores[0]
    assert float(task.loss(jnp.asarray(logits), out)) == pytest.approx(total, rel=1e-4)


def test_contrastive_negatives_are_other_regions_of_real_rows():
    """A row that repeats an image, and one that pads the batch, bring no negatives."""
    task, batch = make(target="contrastive", negatives=40), make_batch(rows=3)
    double = {k: jnp.concatenate([v[:1], v[:1], v[1:2]]) for k, v in batch.items()}
    double["_weight"] = jnp.array([1.0, 1.0, 0.0])
    out = task.corrupt(double, masking.row_keys(jax.random.key(2), jnp.arange(3)))
    out["region_weight"] = out["region_mask"].astype(jnp.float32).at[:, :, 0].set(0)
    logits = 3.0 * out["regions"][:, 0]  # the own feature scores highest by far
    losses = task._contrastive(logits, out)
    assert np.any(losses[:2])
    for row in (2, 1):  # the padding row; the same image as row 0
        changed = dict(out, region_target=out["region_target"].at[row].set(99.0))
        assert np.array_equal(losses[0], task._contrastive(logits, changed)[0]), row


def test_features_without_what_is_needed_are_refused():
    with pytest.raises(DataError, match="class distributions"):
        make(dataclasses.replace(DATA_INFO, num_classes=0))
    make(dataclasses.replace(DATA_INFO, num_classes=0), target="regression")
    with pytest.raises(DataError, match="--global_feature=mean"):
        make(dataclasses.replace(DATA_INFO, stored_mean=False))
    make(dataclasses.replace(DATA_INFO, stored_mean=False), image_row="stored")
    for halves in (dict(overlap="released"), dict(image_row="released")):
        with pytest.raises(ValueError, match="set both or neither"):
            make(**halves)


def test_a_store_without_classes_gets_the_flags_that_go_on_without():
    info = dataclasses.replace(DATA_INFO, num_classes=0, stream="pairs", order="confidence")
    with pytest.raises(DataError) as error:
        make(info)
    target, order = re.findall(r"--(config\.\S+)=(\w+)", str(error.value))
    assert target[0].endswith(".target")
    assert (target[1], *order) == ("regression", "config.streams.pairs.order", "stored")
    with pytest.raises(DataError) as error:
        make(dataclasses.replace(info, order="stored"))
    assert "order" not in str(error.value)


def test_regions_stay_visible_and_negatives_are_drawn_whichever_were_chosen():
    """Independent draws: of the chosen regions a share is kept, of all images any region."""
    task = make(rate=0.3, keep=0.4, target="contrastive", negatives=8)
    rows = 3000
    batch = make_batch(rows=rows)
    out = task.corrupt(batch, masking.row_keys(jax.random.key(0), jnp.arange(rows)))
    chosen, hidden = np.asarray(out["region_weight"] > 0), np.asarray(out["region_masked"])
    real = np.asarray(batch["region_mask"])[..., 1:].sum()
    assert chosen.sum() / real == pytest.approx(0.3, abs=0.02)
    assert (chosen & ~hidden).sum() / chosen.sum() == pytest.approx(0.4, abs=0.03)
    image, region = (np.asarray(out[f"negative_{what}"]).ravel() for what in ("image", "region"))
    assert abs(np.corrcoef(image, region)[0, 1]) < 0.05
