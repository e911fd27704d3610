"""The visual gain's parts: which word is masked, and the interval."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import ConfigError
from evaluation import bootstrap, evaluators
from evaluation.evaluators import visual_gain
from objectives import masking


def test_each_kind_of_a_row_is_as_likely():
    kinds = np.array([0, 1, 1, 1, 1, 2, 0], np.int32)
    keys = masking.row_keys(jax.random.key(0), jnp.arange(600))
    chosen = np.asarray(visual_gain._of_one_kind(keys, jnp.tile(kinds, (600, 1))))
    first = chosen[:, 1]
    assert np.array_equal(chosen[first], np.tile(kinds == 1, (first.sum(), 1)))
    assert np.array_equal(chosen[~first], np.tile(kinds == 2, ((~first).sum(), 1)))
    assert first.mean() == pytest.approx(0.5, abs=0.07)
    nothing = visual_gain._of_one_kind(keys, jnp.zeros((600, 7), jnp.int32))
    assert not np.any(nothing)


def test_regions_that_a_word_is_filled_in_without():
    batch = dict(
        region_mask=jnp.ones((2, 2, 4), bool), phrase_region=jnp.array([[[0, 3, 0]], [[0, 2, 1]]])
    )
    chosen = jnp.array([[False, True, False], [False, False, True]])
    named = visual_gain._unseen(batch, chosen, "named")
    assert named[:, 0].tolist() == [[False, False, False, True], [False, True, False, False]]
    objects = visual_gain._unseen(batch, chosen, "objects")
    assert objects.tolist() == 2 * [[[False, True, True, True]]]


def test_bootstrap_resamples_images():
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(50), 4)
    own = np.ones(200)
    other = np.repeat(rng.random(50) < 0.5, 4).astype(float)  # all or nothing an image
    gain = 100 * (own - other).mean()
    low, high = bootstrap.interval(100 * (own - other), image, 1)
    assert low < gain < high
    # 50 independent images, not 200 words: the interval is that of a share of 50
    assert high - low == pytest.approx(2 * 1.96 * 100 * 0.5 / 50**0.5, rel=0.15)


def test_unknown_names_list_the_known():
    with pytest.raises(ConfigError, match=r"known: \['alignment', .*'visual_gain'\]"):
        evaluators.load("nothing")
