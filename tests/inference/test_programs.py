"""Shapes of what is asked: no longer than it must be."""

import copy
import dataclasses

import numpy as np

from inference import programs
from inference.tasks import TaskModel
from tests.inference import made_models

LENGTHS = (4, 8)


def batch_of(text, regions, width=12):
    """A batch of rows with so many real word pieces and regions."""
    masks = [np.arange(width)[None] < np.array(real)[:, None] for real in (text, regions)]
    return dict(
        text_ids=np.arange(len(text) * width).reshape(len(text), 1, width),
        text_mask=masks[0][:, None],
        regions=np.ones((len(text), 1, width, 5)),
        region_mask=masks[1][:, None],
        label=np.zeros((len(text), 1)),
        task_id=np.zeros(len(text)),
    )


def test_padding_of_all_rows_is_left_out():
    batch = batch_of(text=(3, 5), regions=(2, 4))
    short = programs.shortened(batch, LENGTHS)
    assert short["text_ids"].shape == short["text_mask"].shape == (2, 1, 8)
    assert short["regions"].shape == (2, 1, 4, 5)
    np.testing.assert_array_equal(short["text_ids"], batch["text_ids"][..., :8])
    assert short["label"].shape == (2, 1)
    assert short["task_id"].shape == (2,)
    for name in ("text_mask", "region_mask"):  # nothing real is lost
        assert short[name].sum() == batch[name].sum()


def test_lengths_are_those_of_training_where_none_is_enough():
    batch = batch_of(text=(9, 1), regions=(12, 1))
    for lengths in ((), LENGTHS):
        short = programs.shortened(batch, lengths)
        assert {name: x.shape for name, x in short.items()} == {
            name: x.shape for name, x in batch.items()
        }


def test_buckets_of_training_cut_nothing_of_what_is_asked():
    source = made_models.run("vqa", "data=jsonl,model=vlbert").source
    config = copy.deepcopy(source.config)
    regions = 4  # of the image
    # In training rows of these widths have no room for both.
    config["streams"]["examples"]["buckets"] = [[n, regions, n] for n in range(5, 20)]
    found = []
    for one in (source, dataclasses.replace(source, config=config)):
        model = TaskModel(one, batch_sizes=(1,), lengths=range(1, 25))
        found.append(model.answer("what colour is the cube?", "7").to_dict())
    assert found[0] == found[1]
