"""Sound files of data sets in their other forms: {name: (module of the data set, write)}.

`write(folder)` → (split, options of the reader), as in `annotations`.
"""

import json
import pathlib

from scripts.fuzzing import annotations

BOX = annotations.BOX


def _karpathy(name: str, image: dict) -> dict:
    sentences = [dict(sentid=k, raw=f"a dog {k}", tokens=["a", "dog"]) for k in range(3)]
    made = [
        image | dict(split=split, filename=f"{7 + i}.jpg", sentences=sentences, imgid=i)
        for i, split in enumerate(("train", "val"))
    ]
    return dict(dataset=name, images=made)


def coco_karpathy(folder: pathlib.Path):
    _json(folder / "dataset_coco.json", _karpathy("coco", dict(cocoid=5, filepath="train2014")))
    return "karpathy_train", {}


def coco_test_list(folder: pathlib.Path):
    made = [
        dict(image=f"val2014/COCO_val2014_{i:012}.jpg", caption=["a dog", "a cat"])
        for i in range(1, 4)
    ]
    _json(folder / "coco_test.json", made)
    return "karpathy_test", {}


def flickr30k_karpathy(folder: pathlib.Path):
    _json(folder / "dataset_flickr30k.json", _karpathy("flickr30k", {}))
    return "train", {}


def flickr30k_entities(folder: pathlib.Path):
    (folder / "Sentences").mkdir()
    text = "[/EN#1/people A girl] sits by [/EN#2/other/scene a house] .\nA dog .\n"
    for number in (7, 8):
        (folder / "Sentences" / f"{number}.txt").write_text(text)
    (folder / "train.txt").write_text("7\n8\n")
    return "entities_train", {}


def flickr30k_compared(folder: pathlib.Path):
    split, options = annotations.flickr30k_entities(folder)
    texts = ("A girl sits by a house .", "It is .")
    lines = [f"{i}.jpg#{k}\t{text}\n" for i in (7, 8) for k, text in enumerate(texts)]
    (folder / "results_20130124.token").write_text("".join(lines))
    return split, options | dict(on_missing="skip")


def conceptual_captions_list(folder: pathlib.Path):
    rows = [dict(image=f"train_image/{i:08}.jpg", caption=["a", "dog", "."]) for i in range(3)]
    (folder / "train_frcnn.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "train_frcnn", dict(indexing="row")


def refcoco_detected(folder: pathlib.Path):
    split, _ = annotations.refcoco(folder)
    (folder / "refcoco+" / "proposal").mkdir()
    found = [dict(box=BOX, image_id=5, category_id=1, det_id=i, score=0.5) for i in range(3)]
    name = "res101_coco_minus_refer_notime_dets.json"
    _json(folder / "refcoco+" / "proposal" / name, found)
    return split, dict(candidates="both", expression="raw")


def refcoco_listed(folder: pathlib.Path):
    (folder / "refcoco+").mkdir()
    made = [
        dict(sent="left dog", gt_box=BOX, pred_boxes=[BOX, [1, 2, 3, 4]],
             pred_boxes_img_id=[f"COCO_train2014_000000000005_{k}.jpg" for k in range(2)])
        for _ in range(2)
    ]  # fmt: skip
    _json(folder / "refcoco+" / "train.json", made)
    return "train", dict(candidates="listed")


def refcoco_google(folder: pathlib.Path):
    (folder / "refcocog").mkdir()
    texts = {
        str(k): dict(refexp_id=k, raw="the left dog", tokens=["the", "left", "dog"])
        for k in range(2)
    }
    item = dict(annotation_id=50, image_id=5, bbox=BOX, category_id=1, refexp_ids=[0, 1])
    image = dict(image_id=5, region_candidates=[dict(bounding_box=BOX, predicted_object_name="x")])
    made = dict(annotations={"50": item}, images={"5": image}, refexps=texts)
    _json(folder / "refcocog" / "google_refexp_train_201511_coco_aligned.json", made)
    notes = dict(annotations=[dict(id=50, image_id=5, bbox=BOX, iscrowd=0)])
    _json(folder / "refcocog" / "instances.json", notes)
    return "train", dict(variant="refcocog", split_by="google", candidates="both")


def _json(path: pathlib.Path, value) -> None:
    path.write_text(json.dumps(value))


VARIANTS = {
    "Karpathy's COCO": ("coco_captions", coco_karpathy),
    "COCO test list": ("coco_captions", coco_test_list),
    "Karpathy's Flickr30k": ("flickr30k", flickr30k_karpathy),
    "Flickr30k Entities": ("flickr30k", flickr30k_entities),
    "Flickr30k Entities, compared": ("flickr30k_entities", flickr30k_compared),
    "Conceptual Captions list": ("conceptual_captions", conceptual_captions_list),
    "RefCOCO detected": ("refcoco", refcoco_detected),
    "RefCOCO listed": ("refcoco", refcoco_listed),
    "Google refexp": ("refcoco", refcoco_google),
}
