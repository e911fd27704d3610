"""Referring expressions: the published model's numbers, losses and overlaps by hand."""

import golden_files
import golden_tasks
import jax.numpy as jnp
import made_objectives
import numpy as np
import pytest
from ml_collections import ConfigDict

from objectives import assemble, grounding

VLBERT = dict(
    weight=1.0,
    classifier="transform",
    dropout=0.0,
    target="binary",
    normalize="candidates",
    hit="at_least_half",
)
VILBERT = VLBERT | dict(
    classifier="1fc", dropout=0.1, target="soft", normalize="examples", hit="over_half"
)


def make(block=VLBERT, **changes):
    return grounding.Grounding("grounding", ConfigDict(block | changes), made_objectives.DATA_INFO)


def test_published_outputs_loss_gradients_and_boxes():
    golden = golden_files.Golden(golden_files.files("vlbert_refcoco.npz")[0])
    task = golden_tasks.task_of(golden, dict(grounding=VLBERT))
    expressions = golden_tasks.Texts([row[row > 0] for row in golden["in/expression"]])
    special, width = golden_tasks.special_of(golden), golden["in/expression"].shape[1] + 2
    label = golden["in/label"]
    rows = np.arange(len(label))
    texts = assemble.caption(expressions, rows, special, width)
    batch = golden_tasks.image_arrays(golden, padding=-2) | texts
    # An overlap of 0 everywhere would mean that the box is unknown.
    batch["region_iou"] = jnp.asarray(np.maximum(label, 0.01), jnp.float32)[:, None]
    np.testing.assert_array_equal(batch["region_mask"][:, 0], label >= 0)
    logits, means = golden_tasks.check_published(golden, "vlbert_refcoco", task, batch)
    golden.check_loss("cls_loss", means["grounding"])
    logits = logits["grounding"]
    golden.check_output("label_logits", logits)  # padded rows, too: the head of a zero state

    def boxes_of(chosen):
        boxes = golden["in/boxes"][rows, chosen, :4]
        return boxes / golden["in/im_info"][:, [2, 3, 2, 3]]

    # The original lets padded rows win; here none can.
    theirs, ours = np.argmax(logits, -1), np.asarray(grounding.best(logits, batch))
    golden.check_output("pred_boxes", boxes_of(theirs))
    real = np.where(label >= 0, golden["out/label_logits"], -np.inf)
    assert ours.tolist() == real.argmax(-1).tolist()
    agreed = label[rows, theirs] >= 0
    assert np.array_equal(ours[agreed], theirs[agreed])
    score, weight = task.streams["examples"][0].metrics(logits, batch)["grounding_accuracy"]
    assert float(score) == (label[rows, ours] >= 0.5).sum()
    assert float(weight) == len(rows)


LOGITS = np.asarray([[0.5, -1.0, 2.0, 9.0], [1.0, 0.3, -0.2, 0.1], [5.0, 5.0, 5.0, 5.0]])
OVERLAP = np.asarray([[0.2, 0.6, 0.5, 0.0], [0.1, 0.0, 0.3, 0.4], [1.0, 1.0, 1.0, 1.0]])
MASK = np.asarray([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1]], bool)


def batch_by_hand():
    """Two expressions, the second without a fitting candidate, and a row that pads the batch."""
    return dict(
        region_iou=jnp.asarray(OVERLAP, jnp.float32)[:, None],
        region_mask=jnp.asarray(MASK)[:, None],
        _weight=jnp.asarray([1.0, 1.0, 0.0]),
    )


def bce(x, y):
    p = 1 / (1 + np.exp(-x))
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def test_losses_by_hand():
    batch = batch_by_hand()
    task = make(VLBERT)  # exactly a half is no positive
    expected = bce(LOGITS[0, :3], np.asarray([0, 1, 0])).sum() + bce(LOGITS[1], 0).sum()
    assert float(task.loss(jnp.asarray(LOGITS), batch)) == pytest.approx(expected, rel=1e-6)
    assert float(task.weight(batch)) == 7  # candidates
    task = make(VILBERT)  # exactly a half is kept
    expected = bce(LOGITS[0, :3], np.asarray([0, 0.6, 0.5])).sum() + bce(LOGITS[1], 0).sum()
    assert float(task.loss(jnp.asarray(LOGITS), batch)) == pytest.approx(expected, rel=1e-6)
    assert float(task.weight(batch)) == 2  # expressions


def test_vilberts_loss_is_its_mean_over_all_slots_times_their_number():
    x = np.where(MASK, LOGITS, LOGITS - 10000.0)[:2]  # padding, as it has it
    y = np.where(OVERLAP >= 0.5, OVERLAP, 0.0)[:2]
    values = np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x)))
    task, batch = make(VILBERT), batch_by_hand()
    loss = float(task.loss(jnp.asarray(LOGITS), batch) / task.weight(batch))
    assert loss == pytest.approx(values.mean() * x.shape[1], rel=1e-6)


def test_accuracy_and_its_upper_bound():
    logits, batch = jnp.asarray(LOGITS), batch_by_hand()
    assert grounding.best(logits, batch).tolist() == [2, 0, 0]  # 9.0 is padding
    for block, right in ((VLBERT, 1), (VILBERT, 0)):  # the best has an overlap of just a half
        found = make(block).metrics(logits, batch)
        assert [float(x) for x in found["grounding_accuracy"]] == [right, 2]
        assert [float(x) for x in found["grounding_upper_bound"]] == [1, 2]


def test_of_options_the_right_one_itself_must_be_chosen():
    """Region 2 overlaps the right one by 0.8, which is another option; 3 shows none."""
    batch = dict(
        region_iou=jnp.asarray([[[0.1, 1.0, 0.8, 0.6]]] * 3),
        region_mask=jnp.ones((3, 1, 4), bool),
        candidate_mask=jnp.asarray([[[False, True, True, False]]] * 3),
        option_region=jnp.asarray([[2, 1, 0], [2, 1, 0], [2, 1, 0]]),
        label=jnp.asarray([[1], [1], [2]]),  # the last one is shown by no region
        boxes=jnp.zeros((3, 1, 4, 4)),
        _weight=jnp.ones(3),
    )
    logits = jnp.asarray([[0.0, 1, 2, 9], [0.0, 2, 1, 9], [0.0, 2, 1, 9]])
    for block in (VLBERT, VILBERT):
        found = make(block).metrics(logits, batch)
        assert [float(x) for x in found["grounding_accuracy"]] == [1, 3]
        assert [float(x) for x in found["grounding_upper_bound"]] == [2, 3]
    # One of two candidates is right in each, where its region is there.
    assert [float(x) for x in make().guesses(batch)["grounding_accuracy"]] == [1, 3]
    found = make().predictions(logits, batch)
    assert found["option"].tolist() == [0, 1, 1]
    row = {key: np.asarray(value)[0] for key, value in found.items()}
    assert make().describe(row)["option"] == 0


def test_expressions_of_unknown_boxes_count_nowhere():
    batch = batch_by_hand()
    unknown = dict(
        region_iou=batch["region_iou"].at[1].set(0.0),
        region_mask=batch["region_mask"],
        _weight=batch["_weight"],
    )
    task = make(VLBERT)
    expected = bce(LOGITS[0, :3], np.asarray([0, 1, 0])).sum()
    assert float(task.loss(jnp.asarray(LOGITS), unknown)) == pytest.approx(expected, rel=1e-6)
    assert float(task.weight(unknown)) == 3
    assert float(make(VILBERT).weight(unknown)) == 1
    assert float(task.metrics(jnp.asarray(LOGITS), unknown)["grounding_accuracy"][1]) == 1


def test_batch_without_examples_has_no_loss():
    batch = batch_by_hand() | dict(_weight=jnp.zeros(3))
    for block in (VLBERT, VILBERT):
        task = make(block)
        assert float(task.loss(jnp.asarray(LOGITS), batch)) == 0
        assert float(task.weight(batch)) == 0


def test_warm_start_is_of_the_transform():
    assert make(VLBERT).warm_start() == {
        "heads/grounding/transform": "heads/masked_region/transform"
    }
    assert make(VILBERT).warm_start() == {}


def test_data_without_boxes_are_refused():
    batch = batch_by_hand()
    two = jnp.repeat(batch["region_iou"], 2, axis=1)
    with pytest.raises(ValueError, match=r"reads \{'M': 1\}.*found \{'M': 2\}"):
        make().corrupt(batch | dict(region_iou=two), made_objectives.keys(3))
    del batch["region_iou"]
    with pytest.raises(ValueError, match=r"needs 'region_iou'.*which this data set does not have"):
        make().corrupt(batch, made_objectives.keys(3))


def test_only_candidates_count_where_the_data_name_them():
    """Row 2 of the first expression, which is best and fits, is no candidate; 3 is padding."""
    named = np.asarray([[1, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]], bool)
    batch = batch_by_hand() | dict(candidate_mask=jnp.asarray(named)[:, None])
    logits = jnp.asarray(LOGITS)
    assert grounding.best(logits, batch).tolist() == [0, 3, 0]
    counted = bce(LOGITS, OVERLAP > 0.5)[[0, 0, 1, 1], [0, 1, 2, 3]]
    assert float(make().loss(logits, batch)) == pytest.approx(counted.sum(), rel=1e-6)
    assert float(make().weight(batch)) == 4
    found = make().metrics(logits, batch)
    assert [float(x) for x in found["grounding_accuracy"]] == [0, 2]
    assert [float(x) for x in found["grounding_upper_bound"]] == [1, 2]
    # Where the one that fits is none, there is nothing right to choose.
    named[0, 1] = False
    batch["candidate_mask"] = jnp.asarray(named)[:, None]
    assert float(make().metrics(logits, batch)["grounding_upper_bound"][0]) == 0


def test_predictions_without_labels():
    boxes = np.arange(48, dtype=np.float32).reshape(3, 1, 4, 4)
    boxes[:, :, 0] = [0, 0, 39, 29]
    batch = batch_by_hand() | dict(
        boxes=jnp.asarray(boxes), image_size=jnp.asarray([[[30.0, 40.0]]] * 3)
    )
    del batch["region_iou"]
    found = make().predictions(jnp.asarray(LOGITS), batch)
    rows = [{key: np.asarray(value)[i] for key, value in found.items()} for i in range(2)]
    assert make().describe(rows[0]) == dict(
        region=2, box=boxes[0, 0, 2].tolist(), score=pytest.approx(1 / (1 + np.exp(-2)))
    )
    whole = make().describe(rows[1])
    assert (whole["region"], whole["box"]) == (0, [0, 0, 39, 29])
