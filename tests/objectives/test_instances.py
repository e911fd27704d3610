"""Objectives are instances: two of a kind in one run, their heads, losses and metrics by name."""

import functools
import json
import types

import jax
import jax.numpy as jnp
import made_objectives
import numpy as np
import pytest

import objectives
from configs import common, models
from core.errors import ConfigError
from input_pipeline.schema import SpecialIds
from objectives import base, instances
from objectives.model import MultiTaskModel

SPECIAL = SpecialIds(0, 1, 2, 3, 4, 40)
SPEC = types.SimpleNamespace(feature_dim=6, num_classes=0, global_feature="mean")
ENTAILMENT = common.objective_block("classification", classes=3, loss="sigmoid")
NLVR2 = common.objective_block("classification", classes=2, images=2, classifier="transform")


def configure(streams: dict, blocks: dict):
    """A small ViLBERT; streams {name: names of objectives}."""
    made = {}
    for name, names in streams.items():
        made[name] = common.stream_block(names, batch_size=2)
        made[name].update(max_text=5, max_regions=4, max_length=9)
    config = common.experiment(
        models.block("vilbert", "mini", connections=1), "jsonl", made, blocks, {}
    )
    config.model.layers = 1
    config.model.connect.text_at = (0,)
    return config


def batch_of(images: int) -> dict:
    rs = np.random.RandomState(images)
    return dict(
        text_ids=jnp.asarray(rs.randint(5, 40, (2, 1, 5)), jnp.int32),
        text_mask=jnp.ones((2, 1, 5), bool),
        segment_ids=jnp.zeros((2, 1, 5), jnp.int32),
        regions=jnp.asarray(rs.standard_normal((2, images, 4, 6)), jnp.float32),
        boxes=jnp.asarray(np.sort(rs.uniform(0, 90, (2, images, 4, 4))), jnp.float32),
        region_mask=jnp.ones((2, images, 4), bool),
        image_size=jnp.full((2, images, 2), 100.0),
        label=jnp.asarray([[1], [0]], jnp.int32),
        _weight=jnp.ones(2),
    )


def test_two_objectives_of_one_kind_in_one_run():
    config = configure(
        dict(sentences=("entailment",), pairs=("nlvr2",)),
        dict(entailment=ENTAILMENT, nlvr2=NLVR2),
    )
    lists = dict(sentences=base.OutputLists(labels=("no", "maybe", "yes")))
    model = MultiTaskModel(config, SPECIAL, SPEC, lists)
    batch = dict(sentences=batch_of(1), pairs=batch_of(2))
    params = jax.jit(model.init)(jax.random.key(0), batch)
    assert sorted(params["heads"]) == ["entailment", "nlvr2"]
    assert params["heads"]["entailment"]["classifier"]["bias"].shape == (3,)
    assert params["heads"]["nlvr2"]["classifier"]["bias"].shape == (2,)
    assert model.head_specs["entailment"].names == ("no", "maybe", "yes")
    assert model.head_specs["nlvr2"].names == ()
    assert set(model.loss_scale) == {"sentences/entailment", "pairs/nlvr2"}
    metrics = {}
    for stream, arrays in batch.items():
        corrupted = model.corrupt(stream, arrays, jax.random.split(jax.random.key(0), 2))
        of_stream = functools.partial(model.sums, stream=stream, train=False)
        sums, found = jax.jit(of_stream)(params, batch=corrupted)
        metrics |= found
        assert all(np.isfinite(float(value)) for value in sums.values())
    assert {"sentences/entailment_accuracy", "pairs/nlvr2_accuracy"} <= set(metrics)


def test_metrics_keep_their_short_names_where_an_objective_has_its_kinds_name():
    block = common.lock(common.objective_block("masked_language"))
    data_info = made_objectives.DATA_INFO
    for name, metric in (("masked_language", "mlm_accuracy"), ("words", "words_accuracy")):
        objective = objectives.build(name, block, data_info)
        assert objective.head_name == name
        assert objective.metric("accuracy", "mlm") == metric


def test_objectives_share_a_head_only_where_it_is_the_same():
    blocks = dict(first=ENTAILMENT | dict(head="same"), second=ENTAILMENT | dict(head="same"))
    streams = dict(one=("first",), two=("second",))
    assert list(MultiTaskModel(configure(streams, blocks), SPECIAL, SPEC).heads) == ["same"]
    blocks["second"] = blocks["second"] | dict(classes=4)
    with pytest.raises(ConfigError, match=r"two objectives have a head 'same'.*\n.*second\.head"):
        MultiTaskModel(configure(streams, blocks), SPECIAL, SPEC)


def test_streams_name_objectives_that_there_are():
    with pytest.raises(
        ConfigError, match=r"(?s)config\.streams\.one\.objectives\n.*found: 'other'"
    ):
        MultiTaskModel(configure(dict(one=("other",)), dict(mine=ENTAILMENT)), SPECIAL, SPEC)


def test_heads_of_a_run_of_before_come_from_its_config():
    config = configure(
        dict(sentences=("classification",), captions=("masked_language",)),
        dict(classification=ENTAILMENT | dict(head="entailment"), **common.objective_blocks()),
    )
    lists = base.OutputLists(labels=("no", "maybe", "yes"))
    model = MultiTaskModel(config, SPECIAL, SPEC, dict.fromkeys(config.streams, lists))
    saved = json.loads(json.dumps(config.to_dict()))
    for name, block in saved["objectives"].items():
        del block["kind"]  # blocks were of the kind that they were called by
        if name != "classification":
            del block["head"]
    found = instances.saved_heads(saved, model.trunk, SPECIAL, SPEC, lists)
    assert found == model.head_specs
    assert sorted(found) == ["entailment", "masked_language"]
