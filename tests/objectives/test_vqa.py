"""Question answering: the published model's numbers, and how a question is laid out."""

import types

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vqa as config_file
from input_pipeline.schema import SpecialIds
from objectives import vqa
from training.multitask import MultiTask
from vl_models import loading, torch_names

SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4, vocab_size=50)


def golden_task(meta, feature_dim):
    config = config_file.get_config("model=vlbert,size=base")
    config.dtype = "float32"
    config.model.update(
        hidden=meta["hidden_size"],
        layers=meta["num_hidden_layers"],
        heads=meta["num_attention_heads"],
        intermediate=meta["intermediate_size"],
        positions=meta["max_position_embeddings"],
    )
    config.objectives.vqa.classifier = {"mlm": "transform"}.get(
        meta["classifier_type"], meta["classifier_type"]
    )
    if meta["classifier_type"] == "2fc":
        config.objectives.vqa.width = meta["classifier_hidden_size"]
    config.streams.examples.update(max_text=24, max_regions=24, max_length=48)
    special = SpecialIds(0, 1, meta["cls_id"], meta["sep_id"], meta["mask_id"], meta["vocab_size"])
    spec = types.SimpleNamespace(feature_dim=feature_dim, num_classes=0, global_feature="mean")
    return MultiTask(config, special, spec, num_answers=meta["answer_vocab_size"])


class OneTable:
    """Stands for a text table with these questions."""

    def __init__(self, questions):
        self.questions = questions

    def gather(self, rows, width):
        ids = np.zeros((len(rows), width), np.int32)
        lengths = np.asarray([len(self.questions[row]) for row in rows], np.int32)
        for i, row in enumerate(rows):
            ids[i, : len(self.questions[row])] = self.questions[row][:width]
        return dict(ids=ids, word_starts=ids > 0, lengths=lengths)


def golden_batch(golden, special):
    boxes, scores = golden["in/boxes"], golden["in/label"]
    questions = [row[row > 0].tolist() for row in golden["in/question"]]
    width = golden["in/question"].shape[1] + 4
    texts = vqa.assemble_masked_answer(
        OneTable(questions), np.arange(len(questions)), special, width
    )
    return {key: jnp.asarray(value) for key, value in texts.items()} | dict(
        regions=jnp.asarray(boxes[:, None, :, 4:]),
        boxes=jnp.asarray(boxes[:, None, :, :4]),
        image_size=jnp.asarray(golden["in/im_info"][:, None, 1::-1]),
        region_mask=jnp.asarray(boxes[:, None, :, 0] > -1.5),
        answer_ids=jnp.broadcast_to(jnp.arange(scores.shape[1]), scores.shape),
        answer_scores=jnp.asarray(scores),
        _weight=jnp.ones(len(questions)),
    )


@pytest.mark.parametrize("path", golden_files.files("vlbert_vqa_*.npz"), ids=lambda path: path.stem)
def test_published_outputs_loss_and_gradients(path):
    golden = golden_files.Golden(path)
    kind = "vlbert_vqa" if golden.meta["classifier_type"] == "mlm" else "vlbert_vqa_2fc"
    task = golden_task(golden.meta, golden["in/boxes"].shape[-1] - 4)
    state = golden.state_dict(dict(torch_names.ALIASES[kind]))
    batch = golden_batch(golden, task.streams["examples"][0].facts.special)
    shapes = jax.eval_shape(lambda: task.init(jax.random.key(0), {"examples": batch}))
    params, new = loading.merge(shapes, torch_names.from_torch(kind, state))
    assert not new
    (one,) = task.streams["examples"]

    def loss_fn(params):
        outputs = task.outputs(params, "examples", batch)
        logits = one.logits(task.head(params, one.head_name), outputs, batch)
        return one.loss(logits, batch) / one.weight(batch), logits

    (loss, logits), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(params)
    golden.check_loss("ans_loss", loss)
    golden.check_output("label_logits", logits)
    flat = {k: np.asarray(v) for k, v in loading.flatten(grads).items()}
    golden.check_gradients(torch_names.to_torch(kind, flat))
    back = torch_names.to_torch(kind, torch_names.from_torch(kind, state))
    assert sorted(back) == sorted(state)
    assert all(np.array_equal(back[name], value) for name, value in state.items())


def test_layout_of_a_masked_answer():
    table = OneTable([[11, 12], [21, 22, 23, 24, 25]])
    out = vqa.assemble_masked_answer(table, np.array([0, 1]), SPECIAL, 8)
    assert out["text_ids"][:, 0].tolist() == [
        [2, 11, 12, 3, 4, 3, 0, 0],
        [2, 21, 22, 23, 24, 3, 4, 3],  # cut: five pieces do not fit
    ]
    assert out["segment_ids"][:, 0].tolist() == [[0, 0, 0, 0, 1, 1, 0, 0], [0] * 6 + [1, 1]]
    assert out["text_mask"].sum(-1).tolist() == [[6], [8]]
    assert out["answer_position"].tolist() == [[4], [6]]


def test_loss_and_accuracy_by_hand():
    block = config_file.get_config().objectives.vqa
    facts = types.SimpleNamespace(num_answers=3)
    task = vqa.Task("vqa", block, facts)
    logits = jnp.asarray([[2.0, -1.0, 0.5], [0.0, 3.0, 0.0], [9.0, 9.0, 9.0]])
    batch = dict(
        answer_ids=jnp.asarray([[0, 2], [1, 0], [0, 0]]),
        answer_scores=jnp.asarray([[0.3, 1.0], [0.9, 0.0], [1.0, 0.0]]),
        _weight=jnp.asarray([1.0, 1.0, 0.0]),  # the last row pads the batch
    )
    dense = np.asarray([[0.3, 0.0, 1.0], [0.0, 0.9, 0.0]])
    p = 1 / (1 + np.exp(-np.asarray(logits[:2], np.float64)))
    expected = -(dense * np.log(p) + (1 - dense) * np.log(1 - p)).sum()
    assert float(task.loss(logits, batch)) == pytest.approx(expected, rel=1e-6)
    assert float(task.weight(batch)) == 2
    score, weight = task.metrics(logits, batch)["vqa_accuracy"]
    assert (float(score), float(weight)) == (pytest.approx(0.3 + 0.9), 2)


def test_wrong_options_list_the_right_ones():
    block = config_file.get_config().objectives.vqa
    with pytest.raises(ValueError, match="needs a data set with an answer list"):
        vqa.Task("vqa", block, types.SimpleNamespace(num_answers=0))
    block.form = "guess"
    with pytest.raises(ValueError, match=r"form must be one of \('masked_answer', 'pooled'\)"):
        vqa.Task.assembler(block)
