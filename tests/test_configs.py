"""Every config, size and argument loads, builds its model and its optimizer."""

import importlib
import itertools
import pathlib
import types

import jax
import jax.numpy as jnp
import pytest

from configs import models
from input_pipeline.schema import SpecialIds
from training import optimizer
from training.multitask import MultiTask

PARTS = ("__init__", "common", "models")
FILES = sorted(
    p.stem
    for p in (pathlib.Path(__file__).parents[1] / "configs").glob("*.py")
    if p.stem not in PARTS
)
EXTRA = {
    "refcoco": ("", "model=vilbert", "data=refcoco"),
    "vqa": ("", "model=vilbert", "model=single_stream,data=vqa", "data=gqa"),
    "vlbert_pretrain": ("",),
    "vilbert_pretrain": (
        "",
        "model=single_stream",
        "objective=1",
        "objective=2",
        "bert_rate=0.1",
        "connections=1",
    ),
}
CASES = [
    (name, ",".join(filter(None, (f"size={size}", data, extra))))
    for name in FILES
    for size, data, extra in itertools.product(
        models.SIZES, ("", "data=jsonl") if name.endswith("pretrain") else ("",), EXTRA[name]
    )
    if size in ("mini", "base") or not (data or extra)
]


def batch_of(config):
    """Zeros in the shapes of every stream."""
    out = {}
    for name, block in config.streams.items():
        if not block.batch_size:
            continue
        ids = jnp.zeros((2, 2 if block.negatives else 1, block.max_text), jnp.int32)
        out[name] = dict(text_ids=ids, text_mask=ids > 0, segment_ids=ids, word_starts=ids > 0,
                         _weight=jnp.ones(2))  # fmt: skip
        if block.images:
            r = block.max_regions
            out[name] |= dict(
                regions=jnp.zeros((2, 1, r, 32)), boxes=jnp.zeros((2, 1, r, 4)),
                region_mask=jnp.zeros((2, 1, r), bool), image_size=jnp.ones((2, 1, 2)),
                num_detected=jnp.ones((2, 1), jnp.int32),
            )  # fmt: skip
        if "vqa" in block.objectives:
            out[name]["answer_position"] = jnp.zeros((2, 1), jnp.int32)
        if "grounding" in block.objectives:
            out[name]["region_iou"] = jnp.zeros((2, 1, block.max_regions))
    return out


@pytest.mark.parametrize(("name", "arg"), CASES)
def test_config_builds(name, arg):
    config = importlib.import_module(f"configs.{name}").get_config(arg)
    assert config.is_locked
    spec = types.SimpleNamespace(feature_dim=32, num_classes=11, global_feature="mean")
    task = MultiTask(config, SpecialIds(0, 1, 2, 3, 4, 100), spec, num_answers=7)
    params = jax.eval_shape(task.init, jax.random.key(0), batch_of(config))
    made = optimizer.make(config.optimizer, params, config.total_steps)
    assert float(made.rate(config.optimizer.warmup_steps)) == pytest.approx(config.optimizer.lr)
    named = {f"{s}/{one}" for s in task.streams for one in config.streams[s].objectives}
    assert set(task.loss_scale) == named
    for block in config.evals.values():
        assert block.stream in config.streams


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        ("size=huge", r"'size' must be one of \['base', 'large', 'mini', 'small'\], found 'huge'"),
        ("sise=mini", "'sise=mini' is not name=value with a name among"),
        ("mini", "'mini' is not name=value"),
    ],
)
def test_wrong_arguments_name_the_right_ones(arg, message):
    config = importlib.import_module("configs.vlbert_pretrain")
    with pytest.raises(ValueError, match=message):
        config.get_config(arg)


def test_misspelt_fields_are_errors():
    config = importlib.import_module("configs.vlbert_pretrain").get_config()
    with pytest.raises((KeyError, AttributeError)):
        config.optimizer.learning_rate = 1.0
    with pytest.raises(TypeError):
        config.optimizer.lr = "fast"


def test_rows_that_do_not_fit_are_refused():
    config = importlib.import_module("configs.vlbert_pretrain").get_config()
    spec = types.SimpleNamespace(feature_dim=32, num_classes=11, global_feature="mean")
    config.streams.captions.update(max_length=400, max_text=127)
    with pytest.raises(ValueError, match=r"needs 129 positions, config.model.positions is 128"):
        MultiTask(config, SpecialIds(0, 1, 2, 3, 4, 100), spec)
    config.streams.captions.update(max_length=20, max_text=30)
    with pytest.raises(ValueError, match="max_text 30 must not exceed max_length 20"):
        MultiTask(config, SpecialIds(0, 1, 2, 3, 4, 100), spec)
    config.streams.captions.batch_size = 0
    with pytest.raises(ValueError, match="nothing to train on"):
        MultiTask(config, SpecialIds(0, 1, 2, 3, 4, 100), spec)
