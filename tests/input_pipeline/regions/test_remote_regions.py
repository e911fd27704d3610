"""Region stores in a bucket: the same records as on this machine, in few requests."""

import numpy as np
import pytest
from made_data import SPEC, image, write_images, write_store

from core.errors import DataError
from input_pipeline.doctor.verify import verify
from input_pipeline.regions import FeatureSpec, RegionStore, remote_shards
from input_pipeline.regions.remote_shards import coalesce

IMAGES = 40


@pytest.fixture
def stores(tmp_path, bucket):
    """The same store here and in the bucket, in three shards."""
    write_store(tmp_path / "store", IMAGES, shard_bytes=3000)
    bucket.copy(tmp_path / "store", "data/store")
    pair = RegionStore.open(str(tmp_path / "store")), RegionStore.open(f"{bucket.url}/data/store")
    bucket.server.forget()
    return pair


def batch(store, rows, **options):
    out = store.allocate(*rows.shape, 6)
    store.read_into(out, rows, **options)
    return out


def shard_of(bucket, number):
    return f"data/store/shard-{number:05d}.bin"


def change(bucket, name, edit):
    data = bytearray(bucket.objects[name][0])
    bucket.server.put(bucket.name, name, edit(data) or data)


@pytest.mark.parametrize("order", ["stored", "confidence"])
def test_batches_equal_those_of_a_local_store(stores, bucket, order):
    here, there = stores
    assert (here.fingerprint, here.keys) == (there.fingerprint, there.keys)
    rows = np.random.default_rng(0).integers(0, IMAGES, (16, 2))
    expected, found = batch(here, rows, order=order), batch(there, rows, order=order)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    # These records lie close together: one range a shard, each read once.
    assert [name for name, *_ in sorted(bucket.server.ranges)] == [
        shard_of(bucket, number) for number in range(3)
    ]


def test_int8_records_of_odd_lengths_are_the_same(tmp_path, bucket):
    spec = FeatureSpec("toy", 5, num_classes=3, background_class=0, top_k=2, dtype="int8")
    images = [(f"img{i}", image(i, spec=spec)) for i in range(9)]
    write_images(tmp_path / "store", spec, *images)
    write_images(f"{bucket.url}/store", spec, *images)
    here, there = RegionStore.open(tmp_path / "store"), RegionStore.open(f"{bucket.url}/store")
    assert {spec.record_nbytes(int(n)) % 4 for n in here.counts} > {0}
    rows = np.arange(9)[::-1].reshape(9, 1)
    for name, array in batch(here, rows).items():
        np.testing.assert_array_equal(batch(there, rows)[name], array, err_msg=name)


def test_far_records_are_asked_for_one_by_one_and_at_the_same_time(stores, bucket, monkeypatch):
    monkeypatch.setattr(remote_shards, "MAX_GAP", 0)
    monkeypatch.setattr(bucket.server, "delay", 0.3)
    there = stores[1]
    rows = np.arange(0, IMAGES, 2).reshape(-1, 1)  # neighbours of none
    batch(there, rows)
    assert bucket.server.peak > len(rows) / 2
    assert len(bucket.server.ranges) == len(rows)
    ends = {(name, stop) for name, _, stop in bucket.server.ranges}
    assert not {(name, start) for name, start, _ in bucket.server.ranges} & ends


def test_a_store_and_a_local_one_make_one(tmp_path, bucket):
    write_store(tmp_path / "a", 4)
    write_store(f"{bucket.url}/b", 4, first=4)
    store = RegionStore.open(f"{tmp_path / 'a'},{bucket.url}/b")
    write_store(tmp_path / "whole", 8)
    whole = RegionStore.open(tmp_path / "whole")
    rows = np.array([[6], [1], [3], [4]])
    for name, array in batch(whole, rows).items():
        np.testing.assert_array_equal(batch(store, rows)[name], array, err_msg=name)


def test_reading_one_after_the_other_reads_ahead(stores, bucket):
    here, there = stores
    for row in range(IMAGES):
        for name, array in here.read(row).items():
            np.testing.assert_array_equal(there.read(row)[name], array)
    assert len(bucket.server.ranges) == 6  # two a shard: the first record, and all that follow it
    bucket.server.forget()
    for row in (30, 3, 17):
        there.read(row)
    assert len(bucket.server.ranges) == 3
    assert sum(stop - start for _, start, stop in bucket.server.ranges) == sum(
        there._place(row)[2] for row in (30, 3, 17)
    )


def test_a_flipped_bit_is_found_by_the_record_s_hash(stores, bucket):
    there = stores[1]
    change(bucket, shard_of(bucket, 2), lambda data: data.__setitem__(100, data[100] ^ 1))
    row = there.rows_of([there.keys[-7]])[0]  # the first record of the last shard
    for read in (lambda: there.read(row), lambda: batch(there, np.array([[row]]))):
        with pytest.raises(DataError, match="a region record is damaged") as error:
            read()
        assert f"{bucket.url}/data/store/shard-00002.bin" in str(error.value)
        assert repr(there.keys[row]) in str(error.value)
    assert verify(f"{bucket.url}/data/store") == 1


def test_what_is_gone_cut_or_forbidden_is_told(stores, bucket):
    there, name = stores[1], shard_of(bucket, 1)
    rows = np.arange(IMAGES).reshape(-1, 1)
    change(bucket, name, lambda data: data[:-10])
    with pytest.raises(DataError, match="a region record is damaged"):
        batch(there, rows)
    change(bucket, name, lambda data: data[:10])
    with pytest.raises(DataError, match="a region record is damaged"):
        batch(there, rows[-9:])
    with pytest.raises(DataError, match="a region store is damaged") as error:
        RegionStore.open(f"{bucket.url}/data/store")
    assert "found: 10 bytes" in str(error.value)
    del bucket.objects[name]
    with pytest.raises(DataError, match="a shard of a region store is gone"):
        batch(there, rows)
    bucket.server.denied.add(bucket.name)
    with pytest.raises(DataError, match="region records cannot be read") as error:
        batch(there, rows)
    assert "PERMISSION_DENIED" in str(error.value)


def test_what_fails_for_a_moment_is_tried_again(stores, bucket):
    rows = np.arange(IMAGES).reshape(-1, 1)
    expected = batch(stores[0], rows)
    bucket.server.failures += [503, 429, 500]
    np.testing.assert_array_equal(batch(stores[1], rows)["regions"], expected["regions"])
    assert not bucket.server.failures


def test_an_unfinished_store_is_none(bucket):
    with pytest.raises(DataError, match="occurs twice"):
        write_images(f"{bucket.url}/store", SPEC, ("a", image(1)), ("a", image(1)))
    assert bucket.names() == []
    write_store(f"{bucket.url}/store", 2)
    assert "store/manifest.json" in bucket.objects
    with pytest.raises(DataError, match="exists already"):
        write_store(f"{bucket.url}/store", 2)


def test_close_places_are_joined_up_to_a_size(monkeypatch):
    monkeypatch.setattr(remote_shards, "MAX_GAP", 10)
    monkeypatch.setattr(remote_shards, "MAX_RANGE", 100)
    places = [(0, 0, 20), (0, 30, 20), (0, 61, 9), (1, 70, 5), (0, 0, 20), (1, 75, 90), (1, 165, 1)]
    assert coalesce(places) == [
        ((0, 0, 50), [(0, 0, 20), (0, 30, 20)]),
        ((0, 61, 9), [(0, 61, 9)]),
        ((1, 70, 96), [(1, 70, 5), (1, 75, 90), (1, 165, 1)]),
    ]
    assert coalesce([(0, 0, 60), (0, 60, 50)]) == [
        ((0, 0, 60), [(0, 0, 60)]),
        ((0, 60, 50), [(0, 60, 50)]),
    ]
