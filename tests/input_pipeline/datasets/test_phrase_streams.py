"""Phrases with boxes, in the batches of a stream: the region that each word speaks of."""

import importlib

import numpy as np
import pytest
from entities_data import region, write_entities, write_regions
from made_data import SPEC, image, write_images
from official_data import config

from input_pipeline import datasets
from input_pipeline.datasets import options
from input_pipeline.datasets.records import GroundedCaption
from input_pipeline.streams import pipeline
from objectives import assemble

CLOCK = ("the", "clock", "is", "green")


def write_store(folder, **boxes):
    """A store of images with regions of these boxes, in this order: {image: (size, boxes)}."""
    images = []
    for name, ((width, height), own) in boxes.items():
        arguments = image(3, len(own)) | dict(boxes=np.asarray(own, np.float32))
        images.append((name, arguments | dict(width=width, height=height)))
    write_images(folder, SPEC, *images)


def words_of(stream):
    """{text id: [(word, row of the region it speaks of)]} of a stream's examples."""
    batch = stream.batch(0)
    piece_of = {number: piece for piece, number in stream.tokenizer.vocab.items()}
    found = {}
    for i, index in enumerate(batch["example_index"]):
        mask = batch["text_mask"][i, 0]
        rows = batch["phrase_region"][i, 0]
        assert not rows[~mask].any()
        said = []
        for number, row in zip(batch["text_ids"][i, 0][mask], rows[mask].tolist(), strict=True):
            piece = piece_of[number]
            if piece.startswith("##"):
                assert said[-1][1] == row
                said[-1] = said[-1][0] + piece[2:], row
            else:
                said.append((piece, row))
        assert (said[0], said[-1]) == (("[CLS]", 0), ("[SEP]", 0))
        found[stream.text_id(index)] = said[1:-1]
    return found


def stream_of(folder, dataset, **data):
    tree = config(folder, dataset, train_split="full", eval_split="full", leaks="report", **data)
    tree.streams.captions.update(max_text=24, max_regions=6, max_length=40, order="stored")
    made = pipeline.build_streams(tree, {"captions": assemble.caption}, image_margin=0)
    return made["captions"]


def test_words_of_flickr30k_entities(tmp_path):
    write_entities(tmp_path / "official")
    man, shirt, both = (11, 9, 41, 59), (14, 20, 34, 39), (8, 5, 89, 72)
    write_store(
        tmp_path / "store",
        **{
            "1007": ((100, 80), [(60, 60, 90, 79), man, both, shirt]),
            "42": ((60, 50), [(20, 20, 40, 40), (0, 0, 59, 49)]),
        },
    )
    found = words_of(stream_of(tmp_path, "flickr30k_entities"))
    shown = {name: [row for _, row in said] for name, said in found.items()}
    assert (
        " ".join(word for word, _ in found["1007#0"]) == "a man in a blue shirt climbs a ladder ."
    )
    assert shown == {
        "1007#0": [2, 2, 0, 4, 4, 4, 0, 0, 0, 0],
        "1007#1": [3, 3, 0, 0, 0, 0, 0, 0, 3, 3, 0],
        "1007#2": [0, 0, 0],
        "42#0": [2, 0, 0, 0, 0, 2, 2, 0],  # no region shows the ball
    }


def test_words_of_visual_genome_regions(tmp_path, capsys):
    made = [region(1), region(2), region(3, phrase="A dog", box=(-9, 30, 40, 40)),
            region(4, phrase="sky", box=(300, 0, 9, 9))]  # fmt: skip
    write_regions(tmp_path / "official", {4: made, 7: [region(1, 7)]})
    write_store(
        tmp_path / "store",
        **{"4": ((80, 60), [(0, 31, 30, 58), (2, 3, 12, 23)]), "7": ((80, 60), [(40, 40, 60, 60)])},
    )
    found = words_of(stream_of(tmp_path, "visual_genome_regions"))
    assert found == {
        "4#1": [(word, 2) for word in CLOCK],
        "4#3": [("a", 1), ("dog", 1)],
        "4#4": [("sky", 0)],
        "7#1": [(word, 0) for word in CLOCK],
    }
    line = "4 texts kept, 1 skipped (0 rows without text, 0 texts without regions, 1 rows: the same"
    assert line in capsys.readouterr().out


def test_data_sets_with_boxes_of_phrases_are_known():
    known = [importlib.import_module(f"{datasets.__name__}.{name}") for name in datasets.known()]
    with_boxes = {
        module.BUILDER.name
        for module in known
        if hasattr(module, "BUILDER") and module.BUILDER.record is GroundedCaption
    }
    assert with_boxes == set(options.PHRASES)


@pytest.mark.parametrize("dataset", options.PHRASES)
@pytest.mark.parametrize("size", ["mini", "base"])
@pytest.mark.parametrize("model", ["vlbert", "vilbert"])
def test_pretraining_on_phrases_points(model, size, dataset):
    file = importlib.import_module(f"configs.{model}_pretrain")
    made, other = (file.get_config(f"size={size},data={d}") for d in (dataset, "coco_captions"))
    assert "phrase_grounding" in made.streams.captions.objectives
    assert made.objectives.phrase_grounding.tagged == (0.5 if model == "vlbert" else 0)
    assert "phrase_grounding" not in other.objectives
