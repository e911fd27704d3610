"""Masking statistics and rules, losses against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import made_objectives
import numpy as np
import pytest
from ml_collections import ConfigDict

from input_pipeline.schema import SpecialIds
from objectives import base, losses, masked_language, masking, options

ROWS, WIDTH = 4000, 20


@pytest.fixture(scope="module")
def words():
    """Many rows of words of one to three pieces; the first and last piece are special."""
    rng = np.random.default_rng(0)
    starts = rng.random((ROWS, WIDTH)) < 0.6
    starts[:, [0, 1, -1]] = True
    maskable = np.ones((ROWS, WIDTH), bool)
    maskable[:, [0, -1]] = False
    draw = masking.uniform(masking.row_keys(jax.random.key(0), jnp.arange(ROWS)), (WIDTH,))
    return draw, jnp.asarray(maskable), jnp.asarray(starts)


def test_words_are_masked_whole_at_the_rate(words):
    draw, maskable, starts = words
    selected, dropped = masking.select_words(draw, maskable, starts, 0.15, WIDTH)
    selected, starts = np.asarray(selected), np.asarray(starts)
    assert not selected[:, [0, -1]].any()
    assert not np.asarray(dropped).any()
    inside = ~starts[:, 1:-1]  # a continuation piece shares its word's fate
    assert np.array_equal(selected[:, 1:-1][inside], selected[:, :-2][inside])
    rate = selected[:, 1:-1][starts[:, 1:-1]].mean()
    assert rate == pytest.approx(0.15, abs=0.006)


def test_cap_leaves_later_words_alone_and_counts_them(words):
    draw, maskable, starts = words
    free, _ = masking.select_words(draw, maskable, starts, 0.5, WIDTH)
    capped, dropped = masking.select_words(draw, maskable, starts, 0.5, 6)
    free, capped, starts = np.asarray(free), np.asarray(capped), np.asarray(starts)
    assert capped.sum(-1).max() == 6
    assert np.array_equal(free.sum(-1) - capped.sum(-1), dropped)
    assert not (capped & ~free).any()
    inside = ~starts[:, 1:-1]
    assert np.array_equal(capped[:, 1:-1][inside], capped[:, :-2][inside])
    for row in range(50):  # literal rule: words in order while they fit
        total, end = 0, False
        for start in np.flatnonzero(starts[row]):
            stop = start + 1
            while stop < WIDTH and not starts[row, stop]:
                stop += 1
            if free[row, start]:
                end = end or total + stop - start > 6
                total += 0 if end else stop - start
                assert capped[row, start] == (not end), (row, start)


def test_replacement_shares(words):
    draw, maskable, starts = words
    selected, _ = masking.select_words(draw, maskable, starts, 0.5, WIDTH)
    keys = masking.row_keys(jax.random.key(1), jnp.arange(ROWS))
    ids = jnp.full((ROWS, WIDTH), 7)
    action = masking.uniform(keys, (WIDTH,))
    out = masking.replace_tokens(ids, selected, action, jnp.full_like(ids, 9), 4)
    picked = np.asarray(out)[np.asarray(selected)]
    shares = [np.mean(picked == i) for i in (4, 9, 7)]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    assert np.all(np.asarray(out)[~np.asarray(selected)] == 7)


def test_gathered_targets_are_the_selected_tokens(words):
    draw, maskable, starts = words
    selected, _ = masking.select_words(draw, maskable, starts, 0.3, 8)
    ids = jnp.broadcast_to(jnp.arange(100, 100 + WIDTH), (ROWS, WIDTH))
    positions, targets, weights = masking.gather_targets(ids, selected, 8)
    assert positions.shape == (ROWS, 8)
    for row in range(30):
        found = np.asarray(targets[row])[np.asarray(weights[row]) > 0] - 100
        assert found.tolist() == np.flatnonzero(selected[row]).tolist()


def test_a_row_is_masked_alike_in_any_batch():
    key = jax.random.key(3)
    whole = masking.uniform(masking.row_keys(key, jnp.arange(8)), (5,))
    part = masking.uniform(masking.row_keys(key, jnp.array([6, 2])), (5,))
    assert np.array_equal(whole[np.array([6, 2])], part)


def test_whole_image_row_forgets_masked_regions():
    rng = np.random.default_rng(0)
    regions = rng.standard_normal((2, 1, 5, 3)).astype(np.float32)
    detected = np.array([[4], [9]], np.int32)  # row 1: five more were cut after the mean
    extra = rng.standard_normal((5, 3)).astype(np.float32)
    regions[0, 0, 0] = regions[0, 0, 1:].mean(0)
    regions[1, 0, 0] = (regions[1, 0, 1:].sum(0) + extra.sum(0)) / 9
    masked = np.zeros((2, 1, 5), bool)
    masked[0, 0, 2] = masked[1, 0, 1] = masked[1, 0, 4] = True
    out = masking.whole_image_row(
        jnp.asarray(regions),
        jnp.asarray(masked),
        jnp.asarray(detected),
        jnp.zeros_like(masked),
        "unmasked",
    )
    left = regions[0, 0, [1, 3, 4]].sum(0) / (3 + 1e-5)
    np.testing.assert_allclose(out[0, 0, 0], left, rtol=1e-5, atol=1e-6)
    left = (regions[1, 0, [2, 3]].sum(0) + extra.sum(0)) / (7 + 1e-5)
    np.testing.assert_allclose(out[1, 0, 0], left, rtol=1e-5, atol=1e-6)
    assert np.array_equal(out[:, :, 1:], regions[:, :, 1:])


def test_whole_image_row_is_zero_when_every_region_is_hidden():
    """In bfloat16, whose rounded mean would otherwise be divided by 1e-5."""
    rng = np.random.default_rng(0)
    regions = jnp.asarray(rng.standard_normal((4, 1, 3, 8)), jnp.bfloat16)
    mean = regions[:, :, 1:].astype(jnp.float32).mean(2).astype(jnp.bfloat16)
    regions = regions.at[:, :, 0].set(mean)
    hidden = jnp.ones((4, 1, 3), bool).at[:, :, 0].set(False)
    out = masking.whole_image_row(regions, hidden, jnp.full((4, 1), 2), hidden, "unmasked")
    assert not np.any(np.asarray(out[:, :, 0], np.float32))
    some = hidden.at[:, :, 1].set(False)
    out = masking.whole_image_row(regions, some, jnp.full((4, 1), 2), some, "unmasked")
    np.testing.assert_allclose(
        np.asarray(out[:, :, 0], np.float32), np.asarray(regions[:, :, 1], np.float32), atol=0.03
    )


def test_soft_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.125, 0.125]]))
    ids, probs = jnp.array([[1, 0]]), jnp.array([[0.6, 0.3]])
    expected = -(0.6 * np.log(0.25) + 0.3 * np.log(0.5) + 0.1 * np.log(0.25))
    found = losses.soft_cross_entropy(logits, ids, probs, jnp.array([0.1]))
    assert float(found[0]) == pytest.approx(expected, rel=1e-5)
    # k = C is the plain soft cross-entropy
    ids, probs = jnp.array([[2, 0, 1, 3]]), jnp.array([[0.4, 0.3, 0.2, 0.1]])
    expected = -(0.4 * np.log(0.125) + 0.3 * np.log(0.5) + 0.2 * np.log(0.25) + 0.1 * np.log(0.125))
    found = losses.soft_cross_entropy(logits, ids, probs, jnp.zeros(1))
    assert float(found[0]) == pytest.approx(expected, rel=1e-5)


def test_soft_cross_entropy_gradient_is_finite_when_the_rest_is_impossible():
    logits = jnp.array([[80.0, 0.0, 0.0]])

    def loss(x):
        return losses.soft_cross_entropy(
            x, jnp.array([[0]]), jnp.array([[0.9]]), jnp.array([0.1])
        ).sum()

    value, grad = jax.value_and_grad(loss)(logits)
    assert float(value) == pytest.approx(0.1 * (80 - np.log(2)), rel=1e-5)
    np.testing.assert_allclose(grad, [[0.1, -0.05, -0.05]], atol=1e-5)


def test_means_and_their_empty_case():
    values = jnp.array([[1.0, 2.0, 9.0], [4.0, 9.0, 9.0], [9.0, 9.0, jnp.inf]])
    weights = jnp.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])

    def mean(weights, normalize):
        return float(
            losses.mean(
                losses.numerator(values, weights, normalize),
                losses.denominator(weights, normalize),
            )
        )

    assert mean(weights, "mean") == pytest.approx(7 / 3)
    per_sample = (3 / 2.0001 + 4 / 1.0001) / 2.0001
    assert mean(weights, "per_sample") == pytest.approx(per_sample, rel=1e-6)
    assert mean(jnp.zeros((3, 3)), "mean") == 0.0
    assert mean(jnp.zeros((3, 3)), "per_sample") == 0.0


def test_each_purpose_of_each_objective_draws_numbers_of_its_own():
    keys = masking.row_keys(jax.random.key(0), jnp.arange(ROWS))

    def drawn(objective, purpose):
        made = base.Objective(objective, ConfigDict(), made_objectives.DATA_INFO)
        return np.asarray(made.draw(keys, purpose, (WIDTH,))).ravel()

    first = drawn("words", "which")
    np.testing.assert_array_equal(first, drawn("words", "which"))
    assert 0 <= first.min() < 0.01 < 0.99 < first.max() < 1
    for other in (drawn("words", "how"), drawn("others", "which")):
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.05


def test_words_are_masked_replaced_or_kept_whichever_were_chosen():
    """The shares hold among the chosen ones, and any word may replace one."""
    info = made_objectives.data_info(special=SpecialIds(0, 1, 2, 3, 4, 1000), max_text=WIDTH)
    block = ConfigDict(options.of("masked_language") | dict(whole_word=False, cap=1.0))
    objective = masked_language.MaskedLanguage("words", block, info)
    ids = jnp.full((ROWS, 1, WIDTH), 500).at[..., 0].set(2)
    batch = dict(text_ids=ids, text_mask=ids > 0, word_starts=ids > 0, _weight=jnp.ones(ROWS))
    out = objective.corrupt(batch, masking.row_keys(jax.random.key(0), jnp.arange(ROWS)))
    targets = out["masked_weight"].sum()
    masked, other = (out["text_ids"] == 4).sum(), np.asarray(out["text_ids"])[:, 0, 1:]
    replaced = other[(other != 500) & (other != 4)]
    assert targets / (ROWS * (WIDTH - 1)) == pytest.approx(0.15, abs=0.01)
    assert masked / targets == pytest.approx(0.8, abs=0.02)
    assert len(replaced) / targets == pytest.approx(0.1, abs=0.02)
    assert np.histogram(replaced, 4, (0, 1000))[0] / len(replaced) == pytest.approx(0.25, abs=0.06)


# One word of each text.


def test_one_whole_candidate_word_is_chosen_uniformly():
    starts = np.array([1, 1, 0, 1, 1, 0, 0, 1], bool)  # words 0 | 1 2 | 3 | 4 5 6 | 7
    candidate = np.array([0, 1, 1, 0, 1, 1, 1, 0], bool)
    rows = 600
    keys = masking.row_keys(jax.random.key(0), jnp.arange(rows))
    chosen = np.asarray(
        masking.choose_word(
            masking.uniform(keys, starts.shape),
            jnp.asarray(np.tile(candidate, (rows, 1))),
            jnp.asarray(np.tile(starts, (rows, 1))),
        )
    )
    patterns, counts = np.unique(chosen, axis=0, return_counts=True)
    assert patterns.astype(int).tolist() == [[0, 0, 0, 0, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0, 0, 0]]
    assert counts / rows == pytest.approx([0.5, 0.5], abs=0.07)


def test_no_candidate_or_only_longer_words_choose_nothing():
    keys = masking.row_keys(jax.random.key(0), jnp.arange(2))
    starts = np.zeros((2, 10), bool)
    starts[:, 0] = True
    candidate = np.zeros((2, 10), bool)
    candidate[1] = True  # one word of ten pieces
    draw = masking.uniform(keys, (10,))
    chosen = masking.choose_word(draw, jnp.asarray(candidate), jnp.asarray(starts))
    assert not np.any(chosen)


def test_one_marked_word_is_hidden_always_and_asked_for():
    special = SpecialIds(0, 1, 2, 3, 4, 40)
    block = ConfigDict(options.of("masked_language") | dict(words="marked"))
    objective = masked_language.MaskedLanguage("word", block, made_objectives.DATA_INFO)
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 40, (300, 1, 10))
    kinds = np.zeros((300, 1, 10), np.int32)
    kinds[..., [2, 3, 6]] = [1, 1, 2]  # a word of two pieces, and one of one
    starts = np.ones((300, 1, 10), bool)
    starts[..., 3] = False
    kinds[-1] = 0
    batch = dict(
        text_ids=jnp.asarray(ids),
        word_starts=jnp.asarray(starts),
        probe_kind=jnp.asarray(kinds),
        text_mask=jnp.ones((300, 1, 10), bool),
        _weight=jnp.ones(300),
    )
    got = objective.corrupt(batch, made_objectives.keys(300))
    hidden = np.asarray(got["text_ids"]) == special.mask
    patterns = {tuple(np.flatnonzero(row[0])) for row in hidden}
    assert patterns == {(2, 3), (6,), ()}
    assert not hidden[-1].any()
    assert np.array_equal(np.asarray(got["text_ids"])[~hidden], ids[~hidden])
    for row in range(299):
        weights = np.asarray(got["masked_weight"][row, 0])
        count = int(weights.sum())
        places = np.flatnonzero(hidden[row, 0])
        assert np.array_equal(got["masked_positions"][row, 0, :count], places)
        assert np.array_equal(got["masked_targets"][row, 0, :count], ids[row, 0, places])
    assert not np.any(got["masked_weight"][-1])
