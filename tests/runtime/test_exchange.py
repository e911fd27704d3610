"""Gradients of many devices: each parameter's is added up once, in the type that is asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from runtime import exchange, sharding
from training.planning import collectives
from vl_models import loading

SHAPES = dict(table=(40, 16), kernel=(16, 8), bias=(8,))


def loss(params, rows, scale):
    """Reads the table twice, as a tied decoder does; a sum over rows, and one more."""
    x = params["table"][rows["ids"]]
    states = jnp.tanh(x @ params["kernel"] + params["bias"]) @ params["kernel"].T
    return scale * jnp.square(states @ params["table"].T).sum(), rows["ids"].sum()


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(shape, np.float32) for name, shape in SHAPES.items()}
    return params, dict(ids=rng.integers(0, 40, 16)), np.float32(0.1)


def compiled(inputs, over, dtype=jnp.float32, frozen=(), **sizes):
    """(what it returns, its collectives) of the summed gradient on a mesh of eight."""
    mesh = sharding.make_mesh(dict(data=1, fsdp=1, tensor=1) | sizes)
    params, rows, scale = inputs
    placed = jax.device_put(params, sharding.of_state(params, mesh, lambda text: None, over))
    places = jax.tree.map(lambda x: x.sharding, placed)
    rows = jax.device_put(rows, NamedSharding(mesh, sharding.BATCH))

    def own(params, rows, scale):
        still = {name: jax.lax.stop_gradient(params[name]) for name in frozen}
        return loss(params | still, rows, scale)

    def run(params, rows, scale):
        gradient = jax.value_and_grad(own, has_aux=True)
        total = exchange.summed(gradient, mesh, places, separable=True, dtype=dtype, frozen=frozen)
        return total(exchange.gather(params, mesh, jnp.float32, places), rows, scale)

    with jax.set_mesh(mesh):
        program = jax.jit(run).lower(placed, rows, scale).compile()
    found = program(placed, rows, scale)
    for gradient, place in zip(jax.tree.leaves(found[1]), jax.tree.leaves(places), strict=True):
        assert gradient.dtype == jnp.float32
        assert gradient.sharding.is_equivalent_to(place, gradient.ndim)
    return found, collectives.find(program.as_text(), mesh)


@pytest.mark.parametrize(
    ("over", "sizes"),
    [
        (sharding.SHARED, dict(data=8)),
        (sharding.SHARED, dict(data=2, fsdp=4)),
        (("fsdp",), dict(data=4, fsdp=2)),
        (("fsdp",), dict(data=8)),
    ],
    ids=["data", "both", "fsdp", "copied"],
)
def test_the_gradient_is_that_of_all_rows_and_is_added_up_once(inputs, over, sizes):
    expected = jax.value_and_grad(loss, has_aux=True)(*inputs)
    found, sent = compiled(inputs, over, **sizes)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-3),
                 found, expected)  # fmt: skip
    table = 4 * 40 * 16
    once = [one for one in sent if one.kind != "all-gather" and one.bytes >= table]
    whole = sum(one.bytes for one in once if set(one.axes) == set(sizes) or len(once) == 1)
    assert table <= whole < 1.5 * table


def test_in_bfloat16_digits_are_lost_and_no_more(inputs):
    (_, exact), _ = compiled(inputs, sharding.SHARED, data=8)
    (_, short), _ = compiled(inputs, sharding.SHARED, jnp.bfloat16, data=8)
    for name, gradient in exact.items():
        error = np.linalg.norm(short[name] - gradient) / np.linalg.norm(gradient)
        assert 1e-4 < error < 2**-7, name


@pytest.mark.parametrize("sizes", [dict(data=8), dict(data=2, fsdp=4)], ids=["data", "both"])
def test_gradients_of_frozen_parameters_are_not_sent(inputs, sizes):
    (_, expected), _ = compiled(inputs, sharding.SHARED, **sizes)
    (_, found), sent = compiled(inputs, sharding.SHARED, frozen=("table",), **sizes)
    assert not np.any(found["table"])
    np.testing.assert_allclose(found["kernel"], expected["kernel"], rtol=1e-5, atol=1e-3)
    summed = [one for one in sent if one.kind != "all-gather"]
    assert summed
    assert all(one.bytes < 4 * 40 * 16 for one in summed)


def test_what_products_read_is_gathered_in_their_type():
    shapes = {"layer/kernel": (16, 8), "layer/bias": (8,), "text/word/embedding": (40, 16)}
    params = loading.unflatten({name: np.ones(shape, np.float32) for name, shape in shapes.items()})
    mesh = sharding.make_mesh(dict(data=8, fsdp=1, tensor=1))
    with jax.set_mesh(mesh):
        over = sharding.of_state(params, mesh, lambda text: None, sharding.SHARED)
        placed = jax.device_put(params, over)
        found = jax.jit(lambda x: exchange.gather(x, mesh, jnp.bfloat16, over))(placed)
    kinds = {name: x.dtype for name, x in loading.flatten(found).items()}
    assert kinds == {
        "layer/kernel": jnp.bfloat16,
        "layer/bias": jnp.float32,
        "text/word/embedding": jnp.bfloat16,
    }
