"""Images whose ids collide are told apart by their urls, and are no leak."""

import zlib

import pytest
from made_data import ASSEMBLE, SPEC, image, write_images
from official_data import config

from core.errors import DataError
from input_pipeline.streams import collisions, pipeline
from input_pipeline.streams.leaks import HeldOut
from input_pipeline.texts import tables

# Words of one crc32, as all texts have that differ in them alone.
HERE, THERE = "http://a/plumless.jpg", "http://a/buckeroo.jpg"
NUMBER = str(zlib.crc32(HERE.encode()))
ALIKE = [f"http://b/{i}" for i in range(3)]


def written(tmp_path, train, validation, without=()):
    """The config of Conceptual Captions with these urls, whose regions are there."""
    assert zlib.crc32(HERE.encode()) == zlib.crc32(THERE.encode())
    for name, urls in (
        ("Train_GCC-training.tsv", train),
        ("Validation_GCC-1.1.0-Validation.tsv", validation),
    ):
        lines = (f"a dog {i} runs\t{url}\n" for i, url in enumerate(urls))
        (tmp_path / name).write_text("".join(lines))
    ids = {str(zlib.crc32(u.encode())) for u in (*train, *validation) if u not in without}
    if not (tmp_path / "store").exists():
        images = ((one, image(i, 1)) for i, one in enumerate(sorted(ids)))
        write_images(tmp_path / "store", SPEC, *images)
    return config(
        tmp_path,
        "conceptual_captions",
        manual_dir=str(tmp_path),
        train_split="train",
        eval_split="validation",
        on_missing="skip",
    )


def build(tree):
    return pipeline.build_streams(tree, ASSEMBLE, image_margin=0)["captions"]


def test_collisions_are_told_and_trained_on(tmp_path, capsys):
    tree = written(tmp_path, [*ALIKE, HERE], ["http://c/1", THERE])
    for _ in range(2):  # also with the tables made
        assert build(tree).num_examples == 4
        told = capsys.readouterr().out
        assert told.count("hashes of urls that collide, no leaks") == 1
        assert f"'conceptual_captions:{NUMBER}' of {HERE} in training and {THERE}" in told


def test_leaks_are_refused_before_the_texts_are_tokenised(tmp_path, monkeypatch, capsys):
    tree = written(tmp_path, [*ALIKE, HERE], [ALIKE[1], THERE])
    written_tables = []
    with monkeypatch.context() as patch:
        patch.setattr(tables, "write_table", lambda *_, **__: written_tables.append(1))
        with pytest.raises(DataError, match=r"(?s)are evaluated on.*1 of 4 images: ") as error:
            build(tree)
    number = str(zlib.crc32(ALIKE[1].encode()))
    assert f"'{number}'" in str(error.value)
    assert NUMBER not in str(error.value)
    assert not written_tables
    assert "collide" in capsys.readouterr().out
    tree.data.leaks = "drop"
    assert build(tree).num_examples == 3
    tree.data.leaks = "report"
    assert build(tree).num_examples == 4
    tree.data.leaks = "error"
    with pytest.raises(DataError, match=r"(?s)are evaluated on.*1 of 4 images: "):
        build(tree)  # the tables are made


def test_a_leak_without_regions_is_none(tmp_path):
    tree = written(tmp_path, [*ALIKE, HERE], [ALIKE[1], THERE], without=[ALIKE[1]])
    assert build(tree).num_examples == 3


def test_the_same_url_beside_a_collision_is_a_leak(tmp_path):
    tree = written(tmp_path, [*ALIKE, HERE, THERE], ["http://c/1", THERE])
    with pytest.raises(DataError, match=rf"(?s)are evaluated on.*'{NUMBER}'"):
        build(tree)


def test_a_list_that_names_a_collision_holds_it_out(tmp_path):
    tree = written(tmp_path, [*ALIKE, HERE], ["http://c/1", THERE])
    (tmp_path / "held.txt").write_text(f"conceptual_captions:{NUMBER}\n")
    tree.data.held_out = str(tmp_path / "held.txt")
    with pytest.raises(DataError, match=rf"(?s)are evaluated on.*'{NUMBER}'"):
        build(tree)


def test_names_are_compared_by_url():
    held = [
        HeldOut(frozenset(), "one", urls=lambda: [("x:1", "a"), ("x:2", "b"), ("x:3", "c")]),
        HeldOut(frozenset(), "two", urls=lambda: [("x:2", "d")]),
        HeldOut(frozenset({"x:4"}), "without urls"),
    ]
    mine = [("x:1", "z"), ("x:2", "y"), ("x:2", "d"), ("x:3", "c"), ("x:4", "e"), ("x:5", "f")]
    shared = collisions.compare(mine, held)
    assert shared.images == {"x:2", "x:3"}
    assert shared.collisions == {"x:1": ("z", "a")}
    few = collisions.compare(mine, held, {"x:3"})
    assert few.images == {"x:3"}
    assert not few.collisions
