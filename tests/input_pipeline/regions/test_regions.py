"""Region store: what is written comes back, and nothing else does."""

import dataclasses
import os
import pathlib
import resource
import shutil

import ml_dtypes
import numpy as np
import pytest
from made_data import SPEC, F, image, leftovers, write_images, write_store

from core.errors import DataError
from input_pipeline.regions.spec import FeatureSpec
from input_pipeline.regions.store import RegionStore, split_paths
from input_pipeline.schema import check_batch


def read(store, rows, regions=6, **options):
    rows = np.asarray(rows)
    out = store.allocate(*rows.shape, regions)
    for array in out.values():  # whatever was there must not shine through
        array[...] = 1
    store.read_into(out, rows, **options)
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("regions") / "store")


def test_records_come_back(folder):
    store = RegionStore.open(folder)
    assert len(store) == 8
    assert len(store._folders[0].files) > 2  # several shards
    assert store.rows_of(["img3", "nobody", "img0"]).tolist() == [3, -1, 0]
    out = read(store, [[3], [0]])
    check_batch(out, where="test")
    assert out["regions"].dtype == ml_dtypes.bfloat16
    for b, i in enumerate((3, 0)):
        made = image(i)
        n = len(made["boxes"])
        got = {key: value[b, 0] for key, value in out.items()}
        whole = np.concatenate([made["features"].mean(0, keepdims=True), made["features"]])
        np.testing.assert_array_equal(got["regions"][: n + 1], whole.astype(ml_dtypes.bfloat16))
        np.testing.assert_array_equal(got["boxes"][1 : n + 1], made["boxes"])
        assert got["region_mask"].tolist() == [j <= n for j in range(6)]
        assert got["image_size"].tolist() == [90 + i, 100 + i]
        assert (got["num_detected"], got["image_key"]) == (n, i)
        best = np.sort(made["class_probs"], 1)[:, ::-1]
        np.testing.assert_allclose(got["region_class_probs"][1 : n + 1], best[:, :3], rtol=1e-5)
        np.testing.assert_allclose(
            got["region_rest_prob"][1 : n + 1], best[:, 3:].sum(1), atol=1e-6
        )
        assert (got["region_class_ids"][1 : n + 1, 0] == made["class_probs"].argmax(1)).all()
        for key in ("boxes", "region_class_ids", "region_class_probs", "region_rest_prob"):
            assert not got[key][0].any()  # the whole image
            assert not got[key][n + 1 :].any()  # padding
        assert not got["regions"][n + 1 :].astype(np.float32).any()


def test_orders_and_limits(folder):
    store = RegionStore.open(folder)
    made = image(4)
    sure = np.argsort(-made["class_probs"].max(1))
    out = read(store, [[4]], regions=4, order="confidence")
    np.testing.assert_array_equal(out["boxes"][0, 0, 1:], made["boxes"][sure[:3]])
    features = made["features"].astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(out["regions"][0, 0, 1:], features[sure[:3]])
    assert out["num_detected"][0, 0] == 5
    out = read(store, [[4, 1]], order="stored", keep=np.asarray([[3, 9]]))
    np.testing.assert_array_equal(out["boxes"][0, 0, 1:3], made["boxes"][:2])
    assert out["region_mask"].sum(-1).tolist() == [[3, 3]]
    assert not out["boxes"][0, 0, 3:].any()
    with pytest.raises(DataError, match=r"(?s)unknown order.*confidence.*random"):
        read(store, [[0]], order="random")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_without_classes_and_with_stored_image_feature(tmp_path, dtype):
    spec = FeatureSpec("plain", F, global_feature="stored", dtype=dtype, max_regions=9)
    store = RegionStore.open(write_store(tmp_path / "s", 3, spec))
    out = read(store, [[2]])
    assert not [key for key in out if "class" in key or "rest" in key]
    want = image(2, spec=spec)["global_feature"].astype(spec.np_dtype)
    np.testing.assert_array_equal(out["regions"][0, 0, 0], want)
    with pytest.raises(DataError, match=r"(?s)no class distributions.*'plain'.*order=stored"):
        read(store, [[0]], order="confidence")


def test_all_classes_kept_is_exact(tmp_path):
    spec = dataclasses.replace(SPEC, top_k=99)
    store = RegionStore.open(write_store(tmp_path / "s", 2, spec))
    out = read(store, [[1]])
    assert not out["region_rest_prob"].any()
    full = np.zeros((2, 5), np.float32)
    np.put_along_axis(
        full, out["region_class_ids"][0, 0, 1:3], out["region_class_probs"][0, 0, 1:3], 1
    )
    np.testing.assert_allclose(full, image(1)["class_probs"], rtol=1e-5)


def test_sums_within_half_precision_are_normalised(tmp_path):
    spec, made = dataclasses.replace(SPEC, top_k=99), image(1)
    made["class_probs"] *= 1.009
    write_images(tmp_path / "s", spec, ("a", made))
    out = read(RegionStore.open(tmp_path / "s"), [[0]])
    np.testing.assert_allclose(out["region_class_probs"][0, 0, 1:3].sum(-1), 1, atol=1e-6)


def test_several_folders(tmp_path):
    a = write_store(tmp_path / "a", 3)
    b = write_store(tmp_path / "b", 3, first=3)
    store = RegionStore.open(f"{a},{b}")
    assert store.keys == [f"img{i}" for i in range(6)]
    np.testing.assert_array_equal(read(store, [[4]])["boxes"][0, 0, 1:6], image(4)["boxes"])
    assert store.fingerprint not in (RegionStore.open(a).fingerprint, RegionStore.open([b]))
    assert split_paths(f" {a}, ,{b}") == [a, b]

    c = write_store(tmp_path / "c", 2, first=2)
    with pytest.raises(DataError, match=rf"(?s){a} and {c}, image 'img2'.*once"):
        RegionStore.open([a, c])
    other = write_store(tmp_path / "d", 2, dataclasses.replace(SPEC, detector="x"), first=9)
    with pytest.raises(DataError, match=rf"(?s)detector differ.*{a} against {other}.*'toy'.*'x'"):
        RegionStore.open([a, other])
    with pytest.raises(DataError, match=r"data\.regions"):
        RegionStore.open("")


def test_more_shards_than_files_may_be_open(tmp_path):
    write_store(tmp_path / "s", 40, shard_bytes=1)
    assert len(list((tmp_path / "s").glob("shard-*"))) == 40
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = max(map(int, os.listdir("/dev/fd"))) + 20  # numbers of files, not how many
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, before[1]))
    try:
        store = RegionStore.open(tmp_path / "s")
        assert store.read(39)["features"].shape[1] == F
        assert low < resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_fingerprint_is_of_the_content(tmp_path):
    prints = [
        RegionStore.open(write_store(tmp_path / name, **options)).fingerprint
        for name, options in {
            "a": {},
            "shards": {"shard_bytes": 10_000},
            "fewer": {"images": 7},
            "other": {"first": 1},
        }.items()
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_spec_matches_field_by_field():
    assert FeatureSpec.from_dict(SPEC.to_dict()) == SPEC
    assert SPEC.checksum() != dataclasses.replace(SPEC, top_k=4).checksum()
    SPEC.require_match(SPEC, "a", "b")
    for options in ({"dtype": "int4"}, {"global_feature": "max"}, {"feature_dim": -1}):
        with pytest.raises(DataError, match=next(iter(options))):
            dataclasses.replace(SPEC, **options)
    with pytest.raises(DataError, match=r"(?s)unknown dtype.*'bfloat16'.*'int8'.*'int4'"):
        dataclasses.replace(SPEC, dtype="int4")
    with pytest.raises(DataError, match=r"(?s)where: spec\.json.*expected.*detector"):
        FeatureSpec.from_dict({"feature_dim": 3}, "spec.json")


# Bad input when writing: (change of image 2, what the message must hold).
BAD = {
    "dimension": (lambda a: a.update(features=a["features"][:, :4]), r"\(3, 6\).*\(3, 4\)"),
    "count": (lambda a: a.update(boxes=a["boxes"][:2]), r"boxes.*\(3, 4\).*\(2, 4\)"),
    "nan": (lambda a: a["features"].__setitem__((1, 2), np.nan), r"region 1 are not finite.*NaN"),
    "inf": (lambda a: a["features"].__setitem__((0, 0), np.inf), r"features of .* not finite"),
    "swapped": (
        lambda a: a.update(boxes=a["boxes"][:, [2, 1, 0, 3]]),
        r"box 0 has its corners swapped.*x1 <= x2",
    ),
    "outside": (
        lambda a: a["boxes"].__setitem__((2, 2), 104.5),
        r"box 2 lies outside.*0 <= x <= 102.*104\.5",
    ),
    "nan box": (lambda a: a["boxes"].__setitem__((1, 3), np.nan), r"box 1 is not finite"),
    "sum": (
        lambda a: a["class_probs"].__setitem__(1, a["class_probs"][1] * 0.9),
        r"region 1 are no distribution.*sum to 1.*sum 0\.9000",
    ),
    "negative": (
        lambda a: a["class_probs"].__setitem__(0, [1.5, -0.5, 0, 0, 0]),
        r"region 0 are no distribution.*smallest value -0\.5",
    ),
    "classes": (lambda a: a.update(class_probs=None), r"class_probs and the feature spec disagree"),
    "none": (
        lambda a: a.update({k: a[k][:0] for k in ("boxes", "features", "class_probs")}),
        r"number of regions.*1 to 9.*found: 0",
    ),
    "many": (lambda a: a.update(image(2, n=10)), r"number of regions.*1 to 9.*found: 10"),
    "size": (lambda a: a.update(height=0), r"image size"),
    "global": (lambda a: a.update(global_feature=np.zeros(F)), r"global_feature.*absent.*given"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_images_are_refused_and_nothing_remains(tmp_path, name):
    change, message = BAD[name]
    bad = image(2)
    change(bad)
    with pytest.raises(DataError, match=f"(?s){message}") as e:
        write_images(tmp_path / "s", SPEC, ("img1", image(1)), ("img2", bad), source="feed.bin")
    text = str(e.value)
    assert "feed.bin, image 'img2'" in text
    assert all(part in text for part in ("expected:", "found:", "fix:"))
    assert leftovers(tmp_path) == []


def test_half_precision_overflow_twice_and_empty(tmp_path):
    spec = dataclasses.replace(SPEC, dtype="float16")
    bad = image(1)
    bad["features"][1] = 1e6
    with pytest.raises(DataError, match="within float16"):
        write_images(tmp_path / "s", spec, ("img1", bad))
    with pytest.raises(DataError, match="occurs twice"):
        write_images(tmp_path / "s", SPEC, ("img1", image(1)), ("img1", image(2)))
    with pytest.raises(DataError, match="0 images"):
        write_images(tmp_path / "s", SPEC)
    assert leftovers(tmp_path) == []
    write_store(tmp_path / "s", 1)
    before = leftovers(tmp_path)
    with pytest.raises(DataError, match="exists already"):
        write_store(tmp_path / "s", 2)
    assert leftovers(tmp_path) == before


def test_small_overhang_is_clipped(tmp_path):
    made = image(0)
    made["boxes"][0] = [-0.5, 0, 100.9, 90.4]
    write_images(tmp_path / "s", SPEC, ("a", made))
    out = read(RegionStore.open(tmp_path / "s"), [[0]])
    assert out["boxes"][0, 0, 1].tolist() == [0, 0, 100, 90]


def flip(path, position, bit=0):
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def test_every_flipped_bit_is_found(folder, tmp_path):
    source = pathlib.Path(folder)
    sizes = {p.name: p.stat().st_size for p in source.glob("shard-*.bin")}
    rng = np.random.default_rng(0)
    for name, size in sizes.items():
        for position in {0, size - 1, *rng.integers(0, size, 12).tolist()}:
            copy = shutil.copytree(source, tmp_path / "copy")
            flip(copy / name, position, int(rng.integers(8)))
            store = RegionStore.open(copy)
            hit = []
            for row in range(len(store)):
                try:
                    read(store, [[row]])
                except DataError as error:
                    hit.append((row, str(error)))
            ((row, message),) = hit  # one record and no other
            assert f"{name}, image 'img{row}' (row {row}, byte" in message
            assert "xxh3" in message
            shutil.rmtree(copy)


@pytest.mark.parametrize("left", [0, 1, 100, -1])
def test_cut_shards_are_found(folder, tmp_path, left):
    copy = shutil.copytree(folder, tmp_path / "copy")
    shard = copy / "shard-00001.bin"
    data = shard.read_bytes()
    store = RegionStore.open(copy)  # open before it is cut
    shard.write_bytes(data[:left])
    with pytest.raises(DataError, match=rf"(?s)shard-00001.*{len(data)} bytes.*{len(data[:left])}"):
        RegionStore.open(copy)
    with pytest.raises(DataError, match=r"(?s)damaged.*shard-00001\.bin, image 'img"):
        read(store, np.arange(8)[:, None])
    shard.unlink()
    with pytest.raises(DataError, match="no such file"):
        RegionStore.open(copy)


@pytest.mark.parametrize("name", ["index.npz", "spec.json", "manifest.json"])
def test_damaged_headers_are_found(folder, tmp_path, name):
    copy = shutil.copytree(folder, tmp_path / "copy")
    if name == "spec.json":
        text = (copy / name).read_text()
        (copy / name).write_text(text.replace('"toy"', '"toi"'))
    elif name == "index.npz":
        flip(copy / name, 700)
    else:
        (copy / name).write_text("{")
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        RegionStore.open(copy)
    (copy / name).unlink()
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        RegionStore.open(copy)


def test_ids_are_found_with_and_without_a_picture_s_suffix(tmp_path):
    keys = ["movie/a@0", "movie/b@0.jpg", "c.jpg", "c.png", "d", "007"]
    write_images(tmp_path / "store", SPEC, *((key, image(1, 1)) for key in keys))
    store = RegionStore.open(tmp_path / "store")
    asked = ["movie/a@0.jpg", "movie/b@0", "c", "c.png", "d.jpg", "d.png", "7", "a@0", "d"]
    assert store.rows_of(asked).tolist() == [0, 1, -1, 3, -1, -1, -1, -1, 4]
    assert store.rows_of(["d.jpg"]).tolist() == [4]
    assert store.rows_of(keys).tolist() == list(range(6))
