"""Records of other tasks become rows: what a task is to learn is in the batches."""

import json

import numpy as np
import pytest
from made_data import image, write_images

from configs import refcoco as config_file
from input_pipeline import overlap, pipeline
from input_pipeline.datasets import official
from input_pipeline.datasets.records import Expression, Pointing, Statement
from input_pipeline.regions import FeatureSpec
from input_pipeline.schema import DataError
from objectives import base

SPEC = FeatureSpec("toy", 6)


@pytest.fixture
def config(tmp_path):
    """Two expressions a split, each meaning the second of its image's three regions."""
    images = [(str(i), image(i, 3, SPEC)) for i in (1, 2)]
    write_images(tmp_path / "store", SPEC, *images)
    for split, (number, one) in zip(("train", "val"), images, strict=True):
        x1, y1, x2, y2 = one["boxes"][1].tolist()
        rows = [
            {
                "sent": f"the thing {k}",
                "gt_box": [x1, y1, x2 - x1, y2 - y1],
                "pred_boxes": [[x1, y1, x2 - x1, y2 - y1]],
                "pred_boxes_img_id": [f"COCO_train2014_{int(number):012d}_0.jpg"],
            }
            for k in range(2)
        ]
        (tmp_path / "refcoco+").mkdir(exist_ok=True)
        (tmp_path / "refcoco+" / f"{split}.json").write_text(json.dumps(rows))
    config = config_file.get_config("data=refcoco")
    config.data.update(
        dir=str(tmp_path / "cache"),
        manual_dir=str(tmp_path),
        regions=str(tmp_path / "store"),
        candidates="listed",
        vocab_size=130,
    )
    config.streams.examples.update(
        batch_size=2, max_text=8, max_regions=5, max_length=13, resize=(30, 50)
    )
    return config


def test_overlap_is_measured_before_boxes_are_scaled(config):
    assemble = {"examples": base.assemble_caption}
    batch = pipeline.build_streams(config, assemble)["examples"].batch(0)
    assert "target_box" not in batch
    original = image(1, 3, SPEC)
    boxes = np.concatenate([np.zeros((1, 4)), original["boxes"]])
    size = np.array([[[original["height"], original["width"]]]])
    mask = np.ones((1, 1, 4), bool)
    expected = overlap.region_iou(boxes[None, None], mask, size, original["boxes"][1:2])
    for row in batch["region_iou"]:
        np.testing.assert_allclose(row[0, :4], expected[0, 0], atol=1e-5)
        assert row[0, 2] > 0.999
        assert row[0, 4] == 0  # padding
    assert batch["boxes"].max() < 51  # and they are scaled
    plain = config.copy_and_resolve_references()
    plain.streams.examples.iou = "plain"
    other = pipeline.build_streams(plain, assemble)["examples"]
    assert (other.batch(0)["region_iou"] <= batch["region_iou"] + 1e-6).all()
    assert other.fingerprint != pipeline.build_streams(config, assemble)["examples"].fingerprint


def test_rows_of_records():
    box = (1.0, 2.0, 3.0, 4.0)
    assert official.row_of(Expression("1", 2, "3", "a dog", box)).values == {"target_box": box}
    one = Statement("1", ("3",), "a dog", 2, "entailment")
    assert official.row_of(one).values == {"label": (2,)}
    pointing = Pointing("1", "3", "which?", (box,), (0,), 0)
    assert official.row_of(pointing).values == {}
    with pytest.raises(DataError, match=r"(?s)not one text about one image.*2 images"):
        official.row_of(Statement("1", ("3", "4"), "both", 1))
