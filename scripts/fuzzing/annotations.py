"""Small sound files of every data set: `write(folder)` → (split, options of its reader)."""

import gzip
import json
import pathlib

BOX = [3, 4, 20, 10]
SIDES = ("xmin", "ymin", "xmax", "ymax")


def coco_captions(folder: pathlib.Path):
    notes = [{"id": 9 + i, "image_id": i, "caption": f"a dog {i}"} for i in range(3)]
    _json(folder / "captions_val2014.json", {"annotations": notes})
    return "val2014", {}


def conceptual_captions(folder: pathlib.Path):
    lines = "".join(f"a dog {i}\thttp://a.b/{i}\n" for i in range(3))
    with gzip.open(folder / "Train_GCC-training.tsv.gz", "wt") as file:
        file.write(lines)
    return "train", {}


def flickr30k(folder: pathlib.Path):
    lines = "".join(f"{i}.jpg#0\tA dog runs .\n" for i in range(1, 4))
    (folder / "results_20130124.token").write_text(lines)
    return "full", {}


def flickr30k_entities(folder: pathlib.Path):
    text = (
        "[/EN#1/people A girl] sits by [/EN#2/other/scene a house] .\n[/EN#0/notvisual It] is .\n"
    )
    sides = "".join(f"<{side}>{n}</{side}>" for side, n in zip(SIDES, (3, 4, 20, 10), strict=True))
    image = (
        "<annotation>\n<size><width>50</width><height>40</height></size>\n<object><name>1</name>"
        f"<bndbox>{sides}</bndbox></object>\n<object><name>2</name><scene>1</scene>"
        "<nobndbox>0</nobndbox></object></annotation>"
    )
    for name in ("Sentences", "Annotations"):
        (folder / name).mkdir()
    for number in (7, 8):
        (folder / "Sentences" / f"{number}.txt").write_text(text)
        (folder / "Annotations" / f"{number}.xml").write_text(image)
    (folder / "train.txt").write_text("7\n8\n")
    return "train", {}


def flickr8k(folder: pathlib.Path):
    names = [f"{i}_ab.jpg" for i in range(1, 4)]
    lines = "".join(f"{name}#0\tA dog runs .\n" for name in names)
    (folder / "Flickr8k.token.txt").write_text(lines)
    (folder / "Flickr_8k.testImages.txt").write_text("\n".join(names[:2]))
    return "test", {}


def gqa(folder: pathlib.Path):
    item = dict(question="What?", imageId="n1", answer="cat", types=dict(structural="query"))
    questions = {str(i): item for i in range(3)}
    _json(folder / "testdev_balanced_questions.json", questions)
    return "testdev_balanced", {}


def guesswhat(folder: pathlib.Path):
    games = [
        dict(
            id=i,
            image=dict(id=8, width=50, height=40, file_name="COCO_train2014_8.jpg"),
            objects=[dict(id=o, bbox=BOX, category="dog") for o in (1, 2)],
            object_id=1,
            qas=[dict(id=1, question="is it a dog?", answer="No")],
            status="success",
        )
        for i in range(2)
    ]
    _lines(folder / "guesswhat.train.jsonl", games)
    return "train", {}


def nlvr2(folder: pathlib.Path):
    rows = [
        dict(identifier=f"dev-7-0-{i}", sentence=f"two dogs {i}", label="True") for i in range(3)
    ]
    _lines(folder / "dev.json", rows)
    return "dev", {}


def refcoco(folder: pathlib.Path):
    import pickle

    sentences = [
        dict(sent_id=i, raw="Left dog", sent="left dog", tokens=["left", "dog"]) for i in (1, 2)
    ]
    refs = [
        dict(ref_id=i, ann_id=50 + i, category_id=1, image_id=5, split="train", sent_ids=[1],
             file_name="COCO_train2014_000000000005_50.jpg", sentences=sentences[i : i + 1])
        for i in range(2)
    ]  # fmt: skip
    (folder / "refcoco+").mkdir()
    (folder / "refcoco+" / "refs(unc).p").write_bytes(pickle.dumps(refs, 2))
    notes = [dict(id=50 + i, image_id=5, bbox=BOX, iscrowd=0) for i in range(3)]
    _json(folder / "refcoco+" / "instances.json", {"annotations": notes})
    return "train", {}


def snli_ve(folder: pathlib.Path):
    rows = [
        dict(Flikr30kID="42.jpg", pairID=f"42.jpg#0r{i}e", sentence1="p", sentence2=f"a dog {i}",
             gold_label="entailment")
        for i in range(3)
    ]  # fmt: skip
    _lines(folder / "snli_ve_dev.jsonl", rows)
    return "dev", {}


def vcr(folder: pathlib.Path):
    rows = [
        dict(
            annot_id=f"train-{i}",
            objects=["person", "dog"],
            metadata_fn="film/a@0.json",
            img_fn="film/a@0.jpg",
            question=["Is", [0], "near", [1], "?"],
            answer_choices=[["Yes", "."], ["No", [1]], ["a"], ["b"]],
            rationale_choices=[[[0], "sits"], ["c"], ["d"], ["e"]],
            answer_label=1,
            rationale_label=3,
        )
        for i in range(2)
    ]
    _lines(folder / "train.jsonl", rows)
    still = dict(names=["person", "dog"], boxes=[[0, 1, 20.5, 30, 0.9], [5, 5, 9, 9, 0.5]],
                 segms=[[[[1, 2], [3, 4.5], [5, 6]]], []], width=60, height=40)  # fmt: skip
    (folder / "vcr1images" / "film").mkdir(parents=True)
    _json(folder / "vcr1images" / "film" / "a@0.json", still)
    return "train", {}


def visual7w(folder: pathlib.Path):
    boxes = [
        dict(box_id=i, name="dog", image_id=5, x=i, y=1, width=4, height=2.5) for i in range(4)
    ]
    qa = dict(qa_id=9, question="Which dog?", answer=0, multiple_choices=[1, 2, 3])
    images = [dict(image_id=5, filename="v7w_5.jpg", split="train", qa_pairs=[qa])]
    _json(folder / "dataset_v7w_pointing.json", dict(boxes=boxes, images=images))
    return "train", {}


def visual_genome_qa(folder: pathlib.Path):
    qas = [dict(qa_id=i, image_id=4, question="What?", answer="A Bear.") for i in range(3)]
    _json(folder / "question_answers.json", [dict(id=4, qas=qas)])
    return "val", {}


def visual_genome_regions(folder: pathlib.Path):
    box = dict(zip(("x", "y", "width", "height"), BOX, strict=True))
    made = [dict(region_id=i, image_id=4, phrase=f"a dog {i}", **box) for i in range(3)]
    _json(folder / "region_descriptions.json", [dict(id=4, regions=made), dict(id=5, regions=[])])
    _json(folder / "image_data.json", [dict(image_id=4, width=50, height=40, coco_id=None)])
    return "train", {}


def vqa(folder: pathlib.Path):
    questions, notes = [], []
    for i in range(2):
        given = [dict(answer="net", answer_confidence="yes", answer_id=k) for k in range(10)]
        questions.append(dict(question_id=i, image_id=5, question=f"What {i}?"))
        notes.append(
            dict(question_id=i, image_id=5, question_type="what", answer_type="other",
                 multiple_choice_answer="net", answers=given)
        )  # fmt: skip
    _json(folder / "v2_OpenEnded_mscoco_train2014_questions.json", dict(questions=questions))
    _json(folder / "v2_mscoco_train2014_annotations.json", dict(annotations=notes))
    return "train2014", {}


def _json(path: pathlib.Path, value) -> None:
    path.write_text(json.dumps(value))


def _lines(path: pathlib.Path, rows) -> None:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))


DATASETS = {
    made.__name__: made
    for made in (
        coco_captions,
        conceptual_captions,
        flickr30k,
        flickr30k_entities,
        flickr8k,
        gqa,
        guesswhat,
        nlvr2,
        refcoco,
        snli_ve,
        vcr,
        visual7w,
        visual_genome_qa,
        visual_genome_regions,
        vqa,
    )
}
