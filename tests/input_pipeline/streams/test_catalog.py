"""Streams own their data: what they share, what they may not, and what is opened once."""

import pytest
from made_data import write_all, write_jsonl, write_store

from configs import common
from core.errors import DataError
from input_pipeline.streams import pipeline
from objectives import assemble

ASSEMBLE = {"captions": assemble.caption, "labels": assemble.caption}


@pytest.fixture
def folder(tmp_path):
    folder = write_all(tmp_path)
    images = [f"img{i}" for i in range(8)]
    write_jsonl(
        folder / "labels.jsonl", [dict(image_id=i, text="red dog", label=i) for i in images]
    )
    return folder


def two_streams(folder, **shared):
    """Captions of images 0 to 5, and labels of all eight, both from JSONL files."""
    streams = {
        "captions": common.stream_block(("words",), batch_size=2),
        "labels": common.stream_block(("classes",), batch_size=2),
    }
    config = common.experiment(dict(name="none"), "jsonl", streams, {}, {})
    for block in config.streams.values():
        block.update(max_text=8, max_regions=5, max_length=13, order="stored")
    captions = [dict(image_id=f"img{i}", text="a red dog") for i in range(6)]
    config.data.update(
        dir=str(folder / "data"),
        annotations=write_jsonl(folder / "six.jsonl", captions),
        regions=str(folder / "store"),
        **shared,
    )
    config.streams.labels.data.update(
        annotations=str(folder / "labels.jsonl"), records="classify", answer_count=1
    )
    return config


def test_a_streams_own_field_reaches_it_alone_and_a_shared_one_all(folder):
    config = two_streams(folder)
    assert config.streams.captions.data.annotations.endswith("six.jsonl")
    assert config.streams.captions.data.records == config.data.records == "captions"
    config.data.json_keys.text = "sentence"
    assert {b.data.json_keys.text for b in config.streams.values()} == {"sentence"}
    config.streams.captions.data.json_keys.text = "caption"
    assert config.streams.labels.data.json_keys.text == config.data.json_keys.text == "sentence"
    with pytest.raises(AttributeError, match="variant"):
        config.streams.labels.data.variant = "refcoco"  # of another data set


def test_two_kinds_of_records_in_one_run(folder):
    vocab = pipeline.DataCatalog(two_streams(folder)).of("captions").prepared.vocab
    config = two_streams(folder, vocab=vocab)
    catalog = pipeline.DataCatalog(config)
    streams = pipeline.build_streams(config, ASSEMBLE, catalog=catalog, image_margin=0)
    assert {name: s.num_examples for name, s in streams.items()} == dict(captions=6, labels=8)
    assert "label" in streams["labels"].batch(0)
    assert "label" not in streams["captions"].batch(0)
    assert len(catalog.of("labels").prepared.labels) == 8
    assert catalog.of("labels").store is catalog.of("captions").store
    assert catalog.of("labels") is not catalog.of("captions")


def test_equal_blocks_are_one_data(folder):
    config = two_streams(folder)
    config.streams.labels.data.update(annotations=config.data.annotations, records="captions")
    config.streams.labels.data.answer_count = config.data.answer_count
    catalog = pipeline.DataCatalog(config)
    assert catalog.of("labels") is catalog.of("captions")


def test_another_vocabulary_is_refused_naming_both(folder):
    config = two_streams(folder)  # each would train one on its own texts
    with pytest.raises(DataError, match=r"(?s)one vocabulary.*streams\.labels.*'captions'.*vocab="):
        pipeline.build_streams(config, ASSEMBLE, image_margin=0)


def test_images_evaluated_by_one_stream_are_not_trained_on_by_another(folder):
    vocab = pipeline.DataCatalog(two_streams(folder)).of("captions").prepared.vocab
    config = two_streams(folder, vocab=vocab, leaks="error")
    config.data.eval_annotations = write_jsonl(
        folder / "eval.jsonl", [dict(image_id="img6", text="a dog")]
    )
    config.streams.labels.data.eval_annotations = ""
    with pytest.raises(DataError, match=r"(?s)training images are evaluated on.*'img6'"):
        pipeline.build_streams(config, ASSEMBLE, image_margin=0)
    config.data.leaks = "drop"
    streams = pipeline.build_streams(config, ASSEMBLE, image_margin=0)
    assert {name: s.num_examples for name, s in streams.items()} == dict(captions=6, labels=7)


def test_a_stream_may_have_another_data_set(folder):
    streams = {
        "captions": common.stream_block(("words",), batch_size=2),
        "labels": common.stream_block(("classes",), batch_size=2, dataset="refcoco"),
    }
    config = common.experiment(dict(name="none"), "jsonl", streams, {}, {})
    assert config.streams.labels.data.dataset == "refcoco"
    assert config.streams.captions.data.dataset == "jsonl"
    config.data.vocab = "vocab.txt"
    config.streams.labels.data.variant = "refcocog"
    assert config.streams.labels.data.vocab == "vocab.txt"
    assert "variant" not in config.data


def test_ids_of_two_stores_are_not_compared(folder):
    """Image "img6" of another store is another image."""
    vocab = pipeline.DataCatalog(two_streams(folder)).of("captions").prepared.vocab
    config = two_streams(folder, vocab=vocab, leaks="error")
    config.data.eval_annotations = write_jsonl(
        folder / "eval.jsonl", [dict(image_id="img6", text="a dog")]
    )
    config.streams.labels.data.eval_annotations = ""
    config.streams.labels.data.regions = write_store(folder / "other_store")
    assert pipeline.build_streams(config, ASSEMBLE, image_margin=0)["labels"].num_examples == 8
