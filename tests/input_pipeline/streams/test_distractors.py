"""Four-way retrieval: which texts and images an example is told from."""

import numpy as np
import pytest
from made_data import ASSEMBLE, config, write_all

from core.errors import DataError
from input_pipeline.regions import RegionStore
from input_pipeline.schema import check_batch
from input_pipeline.streams import distractors, pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("distractors"))


def build(folder, kind="random", **options):
    made = config(folder, stream={"distractors": kind}, **options)
    return pipeline.build_streams(made, ASSEMBLE, image_margin=0)["captions"]


@pytest.fixture
def pool(folder, tmp_path, monkeypatch):
    """Image i's neighbours are i + 1 and i + 2; img9 is in no split."""
    from input_pipeline.streams import hard_negatives

    images = [f"img{i}" for i in (3, 0, 1, 2, 7, 6, 5, 4, 9)]
    place = {name: i for i, name in enumerate(images)}
    near = [[9, (i + 1) % 8, (i + 2) % 8] for i in map(int, (name[3:] for name in images))]
    neighbours = np.array([[place[f"img{j}"] for j in row] for row in near], np.int32)
    made = hard_negatives.Pool(images, neighbours, store="", fingerprint="pool one")
    monkeypatch.setattr(hard_negatives, "load", lambda path: made)
    return made


def test_texts_and_images_of_others(folder):
    stream = build(folder)
    batches = [stream.batch(draw) for draw in range(40)]
    sizes = check_batch(batches[0], where="test")
    assert (sizes["K"], sizes["M"]) == (3, 2)
    own, other = (np.concatenate([b["image_key"][:, m] for b in batches]) for m in (0, 1))
    assert (own != other).all()
    assert set(other[own == 0]) == set(range(1, 8))
    plain = build(folder, "")
    for got, alone in zip(batches, (plain.batch(draw) for draw in range(40)), strict=True):
        for key in alone:  # the example itself is what it is without distractors
            if alone[key].ndim > 1:
                np.testing.assert_array_equal(got[key][:, :1], alone[key][:, :1], err_msg=key)
    again = build(folder).batch(7)
    np.testing.assert_array_equal(again["text_ids"], batches[7]["text_ids"])
    assert plain.fingerprint != stream.fingerprint


def drawn(folder, pool_path, draws=300):
    rows = np.arange(16)
    store = RegionStore.open(str(folder / "store"))
    made = distractors.Distractors(
        pool_path, rows, rows // 2, store, seed=3, name="s", hard=pool_path != "random"
    )
    counters = np.arange(draws * 16)
    return made.draw(np.tile(rows, draws), counters)


def test_hard_negatives_come_from_the_pool(folder, pool):
    got = drawn(folder, "pool.npz")
    own = np.tile(np.arange(16), 300) // 2
    random, hard = (text // 2 for text in got.texts)
    # img9 has no text, so its neighbours are the other two, equally often.
    assert set((hard - own) % 8) == {1, 2}
    assert abs(np.mean((hard - own) % 8 == 1) - 0.5) < 0.03
    assert np.bincount(got.texts[1]).min() > 200  # either caption of an image
    for others in (random, got.images[0] // 2):
        assert set((others - own) % 8) == set(range(1, 8))
    # The three draws are independent of each other.
    assert 0.1 < np.mean(random == got.images[0] // 2) < 0.19


def test_evaluation_draws_at_random(folder, pool):
    made = config(folder, stream={"distractors": "pool.npz"})
    stream = pipeline.build_evaluation(
        made, "captions", ASSEMBLE, split="train", batch_size=16, image_margin=0
    )
    random = config(folder, stream={"distractors": "random"})
    same = pipeline.build_evaluation(
        random, "captions", ASSEMBLE, split="train", batch_size=16, image_margin=0
    )
    np.testing.assert_array_equal(stream.batch(0)["text_ids"], same.batch(0)["text_ids"])
    training = build(folder, "pool.npz")
    assert training.fingerprint != build(folder).fingerprint


def test_a_pool_of_other_images_is_refused(folder, pool):
    pool.neighbours[pool.images.index("img4")] = pool.images.index("img9")
    with pytest.raises(DataError, match=r"(?s)no hard negative.*'img4'.*1 of 8.*hard_negatives"):
        drawn(folder, "pool.npz")


def couples(folder, kind, count, draws=300):
    rows = np.arange(16)
    store = RegionStore.open(str(folder / "store"))
    made = distractors.Distractors(
        kind, rows, rows // 2, store, seed=3, name="s", hard=kind != "random", couples=count
    )
    got = made.draw(np.tile(rows, draws), np.arange(draws * 16))
    assert got.texts is got.images or got.texts == got.images  # each caption with its own image
    return np.tile(rows, draws) // 2, np.stack(got.texts)


def test_couples_are_of_different_images_each_equally_likely(folder):
    own, texts = couples(folder, "random", 4)
    images = np.concatenate([own[None], texts // 2])
    assert all(len(set(column)) == 4 for column in images.T.tolist())
    counts = np.bincount(((texts // 2 - own) % 8).ravel(), minlength=8)
    assert counts[0] == 0
    assert np.ptp(counts[1:]) / counts[1:].mean() < 0.12
    assert np.bincount(texts.ravel()).min() > 800  # either caption of an image


def test_couples_come_from_the_pool(folder, pool):
    own, texts = couples(folder, "pool.npz", 3)
    # img9 has no text: of three neighbours both others.
    assert (np.sort((texts // 2 - own) % 8, axis=0) == [[1], [2]]).all()
    with pytest.raises(DataError, match=r"(?s)too few hard negatives.*at least 3 .*8 of 8"):
        couples(folder, "pool.npz", 4)


def test_a_stream_of_couples(folder):
    made = config(folder, stream={"distractors": "random", "couples": 5})
    stream = pipeline.build_streams(made, ASSEMBLE, image_margin=0)["captions"]
    sizes = check_batch(stream.batch(0), where="test")
    assert (sizes["K"], sizes["M"]) == (5, 5)
    np.testing.assert_array_equal(stream.batch(3)["image_key"], stream.batch(3)["image_key"])
    assert stream.fingerprint != build(folder).fingerprint
    made = config(folder, stream={"distractors": "random", "couples": 9})
    with pytest.raises(DataError, match="at least 9 images"):
        pipeline.build_streams(made, ASSEMBLE, image_margin=0)
