"""Classes of pooled states: losses by hand, heads of ViLBERT, and pairs run through the trunks."""

import types

import jax
import jax.numpy as jnp
import made_objectives
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import common, models
from input_pipeline.schema import SpecialIds
from objectives import choice, classification
from objectives.model import MultiTaskModel
from vl_models import heads, layers

ENTAILMENT = dict(
    weight=1.0, classes=3, images=1, classifier="1fc", dropout=0.0, loss="sigmoid",
    head="entailment",
)  # fmt: skip
NLVR2 = ENTAILMENT | dict(classes=2, images=2, classifier="transform", head="nlvr2")
CHOICE = dict(
    weight=1.0, pairs="texts", choices=3, loss="softmax", dropout=0.0, head="ranking",
    classifier="1fc", width=0, head_init="random", segment_b="as_loaded",
)  # fmt: skip
CLASSES = dict(weight=1.0, classes=5)


def make(block=ENTAILMENT, **changes):
    data_info = made_objectives.DATA_INFO
    return classification.Classification("classification", ConfigDict(block | changes), data_info)


def test_losses_and_accuracy_by_hand():
    logits = np.asarray([[0.5, -1.0, 2.0], [1.0, 0.3, -0.2], [0.0, 1.0, 0.0], [9.0, 9.0, 9.0]])
    batch = dict(  # the third has no label, the last pads the batch
        label=jnp.asarray([[0], [0], [-1], [1]]), _weight=jnp.asarray([1.0, 1.0, 1.0, 0.0])
    )
    s = 1 / (1 + np.exp(-logits[:2]))
    hot = np.eye(3)[[0, 0]]
    binary = -(hot * np.log(s) + (1 - hot) * np.log(1 - s)).sum() / 3
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for loss, expected in (("sigmoid", binary), ("softmax", -np.log(p[0, 0] * p[1, 0]))):
        task = make(loss=loss)
        assert float(task.loss(jnp.asarray(logits), batch)) == pytest.approx(expected, rel=1e-6)
        assert float(task.weight(batch)) == 2
        right, weight = task.metrics(jnp.asarray(logits), batch)["classification_accuracy"]
        assert (float(right), float(weight)) == (1, 2)
    none = batch | dict(label=jnp.full((4, 1), -1))
    assert float(task.loss(jnp.asarray(logits), none)) == float(task.weight(none)) == 0


def test_guesses_by_hand():
    batch = dict(
        label=jnp.asarray([[0], [0], [2], [-1], [1]]), _weight=jnp.asarray([1.0, 1, 1, 1, 0])
    )
    sums, weight = make(classes=3).guesses(batch)["classification_accuracy"]
    assert (sums.tolist(), float(weight)) == ([2, 0, 1], 3)


def test_examples_without_label_or_with_one_image_are_refused():
    batch = dict(
        label=jnp.zeros((1, 1)), text_ids=jnp.zeros((1, 1, 4)), regions=jnp.zeros((1, 1, 2, 3))
    )
    with pytest.raises(ValueError, match=r"reads \{'M': 2\} of an example's 'regions'.*'M': 1"):
        make(NLVR2).corrupt(batch, made_objectives.keys())


def test_heads_are_the_published_ones():
    """The modules that ViLBERT's golden files hold (tests/vl_models)."""
    text, image = layers.LayerSizes(8, 2, 16), layers.LayerSizes(6, 2, 12)
    trunk = made_objectives.MadeTrunk(text, image, pooled_width=10)
    assert make().head(trunk).build(trunk) == heads.Linear(text, 3)
    assert make(NLVR2).head(trunk).build(trunk) == heads.Classifier(text, 2, 20, norm=True)
    ranking = choice.Choice("choice", ConfigDict(CHOICE), made_objectives.DATA_INFO)
    assert ranking.head(trunk).build(trunk) == heads.Linear(text, 1)
    assert [make().head_name, make(NLVR2).head_name, ranking.head_name] == [
        "entailment",
        "nlvr2",
        "ranking",
    ]
    assert make(NLVR2).pairs == ((0, 0), (0, 1))


def tiny(model: str, blocks: dict) -> MultiTaskModel:
    """A small model with the objectives of `blocks` on one stream."""
    stream = common.stream_block(tuple(blocks), batch_size=2)
    stream.update(max_text=5, max_regions=4, max_length=9)
    size = models.block(model, "mini", connections=1, pooler=True)
    config = common.experiment(size, "jsonl", dict(examples=stream), blocks, {})
    config.model.layers = 1
    if model == "vilbert":
        config.model.connect.text_at = (0,)
    spec = types.SimpleNamespace(feature_dim=6, num_classes=0, global_feature="mean")
    return MultiTaskModel(config, SpecialIds(0, 1, 2, 3, 4, 40), spec)


def batch_of(texts: int, images: int) -> dict:
    """Two random examples; the second's last image and text are shorter."""
    rs = np.random.RandomState(0)
    text_mask, region_mask = np.ones((2, texts, 5), bool), np.ones((2, images, 4), bool)
    text_mask[1, -1, 3:] = region_mask[1, -1, 2:] = False
    return dict(
        text_ids=jnp.asarray(rs.randint(5, 40, (2, texts, 5)) * text_mask, jnp.int32),
        text_mask=jnp.asarray(text_mask),
        segment_ids=jnp.zeros((2, texts, 5), jnp.int32),
        regions=jnp.asarray(rs.standard_normal((2, images, 4, 6)), jnp.float32),
        boxes=jnp.asarray(np.sort(rs.uniform(0, 90, (2, images, 4, 4))), jnp.float32),
        region_mask=jnp.asarray(region_mask),
        image_size=jnp.full((2, images, 2), 100.0),
        region_label=jnp.asarray(rs.randint(0, 5, (2, images, 4)), jnp.int32),
        label=jnp.asarray([[1], [0]], jnp.int32),
        _weight=jnp.ones(2),
    )


def run(task, batch):
    """Random parameters, losses and metrics of one step, and the stream's pooled states."""
    shapes = jax.eval_shape(task.init, jax.random.key(0), {"examples": batch})
    rs = np.random.RandomState(1)
    params = jax.tree.map(lambda x: jnp.asarray(rs.normal(0, 0.2, x.shape), x.dtype), shapes)

    @jax.jit
    def step(batch):  # the trunk that is run twice is compiled as one
        batch = task.corrupt("examples", batch, jax.random.split(jax.random.key(0), 2))
        sums, metrics = task.sums(params, "examples", batch, train=False)
        return sums, metrics, task.outputs(params, "examples", batch)["pooled"]

    return params, *step(batch)


@pytest.mark.parametrize("model", ["vlbert", "vilbert"])
def test_two_images_of_an_example(model):
    task, batch = tiny(model, dict(classification=NLVR2)), batch_of(1, 2)
    params, sums, metrics, pooled = run(task, batch)
    width = task.trunk.pooled_width
    kernel = params["heads"]["nlvr2"]["transform"]["kernel"]
    assert kernel.shape == (2 * width, 2 * width)
    assert pooled.shape == (4, width)  # example 0 with its first and second image, then example 1
    logits = task.head(params, "nlvr2")(jnp.concatenate([pooled[::2], pooled[1::2]], -1))
    loss = task.streams["examples"][0].loss(logits, batch)
    assert float(sums["examples/classification"]) == pytest.approx(float(loss), rel=1e-5)
    # Filled places: texts twice, each image once, and an [END] a row where rows are packed.
    end = int(task.trunk.packs)
    real, places = metrics["examples/filled"]
    assert float(real) == 2 * (5 + 3) + (4 + 4 + 4 + 2) + 4 * end
    assert float(places) == 4 * (9 + end)


def test_three_texts_with_two_losses_on_one_stream():
    task = tiny("vlbert", dict(choice=CHOICE, object_class=CLASSES))
    batch = batch_of(3, 1)
    params, sums, metrics, pooled = run(task, batch)
    assert pooled.shape[0] == 6
    assert sorted(params["heads"]) == ["object_class", "ranking"]
    weights = task.weights("examples", batch)
    assert float(weights["examples/choice"]) == 2
    assert float(weights["examples/object_class"]) == 4 + 2
    scores = task.head(params, "ranking")(pooled).reshape(2, 3)
    expected = task.streams["examples"][0].loss(scores, batch)
    assert float(sums["examples/choice"]) == pytest.approx(float(expected), rel=1e-5)
    assert float(sums["examples/object_class"]) > 0
    assert float(metrics["examples/choice_accuracy"][1]) == 2


def test_objectives_of_a_stream_must_pair_alike():
    with pytest.raises(ValueError, match=r"pair texts and images differently: .*choice \(\(0, 0\)"):
        tiny("vilbert", dict(choice=CHOICE, classification=ENTAILMENT))


def test_vlbert_needs_its_pooler():
    task = make()
    with pytest.raises(ValueError, match=r"set config.model.pooler=True"):
        task.logits(lambda x: x, {"text": jnp.zeros((2, 3, 4))}, {})


def test_predictions():
    logits = jnp.asarray([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    batch = dict(label=jnp.asarray([[0], [-1]]))
    e = np.exp([0.0, 2.0, 1.0])
    for loss, expected in (("softmax", e / e.sum()), ("sigmoid", e / (1 + e))):
        task = make(loss=loss)
        found = task.predictions(logits, batch)
        rows = [{key: np.asarray(value)[i] for key, value in found.items()} for i in range(2)]
        told = {"activation": "sigmoid"} if loss == "sigmoid" else {}
        assert task.describe(rows[0], ("no", "maybe", "yes")) == told | {
            "class": 1, "name": "maybe", "probabilities": pytest.approx(expected), "label": 0
        }  # fmt: skip
        assert task.describe(rows[1]).keys() == {*told, "class", "probabilities"}
