"""Regions that a task names stay, however many regions an image has beside them."""

import numpy as np
import pytest
from made_data import SPEC, config, image, write_images, write_jsonl
from ml_collections import ConfigDict

from core.errors import ConfigError
from input_pipeline.regions import RegionStore
from input_pipeline.streams import named, pipeline
from objectives import choice
from objectives import grounding as objective

# 9 regions on a grid; none overlaps another.
GRID = np.array(
    [[30 * (k % 3), 30 * (k // 3), 30 * (k % 3) + 25, 30 * (k // 3) + 25] for k in range(9)]
)
LIMITS = {"max_regions": 4, "max_length": 14, "order": "stored"}  # 3 regions and the image


def write(folder, records, lines):
    arguments = image(0, 9) | dict(boxes=GRID.astype(np.float32), height=100, width=100)
    write_images(folder / "store", SPEC, *((f"img{i}", arguments) for i in range(len(lines))))
    write_jsonl(
        folder / "captions.jsonl", [{"image_id": f"img{i}"} | line for i, line in enumerate(lines)]
    )
    return dict(records=records)


GROUNDING = objective.Grounding.assembler(ConfigDict())


def batch_of(folder, data, assemble=GROUNDING, **stream):
    tree = config(folder, stream=LIMITS | stream, batch=1, **data)
    return pipeline.build_evaluation(
        tree, "captions", {"captions": assemble}, split="train", batch_size=4, image_margin=0
    ).batch(0)


def kept(batch, row):
    """Numbers of the regions that an example keeps."""
    boxes = batch["boxes"][row, 0, 1:][batch["region_mask"][row, 0, 1:]]
    return [int((box == GRID).all(1).argmax()) for box in boxes]


def line(k, candidates=()):
    listed = {"candidates": [GRID[i].tolist() for i in candidates]} if candidates else {}
    return {"text": "the last", "box": GRID[k].tolist()} | listed


def test_the_box_that_is_meant_stays(tmp_path):
    data = write(tmp_path, "ground", [line(7), line(1), line(8)])
    got = batch_of(tmp_path, data)
    assert [kept(got, row) for row in range(3)] == [[0, 1, 7], [0, 1, 2], [0, 1, 8]]
    assert (got["region_iou"][:3, 0, 1:].max(-1) > 0.99).all()
    np.testing.assert_array_equal(got["num_detected"][:3, 0], 9)


def test_all_candidates_stay_and_have_their_own_features(tmp_path):
    data = write(tmp_path, "ground", [line(7, (8, 7, 3)), line(1, (0, 1))])
    got = batch_of(tmp_path, data)
    assert [kept(got, row) for row in range(2)] == [[3, 7, 8], [0, 1, 2]]
    assert got["candidate_mask"][:2, 0].tolist() == [[True] * 4, [True, True, True, False]]
    whole = batch_of(tmp_path, data, max_regions=10, max_length=20)
    for key in ("regions", "region_class_ids", "region_rest_prob"):
        np.testing.assert_array_equal(got[key][0, 0, 1:], whole[key][0, 0, [4, 8, 9]])
        np.testing.assert_array_equal(got[key][:, :, 0], whole[key][:, :, 0])


def test_by_confidence_named_regions_stay_in_that_order(tmp_path):
    data = write(tmp_path, "ground", [line(k) for k in range(9)])
    store = RegionStore.open(tmp_path / "store")
    sure = np.argsort(-store.read(0)["probs"][:, 0], kind="stable").tolist()
    tree = config(tmp_path, stream=LIMITS | dict(order="confidence"), batch=1, **data)
    stream = pipeline.build_evaluation(
        tree, "captions", {"captions": GROUNDING}, split="train", batch_size=9, image_margin=0
    )
    got = stream.batch(0)
    for k in range(9):
        expected = sure[:3] if k in sure[:3] else [*sure[:2], k]
        assert kept(got, k) == expected


def test_too_many_candidates_are_told_before_the_first_step(tmp_path):
    data = write(tmp_path, "ground", [line(1, (0, 1)), line(7, (8, 7, 3, 2))])
    message = (
        r"(?s)names more regions than fit.*config\.streams\.captions\.max_regions, example 'img1#0'"
        r".*room for 4 .*room for 3 of 9.*--config\.streams\.captions\.max_regions=5 or more"
    )
    with pytest.raises(ConfigError, match=message):
        batch_of(tmp_path, data)
    with pytest.raises(ConfigError, match="more regions than fit"):  # the text leaves no room
        batch_of(tmp_path, data, max_regions=8, max_length=8)
    assert batch_of(tmp_path, data, max_regions=5, max_length=15)["candidate_mask"][1].sum() == 5


def test_mentioned_objects_stay_and_others_as_far_as_they_fit():
    batch = dict(
        text_ids=np.zeros((1, 2, 3)),
        object_boxes=GRID[[8, 2, 5, 7]].reshape(1, -1).astype(np.float32),
        token_region=np.array([[[0, 1, 0], [4, 1, 0]]]),  # the first and the last object
    )
    assert named.most(batch).tolist() == [2]
    ranks = named.Named(batch, str, "config.streams.x").rank((0, 0), GRID.astype(np.float32), 3)
    assert ranks.tolist() == [2, 2, 1, 2, 2, 1, 2, 0, 0]
    assert named.Named(batch, str, "x").rank((0, 1), GRID[:2], 1).tolist() == [2, 2]
    with pytest.raises(ConfigError, match=r"(?s)example '0'.*room for 2 .*room for 1 of 9"):
        named.Named(batch, str, "config.streams.x").rank((0, 0), GRID.astype(np.float32), 1)


def test_options_of_an_exercise_stay():
    batch = dict(
        text_ids=np.zeros((1, 1, 3)),
        target_box=GRID[:1].astype(np.float32),
        option_boxes=GRID[[8, 0, 0]].reshape(1, -1).astype(np.float32),
    )
    ranks = named.Named(batch, str, "x").rank((0, 0), GRID.astype(np.float32), 3)
    assert ranks.tolist() == [0, *[2] * 7, 0]
    assert named.most(batch).tolist() == [3]
    elsewhere = batch | dict(target_box=GRID[4:5].astype(np.float32))  # nobody can choose it
    assert named.Named(elsewhere, str, "x").rank((0, 0), GRID, 3).tolist() == ranks.tolist()
    unknown = dict(text_ids=batch["text_ids"], target_box=np.zeros((1, 4), np.float32))
    assert (named.Named(unknown, str, "x").rank((0, 0), GRID, 3) == 2).all()
    assert named.most(unknown).tolist() == [0]


def test_pretraining_cuts_as_before(tmp_path):
    """Captions name no regions: the last ones go."""
    write(tmp_path, "captions", [{"text": "a dog"}])
    got = batch_of(tmp_path, {}, choice.Choice.assembler(ConfigDict(dict(pairs="retrieval"))))
    assert kept(got, 0) == [0, 1, 2]
