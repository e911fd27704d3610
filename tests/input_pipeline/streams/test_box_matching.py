"""Boxes of a data set stand for the regions that overlap them most."""

import numpy as np
import pytest

from core.errors import DataError
from input_pipeline.streams import grounding, overlap

# Two examples of four regions and one row of padding; row 0 is the whole image.
BOXES = np.array(
    [
        [[0, 0, 0, 0], [0, 0, 9, 9], [20, 20, 39, 39], [20, 21, 39, 39], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [50, 50, 59, 59], [0, 0, 4, 4], [10, 0, 19, 9], [70, 70, 79, 79]],
    ],
    np.float32,
)[:, None]
MASK = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]], bool)[:, None]


def batch(**arrays):
    return dict(
        boxes=BOXES.copy(), region_mask=MASK, image_size=np.full((2, 1, 2), 100.0), **arrays
    )


def flat(*rows):
    return np.array(rows, np.float32)


def test_match_by_hand():
    objects = flat(
        # the second region exactly; half of the first (10x5 of 10x10); nothing; padding
        [[20, 20, 39, 39], [0, 0, 9, 4], [80, 80, 90, 90], [0, 0, 0, 0]],
        [[10, 0, 19, 9], [0, 0, 4, 4], [0, 0, 9, 9], [71, 70, 79, 79]],
    )
    rows = overlap.match(BOXES[:, 0], MASK[:, 0], objects, 0.5)
    # [0, 0, 9, 9] overlaps the region [0, 0, 4, 4] by a quarter alone.
    assert rows.tolist() == [[2, 1, 0, 0], [3, 2, 0, 4]]
    assert overlap.match(BOXES[:, 0], MASK[:, 0], objects, 0.51)[0].tolist() == [2, 0, 0, 0]


def test_a_region_shows_the_option_that_it_overlaps_most():
    objects = flat(
        # nearly the second region; the second region itself; the same box again; nothing
        [[20, 20, 39, 38], [20, 20, 39, 39], [20, 20, 39, 39], [80, 80, 90, 90]],
        # with a region of its own each, however much they overlap
        [[50, 50, 59, 59], [0, 0, 4, 4], [10, 0, 19, 9], [0, 0, 0, 0]],
    )
    assert overlap.match(BOXES[:, 0], MASK[:, 0], objects, 0.5)[0].tolist() == [2, 2, 2, 0]
    rows = overlap.match_apart(BOXES[:, 0], MASK[:, 0], objects, 0.5)
    assert rows.tolist() == [[0, 2, 2, 0], [1, 2, 3, 0]]


def test_an_unknown_target_overlaps_nothing():
    got = batch(target_box=np.array([[20, 20, 39, 39], [0, 0, 0, 0]], np.float32))
    grounding.ground(got, "plus_one", str)
    assert got["region_iou"][0].max() == 1
    assert not got["region_iou"][1].any()


def test_the_empty_box_of_the_whole_image_competes_for_no_object():
    """Row 0 has no box of its own, which would fit a speck in the corner better than a region."""
    boxes = flat([[0, 0, 0, 0], [0, 0, 0.5, 0.5]])
    speck = flat([[0, 0, 0.2, 0.2]])
    assert overlap.match(boxes, np.ones((1, 2), bool), speck, 0.5).tolist() == [[1]]


def test_mentions_and_labels():
    objects = flat(
        [20, 20, 39, 39, 0, 0, 9, 9, 80, 80, 90, 90],
        [10, 0, 19, 9, 0, 0, 0, 0, 0, 0, 0, 0],
    )
    numbers = np.array([[[0, 1, 2, 3, 1]], [[0, 0, 1, 0, 0]]], np.int16)
    got = batch(
        object_boxes=objects,
        object_classes=np.array([[7, 8, 9], [4, 0, 0]], np.int32),
        token_region=numbers,
        phrase_region=numbers[..., ::-1],
    )
    grounding.ground(got, "plus_one", str)
    # The third object is shown by no region: the whole image.
    assert got["token_region"].tolist() == [[[0, 2, 1, 0, 2]], [[0, 0, 3, 0, 0]]]
    assert got["token_region"].dtype == np.int32
    assert got["phrase_region"].tolist() == [[[2, 0, 1, 2, 0]], [[0, 0, 3, 0, 0]]]
    assert got["region_label"].tolist() == [[[0, 8, 7, -1, -1]], [[0, -1, -1, 4, -1]]]
    assert not {"object_boxes", "object_classes"} & got.keys()


def test_objects_without_boxes_are_refused():
    got = batch(phrase_region=np.ones((2, 1, 5), np.int16))
    with pytest.raises(DataError, match=r"(?s)no boxes.*'name 0'.*object_boxes.*phrase_region"):
        grounding.ground(got, "plus_one", "name {}".format)


def test_objects_that_share_a_region_give_the_first_one_s_class():
    got = batch(
        object_boxes=np.repeat(flat([0, 0, 9, 9, 0, 0, 9, 9]), 2, 0),
        object_classes=np.array([[5, 6], [5, 6]], np.int32),
    )
    grounding.ground(got, "plus_one", str)
    assert got["region_label"][0, 0].tolist() == [0, 5, -1, -1, -1]


def test_candidates():
    # A pixel off is the same box; the second example offers none: only the whole image is left.
    got = batch(candidate_boxes=flat([20, 20, 39, 38], [0] * 4))
    grounding.ground(got, "plus_one", str)
    assert got["candidate_mask"].tolist() == [
        [[True, False, True, False, False]],
        [[True, False, False, False, False]],
    ]
    only = batch(option_boxes=flat([20, 20, 39, 38], [0] * 4))
    grounding.ground(only, "plus_one", str)
    assert only["candidate_mask"][:, 0, 0].tolist() == [False, False]
    assert only["candidate_mask"][0, 0].tolist() == [False, False, True, False, False]
    with pytest.raises(DataError, match=r"(?s)no candidate box.*'name 1'.*60.0.*candidates=reg"):
        grounding.ground(
            batch(candidate_boxes=flat([20, 20, 39, 39], [60, 0, 69, 9])),
            "plus_one",
            lambda i: f"name {i}",
        )


def test_options_that_a_detector_missed():
    got = batch(option_boxes=flat([20, 20, 39, 39], [60, 0, 69, 9]), label=np.array([[0], [0]]))
    grounding.ground(got, "plus_one", str)
    assert got["option_region"].tolist() == [[2], [0]]
    assert not got["candidate_mask"][1].any()
    one = {key: array[1:] for key, array in batch().items()}
    one["option_boxes"] = flat([60, 0, 69, 9])  # a batch of one, as the last of an evaluation
    grounding.ground(one, "plus_one", str)
    assert not one["candidate_mask"].any()
    with pytest.raises(DataError, match=r"(?s)no candidate box.*'name 0'.*60.0"):
        grounding.ground(
            batch(option_boxes=flat([60, 0, 69, 9], [60, 0, 69, 9])),
            "plus_one",
            lambda i: f"name {i}",
        )


def test_nothing_to_ground_changes_nothing():
    got = batch()
    grounding.ground(got, "plus_one", str)
    assert got.keys() == batch().keys()


def test_overlap_of_regions_includes_the_whole_image():
    boxes = np.zeros((1, 1, 4, 4), np.float32)
    boxes[0, 0, 1:3] = [[0, 0, 9, 9], [5, 5, 14, 14]]
    mask = np.asarray([[[True, True, True, False]]])
    size, target = np.asarray([[[20.0, 10.0]]]), np.asarray([[0, 0, 9, 9]])  # height 20, width 10
    found = overlap.region_iou(boxes, mask, size, target)
    np.testing.assert_allclose(found[0, 0], [100 / 200, 1, 25 / 175, 0], rtol=1e-6)
    assert found.dtype == np.float32
    plain = overlap.region_iou(boxes, mask, size, target, "plain")
    np.testing.assert_allclose(plain[0, 0], [81 / 200, 1, 16 / 146, 0], rtol=1e-6)
    assert not boxes[0, 0, 0].any()  # the input is as it was
