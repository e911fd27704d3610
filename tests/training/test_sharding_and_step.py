"""One loss curve whatever the mesh and the number of microbatches; where arrays live."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from runtime import paths, sharding
from tests.training import fakes
from training import state, step

# Float32 sums in another order over five Adam steps. Measured: below 2e-7.
TOLERANCE = 5e-6

MESHES = {
    "one device": dict(data=1, fsdp=1, tensor=1),
    "data": dict(data=8, fsdp=1, tensor=1),
    "fsdp": dict(data=1, fsdp=8, tensor=1),
    "tensor": dict(data=2, fsdp=1, tensor=4),
    "all three": dict(data=2, fsdp=2, tensor=2),
}


def curve(sizes, accumulate=1, draws=range(5), task=None, **changes):
    """Losses, final state, last metrics and initial parameters of a few steps."""
    config, task = fakes.config(**changes), task or fakes.FakeTask()
    count = int(np.prod(list(sizes.values())))
    mesh = sharding.make_mesh(sizes, jax.devices()[:count])
    with jax.set_mesh(mesh):
        maker = state.StateMaker(task, config, fakes.batches(config, 0), mesh)
        shardings = jax.tree.map(lambda x: x.sharding, maker.state)
        train = step.make_train_step(
            task, maker.optimizer, mesh, shardings, seed=config.seed, accumulate=accumulate
        )
        now, losses = maker.fresh(), []
        start = jax.tree.map(np.array, now.params)
        for draw in draws:
            placed = sharding.place(fakes.batches(config, draw), mesh)
            now, metrics = train(now, placed, dict.fromkeys(config.streams, np.int32(draw)))
            losses.append(float(metrics["pairs"]["loss"][0]))
    return losses, now, metrics, start


@pytest.fixture(scope="module")
def reference():
    return curve(MESHES["one device"])


@pytest.mark.parametrize("name", list(MESHES)[1:])
def test_same_curve_on_every_mesh(name, reference):
    losses, now, *_ = curve(MESHES[name])
    np.testing.assert_allclose(losses, reference[0], rtol=TOLERANCE)
    for a, b in zip(jax.tree.leaves(now.params), jax.tree.leaves(reference[1].params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_accumulation_equals_the_big_batch(reference):
    # One in 16 rows of every other batch pads it and rows hold uneven numbers of targets, so a
    # mean of the microbatches' means would differ.
    losses, _, metrics, _ = curve(MESHES["one device"], accumulate=4)
    np.testing.assert_allclose(losses, reference[0], rtol=TOLERANCE)
    for name, pair in metrics["pairs"].items():
        np.testing.assert_allclose(pair, reference[2]["pairs"][name], rtol=1e-3, err_msg=name)
    losses, *_ = curve(MESHES["all three"], accumulate=2)
    np.testing.assert_allclose(losses, reference[0], rtol=TOLERANCE)


def test_the_loss_falls(reference):
    losses, now, *_ = reference
    assert losses[-1] < losses[0]
    assert int(now.step) == 5


def test_dropout_changes_with_the_step_and_frozen_parameters_do_not():
    # The same draw three times: only dropout and what still trains can change the loss.
    losses, now, metrics, start = curve(
        MESHES["one device"],
        task=fakes.FakeTask(dropout=0.5),
        draws=(0, 0, 0),
        **{"optimizer.freeze": ("trunk/.*",), "optimizer.lr": 1e-9},
    )
    assert np.ptp(losses) > 1e-3
    start = paths.flatten(start)
    for path, value in paths.flatten(now.params).items():
        assert path == "heads/words/kernel" or np.array_equal(value, start[path]), path
    assert set(metrics["group_norms"]) == {"heads/words"}


@pytest.mark.parametrize("over", ["data·fsdp", "fsdp"])
def test_moments_lie_where_their_parameters_do(over):
    config = fakes.config(shard_state=over != "fsdp")
    mesh = sharding.make_mesh(MESHES["all three"])
    maker = state.StateMaker(fakes.FakeTask(), config, fakes.batches(config, 0), mesh)
    specs = {path: x.sharding.spec for path, x in paths.flatten(maker.state).items()}
    layer = "trunk/layer_0"
    shared = "fsdp" if over == "fsdp" else ("data", "fsdp")
    expected = {
        f"{layer}/attention/query/kernel": P(shared, "tensor"),
        f"{layer}/attention/query/bias": P("tensor"),
        f"{layer}/attention/output/kernel": P("tensor", shared),
        f"{layer}/mlp/intermediate/kernel": P(shared, "tensor"),
        f"{layer}/mlp/output/kernel": P("tensor", shared),
        "trunk/embeddings/word/embedding": P("tensor", shared),
        "heads/words/kernel": P(shared, None),
    }
    for path, spec in expected.items():
        found = [specs[name] for name in specs if name.endswith(path)]
        assert found == [spec] * 3, (path, found)  # the parameter and its two moments


def test_what_does_not_divide_is_reported_once():
    mesh = sharding.make_mesh(dict(data=1, fsdp=2, tensor=4))
    tree = {"embeddings": {"word": {"embedding": np.zeros((30, 8))}}, "odd": np.zeros((3, 5))}
    state_like = {"params": tree, "opt": {"mean": tree, "square": tree}}
    heard = []
    found = sharding.of_state(state_like, mesh, heard.append)
    assert found["params"]["embeddings"]["word"]["embedding"].spec == P("fsdp", None)
    assert found["params"]["odd"].spec == P(None, None)
    assert len(heard) == 1
    assert heard[0].count("embedding: 30") == 1
    assert "odd" in heard[0]


def test_heads_that_are_cut_are_reported():
    heard = []
    model = ConfigDict(dict(heads=12, image=dict(heads=8), connect=dict(heads=8)))
    for size in (1, 2, 4):
        mesh = sharding.make_mesh(dict(data=-1, fsdp=1, tensor=size))
        sharding.report_heads(model, mesh, heard.append)
    assert not heard
    sharding.report_heads(model, sharding.make_mesh(dict(data=1, fsdp=1, tensor=8)), heard.append)
    assert len(heard) == 1
    assert "[12] attention heads do not divide by tensor=8" in heard[0]


def test_meshes_that_cannot_be():
    assert sharding.make_mesh(dict(data=-1, fsdp=2, tensor=2)).shape["data"] == 2
    for sizes in (
        dict(data=3, fsdp=1, tensor=1),
        dict(data=-1, fsdp=-1, tensor=1),
        dict(data=0, fsdp=1, tensor=1),
    ):
        with pytest.raises(ValueError, match="does not cover 8 devices"):
            sharding.make_mesh(sizes)
    with pytest.raises(ValueError, match="must have the axes"):
        sharding.make_mesh(dict(data=-1))


def test_batch_sizes_must_fill_devices_and_microbatches():
    mesh = sharding.make_mesh(dict(data=4, fsdp=2, tensor=1))
    sharding.check_batch_sizes({"a": 32}, mesh, 2)
    message = (
        r"(?s)config\.streams\.a\.batch_size.*a multiple of 16 = .* 8 x .* 2\n"
        r".*found: 24\n.*--config\.streams\.a\.batch_size=32"
    )
    with pytest.raises(ValueError, match=message):
        sharding.check_batch_sizes({"a": 24}, mesh, 2)


def test_masks_follow_seed_stream_draw_and_row():
    def keys(*args):
        return jax.random.key_data(step.row_keys(*args)).tolist()

    assert keys(0, "a", 3, 2) == keys(0, "a", 3, 4)[:2]
    seen = [keys(0, "a", 3, 1), keys(1, "a", 3, 1), keys(0, "b", 3, 1), keys(0, "a", 4, 1)]
    assert len({str(key) for key in seen}) == 4
