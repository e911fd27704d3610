"""RefCOCO: REFER's pickle, COCO's annotations and detections in, expressions out."""

import copy
import json
import os
import pathlib
import pickle

import pytest
from ml_collections import ConfigDict

from configs import common
from core.errors import DataError
from input_pipeline import datasets
from input_pipeline.datasets import refcoco
from input_pipeline.datasets.records import Expression

REAL = pathlib.Path(
    os.environ.get("VL_DATA_DIR_REAL", pathlib.Path(__file__).parents[4] / "shared" / "data")
)
real = pytest.mark.skipif(not REAL.is_dir(), reason="no real data")


def python2(value):
    """Protocol 0 as Python 2 wrote it: `str` is a byte string, `unicode` (here: not ASCII) text."""
    if isinstance(value, dict):
        return b"(d" + b"".join(python2(k) + python2(v) + b"s" for k, v in value.items())
    if isinstance(value, list):
        return b"(l" + b"".join(python2(v) + b"a" for v in value)
    if isinstance(value, int):
        return b"I%d\n" % value
    if value.isascii():
        return b"S" + repr(value).encode() + b"\n"
    return b"V" + value.encode("raw-unicode-escape") + b"\n"


def ref(i, image, annotation, split, *texts):
    sentences = [
        {
            "sent_id": 10 * i + k,
            "raw": text.upper() + "!",
            "sent": text,
            "tokens": text.split(),
        }
        for k, text in enumerate(texts)
    ]
    return {
        "ref_id": i,
        "ann_id": annotation,
        "category_id": 18,
        "image_id": image,
        "split": split,
        "file_name": f"COCO_train2014_{image:012d}_{annotation}.jpg",
        "sentences": sentences,
        "sent_ids": [s["sent_id"] for s in sentences],
    }


REFS = [
    ref(0, 5, 50, "train", "left dog", "the brown dog"),
    ref(1, 6, 61, "testA", "café man"),
    ref(2, 6, 60, "testB", "a car"),
    ref(3, 5, 51, "train", "crowd"),
    ref(4, 7, 70, "val", "sky"),
]
ANNOTATIONS = [
    {"id": i, "image_id": i // 10, "bbox": [i, 1, 2.5, 3], "iscrowd": int(i == 51)}
    for i in (61, 50, 51, 60, 70)
]
DETECTIONS = [
    {"image_id": image, "box": [image, 0, 1, 2], "score": 0.5, "category_id": 1, "det_id": i}
    for i, image in enumerate((5, 5, 6))
]


def write(folder, refs=REFS, annotations=ANNOTATIONS, detections=DETECTIONS, *, py2=True):
    root = folder / "refcoco+"
    (root / "proposal").mkdir(parents=True)
    (root / "refs(unc).p").write_bytes(python2(refs) + b"." if py2 else pickle.dumps(refs))
    (root / "instances.json").write_text(json.dumps({"annotations": annotations}))
    (root / "proposal" / refcoco.DETECTIONS).write_text(json.dumps(detections))
    return str(folder)


def box(i):
    return (float(i), 1.0, i + 2.5, 4.0)


def test_sentences_and_splits(tmp_path):
    folder = write(tmp_path)
    train = list(refcoco.records(folder, "train"))
    assert train[0] == Expression("0", 0, "5", "left dog", box(50), (box(50), box(51)))
    assert [r.text_id for r in train] == ["0", "1", "30"]
    assert train[2].box == box(51)  # a crowd, candidate and target like others
    assert [r.text for r in refcoco.records(folder, "testA")] == ["café man"]
    assert [r.text for r in refcoco.records(folder, "testB")] == ["a car"]
    assert [r.text for r in refcoco.records(folder, "test")] == ["café man", "a car"]
    assert [r.text for r in refcoco.records(folder, "test", expression="raw")] == [
        "CAFÉ MAN!",
        "A CAR!",
    ]
    [man, _] = refcoco.records(folder, "test")
    assert man.candidates == (box(61), box(60))  # file order


def test_python3_pickle_is_the_same(tmp_path):
    first, second = write(tmp_path / "a"), write(tmp_path / "b", py2=False)
    for split in ("train", "test"):
        assert list(refcoco.records(first, split)) == list(refcoco.records(second, split))


def test_candidates(tmp_path):
    folder = write(tmp_path)
    found = {
        name: next(refcoco.records(folder, "train", candidates=name)).candidates
        for name in ("gt", "detected", "both", "both_in_training")
    }
    detected = ((5.0, 0.0, 6.0, 2.0),) * 2
    assert found == {
        "gt": (box(50), box(51)),
        "detected": detected,
        "both": (*detected, box(50), box(51)),
        "both_in_training": (*detected, box(50), box(51)),
    }
    with pytest.raises(DataError, match=r"(?s)no image of the split has detections.*split val"):
        list(refcoco.records(folder, "val", candidates="detected"))
    source = tmp_path / "refcoco+" / "proposal" / refcoco.DETECTIONS
    image = int(next(refcoco.records(folder, "val")).image_id)
    elsewhere = dict(image_id=image, box=[5, 0, 1, 2], category_id=1, score=0.5)
    source.write_text(json.dumps([*json.loads(source.read_text()), elsewhere]))
    evaluated = next(refcoco.records(folder, "val", candidates="both_in_training"))
    assert evaluated.candidates == detected[:1]
    # As MAttNet's archive has them.
    packed = tmp_path / "detections" / "refcoco+_unc"
    packed.mkdir(parents=True)
    source.rename(packed / refcoco.DETECTIONS)
    assert next(refcoco.records(folder, "train", candidates="detected")).candidates == detected


@real
def test_real_annotations(tmp_path):
    """REFER's files around COCO's own annotations: every object of the pictures, by category."""
    instances = json.loads((REAL / "coco_mini/annotations/instances_val2017.json").read_text())
    names = {c["id"]: c["name"] for c in instances["categories"]}
    refs = [
        ref(i, a["image_id"], a["id"], "val", f"the {names[a['category_id']]}")
        for i, a in enumerate(instances["annotations"])
    ]
    folder = write(tmp_path, refs, instances["annotations"])
    records = list(refcoco.records(folder, "val"))
    assert len(records) == 624
    sizes = {str(i["id"]): (i["width"], i["height"]) for i in instances["images"]}
    for record, a in zip(records, instances["annotations"], strict=True):
        width, height = sizes[record.image_id]
        assert record.box[2] - record.box[0] == pytest.approx(a["bbox"][2])
        assert 0 <= record.box[0] < record.box[2] <= width + 0.1
        assert 0 <= record.box[1] < record.box[3] <= height + 0.1
        assert record.box in record.candidates
    assert sum(len(r.candidates) for r in records[:1]) == sum(
        a["image_id"] == int(records[0].image_id) for a in instances["annotations"]
    )


@real
def test_real_sentences_joined_with_boxes(tmp_path):
    source = REAL / "refcoco_unc_sample/data/datasets/testA_refcoco_unc_dets.json"
    (tmp_path / "refcoco").mkdir()
    (tmp_path / "refcoco" / "testA.json").write_bytes(source.read_bytes())
    options = {"variant": "refcoco", "candidates": "listed"}
    records = list(refcoco.records(str(tmp_path), "testA", **options))
    assert len(records) == 50
    assert len({record.image_id for record in records}) == 5
    first = records[0]
    assert (first.text, first.image_id, first.ref_id) == ("person in red", "266240", -1)
    assert first.box == pytest.approx((0, 95.32, 113.34, 419.59))
    assert len(first.candidates) == 5
    # The detections are of these pictures: most expressions have one that hits (IoU >= 0.5).
    hits = [max(iou(record.box, c) for c in record.candidates) >= 0.5 for record in records]
    assert sum(hits) >= 45


def iou(a, b):
    across = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    area = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return across / (sum(area) - across)


BAD_REFS = {
    "no list": (lambda r: r[0].update(sentences={}), "'sentences' is of the wrong kind"),
    "no split": (lambda r: r[0].pop("split"), "'split' is missing"),
    "no annotation": (lambda r: r[0].update(ann_id=999), "not annotated.*ann_id 999"),
    "image kind": (lambda r: r[0].update(image_id="5"), "'image_id' is of the wrong kind"),
    "empty": (lambda r: r[0]["sentences"][0].update(tokens=[]), "the sentence is empty"),
    "tokens": (lambda r: r[0]["sentences"][0].update(tokens=[3]), "'tokens' is of the wrong kind"),
    "no tokens": (lambda r: r[0]["sentences"][0].pop("tokens"), "'tokens' is missing"),
    "twice": (lambda r: r[0]["sentences"][1].update(sent_id=0), "sentence id occurs twice"),
}


@pytest.mark.parametrize("name", sorted(BAD_REFS))
def test_bad_refs(tmp_path, name):
    change, message = BAD_REFS[name]
    refs = copy.deepcopy(REFS)
    change(refs)
    with pytest.raises(DataError, match=f"(?s){message}") as error:
        list(refcoco.records(write(tmp_path, refs), "train"))
    assert "refs(unc).p, entry 0" in str(error.value)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("refs(unc).p", b"cos\nsystem\n(S'ls'\ntR.", r"refused.*os.system"),
        ("refs(unc).p", python2(REFS)[:-5], "not a readable pickle"),
        ("refs(unc).p", python2({"refs": []}) + b".", "a list"),
        ("instances.json", b'{"images": []}', "'annotations' is missing"),
        ("instances.json", b'{"annotations": [', "malformed JSON"),
        ("instances.json", b"\xff", "not UTF-8"),
        (
            "instances.json",
            b'{"annotations": [{"id": 50, "image_id": 5, "bbox": [0, 0, -1, 2]}]}',
            "box is malformed.*annotation 0",
        ),
        (
            f"proposal/{refcoco.DETECTIONS}",
            b'[{"image_id": 5, "box": [1, 2, 3, NaN]}]',
            "NaN is no number.*box.*NaN",
        ),
        (f"proposal/{refcoco.DETECTIONS}", b'[{"image_id": 5}]', "'box' is missing.*detection 0"),
    ],
)
def test_bad_files(tmp_path, name, data, message):
    folder = write(tmp_path)
    (tmp_path / "refcoco+" / name).write_bytes(data)
    with pytest.raises(DataError, match=f"(?s){message}") as error:
        list(refcoco.records(folder, "train", candidates="both"))
    assert pathlib.Path(name).name in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "refclef"}, "unknown variant.*'refcoco', 'refcoco.', 'refcocog'"),
        ({"split_by": "google"}, r"unknown split_by of refcoco\+.*'unc'.*'google'"),
        ({"variant": "refcocog"}, "unknown split_by of refcocog.*'umd', 'google'.*'unc'"),
        ({"candidates": "proposal"}, "unknown candidates.*'gt', 'detected', .*'regions', 'listed'"),
        ({"expression": "sent"}, "unknown expression.*'tokens', 'raw'"),
        ({"candidates": "listed", "expression": "raw"}, "unknown expression.*'tokens'.*'raw'"),
        ({"candidates": "listed"}, r"missing.*refcoco\+/train\.json"),
        (
            {"variant": "refcocog", "split_by": "umd"},
            r"missing.*refcocog/refs\(umd\)\.p.*lichengunc",
        ),
    ],
)
def test_unknown_options(tmp_path, options, message):
    with pytest.raises(DataError, match=f"(?s){message}"):
        list(refcoco.records(write(tmp_path), "train", **options))


def test_unknown_split(tmp_path):
    folder = write(tmp_path, REFS[:1])
    with pytest.raises(DataError, match=r"(?s)no split 'testA'.*'train'"):
        list(refcoco.records(folder, "testA"))
    with pytest.raises(DataError, match=r"(?s)unknown split of refcoco\+ \(unc\).*'testB'"):
        list(refcoco.records(folder, "testC"))
    with pytest.raises(DataError, match=r"(?s)unknown split of refcocog \(umd\).*'testA'"):
        refcoco.files(folder, "testA", variant="refcocog", split_by="umd")


def test_prepare_takes_the_options_of_the_config(tmp_path):
    config = ConfigDict(common.data_block("refcoco"))
    options = dict(variant="refcoco+", split_by="unc", candidates="gt", expression="raw")
    config.update(manual_dir=write(tmp_path), vocab="vocab.txt", **options)
    prepared = datasets.prepare(config)
    assert [row.text for row in prepared.rows("testA+testB")] == ["CAFÉ MAN!", "A CAR!"]
    config.expression = "tokens"
    other = datasets.prepare(config)
    assert [row.text for row in other.rows("val")] == ["sky"]
    assert prepared.fingerprint("val") != other.fingerprint("val")
    assert prepared.image_name("5") == "coco:5"
