"""Outlines of objects as cells of their boxes, and what a stream makes of them."""

import numpy as np

from input_pipeline.datasets.records import MultipleChoice, ObjectBox, RowOptions, Token, outlines
from input_pipeline.streams import grounding

BOX = (10.0, 20.0, 37.0, 61.0)  # 28 x 42 pixels: a cell is 2 x 3


def cells(*polygons):
    return outlines.grid(BOX, polygons)


def test_cells_of_polygons():
    assert not cells().any()
    whole = [(10, 20), (38, 20), (38, 62), (10, 62)]
    assert cells(whole).all()
    # The left half: cells whose corner is at x <= 20, edge included.
    left = cells([(10, 20), (20, 20), (20, 62), (10, 62)])
    assert left[:, :6].all()
    assert not left[:, 6:].any()
    # What lies outside is moved to the border, where it covers the last cells.
    assert cells([(100, 20), (120, 20), (120, 62), (100, 62)])[:, 13].all()
    two = cells([(10, 20), (14, 20), (14, 26), (10, 26)], [(30, 50), (38, 50), (38, 62), (30, 62)])
    assert two[0, 0]
    assert two[12, 12]
    assert not two[6, 6]
    triangle = cells([(10, 20), (36, 59), (10, 59)])
    assert np.array_equal(triangle, np.tril(np.ones((14, 14), bool)))


def test_as_numbers_and_back():
    rs = np.random.RandomState(0)
    made = rs.rand(5, 14, 14) < 0.4
    weights = 1 << np.arange(28)
    numbers = (made.reshape(5, 7, 28) * weights).sum(-1).reshape(1, -1).astype(np.int32)
    np.testing.assert_array_equal(outlines.unpacked(numbers)[0], made)
    polygon = ((10.0, 20.0), (20.0, 20.0), (20.0, 62.0), (10.0, 62.0))
    item = ObjectBox("dog", BOX, 1.0, (polygon,))
    found = outlines.unpacked(np.asarray(outlines.packed([item]), np.int32))
    np.testing.assert_array_equal(found[0], cells(polygon))


def test_rows_of_questions_have_them_where_they_are_asked_for():
    word = (Token("what"),)
    question = MultipleChoice(
        "q", "still.jpg", 100, 80, word, (word,) * 4, (word,) * 4, 0, 0, (ObjectBox("dog", BOX),)
    )
    first, *_ = question.rows(RowOptions(kind="answers", outlines=True))
    assert first.values["object_masks"] == [0] * outlines.NUMBERS
    first, *_ = question.rows(RowOptions(kind="answers"))
    assert "object_masks" not in first.values


def test_a_region_has_the_cells_of_its_object():
    made = np.random.RandomState(1).rand(2, 14, 14) < 0.5
    weights = 1 << np.arange(28)
    numbers = (made.reshape(2, 7, 28) * weights).sum(-1).reshape(1, -1).astype(np.int32)
    boxes = np.zeros((1, 1, 4, 4), np.float32)
    boxes[0, 0] = [(0, 0, 99, 79), (50, 10, 90, 40), (0, 0, 5, 5), (10, 10, 30, 60)]
    batch = dict(
        boxes=boxes,
        region_mask=np.ones((1, 1, 4), bool),
        image_size=np.asarray([[[80, 100]]], np.float32),
        object_boxes=np.float32([[10, 10, 30, 60, 50, 10, 90, 40]]),
        object_masks=numbers,
    )
    grounding.ground(batch, "plus_one", str)
    found = batch["region_instance_mask"][0, 0]
    assert found[0].all()
    assert found[2].all()  # of no object
    np.testing.assert_array_equal(found[3], made[0])
    np.testing.assert_array_equal(found[1], made[1])
    assert "object_masks" not in batch
