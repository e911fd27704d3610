"""Google's files of RefCOCOg: objects, candidates and expressions in, records out."""

import json

import pytest

from core.errors import DataError
from input_pipeline.datasets import refcoco
from input_pipeline.datasets.records import Expression

NAME = "google_refexp_val_201511_coco_aligned.json"
OPTIONS = dict(variant="refcocog", split_by="google")


def contents():
    candidates = [{"bounding_box": [0, 0, 4, 4], "predicted_object_name": "dog"}]
    return {
        "annotations": {
            "50": {"annotation_id": 50, "image_id": 7, "bbox": [1, 2, 3, 4], "refexp_ids": [9, 8]}
        },
        "images": {"7": {"image_id": 7, "region_candidates": candidates}},
        "refexps": {
            "8": {"refexp_id": 8, "raw": "It!", "tokens": ["it"]},
            "9": {"refexp_id": 9, "raw": "The dog.", "tokens": ["the", "dog"]},
        },
    }


def write(folder, made=None):
    (folder / "refcocog").mkdir(exist_ok=True)
    (folder / "refcocog" / NAME).write_text(json.dumps(made or contents()))
    return str(folder)


def read(folder, **options):
    return list(refcoco.records(str(folder), "val", **(OPTIONS | options)))


def test_expressions(tmp_path):
    write(tmp_path)
    box, candidate, other = (1.0, 2.0, 4.0, 6.0), (0.0, 0.0, 4.0, 4.0), (5.0, 5.0, 6.0, 7.0)
    assert read(tmp_path, candidates="detected") == [
        Expression("9", 50, "7", "the dog", box, (candidate,)),
        Expression("8", 50, "7", "it", box, (candidate,)),
    ]
    assert [r.text for r in read(tmp_path, candidates="regions", expression="raw")] == [
        "The dog.",
        "It!",
    ]
    with pytest.raises(DataError, match=r"(?s)instances_train2014\.json.*candidates=detected"):
        read(tmp_path)
    annotations = [
        {"id": 50, "image_id": 7, "bbox": [1, 2, 3, 4]},
        {"id": 51, "image_id": 7, "bbox": [5, 5, 1, 2]},
        {"id": 52, "image_id": 8, "bbox": [0, 0, 1, 2]},
    ]
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations" / "instances_train2014.json"
    path.write_text(json.dumps({"annotations": annotations}))
    assert read(tmp_path)[0].candidates == (box, other)
    assert read(tmp_path, candidates="both")[0].candidates == (candidate, box, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"]["50"].pop("bbox"), r"no box.*annotations\['50'\].*aligned"),
        (lambda c: c["refexps"].pop("8"), r"key '8' is missing.*refexps"),
        (lambda c: c["images"].pop("7"), r"key '7' is missing.*images"),
        (lambda c: c["refexps"]["9"].update(tokens=[]), r"expression is empty.*refexps\['9'\]"),
        (lambda c: c.pop("refexps"), r"key 'refexps' is missing"),
        (lambda c: c["annotations"]["50"].update(refexp_ids=[8, 8]), r"refexp_id occurs twice"),
    ],
)
def test_faults_name_the_entry(tmp_path, change, message):
    made = contents()
    change(made)
    with pytest.raises(DataError, match=rf"(?s){message}"):
        read(write(tmp_path, made), candidates="detected")


def test_refers_pickle_goes_first(tmp_path):
    write(tmp_path)
    (tmp_path / "refcocog" / "refs(google).p").write_bytes(b"")
    with pytest.raises(DataError, match=r"instances\.json"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"refs\(umd\)\.p"):  # another division
        read(tmp_path, split_by="umd")
