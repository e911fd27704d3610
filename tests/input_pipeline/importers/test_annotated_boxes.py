"""Boxes of annotations as region stores: JSON lines, COCO's instances, VCR's metadata."""

import json

import numpy as np
import pytest
from made_data import ASSEMBLE, captions, config, write_jsonl

from core.errors import DataError
from input_pipeline.importers import __main__ as command
from input_pipeline.regions.store import RegionStore
from input_pipeline.streams import pipeline


def imported(tmp_path, source, *more):
    arguments = ["annotated_boxes", str(source), "--out", str(tmp_path / "store"), *more]
    assert command.main([*arguments, "--workers", "1"]) == 0
    return RegionStore.open(tmp_path / "store")


def test_lines(tmp_path):
    lines = [
        dict(image_id=f"img{i}", height=90, width=100, boxes=[[0, 1, 20 + i, 30]] * (i % 3))
        for i in range(6)
    ]
    store = imported(tmp_path, write_jsonl(tmp_path / "boxes.jsonl", lines))
    assert store.keys == ["img1", "img2", "img4", "img5"]  # none without boxes
    assert store.counts.tolist() == [1, 2, 1, 2]
    assert store.spec.feature_dim == 0
    np.testing.assert_array_equal(store.read(2)["boxes"], [[0, 1, 24, 30]])
    write_jsonl(tmp_path / "captions.jsonl", captions(8)[1:3])
    made = config(tmp_path, stream=dict(order="stored"))
    with pytest.raises(DataError, match=r"(?s)boxes alone.*--config\.model\.features=pixels"):
        pipeline.build_streams(made, ASSEMBLE, image_margin=0)


def test_instances_of_coco(tmp_path):
    contents = dict(
        images=[dict(id=7, height=40, width=50), dict(id=8, height=40, width=50)],
        annotations=[
            dict(image_id=7, bbox=[1, 2, 10, 20], iscrowd=1),
            dict(image_id=7, bbox=[0, 0, 50, 40]),
        ],
    )
    (tmp_path / "instances.json").write_text(json.dumps(contents))
    store = imported(tmp_path, tmp_path / "instances.json")
    assert store.keys == ["7"]
    np.testing.assert_array_equal(store.read(0)["boxes"], [[1, 2, 11, 22], [0, 0, 50, 40]])


def test_metadata_of_vcr(tmp_path):
    folder = tmp_path / "vcr1images" / "movie"
    folder.mkdir(parents=True)
    still = dict(width=50, height=40, boxes=[[1, 2, 30, 20, 0.9]], names=["dog"], segms=[[]])
    (folder / "still@0.json").write_text(json.dumps(still))
    store = imported(tmp_path, tmp_path / "vcr1images")
    assert store.keys == ["movie/still@0.jpg"]
    np.testing.assert_array_equal(store.read(0)["boxes"], [[1, 2, 30, 20]])


def test_what_is_wrong_is_named(tmp_path, capsys):
    lines = [dict(image_id="a", height=40, width=50, boxes=[[0, 0, 90, 30]])]
    path = write_jsonl(tmp_path / "boxes.jsonl", lines)
    arguments = ["annotated_boxes", path, "--out", str(tmp_path / "out"), "--workers", "1"]
    assert command.main(arguments) == 1
    assert "lies outside its image" in capsys.readouterr().err
    (tmp_path / "boxes.txt").write_text("")
    assert command.main(["annotated_boxes", str(tmp_path / "boxes.txt"), "--out", "x"]) == 1
    assert "of no known kind" in capsys.readouterr().err
    (tmp_path / "bad.json").write_text('{"images": []}')
    assert command.main(["annotated_boxes", str(tmp_path / "bad.json"), "--out", "x"]) == 1
    assert "annotations cannot be read" in capsys.readouterr().err
