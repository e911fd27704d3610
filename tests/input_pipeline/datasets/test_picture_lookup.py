"""Finding pictures by image id: by path, name, COCO number, and in the scenes' own table."""

import io

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import common
from core.errors import DataError
from input_pipeline import datasets
from input_pipeline.datasets.reading import pictures
from input_pipeline.datasets.reading.prepared import Prepared
from input_pipeline.datasets.scenes import graph, render

NOTHING = Prepared(stores=(), vocab="", rows=iter, fingerprint=str, splits=())


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def names(root, *ids):
    """{id: name of the file it finds}."""
    return {key: data.decode() for key, data in pictures.read_folder(root, ids).items()}


def test_names_paths_and_numbers(tmp_path):
    root = make(
        tmp_path,
        "val2014/COCO_val2014_000000000139.jpg",
        "000000000285.JPG",
        "flickr/1000092795.jpg",
        "dev-850-0-img0.png",
        "vcr1images/movie/1_00.00.51.926-00.00.54.129@0.jpg",
        "notes.txt",
        ".thumbnails/1000092795.jpg",
    )
    expected = {
        "139": "val2014/COCO_val2014_000000000139.jpg",
        "COCO_val2014_000000000139": "val2014/COCO_val2014_000000000139.jpg",
        "285": "000000000285.JPG",
        "COCO_train2014_000000000285.jpg": "000000000285.JPG",
        "1000092795": "flickr/1000092795.jpg",
        "1000092795.jpg": "flickr/1000092795.jpg",
        "dev-850-0-img0": "dev-850-0-img0.png",
        "movie/1_00.00.51.926-00.00.54.129@0.jpg":
            "vcr1images/movie/1_00.00.51.926-00.00.54.129@0.jpg",
        "1_00.00.51.926-00.00.54.129@0": "vcr1images/movie/1_00.00.51.926-00.00.54.129@0.jpg",
    }  # fmt: skip
    assert names(root, *expected) == expected
    assert names(root / "vcr1images", "movie/1_00.00.51.926-00.00.54.129@0.jpg")
    # Other names that share a part: none is the picture.
    assert names(root, "39", "0-img0", "ovie/1_00.00.51.926-00.00.54.129@0", "notes", "850") == {}


def test_a_number_is_only_coco_s(tmp_path):
    root = make(tmp_path, "train-7.jpg", "x1000000000139.jpg", "9.jpg")
    assert names(root, "7", "139", "9") == {"9": "9.jpg"}


def test_different_pictures_of_one_id_are_an_error_and_copies_are_not(tmp_path):
    make(tmp_path, "b/7.jpg", "a/7.jpg", "a/8.jpg")
    with pytest.raises(DataError, match=r"(?s)image '7'.*a/7\.jpg and .*b/7\.jpg"):
        pictures.read_folder(tmp_path, ["7"])
    assert names(tmp_path, "8", "a/7", "b/7.jpg") == {
        "8": "a/8.jpg", "a/7": "a/7.jpg", "b/7.jpg": "b/7.jpg",
    }  # fmt: skip
    (tmp_path / "b" / "7.jpg").write_bytes(b"a/7.jpg")
    assert names(tmp_path, "7") == {"7": "a/7.jpg"}


def test_a_name_and_a_number_that_differ_are_an_error(tmp_path):
    make(tmp_path, "coco/000000000139.jpg", "vg/139.jpg")
    with pytest.raises(DataError, match="two pictures"):
        pictures.read_folder(tmp_path, ["139"])


def test_links_are_followed_and_loops_end(tmp_path):
    root = make(tmp_path / "root", "a/1.jpg")
    make(tmp_path / "elsewhere", "2.jpg")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "loop").symlink_to(root)
    assert names(root, "1", "2") == {"1": "a/1.jpg", "2": "2.jpg"}


def test_no_id_leads_out_of_the_folder(tmp_path):
    root = make(tmp_path / "root", "1.jpg")
    make(tmp_path, "2.jpg")
    assert names(root, "../2.jpg", str(tmp_path / "2.jpg")) == {}


def test_paths_that_are_there_need_no_walk(tmp_path, monkeypatch):
    make(tmp_path, "movie/1.jpg")
    monkeypatch.setattr(pictures, "_walk", lambda root: pytest.fail("walked"))
    assert names(tmp_path, "movie/1.jpg") == {"movie/1.jpg": "movie/1.jpg"}


def test_the_folder_of_the_config(tmp_path):
    data = ConfigDict(common.data_block("jsonl"))
    assert pictures.open_pictures(data, NOTHING)(["1"]) == {}
    data.pictures = str(make(tmp_path, "1.jpg"))
    assert pictures.open_pictures(data, NOTHING)(["1", "2"]) == {"1": b"1.jpg"}
    data.pictures = str(tmp_path / "absent")
    with pytest.raises(DataError, match=r"config\.data\.pictures"):
        pictures.open_pictures(data, NOTHING)


def test_scenes_come_with_their_pictures(tmp_path):
    data = ConfigDict(common.data_block("scenes"))
    data.dir = str(tmp_path)
    data.scenes.update(dict(train=6, validation=4, test=0, feature_dim=8))
    lookup = pictures.open_pictures(data, datasets.prepare(data))
    found = lookup(
        ["train-000003", "validation-000000", "test-000000", "train-000999", "elsewhere"]
    )
    assert sorted(found) == ["train-000003", "validation-000000"]
    for image_id, png in found.items():
        split, _, index = image_id.rpartition("-")
        scene = graph.draw(0, split, int(index), 2, 4)
        drawn = render.render(scene, graph.generator(0, image_id, "picture"))
        picture = Image.open(io.BytesIO(png))
        assert picture.format == "PNG"
        np.testing.assert_array_equal(np.asarray(picture), drawn)
