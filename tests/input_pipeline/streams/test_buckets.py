"""Buckets: batches of examples alike in size, the same examples with the same content."""

import itertools

import numpy as np
import pytest
from made_data import ASSEMBLE, captions, config, write_all, write_jsonl, write_store

from core.errors import DataError, UserError
from input_pipeline.schema import FIELDS, check_batch
from input_pipeline.streams import limits, pipeline, sampling

BUCKETS = ((7, 3, 9), (8, 6, 12))
SIZES = (*BUCKETS, (10, 6, 16))
BATCH = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("buckets"), images=40, texts=3)


def build(folder, buckets=BUCKETS, batch=BATCH, overfit=0, seed=7, stream=None, **data):
    tree = config(folder, batch=batch, stream=dict(stream or {}, buckets=buckets), **data)
    tree.update(overfit=overfit, seed=seed)
    return pipeline.build_streams(tree, ASSEMBLE, image_margin=0)["captions"]


def shape(batch):
    return batch["text_ids"].shape[-1], batch["regions"].shape[2]


def lengths(batch):
    """(tokens of the longest text, regions of the image with most), each [B]."""
    return batch["text_mask"].sum(-1).max(1), batch["region_mask"].sum(-1).max(1)


def unpadded(batch):
    """Each example as {key: values without padding}, in an order of its own."""
    out = []
    for i in range(len(batch["_weight"])):
        example = {}
        for key, array in batch.items():
            axes, value = FIELDS[key].axes.split(), array[i]
            for letter, mask in (("T", "text_mask"), ("R", "region_mask")):
                if letter in axes:
                    value = value[batch[mask][i]]
            example[key] = (value.shape, np.ascontiguousarray(value).tobytes())
        out.append(sorted(example.items()))
    return out


EVERYTHING = {"flip": "boxes_and_words", "negatives": True, "resize": (60, 100), "order": "stored"}


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["plain", "everything"])
def test_an_epoch_has_the_same_examples_with_the_same_content(folder, options):
    plain, stream = build(folder, (), stream=options), build(folder, stream=options)
    assert stream.steps_per_epoch == 30
    for epoch in (range(30), range(30, 60)):
        want = [example for draw in epoch for example in unpadded(plain.batch(draw))]
        got = [example for draw in epoch for example in unpadded(stream.batch(draw))]
        assert got != want
        assert sorted(got) == sorted(want)


def test_a_batch_has_the_size_of_its_bucket_and_fits_it(folder):
    stream, seen = build(folder), []
    for draw in range(30):
        batch = stream.batch(draw)
        text, regions, both = next(s for s in SIZES if s[:2] == shape(batch))
        used = lengths(batch)
        assert (used[0] <= text).all()
        assert (used[1] <= regions).all()
        assert (sum(used) <= both).all()
        assert check_batch(batch, where="test")["B"] == BATCH
        seen.append(SIZES.index((text, regions, both)))
    assert set(seen) == {0, 1, 2}
    assert seen != sorted(seen)  # not from small to large
    assert shape(stream.example()) == SIZES[-1][:2]
    assert len(stream.example((1, 2))["_weight"]) == BATCH // 2


def test_an_example_is_in_the_first_bucket_that_fits_or_left_over(folder):
    stream = build(folder)
    bigger = 0
    for draw in range(30):
        batch = stream.batch(draw)
        at = [size[:2] for size in SIZES].index(shape(batch))
        for text, regions in zip(*lengths(batch), strict=True):
            fits = [t >= text and r >= regions and b >= text + regions for t, r, b in SIZES]
            assert fits.index(True) <= at
            bigger += fits.index(True) < at
    # At most a batch less one is left over at each of the two small buckets, in one window.
    assert bigger <= 2 * (BATCH - 1)


def test_any_draw_comes_alone_and_from_any_host(folder):
    stream = build(folder, stream=EVERYTHING)
    sequence = [stream.batch(draw) for draw in range(34)]
    other = build(folder, stream=EVERYTHING)
    for draw in (33, 17, 5):  # mid-window, across the epoch's end and back
        again = other.batch(draw)
        parts = [other.batch(draw, (host, 2)) for host in (0, 1)]
        for key, array in sequence[draw].items():
            np.testing.assert_array_equal(again[key], array, err_msg=key)
            joined = np.concatenate([part[key] for part in parts])
            np.testing.assert_array_equal(joined, array, err_msg=key)
    shapes = [shape(batch) for batch in sequence[:30]]
    assert [shape(build(folder, seed=8).batch(draw)) for draw in range(30)] != shapes
    equal = [np.array_equal(a["example_index"], b["example_index"])
             for a, b in zip(sequence[:4], sequence[30:], strict=True)]  # fmt: skip
    assert not all(equal)  # the next epoch is another


def test_reading_ahead_brings_every_shape_in_order(folder):
    stream = build(folder)
    got = pipeline.iterate({"captions": stream}, {"captions": 3}, threads=3)
    shapes = set()
    for draw, batch in zip(range(3, 20), got, strict=False):
        want = stream.batch(draw)
        np.testing.assert_array_equal(batch["captions"]["regions"], want["regions"])
        shapes.add(shape(want))
    assert len(shapes) > 1


def test_evaluation_keeps_the_full_size(folder):
    tree = config(folder, stream={"buckets": BUCKETS})
    stream = pipeline.build_evaluation(
        tree, "captions", ASSEMBLE, split="train", batch_size=4, image_margin=0
    )
    assert {shape(stream.batch(draw)) for draw in range(30)} == {SIZES[-1][:2]}


def test_a_run_cannot_go_on_with_other_buckets(folder, monkeypatch):
    prints = [build(folder, buckets).fingerprint for buckets in ((), BUCKETS, BUCKETS[:1])]
    assert len(set(prints)) == 3
    assert build(folder).fingerprint == prints[1]
    monkeypatch.setattr(sampling, "WINDOW", 32)
    assert build(folder).fingerprint != prints[1]
    assert build(folder, ()).fingerprint == prints[0]


def test_overfitting_and_mixtures(folder, tmp_path):
    few = build(folder, batch=8, overfit=3)
    assert {i for draw in range(9) for i in few.batch(draw)["example_index"]} == {0, 1, 2}
    write_store(tmp_path / "store", 16)
    files = [
        write_jsonl(tmp_path / "many.jsonl", captions(10, 4)),
        write_jsonl(tmp_path / "few.jsonl", captions(6, 1, first=10)),
    ]
    arguments = dict(batch=10, annotations=",".join(files), weights=(1.0, 3.0))
    mixed, plain = build(tmp_path, **arguments), build(tmp_path, (), **arguments)
    window = range(sampling.WINDOW, 2 * sampling.WINDOW)
    want = [row for draw in window for row in plain.batch(draw)["example_index"]]
    got = [mixed.batch(draw) for draw in window]
    assert len({shape(batch) for batch in got}) > 1
    assert sorted(row for batch in got for row in batch["example_index"]) == sorted(want)


def padding(stream, draws):
    batches = [stream.batch(draw) for draw in range(draws)]
    real = sum(int(b["text_mask"].sum() + b["region_mask"].sum()) for b in batches)
    return 1 - real / sum(b["text_mask"].size + b["region_mask"].size for b in batches)


def test_there_is_less_padding(folder):
    before, after = padding(build(folder, ()), 30), padding(build(folder), 30)
    assert before > 0.25
    assert after < before - 0.06


@pytest.mark.parametrize(("n", "batch"), [(3, 8), (8, 8), (100, 7), (64 * 7, 7), (10_000, 32)])
def test_windows_tile_the_draws_and_end_with_an_epoch(n, batch):
    starts, draw = [], 0
    while draw < 2000:
        first, draws = sampling.window_of(draw, batch, n)
        assert (first, 1 <= draws <= sampling.WINDOW) == (draw, True)
        assert {sampling.window_of(d, batch, n) for d in range(first, first + draws)} == {
            (first, draws)
        }
        starts.append(first)
        draw = first + draws
    ends = {-(-epoch * n // batch) for epoch in range(2000 * batch // n)}
    assert {end for end in ends if end < 2000} <= set(starts)


def test_each_place_of_a_window_is_used_once():
    rng = np.random.default_rng(0)
    for draws, batch, kinds in itertools.product((1, 2, 64), (1, 5), (1, 2, 4)):
        bucket = rng.integers(0, kinds, draws * batch)
        places, buckets = sampling.batches_by_bucket(0, "s", 0, batch, bucket)
        assert places.shape == (draws, batch)
        assert sorted(places.ravel()) == list(range(draws * batch))
        assert (bucket[places] <= buckets[:, None]).all()
        for kind in range(bucket.max() + 1):  # full batches of it, but for what is left over
            least = ((bucket == kind).sum()) // batch
            assert (buckets == kind).sum() >= least


@pytest.mark.parametrize(
    ("buckets", "message"),
    [
        (((7, 3),), r"triples.*\(7, 3\)"),
        ((7, 3, 9), r"triples.*7"),
        (((7, 3, 9.0),), r"triples.*9\.0"),
        (((7, 1, 9),), r"too small.*max_regions >= 2.*\(7, 1, 9\)"),
        (((7, 3, 6),), r"too small.*max_length.*\(7, 3, 6\)"),
        (((8, 6, 12), (9, 5, 14)), r"larger than the one after it.*\(9, 5, 14\).*\(8, 6, 12\)"),
        (((10, 6, 12),), r"saves nothing"),
        (((7, 3, 9), (7, 3, 10)), r"saves nothing.*\(7, 3, 9\)"),
    ],
)
def test_wrong_buckets_are_refused(folder, buckets, message):
    with pytest.raises(UserError, match=rf"(?s){message}") as error:
        build(folder, buckets)
    assert "config.streams.captions.buckets" in str(error.value)


def test_buckets_of_a_wider_stream_are_cut_to_the_stream(folder):
    tree = config(folder, stream={"buckets": ((7, 3, 9), (8, 9, 17), (12, 9, 21))})
    assert limits.sizes(tree.streams.captions) == ((7, 3, 9), (8, 6, 16), (10, 6, 16))
    stream = build(folder, ((7, 3, 9), (8, 9, 17), (12, 9, 21)))
    assert stream.fingerprint == build(folder, ((7, 3, 9), (8, 6, 16))).fingerprint


def test_plain_text_has_nothing_to_save(folder):
    (folder / "corpus.txt").write_text("the red dog\na big house\n")
    tree = config(folder, text_batch=2, corpus=str(folder / "corpus.txt"))
    tree.streams.text.buckets = ((5, 3, 9),)
    with pytest.raises(DataError, match=r"(?s)no padding.*streams\.text\.buckets.*\(5, 3, 9\)"):
        pipeline.build_streams(tree, ASSEMBLE, image_margin=0)
