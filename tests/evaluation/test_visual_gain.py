"""The visual gain's parts: which word is masked, and the interval."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import ConfigError
from evaluation import bootstrap, evaluators
from evaluation.evaluators import visual_gain
from objectives import masking


def test_one_whole_candidate_word_is_chosen_uniformly():
    starts = np.array([1, 1, 0, 1, 1, 0, 0, 1], bool)  # words 0 | 1 2 | 3 | 4 5 6 | 7
    candidate = np.array([0, 1, 1, 0, 1, 1, 1, 0], bool)
    rows = 600
    keys = masking.row_keys(jax.random.key(0), jnp.arange(rows))
    chosen = np.asarray(
        visual_gain.choose_word(
            keys,
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
    chosen = visual_gain.choose_word(keys, jnp.asarray(candidate), jnp.asarray(starts))
    assert not np.any(chosen)


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
