"""The index of a store: mapped from its file, searched by hashes, read where it is an old one."""

import json
import mmap
import shutil

import numpy as np
import pytest
import xxhash
from made_data import SPEC, image, write_images, write_store

from core.errors import DataError
from core.strings import PackedStrings, pack_strings
from input_pipeline.doctor import verify
from input_pipeline.regions import RegionStore, id_lookup, index_file
from input_pipeline.regions.id_lookup import IdLookup
from input_pipeline.regions.region_writer import content_fingerprint

IDS = ["7", "007", "a.jpg", "a.JPG", "b.png", "c", "d.jpg.jpg", "größe.jpeg", "e/f", "x.y"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("index") / "store")


def base_of(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return array.obj if isinstance(array, memoryview) else array


def rewritten(folder, change):
    """Writes the index anew, `change`d; what guards it is right."""
    path = folder / index_file.FILE
    with np.load(path) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    change(found)
    np.savez(path, **found)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["index_xxh3"] = xxhash.xxh3_64_hexdigest(path.read_bytes())
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_long_index_is_mapped(folder, monkeypatch):
    held = RegionStore.open(folder)
    assert isinstance(base_of(held.counts), bytes)
    monkeypatch.setattr(index_file, "HELD", 0)
    store = RegionStore.open(folder)
    index, lookup = store._folders[0].index, store.lookups[0]
    for array in (*index.values(), *lookup.arrays().values(), store.counts, store.heights):
        assert array.flags.aligned
        assert array.ctypes.data % 64 == 0
        assert isinstance(base_of(array), mmap.mmap)
    assert store.fingerprint == held.fingerprint
    assert store.keys == held.keys
    rows = store.rows_of(list(store.keys))
    assert rows.tolist() == list(range(len(store)))
    one, other = (x.allocate(len(store), 1, 6) for x in (store, held))
    store.read_into(one, rows[:, None])
    held.read_into(other, rows[:, None])
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_an_index_of_before_is_read(folder, tmp_path, monkeypatch, capsys):
    copy = shutil.copytree(folder, tmp_path / "old")
    rewritten(copy, lambda found: [found.pop(name) for name in id_lookup.FIELDS])
    monkeypatch.setattr(index_file, "HELD", 0)
    old, new = RegionStore.open(copy), RegionStore.open(folder)
    assert old.fingerprint == new.fingerprint
    assert old.lookups[0].same_as(new.lookups[0])
    assert "in order" not in capsys.readouterr().err
    monkeypatch.setattr(index_file, "TOLD", 1)
    assert RegionStore.open(copy).rows_of(["img3"]).tolist() == [3]
    assert capsys.readouterr().out.count("its ids are put in order") == 1


@pytest.mark.parametrize("bits", [64, 2, 0])
def test_ids_are_found_whatever_their_hashes(bits, monkeypatch):
    real = id_lookup._hash
    monkeypatch.setattr(id_lookup, "_hash", lambda data: real(data) & (2**bits - 1))
    monkeypatch.setattr(id_lookup, "_PART", 3)
    halves = [IDS[:4], IDS[4:]]
    lookups = [IdLookup.of(PackedStrings(pack_strings(ids))) for ids in halves]
    for lookup in lookups:
        assert IdLookup.stored(lookup.keys, lookup.arrays()).same_as(lookup)
    assert id_lookup.rows_of(lookups, IDS).tolist() == list(range(10))
    for asked, row in {
        "c.png": 5,
        "b": 4,
        "b.jpg": 4,
        "a": -1,  # two images of the store
        "a.png": -1,
        "d.jpg": -1,
        "d.jpg.png": 6,
        "d": -1,
        "größe": 7,
        "x": -1,
        "\ud800": -1,
        "e/f.gif": 8,
        "": -1,
    }.items():
        assert id_lookup.rows_of(lookups, [asked]).tolist() == [row], asked
    assert id_lookup.rows_of(lookups, ["b", "b.jpg", "c"]).tolist() == [-1, -1, 5]
    assert id_lookup.rows_of(lookups, []).tolist() == []
    assert id_lookup.repeated(lookups) is None
    assert id_lookup.repeated(lookups[:1]) is None
    again = IdLookup.of(PackedStrings(pack_strings(["x", "e/f", "y"])))
    assert id_lookup.repeated([*lookups, again]) == ("e/f", 1, 2)
    twice = IdLookup.of(PackedStrings(pack_strings(["x", "y", "z", "y"])))
    assert id_lookup.repeated([twice]) == ("y", 0, 0)


def test_an_id_twice_is_refused(tmp_path):
    one = write_images(tmp_path / "one", SPEC, ("a", image(1, 1)), ("b", image(1, 1)))
    write_images(tmp_path / "two", SPEC, ("c", image(1, 1)), ("b", image(1, 1)))
    with pytest.raises(DataError, match=r"(?s)two folders.*one and .*two, image 'b'"):
        RegionStore.open([tmp_path / "one", tmp_path / "two"])
    del one

    def change(found):
        keys = PackedStrings(pack_strings(["a", "a"]))
        found.update(zip(index_file.KEYS, keys.parts[0], strict=True))
        found.update(IdLookup.of(keys).arrays())

    rewritten(tmp_path / "one", change)
    spec = RegionStore.open(tmp_path / "two").spec
    with np.load(tmp_path / "one" / index_file.FILE) as arrays:
        fingerprint = content_fingerprint(spec, arrays)
    manifest = json.loads((tmp_path / "one/manifest.json").read_text())
    (tmp_path / "one/manifest.json").write_text(
        json.dumps(manifest | dict(fingerprint=fingerprint))
    )
    with pytest.raises(DataError, match=r"(?s)twice in a region store.*image 'a'"):
        RegionStore.open(tmp_path / "one")


def unordered(found):
    found["id_hashes"] = found["id_hashes"][::-1]


def of_other_rows(found):
    found["id_rows"] = found["id_rows"] + np.int32(1)


def short(found):
    found["id_rows"] = found["id_rows"][:-1]


def without_stems(found):
    del found["stem_rows"]


@pytest.mark.parametrize("change", [unordered, of_other_rows, short, without_stems])
def test_a_lookup_that_contradicts_itself_is_refused(change, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    rewritten(copy, change)
    with pytest.raises(DataError, match=r"(?s)damaged.*copy.*(_hashes|_rows)"):
        RegionStore.open(copy)


def test_the_doctor_finds_a_lookup_of_other_ids(folder, tmp_path, capsys):
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert verify.verify(str(copy)) == 0

    def change(found):
        found["id_rows"] = found["id_rows"][::-1]

    rewritten(copy, change)
    assert verify.verify(str(copy)) == 1
    assert "does not find its images" in capsys.readouterr().err
