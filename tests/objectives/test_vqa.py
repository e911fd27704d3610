"""Question answering: the published model's numbers, and how a question is laid out."""

import types

import golden_files
import golden_tasks
import jax
import jax.numpy as jnp
import made_objectives
import numpy as np
import pytest

from configs import vqa as config_file
from input_pipeline.schema import SpecialIds
from objectives import base, vqa
from objectives.model import MultiTaskModel

LISTS = base.OutputLists(answers=("yes", "no", "red"))
SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4, vocab_size=50)


@pytest.mark.parametrize("path", golden_files.files("vlbert_vqa_*.npz"), ids=lambda path: path.stem)
def test_published_outputs_loss_and_gradients(path):
    golden = golden_files.Golden(path)
    block = config_file.get_config("model=vlbert,size=base").objectives.vqa.to_dict()
    kind = "vlbert_vqa"
    if golden.meta["classifier_type"] == "2fc":
        kind = "vlbert_vqa_2fc"
        block.update(
            classifier="2fc", classifier_init="random", width=golden.meta["classifier_hidden_size"]
        )
    scores = golden["in/label"]
    task = golden_tasks.task_of(golden, {"vqa": block}, num_answers=scores.shape[1])
    questions = [row[row > 0].tolist() for row in golden["in/question"]]
    batch = golden_tasks.image_arrays(golden, padding=-2) | vqa.assemble_masked_answer(
        golden_tasks.Texts(questions),
        np.arange(len(questions)),
        golden_tasks.special_of(golden),
        golden["in/question"].shape[1] + 4,
    )
    batch["answer_ids"] = jnp.broadcast_to(jnp.arange(scores.shape[1]), scores.shape)
    batch["answer_scores"] = jnp.asarray(scores)
    batch = jax.tree.map(jnp.asarray, batch)
    logits, means = golden_tasks.check_published(golden, kind, task, batch)
    golden.check_loss("ans_loss", means["vqa"])
    golden.check_output("label_logits", logits["vqa"])

    # In training the head drops states out, although the trunk's own dropout is off.
    states = {"text": jnp.ones((len(scores), 20, golden.meta["hidden_size"]))}
    params = jax.jit(task.init)(jax.random.key(0), {golden_tasks.STREAM: batch})
    (one,) = task.streams[golden_tasks.STREAM]

    def head_logits(**how):
        return one.logits(task.head(params, "vqa", **how), states, batch)

    still, again = head_logits(), head_logits(train=True, dropout_rng=jax.random.key(1))
    assert not np.allclose(still, again)
    assert np.allclose(still, head_logits(train=False))


def test_layout_of_a_masked_answer():
    table = golden_tasks.Texts([[11, 12], [21, 22, 23, 24, 25]])
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
    task = vqa.AnswerQuestions("vqa", block, made_objectives.data_info(lists=LISTS))
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
    # Always "red" is right by 1.0, always "no" by 0.9.
    sums, weight = task.guesses(batch)["vqa_accuracy"]
    assert (sums.tolist(), float(weight)) == (pytest.approx([0.3, 0.9, 1.0]), 2)
    assert (task.loss_terms, task.mean_loss) == ((3, "answer"), "vqa_loss_per_answer")
    assert task.headings()["vqa"].text == "loss of vqa, sum over 3 answers"


def test_questions_without_answers_count_nowhere():
    block = config_file.get_config().objectives.vqa
    task = vqa.AnswerQuestions("vqa", block, made_objectives.data_info(lists=LISTS))
    logits = jnp.asarray([[2.0, -1.0, 0.5], [0.0, 3.0, 0.0]])
    batch = dict(
        answer_ids=jnp.asarray([[-1, 0], [-1, 0]]),
        answer_scores=jnp.zeros((2, 2)),
        _weight=jnp.ones(2),
    )
    assert float(task.loss(logits, batch)) == float(task.weight(batch)) == 0
    assert [float(x) for x in task.metrics(logits, batch)["vqa_accuracy"]] == [0, 0]
    # An answer that is not listed is wrong, whatever is predicted.
    batch["answer_ids"] = batch["answer_ids"].at[1].set(0)
    assert [float(x) for x in task.metrics(logits, batch)["vqa_accuracy"]] == [0, 1]


def test_data_without_an_answer_list_are_refused():
    block = config_file.get_config().objectives.vqa
    with pytest.raises(ValueError, match="needs a data set with an answer list"):
        vqa.AnswerQuestions("vqa", block, made_objectives.DATA_INFO)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(max_length=31), r"needs its texts whole.*max_text \+ max_regions = 32"),
        (dict(flip="boxes"), r"flip must be 'off' with vqa, whose answers are not mirrored"),
    ],
)
def test_options_that_would_spoil_answers_are_refused(change, message):
    config = config_file.get_config()
    spec = types.SimpleNamespace(feature_dim=6, num_classes=0, global_feature="mean")
    MultiTaskModel(config, SPECIAL, spec, dict(examples=LISTS))
    config.streams.examples.update(change)
    with pytest.raises(ValueError, match=message):
        MultiTaskModel(config, SPECIAL, spec, dict(examples=LISTS))


def test_predictions_name_the_best_answers():
    task = vqa.AnswerQuestions.__new__(vqa.AnswerQuestions)  # neither reads the block
    logits = jnp.asarray([[0.0, -1.0, 3.0, 0.5, 1.0, 2.0, -2.0], [0.0] * 7])
    found = task.predictions(logits, {})
    row = {key: np.asarray(value)[0] for key, value in found.items()}
    described = task.describe(row, tuple("abcdefg"))
    shares = [pytest.approx(1 / (1 + np.exp(-x))) for x in (3, 2, 1, 0.5, 0)]
    assert described["top"] == [list(pair) for pair in zip("cfeda", shares, strict=True)]
    assert (described["answer"], described["probability"]) == ("c", shares[0])
    few = task.predictions(logits[:, :2], {})
    assert few["answers"].tolist() == [[0, 1], [0, 1]]
