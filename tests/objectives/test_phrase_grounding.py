"""Words that point at regions: numbers by hand, tagged rows, and what does not fit."""

import jax
import jax.numpy as jnp
import made_objectives
import numpy as np
import pytest
from ml_collections import ConfigDict

from core.errors import ConfigError, DataError
from objectives import options, phrase_grounding
from vl_models.layers import LayerSizes

# Two rows of three tokens and four regions; the last region of the first row is padding.
SCORES = jnp.asarray(
    [
        [[9.0, 2.0, 1.0, 8.0], [9.0, 0.0, 1.0, 8.0], [0.0, 0.0, 0.0, 0.0]],
        [[0.0, 1.0, 1.0, 1.0], [0.0, 3.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]],
    ]
)
BATCH = dict(
    phrase_region=jnp.asarray([[[1, 1, 0]], [[0, 2, 0]]]),
    region_mask=jnp.asarray([[[1, 1, 1, 0]], [[1, 1, 1, 1]]], bool),
    _weight=jnp.ones(2),
)


def make(**changes):
    block = ConfigDict(options.of("phrase_grounding") | changes)
    return phrase_grounding.PhraseGrounding("pointing", block, made_objectives.DATA_INFO)


def logits_of(objective, batch=BATCH):
    outputs = dict(text=None, regions=None)
    return objective.logits(lambda text, regions: SCORES, outputs, batch)


def test_loss_and_accuracy_by_hand():
    objective = make()
    logits = logits_of(objective)
    # Neither the whole image nor padding is a candidate, whatever their scores.
    expected = np.log(1 + np.exp(-1)) + np.log(1 + np.exp(1))
    expected += np.log(np.exp(1) + 1 + np.exp(-1))
    assert float(objective.loss(logits, BATCH)) == pytest.approx(expected, rel=1e-6)
    assert float(objective.weight(BATCH)) == 3
    right, weight = objective.metrics(logits, BATCH)["pointing_accuracy"]
    assert (float(right), float(weight)) == (1, 3)
    guessed, weight = objective.guesses(BATCH)["pointing_accuracy"]
    assert float(guessed) == pytest.approx(1 / 2 + 1 / 2 + 1 / 3)
    padded = BATCH | dict(_weight=jnp.asarray([1.0, 0.0]))
    assert float(objective.weight(padded)) == 2


def test_an_image_without_regions_asks_nothing_and_has_a_finite_gradient():
    objective = make()
    batch = BATCH | dict(
        phrase_region=jnp.asarray([[[1, 1, 0]], [[0, 0, 0]]]),
        region_mask=jnp.asarray([[[1, 1, 1, 0]], [[1, 0, 0, 0]]], bool),
    )

    def loss(scores):
        logits = objective.logits(lambda text, regions: scores, dict(text=0, regions=0), batch)
        return objective.loss(logits, batch)

    gradient = jax.grad(loss)(SCORES)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[0, :2, 1:3]).min() > 0.1
    assert not np.any(gradient[1])


def test_a_share_of_the_rows_is_tagged_and_not_asked():
    rows = 400
    region = jnp.asarray(np.random.default_rng(0).integers(0, 4, (rows, 1, 3)))
    batch = dict(phrase_region=region)
    assert make().corrupt(batch, made_objectives.keys(rows)) == batch
    got = make(tagged=0.25).corrupt(batch, made_objectives.keys(rows))
    tagged = np.asarray((got["token_region"] == region).all((1, 2)))
    asked = np.asarray((got["phrase_region"] == region).all((1, 2)))
    silent = np.asarray((region == 0).all((1, 2)))
    assert (tagged ^ asked)[~silent].all()
    assert tagged[~silent].mean() == pytest.approx(0.25, abs=0.06)
    assert not np.any(got["phrase_region"][tagged & ~silent])
    assert not np.any(got["token_region"][asked & ~silent])


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match=r"pointing.*phrase_region"):
        make().corrupt(dict(text_ids=0), made_objectives.keys())
    trunk = made_objectives.MadeTrunk(LayerSizes(8, 2, 16, 0.0, 0.02, jnp.float32))
    with pytest.raises(ConfigError, match=r"(?s)pointing\.tagged.*0 with this model"):
        make(tagged=0.5).head(trunk)
    assert make().head(trunk).module == "pointer"
    stream = ConfigDict(
        dict(images=True, max_text=4, max_regions=4, max_length=8, flip="off", negatives=True)
    )
    with pytest.raises(ConfigError, match=r"(?s)give away.*streams\.captions\.negatives"):
        make(tagged=0.5).check_stream("captions", stream)
    make().check_stream("captions", stream)
