"""COCO's caption files made by hand, and a config that reads them."""

import json

from ml_collections import ConfigDict

from configs import common

WORDS = ("the", "red", "dog", "cat", "sits", "left", "right", "of", "house", "tree")


def write_coco(folder, **splits):
    """COCO's files with one caption for each image id."""
    folder.mkdir(exist_ok=True)
    for split, ids in splits.items():
        notes = [
            {"id": 9000 + i, "image_id": i, "caption": f"{WORDS[i % 10]} {WORDS[i % 7]} {i}"}
            for i in ids
        ]
        (folder / f"captions_{split}.json").write_text(json.dumps({"annotations": notes}))
    return str(folder)


def config(folder, dataset="coco_captions", **data):
    tree = ConfigDict(
        {
            "seed": 7,
            "overfit": 0,
            "data": common.data_block(dataset),
            "streams": {"captions": common.stream_block((), 4)},
        }
    )
    tree.data.update(
        dir=str(folder / "cache"),
        regions=str(folder / "store"),
        manual_dir=str(folder / "official"),
        train_split="train2014+val2014",
        eval_split="val2017",
        vocab_size=180,
    )
    tree.data.update(data)
    tree.streams.captions.update(max_text=10, max_regions=6, max_length=16)
    return tree
