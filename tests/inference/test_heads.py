"""Heads of opened checkpoints: built as their specs say, or as the published models have them."""

import golden_files
import jax.numpy as jnp
import numpy as np
import pytest

import inference
from checkpoints import published_model, share, sources
from configs import models
from inference.model import Model
from vl_models import heads, loading
from vl_models.published import heads as published_heads
from vl_models.published import names, translate

TEXTS = ("vqa", "gqa", "choice", "ranking")
REGIONS = ("masked_region", "grounding", "object_class")
FILES = {
    "vlbert": "vlbert_pretrain_multitask",
    "vlbert_vqa": "vlbert_vqa_mlm",
    "vlbert_vqa_2fc": "vlbert_vqa_2fc",
    "vlbert_refcoco": "vlbert_refcoco",
    "vlbert_vcr": "vlbert_vcr",
    "vilbert": "vilbert_vl_tasks",
    "single_stream": "vilbert_baseline_vl_tasks",
}


def guessed(trunk, name: str, params):
    """The head as it was told by its parameters before specs were."""
    sizes = trunk.region_sizes if name in REGIONS else trunk.sizes
    if name == "masked_language":
        return heads.MaskedLanguageHead(sizes)
    if "transform_direction" in params:
        width, outputs = (params[f"{n}_bias"].size for n in ("transform", "classifier"))
        return heads.WeightNormClassifier(sizes, outputs, width)
    outputs = params["classifier"]["bias"].size
    if "transform" not in params:
        return heads.Linear(sizes, outputs)
    norm, width = "norm" in params, params["transform"]["bias"].size
    activation = "relu" if name in TEXTS and not norm else "gelu"
    return heads.Classifier(sizes, outputs, width, norm=norm, activation=activation)


def test_every_published_kind_has_a_spec_for_each_of_its_heads():
    assert set(published_heads.HEADS) == set(names.RULES)
    for kind, rules in names.RULES.items():
        found = {rule.ours.split("/")[1] for rule in rules if rule.ours.startswith("heads/")}
        assert found == set(published_heads.HEADS[kind]), kind


@pytest.mark.parametrize("kind", sorted(FILES))
def test_published_heads_are_what_their_parameters_told(kind):
    golden = golden_files.Golden(golden_files.files(f"{FILES[kind]}.npz")[0])
    state = golden.state_dict(dict(translate.ALIASES[kind]))
    found = translate.translate(kind, state)
    source = sources.Source("x", kind, found.arrays, found.names)
    config = {"model": published_model.block(source, heads=golden.meta["num_attention_heads"])}
    specs = published_heads.specs(kind, found.arrays)
    model = Model(found.arrays, config, heads=specs)
    assert model.heads
    for name in model.heads:
        params = model.params["heads"][name]
        assert specs[name].build(model.trunk) == guessed(model.trunk, name, params), name
    # A folder of before says of its heads only which model it was published as.
    assert Model(found.arrays, config).head_specs == specs


def shared(folder, spec: heads.HeadSpec | None):
    """A small VL-BERT with one more head, as a folder; its arrays."""
    block = models.block("vlbert", "mini", pooler=True)
    block.update(layers=1)
    config = {"model": block}
    arrays = {
        "trunk/embeddings/word/embedding": np.zeros((30, 64), np.float32),
        "trunk/regions/mask": np.zeros(6, np.float32),
    }
    rs = np.random.RandomState(0)
    for part, shape in (("transform", (64, 8)), ("classifier", (8, 3))):
        arrays[f"heads/mine/{part}/kernel"] = rs.standard_normal(shape).astype(np.float32)
        arrays[f"heads/mine/{part}/bias"] = rs.standard_normal(shape[1]).astype(np.float32)
    specs = {"mine": spec} if spec else {}
    share.write(folder, share.Shared(arrays, config, {}, None, None, 1, "a test", specs))
    return arrays


def test_a_new_head_comes_back_from_a_shared_folder_as_it_was(tmp_path):
    options = dict(outputs=3, width=8, activation="relu")
    spec = heads.HeadSpec("classifier", "pooled", options, "labels", ("a", "b", "c"))
    arrays = shared(tmp_path / "folder", spec)
    model = inference.load(str(tmp_path / "folder"))
    assert model.head_specs == {"mine": spec}
    states = np.random.RandomState(1).standard_normal((5, 64)).astype(np.float32)
    parts = {path: array for path, array in arrays.items() if path.startswith("heads/")}
    params = loading.unflatten(parts)["heads"]["mine"]
    expected = spec.build(model.trunk).apply({"params": params}, jnp.asarray(states))
    assert np.array_equal(model.head("mine", states), np.asarray(expected))
    hidden = np.maximum(states @ params["transform"]["kernel"] + params["transform"]["bias"], 0)
    by_hand = hidden @ params["classifier"]["kernel"] + params["classifier"]["bias"]
    np.testing.assert_allclose(model.head("mine", states), by_hand, rtol=1e-4, atol=1e-4)


def test_a_head_that_nothing_describes_is_refused(tmp_path):
    shared(tmp_path / "folder", None)
    with pytest.raises((KeyError, sources.SourceError), match="mine"):
        inference.load(str(tmp_path / "folder"))


def test_specs_are_json_and_come_back():
    spec = heads.HeadSpec("linear", "pooled", dict(outputs=2, dropout=0.1), "answers", ("x", "y"))
    assert heads.specs({"mine": spec.to_dict()}) == {"mine": spec}
    with pytest.raises(ValueError, match="module must be one of"):
        heads.HeadSpec("mlp", "pooled")
    with pytest.raises(ValueError, match="reads must be one of"):
        heads.HeadSpec("linear", "words")
