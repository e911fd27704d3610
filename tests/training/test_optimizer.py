"""Update rules against the originals' own numbers, schedules, freezing, multipliers, clipping."""

import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from configs import common
from core.errors import ConfigError
from training import optimizer, schedules

GOLDEN = pathlib.Path(os.environ.get("VL_GOLDEN_DIR", pathlib.Path(__file__).parents[1] / "golden"))


def block(**changes):
    """Optimizer block at a constant rate, without clipping unless asked for."""
    base = dict(schedule="step", warmup_steps=0, clip_norm=0.0)
    return ConfigDict(common.optimizer_block() | base | changes)


def apply_all(tx, params, grads):
    """Parameters after each of the gradients."""

    @jax.jit
    def one(params, state, grad):
        updates, state = tx.update(grad, state, params)
        return optax.apply_updates(params, updates), state

    state, seen = tx.init(params), []
    for grad in grads:
        params, state = one(params, state, grad)
        seen.append(params)
    return seen


@pytest.mark.parametrize(
    ("case", "tolerance"),
    [
        ("vlbert_adamw", 1e-6),
        ("vilbert_adamw_pretrain", 1e-6),
        ("vilbert_adamw_finetune", 1e-6),
        ("vilbert_radam", 3e-7),
    ],
)
def test_fifteen_steps_of_the_originals(case, tolerance):
    path = GOLDEN / "optimizers.npz"
    if not path.exists():
        pytest.skip(f"no {path}; set VL_GOLDEN_DIR")
    data = {k.removeprefix(case + "/"): v for k, v in np.load(path).items() if k.startswith(case)}
    kwargs = json.loads(str(data["kwargs"]))
    b1, b2 = kwargs.pop("betas")
    name = "radam" if "radam" in case else "adamw"
    params = {"a": jnp.asarray(data["init0"]), "b": jnp.asarray(data["init1"])}
    tx = optimizer.make(block(name=name, b1=b1, b2=b2, **kwargs), params, 15).tx
    grads = [{"a": a, "b": b} for a, b in zip(data["grads0"], data["grads1"], strict=True)]
    for step, seen in enumerate(apply_all(tx, params, grads)):
        for key, leaf in (("params0", "a"), ("params1", "b")):
            np.testing.assert_allclose(
                seen[leaf], data[key][step], rtol=0, atol=tolerance, err_msg=f"step {step} {key}"
            )


def test_adamw_by_hand():
    # Two steps of p = (1, -2), lr 0.1, decay 0.01 in the original's code.
    params = {"p": jnp.array([1.0, -2.0])}
    tx = optimizer.make(block(lr=0.1, weight_decay=0.01), params, 2).tx
    first, second = apply_all(
        tx, params, [{"p": jnp.array([0.5, 0.1])}, {"p": jnp.array([-0.2, 0.3])}]
    )
    np.testing.assert_allclose(first["p"], [0.8991063, -2.0978684], atol=1e-6)
    np.testing.assert_allclose(second["p"], [0.8636832, -2.1874478], atol=1e-6)


def test_sgd_couples_decay_with_momentum():
    params = {"p": jnp.array([2.0])}
    tx = optimizer.make(block(name="sgd", lr=0.1, b1=0.9, weight_decay=0.5), params, 2).tx
    first, second = apply_all(tx, params, [{"p": jnp.array([1.0])}] * 2)
    np.testing.assert_allclose(first["p"], [2 - 0.1 * 2.0], atol=1e-6)  # g + 0.5·2 = 2
    np.testing.assert_allclose(second["p"], [1.8 - 0.1 * (0.9 * 2 + 1.9)], atol=1e-6)


def test_triangle_uses_factor_of_the_update_number():
    rate = schedules.build(block(schedule="triangle", lr=2.0, warmup_steps=4), 10)
    np.testing.assert_allclose(
        [rate(u) for u in (1, 3, 4, 5, 7, 10, 11)], [0.5, 1.5, 2, 10 / 6, 1, 0, 0], rtol=1e-6
    )


def test_first_update_runs_at_the_rate_of_step_one():
    params = {"p": jnp.array([1.0])}
    settings = block(name="sgd", lr=1.0, schedule="triangle", warmup_steps=4, weight_decay=0.0)
    tx = optimizer.make(settings, params, 8).tx
    (first,) = apply_all(tx, params, [{"p": jnp.array([1.0])}])
    np.testing.assert_allclose(first["p"], [0.75])


def test_step_schedule():
    rate = schedules.build(block(lr=1.0, warmup_steps=2, milestones=(4, 6), decay=0.1), 10)
    np.testing.assert_allclose(
        [rate(u) for u in (1, 2, 3, 4, 6)], [0.5, 1, 1, 0.1, 0.01], rtol=1e-5
    )


def test_clip_uses_global_norm_with_small_term():
    grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    clip = optimizer.clip_by_global_norm(2.5)
    clipped, _ = clip.update(grads, optax.EmptyState())
    np.testing.assert_allclose(clipped["a"], [3 * 2.5 / (5 + 1e-6)], rtol=1e-6)
    untouched, _ = optimizer.clip_by_global_norm(6.0).update(grads, optax.EmptyState())
    np.testing.assert_array_equal(untouched["b"], grads["b"])


def three():
    return {"trunk": {"layer_0": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}},
            "heads": {"x": {"kernel": jnp.ones(3)}}}  # fmt: skip


def test_frozen_parameters_stay_exactly_and_have_no_moments():
    params = three()
    grads = jax.tree.map(lambda p: p * 1e6, params)
    made = optimizer.make(block(freeze=("trunk/.*",), clip_norm=1.0), params, 5)
    after = apply_all(made.tx, params, [grads] * 2)[-1]
    np.testing.assert_array_equal(after["trunk"]["layer_0"]["kernel"], np.ones((2, 2)))
    assert (after["heads"]["x"]["kernel"] != 1).all()
    sizes = [leaf.size for leaf in jax.tree.leaves(made.tx.init(params))]
    assert sum(sizes) == 2 + 2 * 3  # two counts, two moments of the head's kernel alone
    assert made.frozen == {"trunk/layer_0/kernel", "trunk/layer_0/bias"}


def test_no_decay_and_multipliers_by_path():
    params, zero = three(), jax.tree.map(jnp.zeros_like, three())
    settings = block(
        lr=0.1,
        weight_decay=0.5,
        no_decay=(".*/bias",),
        multipliers=(("heads/.*", 0.1), (".*", 2.0)),
    )
    (after,) = apply_all(optimizer.make(settings, params, 5).tx, params, [zero])
    np.testing.assert_array_equal(after["trunk"]["layer_0"]["bias"], np.ones(2))
    np.testing.assert_allclose(after["trunk"]["layer_0"]["kernel"], 1 - 0.2 * 0.5, rtol=1e-6)
    np.testing.assert_allclose(after["heads"]["x"]["kernel"], 1 - 0.01 * 0.5, rtol=1e-6)


@pytest.mark.parametrize("field", ["freeze", "no_decay", "multipliers"])
def test_a_regex_that_matches_nothing_is_an_error(field):
    pattern = "trunk/layer_9/.*"
    value = ((pattern, 0.1),) if field == "multipliers" else (pattern,)
    with pytest.raises(ValueError, match=f"optimizer.{field}.*trunk/layer_9.*heads/x/kernel"):
        optimizer.make(block(**{field: value}), three(), 5)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ConfigError, match=r"adamw.*radam.*sgd.*'adam'"):
        optimizer.make(block(name="adam"), three(), 5)
    with pytest.raises(ConfigError, match=r"triangle.*step.*'cosine'"):
        optimizer.make(block(schedule="cosine"), three(), 5)
    with pytest.raises(ConfigError, match=r"warmup_steps must be within 0 and .* = 5, found 9"):
        optimizer.make(block(schedule="triangle", warmup_steps=9), three(), 5)
