"""Streams: a batch is a pure function of (seed, stream, draw), whoever asks for it."""

import dataclasses
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
from made_data import ASSEMBLE, captions, config, write_all, write_jsonl, write_store

from core.errors import DataError
from input_pipeline.schema import check_batch
from input_pipeline.streams import limits, pipeline, plan


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("stream"))


def build(folder, **options):
    return pipeline.build_streams(config(folder, **options), ASSEMBLE, image_margin=0)["captions"]


def evaluation(folder, batch_size, other_image=False, **options):
    return pipeline.build_evaluation(
        config(folder, **options),
        "captions",
        ASSEMBLE,
        split="train",
        batch_size=batch_size,
        other_image=other_image,
        image_margin=0,
    )


def equal(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


@pytest.mark.parametrize("margin", [0, 1])
def test_row_0_is_the_box_of_the_whole_image(folder, margin):
    tree = config(folder)
    stream = pipeline.build_streams(tree, ASSEMBLE, image_margin=margin)["captions"]
    batch = stream.batch(0)
    height, width = batch["image_size"][:, 0].T
    expected = np.stack([0 * width, 0 * height, width - margin, height - margin], -1)
    np.testing.assert_array_equal(batch["boxes"][:, 0, 0], expected)


FULL = {"flip": "boxes", "negatives": True, "resize": (60, 100), "block": 3}


def test_batches_are_pure(folder):
    stream = build(folder, stream=FULL)
    assert (stream.num_examples, stream.steps_per_epoch) == (16, 4)
    sequence = [stream.batch(draw) for draw in range(9)]
    again = build(folder, stream=FULL)
    assert again.fingerprint == stream.fingerprint
    for draw in (8, 3):
        equal(again.batch(draw), sequence[draw])
    sizes = check_batch(sequence[0], where="test")
    assert (sizes["B"], sizes["K"], sizes["M"], sizes["T"], sizes["R"]) == (4, 2, 1, 10, 6)
    for epoch in (sequence[:4], sequence[4:8]):
        seen = np.concatenate([batch["example_index"] for batch in epoch])
        assert sorted(seen) == list(range(16))
    for count in (2, 4):
        parts = [stream.batch(5, (i, count)) for i in range(count)]
        joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        equal(joined, sequence[5])


def test_text_and_image_belong_together(folder):
    stream = build(folder)
    batch = stream.batch(0)
    assert (batch["image_key"][:, 0] == batch["example_index"] // 2).all()
    assert stream.text_id(3) == "img1#1"
    plain = ASSEMBLE["captions"](stream.source.table, batch["example_index"], stream.special, 10)
    n = np.minimum(batch["num_detected"][:, 0] + 1, 6)
    text, regions = limits.joint_lengths(plain["text_mask"].sum(-1)[:, 0], n, 16)
    np.testing.assert_array_equal(batch["text_mask"].sum(-1)[:, 0], text)
    np.testing.assert_array_equal(batch["region_mask"].sum(-1)[:, 0], regions)


def test_joint_truncation_is_applied(folder):
    batch = build(folder, batch=16, stream={"max_length": 8}).batch(0)
    text, regions = batch["text_mask"].sum(-1)[:, 0], batch["region_mask"].sum(-1)[:, 0]
    assert (text + regions <= 8).all()
    assert (text + regions == 8).any()
    last = np.take_along_axis(batch["text_ids"][:, 0], text[:, None] - 1, 1)
    assert (last == 102).all()  # [SEP] stays
    assert not batch["text_ids"][~batch["text_mask"]].any()
    assert not batch["boxes"][~batch["region_mask"]].any()
    assert not batch["regions"][~batch["region_mask"]].astype(np.float32).any()


def test_negatives_are_of_other_images(folder):
    stream, seen = build(folder, stream={"negatives": True}), set()
    plain = build(folder)
    table, rows = stream.source.table, np.arange(16)
    texts = ASSEMBLE["captions"](table, rows, stream.special, 10)["text_ids"][:, 0]
    for draw in range(8):
        batch = stream.batch(draw)
        np.testing.assert_array_equal(batch["text_ids"][:, 0], plain.batch(draw)["text_ids"][:, 0])
        for b, row in enumerate(batch["example_index"]):
            match = np.flatnonzero((texts == batch["text_ids"][b, 1]).all(1))
            assert len(match)
            assert (match // 2 != row // 2).any()
            seen.add((int(row), int(match[0])))
    assert len(seen) > 20
    first = evaluation(folder, 4, stream={"negatives": True})
    other = evaluation(folder, 8, stream={"negatives": True})
    joined = np.concatenate([first.batch(d)["text_ids"] for d in (0, 1)])
    np.testing.assert_array_equal(joined, other.batch(0)["text_ids"])
    assert len(np.unique(joined[:, 1], axis=0)) > 4
    assert (joined[0::2, 1] != joined[1::2, 1]).any()  # drawn by example, not by image


def foreign_catalog(tree, names):
    """The data of a config, with the foreign texts that names(row) says."""
    catalog = pipeline.DataCatalog(tree)
    data = catalog.of("captions")
    rows, fingerprint = data.prepared.rows, data.prepared.fingerprint
    data.prepared = dataclasses.replace(
        data.prepared,
        rows=lambda split: (dataclasses.replace(r, foreign=names(r)) for r in rows(split)),
        fingerprint=lambda split: f"{fingerprint(split)} {names.__name__}",
    )
    return catalog


def next_two(row):
    """The first texts of the image after the next, and of the one after that, as in a ring."""
    image = int(row.image_id[3:])
    return tuple(f"img{(image + k) % 8}#0" for k in (2, 3))


def test_negatives_are_the_foreign_texts_of_the_table(folder):
    tree = config(folder, stream={"negatives": True})
    catalog = foreign_catalog(tree, next_two)
    stream = pipeline.build_streams(tree, ASSEMBLE, catalog=catalog, image_margin=0)["captions"]
    random = build(folder, stream={"negatives": True})
    assert stream.fingerprint != random.fingerprint
    texts = ASSEMBLE["captions"](stream.source.table, np.arange(16), stream.special, 10)["text_ids"]
    seen = set()
    for draw in range(16):
        batch = stream.batch(draw)
        np.testing.assert_array_equal(batch["text_ids"][:, 0], random.batch(draw)["text_ids"][:, 0])
        for b, row in enumerate(batch["example_index"].tolist()):
            allowed = [(row // 2 + k) % 8 * 2 for k in (2, 3)]
            which = [(batch["text_ids"][b, 1] == texts[other, 0]).all() for other in allowed]
            assert sum(which) == 1
            seen.add((row, which.index(True)))
    assert len(seen) > 24  # of 32
    again = pipeline.build_streams(
        tree, ASSEMBLE, catalog=foreign_catalog(tree, next_two), image_margin=0
    )["captions"]
    equal(again.batch(6), stream.batch(6))
    halves = [stream.batch(6, (i, 2))["text_ids"] for i in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(halves), stream.batch(6)["text_ids"])
    by4, by8 = (
        pipeline.build_evaluation(
            tree,
            "captions",
            ASSEMBLE,
            split="train",
            batch_size=size,
            catalog=catalog,
            image_margin=0,
        )
        for size in (4, 8)
    )
    joined = np.concatenate([by4.batch(d)["text_ids"] for d in (0, 1)])
    np.testing.assert_array_equal(joined, by8.batch(0)["text_ids"])


def test_a_text_without_foreign_text_is_told(folder):
    def but_one(row):
        return () if row.text_id == "img5#1" else next_two(row)

    tree = config(folder)
    stream = pipeline.build_streams(
        tree, ASSEMBLE, catalog=foreign_catalog(tree, but_one), image_margin=0
    )["captions"]
    assert stream.batch(0)["text_ids"].shape[1] == 1  # not asked for
    tree.streams.captions.negatives = True
    with pytest.raises(DataError, match=r"(?s)captions\.jsonl, text 'img5#1'.*1 of 16.*negatives"):
        pipeline.build_streams(
            tree, ASSEMBLE, catalog=foreign_catalog(tree, but_one), image_margin=0
        )


def test_foreign_texts_may_be_of_images_without_regions(tmp_path):
    write_all(tmp_path)
    write_store(tmp_path / "few", 6)
    tree = config(
        tmp_path,
        stream={"negatives": True},
        regions=str(tmp_path / "few"),
        on_missing="skip",
    )
    stream = pipeline.build_streams(
        tree, ASSEMBLE, catalog=foreign_catalog(tree, next_two), image_margin=0
    )["captions"]
    assert stream.num_examples == 12
    texts = ASSEMBLE["captions"](stream.source.table, np.arange(16), stream.special, 10)["text_ids"]
    left_out = 0
    for draw in range(6):
        batch = stream.batch(draw)
        assert (batch["image_key"] < 6).all()
        left_out += (batch["text_ids"][:, 1:2] == texts[12:, 0]).all(-1).any(1).sum()
    assert left_out


def test_flip_mirrors_half_of_the_training_examples(folder):
    plain, flipped = build(folder, batch=16), build(folder, batch=16, stream={"flip": "boxes"})
    turned = []
    for draw in range(6):
        a, b = plain.batch(draw), flipped.batch(draw)
        np.testing.assert_array_equal(a["regions"], b["regions"])  # features stay as they are
        np.testing.assert_array_equal(a["text_ids"], b["text_ids"])
        width = a["image_size"][:, 0, 1]
        mirrored = width[:, None] - a["boxes"][:, 0, 1:2, 2]
        turned += (b["boxes"][:, 0, 1, 0] != a["boxes"][:, 0, 1, 0]).tolist()
        here = np.asarray(turned[-16:])
        np.testing.assert_allclose(b["boxes"][here, 0, 1, 0], mirrored[here, 0], rtol=1e-6)
    assert 0.3 < np.mean(turned) < 0.7
    still = evaluation(folder, 16, stream={"flip": "boxes"})
    np.testing.assert_array_equal(still.batch(0)["boxes"], evaluation(folder, 16).batch(0)["boxes"])


def test_flip_exchanges_left_and_right(folder):
    boxes = build(folder, batch=16, stream={"flip": "boxes"})
    words = build(folder, batch=16, stream={"flip": "boxes_and_words"})
    vocab = pipeline.Data(config(folder).data).tokenizer.vocab
    left, right = vocab["left"], vocab["right"]
    changed = 0
    for draw in range(4):
        a, b = boxes.batch(draw), words.batch(draw)
        swapped = np.where(a["text_ids"] == left, right, a["text_ids"])
        swapped = np.where(a["text_ids"] == right, left, swapped)
        for i in range(16):
            turned = not np.array_equal(a["text_ids"][i], b["text_ids"][i])
            np.testing.assert_array_equal(
                b["text_ids"][i], (swapped if turned else a["text_ids"])[i]
            )
            changed += turned
    assert changed > 5
    np.testing.assert_array_equal(a["boxes"], b["boxes"])


@pytest.mark.parametrize("batch_size", [1, 6, 16, 24])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_evaluation_counts_each_example_once(folder, batch_size, count):
    if batch_size % count:
        return
    stream, seen = evaluation(folder, batch_size), []
    for draw in range(stream.steps_per_epoch):
        for i in range(count):
            batch = stream.batch(draw, (i, count))
            assert len(batch["_weight"]) == batch_size // count
            seen += batch["example_index"][batch["_weight"] > 0].tolist()
    assert sorted(seen) == list(range(16))
    with pytest.raises(DataError, match="no such batch"):
        stream.batch(stream.steps_per_epoch)


def test_other_image(folder):
    stream, plain = evaluation(folder, 16, other_image=True), evaluation(folder, 16)
    batch, own = stream.batch(0), plain.batch(0)
    for key, value in own.items():
        np.testing.assert_array_equal(batch[key][:, :1] if value.ndim > 1 else batch[key], value)
    first, second = batch["image_key"].T
    assert (first != second).all()
    assert sorted(second[::2]) == list(range(8))  # each image stands in for one other
    assert (batch["region_mask"].sum(-1)[:, 1] + batch["text_mask"].sum(-1)[:, 0] <= 16).all()


def test_overfit(folder):
    tree = config(folder, batch=8)
    tree.overfit = 3
    stream = pipeline.build_streams(tree, ASSEMBLE, image_margin=0)["captions"]
    assert set(stream.batch(11)["example_index"]) == {0, 1, 2}


def test_fingerprint_follows_content(folder, tmp_path):
    base = build(folder)
    assert build(folder, batch=8).fingerprint == base.fingerprint  # checked on its own
    others = [
        build(folder, stream={"max_length": 12}),
        build(folder, stream={"order": "stored"}),
        build(folder, stream={"flip": "boxes"}),
        build(folder, vocab_size=140),
        build(write_all(tmp_path, 7)),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_text_only_stream(folder):
    lines = ["the red dog", "", "  a cat sits left of the big tree ", "house"]
    (folder / "corpus.txt").write_text("\n".join(lines))
    tree = config(folder, text_batch=6, corpus=str(folder / "corpus.txt"))
    streams = pipeline.build_streams(tree, ASSEMBLE, image_margin=0)
    text = streams["text"]
    assert (text.num_examples, text.spec) == (3, None)
    batch = text.batch(0)
    assert sorted(batch["example_index"]) == [0, 0, 1, 1, 2, 2]
    assert "regions" not in batch
    flat = pipeline.Data(tree.data).tokenizer.encode_batch([" ".join(lines)])[0].ids
    first = batch["text_ids"][batch["example_index"] == 0][0, 0]
    assert first.tolist() == (flat * 3)[:7]
    assert text.text_id(2) == "corpus.txt:4"
    for option, value in {"negatives": True, "flip": "boxes", "distractors": "similar"}.items():
        asking = config(folder, text_batch=6, corpus=str(folder / "corpus.txt"))
        asking.streams.text[option] = value
        with pytest.raises(DataError, match=r"(?s)no images.*streams\.text") as error:
            pipeline.build_streams(asking, ASSEMBLE, image_margin=0)
        assert f"{option}={value!r}" in str(error.value)
    with pytest.raises(DataError, match=r"(?s)no corpus.*data\.corpus.*batch_size"):
        pipeline.build_streams(config(folder, text_batch=4), ASSEMBLE, image_margin=0)


def test_weights_mix_files(tmp_path):
    write_store(tmp_path / "a", 6)
    write_store(tmp_path / "b", 6, first=6)
    files = [
        write_jsonl(tmp_path / "many.jsonl", captions(10, 4)),
        write_jsonl(tmp_path / "few.jsonl", captions(2, 1, first=10)),
    ]
    options = {
        "annotations": ",".join(files),
        "regions": f"{tmp_path / 'a'},{tmp_path / 'b'}",
    }
    by_size = build(tmp_path, batch=42, **options)
    assert sorted(by_size.batch(1)["example_index"]) == list(range(42))
    mixed = build(tmp_path, batch=50, weights=(1.0, 3.0), **options)
    rows = np.concatenate([mixed.batch(draw)["example_index"] for draw in range(200)])
    assert (rows >= 40).sum() == 7500
    many = rows[rows < 40]
    assert sorted(many[:40]) == list(range(40))  # an epoch of its own
    parts = [mixed.batch(3, (i, 2))["example_index"] for i in (0, 1)]
    assert np.concatenate(parts).tolist() == rows[150:200].tolist()
    with pytest.raises(DataError, match=r"(?s)mixture weights.*many\.jsonl.*2 files.*3 weights"):
        build(tmp_path, weights=(1.0, 1.0, 1.0), **options)
    with pytest.raises(DataError, match="positive"):
        build(tmp_path, weights=(1.0, 0.0), **options)
    few = config(tmp_path, batch=5, weights=(1.0, 3.0), **options)
    few.overfit = 5  # of the first file: so few are no mixture
    few = pipeline.build_streams(few, ASSEMBLE, image_margin=0)["captions"]
    assert sorted(few.batch(0)["example_index"]) == list(range(5))


def test_a_kind_that_few_rows_lack_is_told_and_left_out(capsys):
    table = types.SimpleNamespace(source=np.array([0, 2, 0, 2, 2]), origin="made up")
    source = types.SimpleNamespace(table=table, kinds=("red", "green", "blue"))
    rows = np.array([0, 1, 2, 4])
    parts, weights = plan.split_by_source(source, rows, (1.0, 2.0, 3.0), "stream 's'")
    assert [part.tolist() for part in parts] == [[0, 2], [1, 4]]
    assert weights == (1.0, 3.0)
    assert "stream 's': 4 rows are too few to have 'green'; left out" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"(?s)each of 3 kinds of rows.*2 weights.*'green'"):
        plan.split_by_source(source, rows, (1.0, 2.0), "stream 's'")


def test_streams_need_no_tensorflow(folder):
    code = (
        "import sys, pathlib; sys.modules['tensorflow'] = None\n"
        "sys.path[:0] = ['.', 'tests/input_pipeline']\n"
        "from made_data import ASSEMBLE, config\n"
        "from input_pipeline.streams import pipeline\n"
        "made = config(pathlib.Path(sys.argv[1]))\n"
        "s = pipeline.build_streams(made, ASSEMBLE, image_margin=0)['captions']\n"
        "print(s.fingerprint)\n"
        "try: next(pipeline.iterate({'captions': s}))\n"
        "except Exception as e: print(type(e).__name__, 'pip install' in str(e))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=pathlib.Path(__file__).parents[3], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [build(folder).fingerprint, "DataError", "True"]
