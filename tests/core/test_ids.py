"""One image, however its id is written; and ids that only look alike."""

import pytest

from core import ids


@pytest.mark.parametrize(
    ("written", "identity"),
    [
        ("139", "139"),
        ("000000000139", "139"),
        ("0", "0"),
        ("000", "0"),
        ("139.jpg", "139"),
        ("000.png", "0"),
        ("COCO_val2014_000000000139.jpg", "139"),
        ("val2014/COCO_val2014_000000000139", "139"),
        ("val2017/000000000139.JPG", "139"),
        ("COCO_val2014_000000000000", "0"),
        # All of these are other images.
        ("dog000000000139", "dog000000000139"),
        ("frame-000000000139", "frame-000000000139"),
        ("train/7", "train/7"),
        ("val-7.jpg", "val-7"),
        ("a.b", "a.b"),
        ("COCO_val2014_00000000139", "COCO_val2014_00000000139"),
        ("１３９", "１３９"),
    ],
)
def test_identity(written, identity):
    assert ids.identity(written) == identity


def test_the_ends_of_a_path_are_identities():
    assert ids.endings("a/b/007.jpg") == ["a/b/007", "b/007", "7"]
    assert ids.endings("val2014/COCO_val2014_000000000139.jpg") == ["139", "139"]


def test_names_over_data_sets():
    assert ids.split_namespace("coco:139") == ("coco", "139")
    for alone in ("139", "C:139", "coco:", "a-b:7", "a/b:7"):
        assert ids.split_namespace(alone) == ("", alone)
