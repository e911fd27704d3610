"""Features in other dtypes: int8 with its scales, conversion, measured errors; and block reads."""

import dataclasses
import itertools
import os

import ml_dtypes
import numpy as np
import pytest
from made_data import (
    ASSEMBLE,
    REAL,
    SPEC,
    captions,
    config,
    image,
    leftovers,
    write_images,
    write_jsonl,
    write_store,
)

from core import progress
from core.errors import DataError
from input_pipeline.regions import FeatureSpec, RegionStore, RegionWriter, convert_store
from input_pipeline.schema import check_batch
from input_pipeline.streams.pipeline import build_streams

INT8 = dataclasses.replace(SPEC, dtype="int8")


def read(store, rows, regions=6, **options):
    rows = np.asarray(rows)
    out = store.allocate(*rows.shape, regions)
    for array in out.values():
        array[...] = 1
    store.read_into(out, rows, **options)
    return out


def whole(i):
    """float32 [n + 1, F]: the mean and the regions of made image i."""
    features = image(i)["features"]
    return np.concatenate([features.mean(0, keepdims=True), features])


def test_int8_by_hand():
    rows = np.zeros((3, 6), np.float32)
    rows[0] = [127, -63.5, 0.5, 1.5, -2.5, 126.6]  # scale 1: halves go to the even number
    rows[2] = [-2.54, 1.26, 0, 0.013, -0.04, 0.02]  # scale 0.02
    spec = dataclasses.replace(INT8, num_classes=0, background_class=None)
    stored = spec.encode(rows)
    assert stored["scales"].dtype == np.float32
    np.testing.assert_allclose(stored["scales"], [1, 0, 0.02], rtol=1e-6)
    assert stored["features"].dtype == np.int8
    assert stored["features"].tolist() == [
        [127, -64, 0, 2, -2, 127],
        [0] * 6,
        [-127, 63, 0, 1, -2, 1],
    ]
    back = spec.decode(stored)
    assert back.dtype == np.float32
    assert (np.abs(back - rows).max(1) <= stored["scales"] * 0.500001).all()
    assert spec.record_nbytes(2) == 2 * 4 * 4 + 3 * 4 + 3 * 6
    assert INT8.record_nbytes(2) == 2 * 4 * 4 + 2 * (8 * 3 + 4) + 3 * 4 + 3 * 6
    for bad in (np.nan, np.inf, -np.inf):
        broken = rows.copy()
        broken[1, 2] = bad
        assert np.isfinite(spec.decode(spec.encode(broken))).all(1).tolist() == [True, False, True]
    tiny = np.full((1, 6), np.float32(1e-45))
    assert np.isfinite(spec.decode(spec.encode(tiny))).all()


@pytest.mark.parametrize("order", ["stored", "confidence"])
def test_int8_comes_as_stored_with_its_scales(tmp_path, order):
    store = RegionStore.open(write_store(tmp_path / "s", spec=INT8))
    out = read(store, [[3, 0], [4, 2]], order=order, keep=np.asarray([[4, 9], [6, 9]]))
    check_batch(out, where="test")
    assert out["regions"].dtype == np.int8
    assert out["region_scale"].dtype == np.float32
    values = out["regions"] * out["region_scale"][..., None]
    for place, i, kept in (((0, 0), 3, 4), ((0, 1), 0, 2), ((1, 0), 4, 6), ((1, 1), 2, 4)):
        rows = whole(i)
        if order == "confidence":
            sure = np.argsort(-image(i)["class_probs"].max(1), kind="stable")
            rows = rows[[0, *(sure + 1)]]
        # Row 0 is the mean of the features as they came, not of what int8 leaves of them.
        scale = np.abs(rows).max(1)[:kept] / 127
        np.testing.assert_allclose(out["region_scale"][place][:kept], scale, rtol=1e-6)
        assert (np.abs(values[place][:kept] - rows[:kept]) <= scale[:, None] * 0.50001).all()
        assert not out["region_scale"][place][kept:].any()
        assert not out["regions"][place][kept:].any()


def test_scales_are_in_a_batch_exactly_for_int8(tmp_path):
    one = read(RegionStore.open(write_store(tmp_path / "a", 2, INT8)), [[0], [1]])
    two = read(RegionStore.open(write_store(tmp_path / "b", 2)), [[0], [1]])
    assert "region_scale" not in two
    scale = one.pop("region_scale")
    for batch in (one, two | {"region_scale": scale}):
        with pytest.raises(DataError, match=r"(?s)where: here.*exactly where regions are int8"):
            check_batch(batch, where="here")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
def test_features_of_any_store_are_float32(tmp_path, dtype):
    spec = dataclasses.replace(SPEC, dtype=dtype)
    store = RegionStore.open(write_store(tmp_path / "s", 3, spec))
    got = store.features_of(store.read(2))
    assert got.dtype == np.float32
    if dtype == "int8":
        np.testing.assert_allclose(got, whole(2), atol=np.abs(whole(2)).max() / 254 * 1.001)
    else:
        kind = {"bfloat16": ml_dtypes.bfloat16}.get(dtype, dtype)
        np.testing.assert_array_equal(got, whole(2).astype(kind).astype(np.float32))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_conversion_is_the_import_with_that_dtype(tmp_path, dtype, capsys):
    wide = dataclasses.replace(SPEC, dtype="float32")
    a, b = (write_store(tmp_path / name, 3, wide, first) for name, first in (("a", 0), ("b", 3)))
    assert convert_store.main([f"{a},{b}", str(tmp_path / "new"), "--dtype", dtype]) == 0
    text = capsys.readouterr().out
    narrow = write_store(tmp_path / "direct", 6, dataclasses.replace(SPEC, dtype=dtype))
    new, direct = RegionStore.open(tmp_path / "new"), RegionStore.open(narrow)
    assert new.fingerprint == direct.fingerprint
    x = np.concatenate([whole(i) for i in range(6)]).astype(float)
    y = np.concatenate([new.features_of(new.read(row)) for row in range(6)]).astype(float)
    relative = np.sqrt(np.square(x - y).sum() / np.square(x).sum())
    assert 0 < relative < 0.02
    cosine = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    assert f"relative error {relative:.3g}" in text
    assert f"largest error {np.abs(x - y).max():.3g}" in text
    assert f"mean cosine {cosine.mean():.6f}" in text
    assert "note" not in text
    assert convert_store.main([narrow, str(tmp_path / "up"), "--dtype", "float32"]) == 0
    assert f"float32 cannot restore what {dtype} had lost" in capsys.readouterr().out
    up = RegionStore.open(tmp_path / "up")
    np.testing.assert_array_equal(up.features_of(up.read(5)), direct.features_of(direct.read(5)))


def test_fewer_classes_join_the_rest(tmp_path):
    old = write_store(tmp_path / "s", 4, dataclasses.replace(SPEC, top_k=99))
    error = convert_store.convert(old, str(tmp_path / "new"), top_k=2)
    fewer = read(RegionStore.open(tmp_path / "new"), [[0], [3]])
    spec = dataclasses.replace(SPEC, top_k=2)
    direct = read(RegionStore.open(write_store(tmp_path / "direct", 4, spec)), [[0], [3]])
    assert fewer.keys() == direct.keys()
    for key, value in direct.items():
        np.testing.assert_allclose(fewer[key].astype(float), value.astype(float), atol=1e-6)
    kept = np.concatenate([np.sort(image(i)["class_probs"])[:, -2:].sum(1) for i in range(4)])
    np.testing.assert_allclose(error.kept_mass, (kept.mean(), kept.min()), rtol=1e-5)
    assert error.relative == 0


def test_conversions_that_cannot_be_are_refused(tmp_path, capsys):
    store = write_store(tmp_path / "s", 2)
    plain = dataclasses.replace(SPEC, num_classes=0, background_class=None)
    bare = write_store(tmp_path / "bare", 2, plain)
    big = image(1)
    big["features"][1, 2] = 1e6
    write_images(tmp_path / "big", dataclasses.replace(SPEC, dtype="float32"), ("huge", big))
    before = leftovers(tmp_path)
    for source, options, message in (
        (store, {"dtype": "int4"}, r"unknown dtype.*'bfloat16', 'float32', 'float16', 'int8'"),
        (store, {"top_k": 4}, r"cannot be restored.*--top_k.*1 to 3.*found: 4.*import"),
        (store, {"top_k": 0}, r"keeps none of them"),
        (store, {"dtype": "bfloat16", "top_k": 3}, r"nothing to convert.*'bfloat16'"),
        (store, {}, r"nothing to convert"),
        (bare, {"top_k": 1}, r"no class distributions"),
        (str(tmp_path / "big"), {"dtype": "float16"}, r"huge.*finite numbers within float16"),
        (str(tmp_path / "none"), {"dtype": "int8"}, r"no readable region store"),
    ):
        with pytest.raises(DataError, match=f"(?s){message}"):
            convert_store.convert(source, str(tmp_path / "out"), **options)
    with pytest.raises(DataError, match="exists already"):
        convert_store.convert(store, bare, dtype="int8")
    assert convert_store.main([store, str(tmp_path / "out"), "--top_k", "9"]) == 1
    assert "cannot be restored" in capsys.readouterr().err
    assert leftovers(tmp_path) == before


def test_a_damaged_record_stops_a_conversion(tmp_path):
    folder = write_store(tmp_path / "s", 4, shard_bytes=10**6)
    shard = tmp_path / "s" / "shard-00000.bin"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    before = leftovers(tmp_path)
    with pytest.raises(DataError, match=r"(?s)damaged.*image 'img3'"):
        convert_store.convert(folder, str(tmp_path / "out"), dtype="int8")
    assert leftovers(tmp_path) == before


def jumps(monkeypatch, work):
    """Reads that `work()` makes, and how many did not start where the last one ended."""
    reads = []

    def counting(file, buffers, offset):
        reads.append((file, offset, offset + len(buffers[0])))
        return preadv(file, buffers, offset)

    preadv = os.preadv
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", counting)
        work()
    ends = [(None, -1), *((file, end) for file, _, end in reads)]
    starts = [(file, start) for file, start, _ in reads]
    return len(reads), sum(a != b for a, b in zip(starts, ends[:-1], strict=True))


def test_one_conversion_at_a_time_writes_a_store(tmp_path, capsys):
    source, out = write_store(tmp_path / "s", 3), tmp_path / "out"
    with progress.alone(out), pytest.raises(DataError, match=f"process {os.getpid()} on"):
        convert_store.convert(source, str(out), dtype="int8")
    (tmp_path / ".out.tmp-0").mkdir()  # as a kill leaves it
    convert_store.convert(source, str(out), dtype="int8")
    assert "removing" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "s"]


def test_of_two_that_write_a_folder_the_second_is_told(tmp_path):
    with (
        pytest.raises(DataError, match="exists already"),
        progress.atomic_folder(tmp_path / "a"),
        progress.atomic_folder(tmp_path / "a") as faster,
    ):
        (faster / "x").write_text("of the first")
    assert leftovers(tmp_path) == ["a", "a/x"]


def test_reads_of_a_block_are_neighbours(tmp_path, monkeypatch):
    write_store(tmp_path / "store", 80, shard_bytes=10**6)
    rows = captions(80, texts=1)
    mixed = [rows[i] for i in np.random.default_rng(0).permutation(80)]  # not the store's order
    write_jsonl(tmp_path / "captions.jsonl", mixed)

    def stream(block):
        made = build_streams(
            config(tmp_path, batch=16, stream={"block": block}), ASSEMBLE, image_margin=0
        )
        return made["captions"]

    plan = stream(8)
    batches = [plan.batch(draw) for draw in range(5)]  # an epoch
    seen = np.concatenate([batch["image_key"][:, 0] for batch in batches]).reshape(10, 8)
    assert (np.diff(seen) == 1).all()
    assert (seen[:, 0] % 8 == 0).all()
    assert sorted(seen[:, 0]) == list(range(0, 80, 8))
    assert seen[:, 0].tolist() != sorted(seen[:, 0])
    for batch in batches:  # texts still belong to their images
        for example, key in zip(batch["example_index"], batch["image_key"][:, 0], strict=True):
            assert mixed[example]["image_id"] == f"img{key}"
    reads, jumped = jumps(monkeypatch, lambda: [plan.batch(draw) for draw in range(5)])
    assert reads == 80
    assert jumped <= 10  # once a block, less where two of a batch touch
    shuffled = stream(0)
    reads, jumped = jumps(monkeypatch, lambda: [shuffled.batch(draw) for draw in range(5)])
    assert reads == 80
    assert jumped > 40
    assert plan.fingerprint != shuffled.fingerprint


def test_a_batch_is_read_in_the_order_of_the_disk(tmp_path, monkeypatch):
    store = RegionStore.open(write_store(tmp_path / "s", 8, shard_bytes=10**6))
    rows = np.asarray([[6, 1], [5, 2], [7, 0]])  # as blocks of two sources are dealt
    assert jumps(monkeypatch, lambda: read(store, rows)) == (6, 2)  # 0 1 2 | 5 6 7
    np.testing.assert_array_equal(read(store, rows)["image_key"], rows)
    for place, i in np.ndenumerate(rows):
        n = len(image(i)["boxes"])
        boxes = read(store, rows)["boxes"][place][1 : n + 1]
        np.testing.assert_array_equal(boxes, image(i)["boxes"])


@pytest.mark.skipif(not REAL.exists(), reason=f"no real data at {REAL}")
def test_error_on_real_features(tmp_path):
    spec = FeatureSpec("coco", 1280, num_classes=81, dtype="float32", top_k=81)
    with np.load(REAL / "regions" / "coco_mini.npz") as file:
        made = {key: file[key] for key in ("offset", "hw", "boxes", "feat", "cls_prob")}
    with RegionWriter(tmp_path / "f32", spec) as writer:
        for i, (a, b) in enumerate(itertools.pairwise(made["offset"])):
            height, width = made["hw"][i].tolist()
            writer.add(
                f"{i}",
                boxes=made["boxes"][a:b],
                features=made["feat"][a + i + 1 : b + i + 1],
                height=height,
                width=width,
                class_probs=made["cls_prob"][a:b],
            )
    got = {}
    for dtype in ("bfloat16", "float16", "int8"):
        out = str(tmp_path / dtype)
        got[dtype] = convert_store.convert(str(tmp_path / "f32"), out, dtype=dtype, top_k=16)
    # Half a unit in the last place, evenly spread: 2^-9 / sqrt(3) at most of a number.
    assert got["bfloat16"].relative < 2**-9
    assert got["float16"].relative < 2**-12
    assert got["int8"].relative < 0.03
    assert got["int8"].cosine > 0.9995
    assert got["int8"].kept_mass[0] > 0.99
    sizes = {dtype: RegionStore.open(tmp_path / dtype).nbytes for dtype in got}
    assert sizes["int8"] < 0.55 * sizes["bfloat16"]
