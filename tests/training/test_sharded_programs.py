"""The compiled train step of both models on meshes of eight: what a device holds and sends."""

import functools

import jax
import numpy as np
import pytest

from configs import vilbert_pretrain, vlbert_pretrain
from input_pipeline.schema import SpecialIds
from objectives.model import MultiTaskModel
from runtime import paths, sharding
from tests.training import fakes
from tests.training.test_meshes import SPEC, configure, made_up
from training import state, step
from training.planning import collectives, step_program

ROWS = 64
CONFIGS = {"vlbert": vlbert_pretrain, "vilbert": vilbert_pretrain}
MESHES = {
    "single": (1, 1, 1),
    "data": (8, 1, 1),
    "fsdp": (1, 8, 1),
    "tensor": (1, 1, 8),
    "all": (2, 2, 2),
}
slow = pytest.mark.slow


class Program:
    """A train step, compiled for one mesh.

    Attributes:
      maker: its `StateMaker`; memory: XLA's figures; rows: of `collectives.totals`; found: all.
    """

    def __init__(self, task, config, batch, sizes):
        devices = jax.devices()[: int(np.prod(sizes))]
        self.mesh = sharding.make_mesh(dict(zip(sharding.AXES, sizes, strict=True)), devices)
        with jax.set_mesh(self.mesh):
            self.maker = state.StateMaker(task, config, batch, self.mesh)
            self.batch = sharding.shapes_of(batch, self.mesh)
            train = step.make_train_step(
                task, self.maker.optimizer, self.mesh,
                jax.tree.map(lambda x: x.sharding, self.maker.state),
                seed=0, accumulate=config.optimizer.accumulate,
                reduce_dtype=config.reduce_dtype,
            )  # fmt: skip
            draws = {name: jax.ShapeDtypeStruct((), np.int32) for name in batch}
            compiled = train.lower(self.maker.state, self.batch, draws).compile()
        self.memory = compiled.memory_analysis()
        self.found = collectives.find(compiled.as_text(), self.mesh)
        self.rows = collectives.totals(self.found)
        self.parameters = sum(4 * x.size for x in jax.tree.leaves(self.maker.params))

    def state_bytes(self) -> int:
        """Parameters and optimizer state on a device; XLA's program takes as much."""
        state_bytes = step_program.bytes_of(self.maker.state)
        taken = self.memory.argument_size_in_bytes - step_program.bytes_of(self.batch)
        assert taken == pytest.approx(state_bytes, rel=0.05)  # it drops what no step reads
        return state_bytes

    def bytes(self, kind: str, axes: str | None = None) -> int:
        return sum(
            row["bytes"] for row in self.rows
            if row["kind"] == kind and axes in (None, row["axes"])
        )  # fmt: skip


@functools.cache
def program(name: str, mesh: str, shard_state: bool = True) -> Program:
    """One layer of a real model, with heads that eight devices can split."""
    config = configure(CONFIGS[name])
    config.shard_state = shard_state
    config.model.update(heads=8, layers=1)
    if "image" in config.model:
        config.model.image.update(heads=8, layers=1)
        config.model.connect.update(heads=8, text_at=(0,), image_at=(0,))
    config.streams.captions.batch_size = ROWS
    task = MultiTaskModel(config, SpecialIds(0, 1, 2, 3, 4, 64), SPEC)
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((ROWS, *x.shape[1:]), x.dtype), made_up(config, 0)
    )
    return Program(task, config, batch, MESHES[mesh])


@functools.cache
def stand_in(mesh: str, shard_state: bool = True) -> Program:
    """A small model with the parts that rules split, for tests that are to be fast."""
    config = fakes.config(shard_state=shard_state)
    return Program(fakes.FakeTask(), config, fakes.batches(config, 0), MESHES[mesh])


def check_copied(split: Program, whole: Program) -> None:
    assert split.state_bytes() == whole.state_bytes()
    assert {row["axes"] for row in split.rows} == {"data"}
    # A few parameters of ViLBERT have no gradient.
    assert 0.9 * split.parameters < split.bytes("all-reduce") < 3 * split.parameters


def check_split(split: Program, whole: Program) -> None:
    """By eight devices that share a batch."""
    assert 1 / 8 <= split.state_bytes() / whole.state_bytes() < 1 / 5  # vectors stay whole
    # Parameters are gathered once; their gradients are summed, activations stay where they are.
    assert 0.7 < split.bytes("all-gather") / split.parameters < 1.3
    summed = split.bytes("all-reduce") + split.bytes("reduce-scatter")
    assert 0.9 * split.parameters < summed < 3 * split.parameters
    assert {row["kind"] for row in split.rows} <= {"all-gather", "all-reduce", "reduce-scatter"}


def test_a_copied_state_only_sums_gradients():
    check_copied(stand_in("data", shard_state=False), stand_in("single"))


@pytest.mark.parametrize("mesh", ["data", "fsdp"])
def test_the_state_is_split_and_parameters_are_gathered_for_use(mesh):
    check_split(stand_in(mesh), stand_in("single"))


@slow
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_the_models_with_a_copied_state(name):
    split, whole = program(name, "data", shard_state=False), program(name, "single")
    check_copied(split, whole)
    assert split.memory.temp_size_in_bytes < whole.memory.temp_size_in_bytes / 4


@slow
@pytest.mark.parametrize("mesh", ["data", "fsdp"])
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_the_models_with_a_split_state(name, mesh):
    split, whole = program(name, mesh), program(name, "single")
    check_split(split, whole)
    assert split.memory.temp_size_in_bytes < whole.memory.temp_size_in_bytes / 4


def sums_over_tensor(name: str, rows: int) -> int:
    """Bytes of the states that Megatron's pattern adds up over `tensor`, float32 of width 32.

    Forward one sum a block, backward one for each product that reads the block's input: one of a
    feed-forward, three of an attention. The rest is the words' look-up in the split table.
    """
    words = rows * 8 * 32 * 4
    if name == "vlbert":
        return (2 + 1 + 3) * rows * 13 * 32 * 4 + words
    regions = rows * 6 * 32 * 4
    return 2 * (2 + 1 + 3) * (words + regions) + words  # a layer and a connection in each stream


def check_tensor(name: str, split: Program) -> None:
    rows = ROWS // (split.mesh.shape["data"] * split.mesh.shape["fsdp"])
    least = rows * 6 * 32 * 4
    large = [one for one in split.found if one.axes == ("tensor",) and one.bytes >= least]
    assert {one.kind for one in large} == {"all-reduce"}
    assert sum(one.bytes for one in large) == pytest.approx(sums_over_tensor(name, rows), rel=0.05)
    for path, x in paths.flatten(split.maker.params).items():
        if path.endswith("/kernel") and ("attention/" in path or "mlp/" in path):
            shard = np.prod(x.sharding.shard_shape(x.shape))
            assert split.mesh.size * shard == x.size, path


@slow
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_the_models_under_tensor(name):
    split = program(name, "tensor")
    check_tensor(name, split)
    assert split.state_bytes() < 0.7 * program(name, "single").state_bytes()


@slow
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_the_models_under_all_three(name):
    split, whole = program(name, "all"), program(name, "single")
    check_tensor(name, split)
    # A quarter of each matrix that has no part along `tensor`, an eighth of each that has.
    assert 1 / 8 < split.state_bytes() / whole.state_bytes() < 1 / 3
    assert split.memory.temp_size_in_bytes < whole.memory.temp_size_in_bytes / 2
    gathered = split.bytes("all-gather", "data·fsdp")
    assert split.parameters / 2 < gathered < 1.2 * split.parameters
    moved = split.bytes("all-to-all") + split.bytes("collective-permute")
    assert moved < 0.02 * split.parameters
