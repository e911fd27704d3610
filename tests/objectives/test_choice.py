"""Multiple choice: VCR's published numbers, layout of choices, retrieval, object classes."""

import itertools

import golden_files
import golden_tasks
import jax.numpy as jnp
import made_objectives
import numpy as np
import pytest
from ml_collections import ConfigDict

from core.errors import DataError
from input_pipeline.schema import SpecialIds
from objectives import assemble, choice, object_class

SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4, vocab_size=50)
VCR = dict(
    weight=1.0, pairs="texts", choices=4, loss="softmax", dropout=0.1, head="choice",
    classifier="1fc", width=0, head_init="alignment", segment_b="copy",
    cut_first="question",
)  # fmt: skip
CLASSES = dict(weight=1.0, classes=81)


def make(**changes):
    return choice.Choice("choice", ConfigDict(VCR | changes), made_objectives.DATA_INFO)


def vcr_batch(golden):
    texts = []
    for question, answers in zip(golden["in/question"], golden["in/answer_choices"], strict=True):
        texts += [part[part[:, 0] > 0] for part in (question, *answers)]
    width = golden["in/question"].shape[1] + golden["in/answer_choices"].shape[2] + 3
    size = len(golden["in/question"])
    arrays = choice.Texts(4)(
        golden_tasks.Texts(texts),
        np.arange(size) * 5,
        golden_tasks.special_of(golden),
        width,
    )
    return golden_tasks.image_arrays(golden, padding=-1) | arrays | dict(
        label=jnp.asarray(golden["in/answer_label"], jnp.int32)[:, None],
        region_label=jnp.asarray(golden["in/object_classes"], jnp.int32)[:, None],
    )  # fmt: skip


@pytest.mark.parametrize("path", golden_files.files("vlbert_vcr*.npz"), ids=lambda path: path.stem)
def test_published_outputs_losses_and_gradients(path):
    golden = golden_files.Golden(path)
    loss = "sigmoid" if golden.meta["classifier_sigmoid"] else "softmax"
    blocks = dict(choice=VCR | dict(loss=loss))
    if golden.meta["cnn_reg_loss"]:
        blocks["object_class"] = CLASSES
    task = golden_tasks.task_of(golden, blocks, pooler=True)
    logits, means = golden_tasks.check_published(golden, "vlbert_vcr", task, vcr_batch(golden))
    golden.check_output("label_logits", logits["choice"])
    golden.check_loss("ans_loss", means["choice"])
    if golden.meta["cnn_reg_loss"]:
        golden.check_loss("cnn_regularization_loss", means["object_class"])


def test_layout_of_choices():
    table = golden_tasks.Texts([[(11, 0), (12, 2)], [(21, 1)], [(31, 0), (32, 3), (33, 0)]])
    out = choice.Texts(2)(table, np.array([0]), SPECIAL, 8)
    assert out["text_ids"].tolist() == [
        [[2, 11, 12, 3, 21, 3, 0, 0], [2, 11, 12, 3, 31, 32, 33, 3]]
    ]
    assert out["segment_ids"].tolist() == [[[0, 0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1]]]
    assert out["token_region"].tolist() == [[[0, 0, 2, 0, 1, 0, 0, 0], [0, 0, 2, 0, 0, 3, 0, 0]]]
    assert out["text_mask"].sum(-1).tolist() == [[6, 8]]
    assert np.array_equal(out["word_starts"], out["text_mask"])
    plain = golden_tasks.Texts([[11, 12], [21], [31, 32, 33]])
    assert "token_region" not in choice.Texts(2)(plain, np.array([0]), SPECIAL, 8)


def test_other_numbers_of_choices_are_refused():
    table = golden_tasks.Texts([[11, 12], [21], [31], [41]])
    with pytest.raises(DataError, match=r"(?s)number of choices.*'text 0'.*expected: 2.*found: 3"):
        choice.Texts(2)(table, np.array([0]), SPECIAL, 8)


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (2, 9, (2, 6)),
        (9, 2, (6, 2)),
        (9, 9, (4, 4)),
        (5, 4, (4, 4)),
        (4, 4, (4, 4)),
        (1, 1, (1, 1)),
    ],
)
def test_the_longer_part_is_cut(first, second, kept):
    table = golden_tasks.Texts([np.arange(first) + 10, np.arange(second) + 30])
    out = choice.Texts(1)(table, np.array([0]), SPECIAL, 11)
    ids = out["text_ids"][0, 0].tolist()
    one, two = kept
    expected = [2, *range(10, 10 + one), 3, *range(30, 30 + two), 3]
    assert ids == expected + [0] * (11 - len(expected))


def test_of_an_odd_room_the_question_gets_the_larger_half():
    table = golden_tasks.Texts([np.arange(9) + 10, np.arange(9) + 30])
    out = choice.Texts(1)(table, np.array([0]), SPECIAL, 10)
    assert out["text_ids"][0, 0].tolist() == [2, 10, 11, 12, 13, 3, 30, 31, 32, 3]


class Answered(golden_tasks.Texts):
    """A table of questions of `second` pieces with their answers, and one choice each."""

    def __init__(self, texts, second):
        super().__init__(texts)
        self.second = np.asarray([second, 0])

    def gather(self, rows, width):
        return super().gather(rows, width) | dict(second=self.second[rows])


def cut_as_vlbert(question, answer, rationale, limit):
    """The original's rule, piece by piece."""
    q, a, r = list(question), list(answer), list(rationale)
    while len(q) + len(a) + len(r) > limit:
        if len(r) > len(q) + len(a):
            r.pop()
        elif len(q) > 1:
            q.pop()
        else:
            a.pop()
    return [2, *q, *a, 3, *r, 3]


def test_an_answered_question_is_cut_as_vlbert_does():
    for room in (8, 9):
        for q, a, r in itertools.product((1, 3, 6, 20), (1, 2, 5, 9, 14), (1, 4, 5, 9, 30)):
            question, answer, rationale = (
                np.arange(n) + first for n, first in ((q, 100), (a, 200), (r, 300))
            )
            table = Answered([np.concatenate([question, answer]), rationale], q)
            out = choice.Texts(1, "question")(table, np.array([0]), SPECIAL, room + 3)
            expected = cut_as_vlbert(question, answer, rationale, room)
            assert out["text_ids"][0, 0, out["text_mask"][0, 0]].tolist() == expected
            assert out["segment_ids"].sum() == len(expected) - 1 - expected.index(3)
    # ViLBERT cuts the end of the longer part, whatever it is.
    table = Answered([np.arange(9) + 10, np.arange(9) + 30], 7)
    out = choice.Texts(1)(table, np.array([0]), SPECIAL, 10)
    assert out["text_ids"][0, 0].tolist() == [2, 10, 11, 12, 13, 3, 30, 31, 32, 3]


LOGITS = np.asarray([[0.5, -1.0, 2.0, 0.0], [1.0, 0.3, -0.2, 0.1], [0.0] * 4, [5.0, 0.0, 0.0, 0.0]])
LABELS = dict(  # the third has no label, the last pads the batch
    label=jnp.asarray([[2], [1], [-1], [0]]), _weight=jnp.asarray([1.0, 1.0, 1.0, 0.0])
)


def test_losses_and_accuracy_by_hand():
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    s = 1 / (1 + np.exp(-LOGITS))
    hot = np.eye(4)[[2, 1]]
    binary = -(hot * np.log(s[:2]) + (1 - hot) * np.log(1 - s[:2])).mean(-1).sum()
    for loss, expected in (("softmax", -np.log(p[0, 2] * p[1, 1])), ("sigmoid", binary)):
        task = make(loss=loss)
        assert float(task.loss(jnp.asarray(LOGITS), LABELS)) == pytest.approx(expected, rel=1e-6)
        assert float(task.weight(LABELS)) == 2
        right, weight = task.metrics(jnp.asarray(LOGITS), LABELS)["choice_accuracy"]
        assert (float(right), float(weight)) == (1, 2)
        assert [float(x) for x in task.guesses(LABELS)["choice_accuracy"]] == [0.5, 2]


def test_four_pairs_of_retrieval():
    task = make(pairs="retrieval", head="ranking", dropout=0.0)
    assert task.pairs == ((0, 0), (1, 0), (0, 1), (2, 0))
    assert task.head_name == "ranking"
    batch = dict(
        text_ids=jnp.zeros((2, 3, 5)), regions=jnp.zeros((2, 2, 4, 3)), _weight=jnp.ones(2)
    )
    assert task.corrupt(batch, made_objectives.keys())["label"].tolist() == [[0], [0]]
    assert choice.Choice.assembler(task.block) is assemble.caption
    with pytest.raises(ValueError, match=r"reads \{'M': 2\} of an example's 'regions'"):
        task.corrupt(batch | dict(regions=jnp.zeros((2, 1, 4, 3))), made_objectives.keys())
    with pytest.raises(ValueError, match=r"choices must be 4 with pairs='retrieval', found 3"):
        make(pairs="retrieval", choices=3)


def test_mentions_of_cut_regions_mean_the_whole_image():
    batch = dict(
        text_ids=jnp.zeros((1, 4, 3)),
        regions=jnp.zeros((1, 1, 4, 3)),
        region_mask=jnp.asarray([[[True, True, True, False]]]),
        token_region=jnp.asarray([[[0, 2, 3], [1, 4, 9], [0, 0, 0], [2, 2, 1]]]),
        label=jnp.zeros((1, 1), jnp.int32),
        _weight=jnp.ones(1),
    )
    out = make().corrupt(batch, made_objectives.keys())
    assert out["token_region"].tolist() == [[[0, 2, 0], [1, 0, 0], [0, 0, 0], [2, 2, 1]]]


def test_choices_need_labels_and_their_number_of_texts():
    batch = dict(
        text_ids=jnp.zeros((1, 3, 3)), regions=jnp.zeros((1, 1, 4, 3)), _weight=jnp.ones(1)
    )
    with pytest.raises(ValueError, match=r"reads \{'K': 4\} of an example's 'text_ids' \[B K T\]"):
        make().corrupt(batch, made_objectives.keys())
    with pytest.raises(ValueError, match=r"needs 'label' .number of the right choice or class"):
        make(choices=3).corrupt(batch, made_objectives.keys())


def test_object_classes_by_hand():
    task = object_class.ObjectClass(
        "object_class", ConfigDict(dict(weight=1.0, classes=3)), made_objectives.DATA_INFO
    )
    logits = np.random.RandomState(0).standard_normal((2, 4, 3, 3))  # B P R C
    logits[0, :3, 1] = [9.0, 0.0, 0.0]
    logits[0, 3, 1] = [0.0, 0.0, 9.0]
    batch = dict(
        region_label=jnp.asarray([[[-1, 2, 1]], [[0, 1, 2]]]),  # the first has no label
        region_mask=jnp.asarray([[[True, True, False]], [[True, True, True]]]),
        _weight=jnp.asarray([1.0, 0.0]),
    )
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log(p[0, :, 1, 2]).mean()  # one region, in all four pairs
    assert float(task.loss(jnp.asarray(logits), batch)) == pytest.approx(expected, rel=1e-6)
    assert float(task.weight(batch)) == 1
    right, weight = task.metrics(jnp.asarray(logits), batch)["object_class_accuracy"]
    assert (float(right), float(weight)) == (0.25, 1)
    assert task.warm_start() == {"heads/object_class/transform": "heads/masked_region/transform"}
    none = batch | dict(region_label=jnp.full((2, 1, 3), -1))
    assert float(task.loss(jnp.asarray(logits), none)) == float(task.weight(none)) == 0
    del batch["region_label"]
    with pytest.raises(ValueError, match="needs 'region_label'"):
        task.corrupt(batch, made_objectives.keys())


def test_predictions():
    task = make(loss="sigmoid")
    found = task.predictions(jnp.asarray(LOGITS), LABELS)
    rows = [{key: np.asarray(value)[i] for key, value in found.items()} for i in range(3)]
    first = task.describe(rows[0])
    shares = np.exp(LOGITS[0]) / np.exp(LOGITS[0]).sum()
    assert first == dict(
        choice=2, probabilities=pytest.approx(shares), logits=LOGITS[0].tolist(), label=2
    )
    assert "label" not in task.describe(rows[2])  # unknown
    assert task.predicts
    assert not make(pairs="retrieval").predicts  # its other pairs are drawn
