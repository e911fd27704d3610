"""Parameters that are split are gathered once an evaluation; its programs send no more."""

import types

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import vilbert_pretrain, vlbert_pretrain
from evaluation import evaluate as evaluation
from evaluation import predict
from evaluation.evaluators import losses
from input_pipeline.schema import SpecialIds
from objectives.model import MultiTaskModel
from runtime import sharding
from tests.training.test_meshes import SPEC, configure, made_up
from training import modes, starts, state
from training.parts import Parts
from training.planning import collectives


class Recorder:
    """Keeps the parameters that it is to evaluate."""

    def run(self, params):
        self.params = params
        return {"seen": 1.0}


def evaluate(mesh, params):
    """What evaluators of these parameters are given."""
    recorder = Recorder()
    with jax.set_mesh(mesh):
        metrics = evaluation.metrics_of({"recorder": recorder}, params)
    assert metrics == {"evals/recorder/seen": 1.0}
    return recorder.params


def build(module, shard_state=True, **sizes):
    """(mesh, task, parameters, a batch of captions), small, on eight devices."""
    config = configure(module)
    config.shard_state = shard_state
    task, batch = MultiTaskModel(config, SpecialIds(0, 1, 2, 3, 4, 64), SPEC), made_up(config, 0)
    mesh = sharding.make_mesh(dict(data=1, fsdp=1, tensor=1) | sizes)
    with jax.set_mesh(mesh):
        params = state.StateMaker(task, config, batch, mesh).fresh().params
    return mesh, task, params, sharding.place(batch, mesh)["captions"]


@pytest.mark.parametrize(
    "module",
    [pytest.param(m, marks=pytest.mark.slow) for m in (vlbert_pretrain, vilbert_pretrain)],
    ids=["vlbert", "vilbert"],
)
def test_a_batch_of_an_evaluation_moves_no_parameters(module):
    mesh, task, params, batch = build(module, fsdp=8)
    given = evaluate(mesh, params)
    jax.tree.map(np.testing.assert_array_equal, given, params)
    made = losses.Evaluator(types.SimpleNamespace(stream="captions"), task, None, None, 0)
    step = jax.jit(made.measure)

    def sent(params):
        with jax.set_mesh(mesh):
            program = step.lower(params, batch).compile()
        return sum(one.bytes * one.times for one in collectives.find(program.as_text(), mesh))

    size = sum(x.nbytes for x in jax.tree.leaves(params))
    assert sent(params) > size / 2  # what it is for
    assert sent(given) < 1000  # sums of losses
    assert _pointers(evaluate(mesh, given)) == _pointers(given)


def test_predictions_are_of_gathered_parameters(monkeypatch, tmp_path):
    mesh, _, params, _ = build(vlbert_pretrain, data=8)
    given = []
    monkeypatch.setattr(starts, "trained", lambda *_: (params, 1, "a checkpoint"))
    monkeypatch.setattr(predict, "write", lambda workdir, found, params: given.append(params))
    monkeypatch.setattr(predict, "labelled", lambda stream: False)
    one = types.SimpleNamespace(stream=None)
    parts = Parts(None, {}, None, {}, predictors=lambda: {"captions": one})
    config = ConfigDict(dict(predict=dict(examples=0)))
    modes.predict(config, tmp_path, parts, mesh)
    assert _pointers(given[0]) == _pointers(evaluate(mesh, given[0]))
    assert _pointers(given[0]) != _pointers(params)


def test_whole_parameters_are_not_copied():
    mesh, _, params, _ = build(vlbert_pretrain, shard_state=False, data=8)
    assert _pointers(evaluate(mesh, params)) == _pointers(params)


def _pointers(params):
    return [
        shard.data.unsafe_buffer_pointer()
        for x in jax.tree.leaves(params)
        for shard in x.addressable_shards
    ]
