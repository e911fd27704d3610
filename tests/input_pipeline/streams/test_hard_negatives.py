"""The pool of hard negatives against a search by hand, its file, and the command line."""

import numpy as np
import pytest
from made_data import image, leftovers, write_images, write_jsonl, write_store

from core.errors import DataError
from core.progress import Progress
from input_pipeline.regions import FeatureSpec, RegionStore
from input_pipeline.streams import hard_negatives


def by_hand(store, rows, count):
    """Neighbours of each image, from differences of means, one pair at a time."""
    mean = [store.features_of(store.read(row))[1:].astype(np.float64).mean(0) for row in rows]
    out = []
    for i, a in enumerate(mean):
        distance = [(((a - b) ** 2).sum(), j) for j, b in enumerate(mean) if j != i]
        out.append([j for _, j in sorted(distance)[:count]])
    return np.array(out)


def test_neighbours_are_the_nearest_other_images(tmp_path, monkeypatch):
    store = RegionStore.open(write_store(tmp_path / "store", 23))
    monkeypatch.setattr(hard_negatives, "BLOCK", 23 * 5)  # blocks of 5 images, the last of 3
    keys = store.keys[::-1][:21]  # not in the store's order, and not all of it
    pool = hard_negatives.build(store, keys, 7)
    assert pool.images == keys
    assert pool.neighbours.dtype == np.int32
    np.testing.assert_array_equal(pool.neighbours, by_hand(store, store.rows_of(keys), 7))
    assert pool.store == store.fingerprint


def test_the_whole_image_does_not_count_and_far_offsets_cost_no_digits(tmp_path):
    # Means 0, 1, 3 and 7 on a line, a million away from zero; row 0 would say otherwise.
    images, spec = [], FeatureSpec("toy", 6, dtype="float32")
    for i, mean in enumerate((0.0, 1.0, 3.0, 7.0)):
        made = image(i, 2, spec)
        made["features"] = np.full((2, 6), 1e6 + mean, np.float32)
        made["features"][0] -= 0.5
        made["features"][1] += 0.5
        images.append((str(i), made))
    write_images(tmp_path / "store", spec, *images)
    pool = hard_negatives.build(RegionStore.open(str(tmp_path / "store")), list("0123"), 3)
    assert pool.neighbours.tolist() == [[1, 2, 3], [0, 2, 3], [1, 0, 3], [2, 1, 0]]


def test_equal_distances_give_the_lower_number_first():
    points = np.array([[0.0], [1.0], [-1.0], [2.0], [-2.0]])
    found = hard_negatives.nearest(points, 3, Progress("", 5))
    assert found.tolist() == [[1, 2, 3], [0, 3, 2], [0, 4, 1], [1, 0, 2], [2, 0, 1]]


def test_a_file_comes_back_as_it_was_and_is_told_from_others(tmp_path):
    store = RegionStore.open(write_store(tmp_path / "store", 6))
    pool = hard_negatives.build(store, store.keys, 2)
    hard_negatives.save(pool, tmp_path / "a" / "pool.npz")
    assert leftovers(tmp_path / "a") == ["pool.npz"]
    again = hard_negatives.load(tmp_path / "a" / "pool.npz")
    assert (again.images, again.store) == (pool.images, pool.store)
    np.testing.assert_array_equal(again.neighbours, pool.neighbours)
    assert again.fingerprint == pool.fingerprint
    other = hard_negatives.build(store, store.keys, 3)
    assert other.fingerprint != pool.fingerprint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pool": np.array([[1], [2], [3]], np.int32)}, "1 to 3"),
        ({"pool": np.array([[1], [1], [0]], np.int32)}, "its own neighbours"),
        ({"pool": np.array([[1], [2], [0]], np.int64)}, "int64"),
        ({"images": np.array(["a", "b"])}, "of 2 images"),
        ({"images": np.array(["a", "b", "a"])}, "twice"),
        ({"format": 9}, "format 9"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, said):
    sound = dict(
        format=hard_negatives.FORMAT,
        images=np.array(["a", "b", "c"]),
        pool=np.array([[1], [2], [0]], np.int32),
        store="x",
    )
    path = tmp_path / "pool.npz"
    np.savez(path, **sound)
    assert hard_negatives.load(path).neighbours.tolist() == [[1], [2], [0]]
    np.savez(path, **(sound | change))
    with pytest.raises(DataError, match=f"damaged(?s:.*)pool.npz(?s:.*){said}"):
        hard_negatives.load(path)


def test_what_is_no_pool_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", images=np.array(["a"]))
    np.save(tmp_path / "plain.npy", np.arange(3))
    for name in ("text.npz", "other.npz", "plain.npy", "none.npz"):
        with pytest.raises(DataError, match=f"no readable pool(?s:.*){name}"):
            hard_negatives.load(tmp_path / name)


def test_images_without_regions_and_too_few_images_are_refused(tmp_path):
    store = RegionStore.open(write_store(tmp_path / "store", 4))
    with pytest.raises(DataError, match=r"has no regions(?s:.*)'x'(?s:.*)1 of 4 images"):
        hard_negatives.build(store, ["img1", "img2", "x", "img3"], 1)
    with pytest.raises(DataError, match="1 to 2 neighbours of 3 images"):
        hard_negatives.build(store, ["img1", "img2", "img3"], 3)


def test_command_line(tmp_path, capsys):
    folder, out = write_store(tmp_path / "store", 9), tmp_path / "pool.npz"
    assert hard_negatives.main([folder, f"--out={out}"]) == 1  # 100 neighbours of 9 images
    assert "--neighbours" in capsys.readouterr().err
    assert not out.exists()

    (tmp_path / "ids.txt").write_text("img5\nimg2\nimg7\n")
    named = [folder, f"--out={out}", "--neighbours=2", f"--images={tmp_path / 'ids.txt'}"]
    assert hard_negatives.main(named) == 0
    pool = hard_negatives.load(out)
    assert pool.images == ["img5", "img2", "img7"]
    assert pool.neighbours.shape == (3, 2)
    assert hard_negatives.main(named) == 1
    assert "exists already" in capsys.readouterr().err

    out.unlink()
    rows = [{"image_id": name, "text": "a"} for name in ("img1", "img1", "none", "img3")]
    lines = write_jsonl(tmp_path / "captions.jsonl", rows)
    asked = [folder, f"--out={out}", "--neighbours=1", f"--images={lines}"]
    assert hard_negatives.main(asked) == 1
    assert hard_negatives.main([*asked, "--on_missing=skip"]) == 0
    assert "1 of 3 images" in capsys.readouterr().out
    assert hard_negatives.load(out).images == ["img1", "img3"]
