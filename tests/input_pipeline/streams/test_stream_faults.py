"""Streams whose data fails: damaged records, passing faults, missing regions, wrong options."""

import json
import pathlib
import re

import pytest
from made_data import (
    ASSEMBLE,
    SPEC,
    captions,
    config,
    image,
    write_all,
    write_images,
    write_jsonl,
    write_store,
)
from test_stream import build, equal

from core.errors import ConfigError, DataError
from input_pipeline.streams import pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("stream"))


def damage(folder, tmp_path, image):
    """A copy of the data with one bit of an image's record flipped."""
    write_all(tmp_path)
    tree = config(tmp_path)
    store = pipeline.Data(tree.data).store
    place = store.where(image)
    path = pathlib.Path(place.split(", image")[0])
    data = bytearray(path.read_bytes())
    data[int(place.rsplit("byte ", 1)[1].rstrip(")")) + 40] ^= 4
    path.write_bytes(data)
    return tree


def test_failing_batch_names_the_example(folder, tmp_path):
    stream = pipeline.build_streams(damage(folder, tmp_path, 5), ASSEMBLE, image_margin=0)[
        "captions"
    ]
    hits = []
    for draw in range(4):
        try:
            stream.batch(draw)
        except DataError as error:
            hits.append(str(error))
    assert len(hits) in (1, 2)  # two captions of the image
    for text in hits:
        assert "an example cannot be read" in text
        assert "captions.jsonl, example 'img5#" in text
        assert "image 'img5' (row 5" in text
        assert "expected" in text


def test_reading_again_after_a_passing_fault(folder, monkeypatch, capsys):
    stream, want = build(folder), build(folder).batch(0)
    read, calls = stream.store.read, []

    def once(row):
        calls.append(row)
        if len(calls) == 3:
            raise OSError("cable")
        return read(row)

    monkeypatch.setattr(stream.store, "read", once)
    equal(stream.batch(0), want)
    assert "second try after: cable" in capsys.readouterr().err


def test_missing_regions_are_an_error_or_skipped(tmp_path, capsys):
    write_store(tmp_path / "store", 6)
    rows = [*captions(8), {"image_id": "img1"}, {"image_id": "img2", "text": ["", "a dog"]}]
    write_jsonl(tmp_path / "captions.jsonl", captions(8))
    with pytest.raises(DataError) as error:
        build(tmp_path)
    text = str(error.value)
    assert "captions.jsonl, text 'img6#0'" in text
    assert f"image 'img6' in region store {tmp_path}/store (6 images" in text
    assert "2 of 8 images are missing" in text
    assert "on_missing=skip" in text

    write_jsonl(tmp_path / "captions.jsonl", rows)
    capsys.readouterr()
    stream = build(tmp_path, on_missing="skip")
    assert stream.num_examples == 13
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if "skipped" in line)
    assert "13 texts kept, 6 skipped (2 rows without text, 4 texts without regions)" in line
    saved = [json.loads(x) for x in pathlib.Path(line.split("list: ")[1]).read_text().splitlines()]
    reasons = sorted((row["text_id"], row["reason"]) for row in saved)
    assert len(reasons) == 6
    assert ("img6#1", "no regions of 'img6'") in reasons
    assert any("captions.jsonl:9" in name and why == "no text" for name, why in reasons)
    for draw in range(8):
        assert (stream.batch(draw)["image_key"] < 6).all()

    write_jsonl(tmp_path / "captions.jsonl", captions(2, first=40))
    with pytest.raises(DataError, match="2 of 2 images are missing"):  # nothing would be left
        build(tmp_path, on_missing="skip")
    with pytest.raises(DataError, match=r"(?s)on_missing.*error.*skip.*'ignore'"):
        build(tmp_path, on_missing="ignore")


def test_wrong_options_are_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"one of .*boxes_and_words"):
        build(folder, stream={"flip": "on"})
    with pytest.raises(DataError, match=r"(?s)unknown split.*'train'.*'validation'"):
        pipeline.build_evaluation(
            config(folder), "captions", ASSEMBLE, batch_size=4, image_margin=0
        )
    with pytest.raises(DataError, match=r"(?s)unknown stream.*captions.*text"):
        pipeline.build_evaluation(config(folder), "x", ASSEMBLE, batch_size=4, image_margin=0)
    with pytest.raises(DataError, match="no stream to train on"):
        pipeline.build_streams(config(folder, batch=0), ASSEMBLE, image_margin=0)
    with pytest.raises(DataError, match="assemble"):
        pipeline.build_streams(config(folder), {}, image_margin=0)
    with pytest.raises(DataError, match=r"(?s)beyond the vocabulary.*captions\.jsonl.*id < 110"):
        pipeline.build_streams(config(folder), ASSEMBLE, vocab_size=110, image_margin=0)
    write_all(tmp_path, images=1)
    with pytest.raises(DataError, match="another image"):
        build(tmp_path, stream={"negatives": True})
    tree = config(folder)
    tree.data.dataset = "nothing"
    with pytest.raises(DataError, match=r"(?s)unknown data set.*jsonl.*scenes.*'nothing'"):
        pipeline.build_streams(tree, ASSEMBLE, image_margin=0)


@pytest.mark.parametrize(
    ("ids", "fix"),
    [
        (["other0", "other1"], r"name another split than 'train'.*data\.train_split"),
        (["img007", "img008"], None),
        (["COCO_train2014_000000000007"], r"--ids number"),
    ],
)
@pytest.mark.parametrize("on_missing", ["error", "skip"])
def test_a_split_without_regions_is_not_told_to_skip(tmp_path, ids, fix, on_missing):
    write_images(tmp_path / "store", SPEC, *((name, image(1, 2)) for name in ids))
    write_jsonl(tmp_path / "captions.jsonl", [{"image_id": "7", "text": "a dog"}])
    tree = config(tmp_path, on_missing=on_missing)
    with pytest.raises(DataError, match="no regions") as error:
        pipeline.build_streams(tree, ASSEMBLE, image_margin=0)
    assert "on_missing=skip" not in str(error.value)
    if fix:
        assert re.search(f"(?s)fix: .*{fix}", str(error.value))
