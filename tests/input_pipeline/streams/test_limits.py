"""Truncation against the literal loop, boxes against the formulas."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import common
from core.errors import ConfigError
from input_pipeline.streams import limits


def loop(text, regions, limit):
    """VL-BERT, processing step 8, word by word."""
    while text + regions > limit:
        if regions > text:
            regions -= 1
        else:
            text -= 1
    return text, regions


@pytest.mark.parametrize("limit", [4, 5, 16, 63, 64])
def test_joint_truncation_is_the_loop(limit):
    text, regions = np.meshgrid(np.arange(2, 105), np.arange(1, 105), indexing="ij")
    got = np.stack(limits.joint_lengths(text, regions, limit), -1)
    want = [[loop(t, n, limit) for n in range(1, 105)] for t in range(2, 105)]
    np.testing.assert_array_equal(got, want)
    assert (got[..., 0] >= 2).all()
    assert (got[..., 1] >= 1).all()


def test_cut_text_keeps_the_last_token():
    ids = np.asarray([[[101, 5, 6, 7, 102, 0]], [[101, 8, 102, 0, 0, 0]]], np.int32)
    arrays = {
        "text_ids": ids.copy(),
        "text_mask": ids > 0,
        "word_starts": np.asarray([[[1, 1, 0, 1, 1, 0]], [[1, 1, 1, 0, 0, 0]]], bool),
        "segment_ids": (ids == 102).astype(np.int32),
    }
    limits.cut_text(arrays, np.asarray([4, 5]), pad=0)
    assert arrays["text_ids"].tolist() == [[[101, 5, 6, 102, 0, 0]], [[101, 8, 102, 0, 0, 0]]]
    assert arrays["text_mask"].sum(-1).tolist() == [[4], [3]]
    assert arrays["word_starts"][0, 0].tolist() == [True, True, False, True, False, False]
    assert arrays["segment_ids"][0, 0].tolist() == [0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("width", "height", "long", "want"),
    [
        (640, 480, 1000, (800, 600)),
        (1920, 816, 1000, (1000, 425)),
        (1920, 816, 1200, (1200, 510)),
        (500, 375, 1000, (800, 600)),
        (300, 1000, 1000, (300, 1000)),
        (300, 1000, 1200, (360, 1200)),
    ],
)
def test_resize(width, height, long, want):
    new_height, new_width = limits.resized(height, width, 600, long)
    assert (new_width, new_height) == want


def boxes():
    rows = [[0, 0, 199, 99], [10, 20, 110, 60], [0, 0, 200, 100], [0, 0, 0, 0]]
    return {
        "boxes": np.asarray([[rows]] * 2, np.float32),
        "region_mask": np.asarray([[[True, True, True, False]]] * 2),
        "image_size": np.asarray([[[100, 200]]] * 2, np.float32),
    }


def test_flip_and_clamp():
    batch = boxes()
    limits.transform_boxes(batch, None, np.asarray([True, False]), 1)
    # x1' = w - 1 - x2, x2' = w - 1 - x1, then into [0, w-1] x [0, h-1].
    assert batch["boxes"][0, 0].tolist() == [
        [0, 0, 199, 99], [89, 20, 189, 60], [0, 0, 199, 99], [0, 0, 0, 0]]  # fmt: skip
    assert batch["boxes"][1, 0, 1:3].tolist() == [[10, 20, 110, 60], [0, 0, 199, 99]]


def test_resize_scales_each_axis_then_flips():
    batch = boxes()
    batch["image_size"][:] = [101, 200]
    limits.transform_boxes(batch, (300, 1000), np.asarray([True, False]), 1)
    assert batch["image_size"][0, 0].tolist() == [300, 594]
    x, y = 594 / 200, 300 / 101
    np.testing.assert_allclose(
        batch["boxes"][:, 0, 1],
        [[593 - 110 * x, 20 * y, 593 - 10 * x, 60 * y], [10 * x, 20 * y, 110 * x, 60 * y]],
        rtol=1e-6,
    )
    assert not batch["boxes"][:, 0, 3].any()


def test_the_whole_image_is_resized_and_mirrored_like_any_box():
    """VL-BERT's ends at w - 1 of the picture as it was, so 500 x 375 gives 798.4, not 799."""
    for (width, height), right in (((500, 375), 798.4), ((200, 150), 796.0)):
        whole = np.asarray([0, 0, width - 1, height - 1], np.float32)
        batch = {
            "boxes": np.broadcast_to(whole, (2, 1, 1, 4)).copy(),
            "region_mask": np.ones((2, 1, 1), bool),
            "image_size": np.asarray([[[height, width]]] * 2, np.float32),
        }
        limits.transform_boxes(batch, (600, 1000), np.asarray([True, False]), 1)
        bottom = 600 - 600 / height
        np.testing.assert_allclose(
            batch["boxes"][:, 0, 0],
            [[799 - right, 0, 799, bottom], [0, 0, right, bottom]],
            rtol=1e-6, atol=1e-4,
        )  # fmt: skip


def test_left_and_right():
    ids = np.asarray([[[101, 8, 9, 9, 50, 8]], [[101, 8, 9, 9, 50, 8]]], np.int32)
    starts = np.asarray([[[1, 1, 1, 1, 0, 1]]] * 2, bool)  # the second 9 goes on: "rightmost"
    arrays = {"text_ids": ids, "word_starts": starts, "text_mask": ids > 0}
    limits.swap_words(arrays, np.asarray([True, False]), left=8, right=9)
    assert ids.tolist() == [[[101, 9, 8, 9, 50, 9]], [[101, 8, 9, 9, 50, 8]]]


def test_pieces_change_inside_words_where_asked():
    """As the original: it looks at pieces, not at words."""
    ids = np.asarray([[[101, 8, 9, 50, 8]], [[101, 8, 9, 50, 8]]], np.int32)
    starts = np.asarray([[[1, 1, 1, 0, 1]]] * 2, bool)
    arrays = {"text_ids": ids, "word_starts": starts, "text_mask": ids > 0}
    flip = np.asarray([True, False])
    limits.swap_words(arrays, flip, left=8, right=9, inside_words=True)
    assert ids.tolist() == [[[101, 9, 8, 50, 9]], [[101, 8, 9, 50, 8]]]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("flip", "both", r"one of .*boxes_and_words.*both"),
        ("max_length", 3, r"max_length.*at least 4.*3"),
        ("max_text", 2, r"max_text"),
        ("max_regions", 1, r"max_regions"),
        ("resize", (600,), r"\(short, long\)"),
    ],
)
def test_bad_options(field, value, message):
    options = ConfigDict(common.stream_block((), 4))
    options.update({field: value})
    with pytest.raises(ConfigError, match=rf"(?s)config\.streams\.x\.{field}.*{message}|{message}"):
        limits.check_options("x", options)
