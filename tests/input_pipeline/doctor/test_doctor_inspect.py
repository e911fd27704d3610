"""`doctor inspect`: each defect is seen, sound data gives no suspicion."""

import json
import pickle

import h5py
import numpy as np
import pytest
import xxhash
from importers.made_lmdbs import image as lmdb_image
from importers.made_lmdbs import write as write_lmdb
from made_data import REAL, image, write_store

from input_pipeline.doctor import sheet as sheets
from input_pipeline.doctor.__main__ import main
from input_pipeline.doctor.boxes import BoxStats
from input_pipeline.doctor.examine import examine
from input_pipeline.doctor.findings import percent
from input_pipeline.doctor.report import text
from input_pipeline.doctor.sources import Sample, fitting, open_source
from input_pipeline.regions import FeatureSpec, RegionStore, RegionWriter

IMAGES, REGIONS, F, C = 20, 12, 16, 9


def made(seed=0):
    """Arrays of an .npz file of sound features: 12 regions an image, background in column 0."""
    rng = np.random.default_rng(seed)
    n = IMAGES * REGIONS
    hw = np.stack([rng.integers(150, 250, IMAGES), rng.integers(300, 400, IMAGES)], 1)
    corners = np.sort(rng.random((n, 2, 2)), axis=1) * hw.repeat(REGIONS, 0)[:, None, ::-1]
    probs = rng.dirichlet(np.full(C, 0.05), n)
    probs[:, 0] += 0.4
    return {
        "paths": np.asarray([f"val/{i:03d}.jpg" for i in range(IMAGES)]),
        "hw": hw,
        "offset": np.arange(IMAGES + 1) * REGIONS,
        "boxes": corners.reshape(n, 4).astype(np.float32),
        "feat": np.maximum(rng.standard_normal((n + IMAGES, F)), 0).astype(np.float32),
        "cls_prob": (probs / probs.sum(1, keepdims=True)).astype(np.float32),
    }


def look(tmp_path, arrays, **options):
    np.savez(tmp_path / "a.npz", **arrays)
    return examine(
        open_source([str(tmp_path / "a.npz")], "npz", {"background_class": 0}), **options
    )


def names(result, *levels):
    return {f.name for f in result.findings if f.level in (levels or ("broken", "suspicious"))}


def test_sound(tmp_path):
    result = look(tmp_path, made())
    assert names(result) == set()
    assert result.verdict == "sound"
    statistics = result.statistics
    assert statistics["images"] == IMAGES
    assert statistics["all"]
    assert statistics["boxes"]["convention"] == "xyxy_pixels"
    assert statistics["boxes"]["fits"]["xyxy_pixels"] == 1
    assert statistics["classes"]["background"] == 0
    assert statistics["classes"]["count"] == C
    assert statistics["regions"]["min"] == statistics["regions"]["max"] == REGIONS
    assert statistics["features"]["dtype"] == ["float32"]
    assert statistics["features"]["dim"] == [F]
    assert 0.4 < statistics["features"]["zeros"] < 0.6
    assert statistics["features"]["negatives"] == 0
    regions = np.delete(made()["feat"], np.arange(IMAGES) * (REGIONS + 1), axis=0)
    norms = np.linalg.norm(regions, axis=1)
    assert statistics["features"]["norm_mean"] == pytest.approx(norms.mean(), rel=1e-5)
    assert statistics["features"]["norm_quantiles"]["0.5"] == pytest.approx(
        np.median(norms), rel=1e-5
    )
    assert names(result, "note") == {"unsorted"}


def _xywh(a):
    a["boxes"][:, 2:] -= a["boxes"][:, :2]


def _normalised(a):
    a["boxes"] /= np.tile(a["hw"].repeat(REGIONS, 0)[:, ::-1], 2)


def _normalised_xywh(a):
    _normalised(a)
    _xywh(a)


def _swapped(a):
    a["hw"] = a["hw"][:, ::-1].copy()


def _nan(a):
    a["feat"][3, 2] = np.nan


def _nan_box(a):
    a["boxes"][17, 1] = np.inf


def _zero(a):
    a["feat"][5] = 0


def _equal_regions(a):
    a["feat"][2:12] = a["feat"][1]


def _equal_images(a):
    size = REGIONS + 1
    a["feat"][size : 2 * size] = a["feat"][:size]


def _sums(a):
    a["cls_prob"][40] *= 1.5


def _logits(a):
    a["cls_prob"] = np.random.default_rng(1).standard_normal((IMAGES * REGIONS, C))


def _background_last(a):
    a["cls_prob"] = np.roll(a["cls_prob"], -1, axis=1)


def _outside(a):
    a["boxes"][9, 2] = 5000


def _no_area(a):
    a["boxes"][9, 2] = a["boxes"][9, 0]


def _half_scale(a):
    a["boxes"] /= 3


def _whole_first(a):
    a["boxes"][::REGIONS, :2] = 0
    a["boxes"][::REGIONS, 2:] = a["hw"][:, ::-1] - 1


def _byte_order(a):
    a["feat"] = a["feat"].byteswap()


def _repeated(a):
    a["paths"][4] = a["paths"][2]


def _no_size(a):
    a["hw"][3, 0] = 0


def _empty(a):  # the next image gets the boxes too
    a["offset"][1] = 0


DEFECTS = [
    (_xywh, {"boxes_xywh"}, "broken"),
    (_normalised, {"boxes_normalised"}, "broken"),
    (_normalised_xywh, {"boxes_normalised", "boxes_xywh"}, "broken"),
    (_swapped, {"swapped_size"}, "suspicious"),
    (_nan, {"not_finite"}, "broken"),
    (_nan_box, {"boxes_not_finite"}, "broken"),
    (_zero, {"zero_features"}, "suspicious"),
    (_equal_regions, {"equal_regions"}, "suspicious"),
    (_equal_images, {"equal_images"}, "suspicious"),
    (_sums, {"class_sums"}, "broken"),
    (_logits, {"class_sums"}, "broken"),
    (_background_last, {"background"}, "suspicious"),
    (_outside, {"boxes_outside"}, "broken"),
    (_no_area, {"boxes_without_area"}, "suspicious"),
    (_half_scale, {"boxes_low_reach"}, "suspicious"),
    (_whole_first, {"first_region_is_image"}, "suspicious"),
    (_repeated, {"repeated_ids"}, "broken"),
    (_no_size, {"image_size", "boxes_outside"}, "broken"),
    (_empty, {"no_regions", "boxes_outside"}, "broken"),
]


@pytest.mark.parametrize(("spoil", "expected", "verdict"), DEFECTS)
def test_defect(tmp_path, spoil, expected, verdict):
    arrays = made()
    spoil(arrays)
    result = look(tmp_path, arrays)
    assert names(result) == expected
    assert result.verdict == verdict


def test_wrong_byte_order(tmp_path):
    arrays = made()
    _byte_order(arrays)
    assert names(look(tmp_path, arrays)) & {"huge_values", "not_finite"}


def test_evidence_is_told(tmp_path):
    arrays = made()
    _background_last(arrays)
    arrays["boxes"][17, 1] = np.nan
    texts = {f.name: f.text for f in look(tmp_path, arrays).findings}
    assert f"looks like column {C - 1} of {C}" in texts["background"]
    assert "present in 100 %" in texts["background"]
    assert "column 0 is stated" in texts["background"]
    assert "box 5 of" in texts["boxes_not_finite"]
    assert "image number 1" in texts["boxes_not_finite"]


@pytest.mark.parametrize(
    ("key", "order"),
    [
        (lambda a: np.prod(a["boxes"][:, 2:] - a["boxes"][:, :2], axis=1), "box area"),
        (lambda a: a["cls_prob"].max(1), "best class, background included"),
        (lambda a: a["cls_prob"][:, 1:].max(1), "best class without background"),
    ],
)
def test_order(tmp_path, key, order):
    arrays = made()
    for i in range(IMAGES):
        rows = slice(i * REGIONS, (i + 1) * REGIONS)
        by = np.argsort(-key(arrays)[rows])
        for name in ("boxes", "cls_prob"):
            arrays[name][rows] = arrays[name][rows][by]
    result = look(tmp_path, arrays)
    assert result.statistics["regions"]["order"] == order
    assert names(result, "note") == set()


def store_of(tmp_path, arrays, **spec):
    """A store of the arrays of `made`."""
    spec = FeatureSpec("toy", F, C, 0, **spec)
    with RegionWriter(tmp_path / "s", spec) as writer:
        for i, name in enumerate(arrays["paths"].tolist()):
            rows = slice(i * REGIONS, (i + 1) * REGIONS)
            writer.add(
                name,
                boxes=arrays["boxes"][rows],
                features=arrays["feat"][i * (REGIONS + 1) + 1 : (i + 1) * (REGIONS + 1)],
                height=int(arrays["hw"][i, 0]),
                width=int(arrays["hw"][i, 1]),
                class_probs=arrays["cls_prob"][rows],
            )
    return str(tmp_path / "s")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_store(tmp_path, dtype):
    """A store says the same as its file; boxes of 0 to 1 pass its writer, but not the doctor."""
    arrays = made()
    source = open_source([store_of(tmp_path, arrays, dtype=dtype, top_k=3)])
    result = examine(source)
    assert names(result) == set()
    assert result.statistics["features"]["dtype"] == [dtype]
    assert result.statistics["classes"]["background"] == 0
    assert result.statistics["features"]["whole_image"] == {
        "stored": IMAGES,
        "equal_to_mean": IMAGES,
    }
    _normalised(arrays)
    (tmp_path / "b").mkdir()
    result = examine(open_source([store_of(tmp_path / "b", arrays, dtype=dtype)]))
    assert names(result) == {"boxes_normalised"}


def test_whole_image_row_is_no_mean(tmp_path):
    path = store_of(tmp_path, made())
    store = RegionStore.open(path)
    shard = tmp_path / "s" / "shard-00000.bin"
    data = np.frombuffer(bytearray(shard.read_bytes()), np.uint8)
    size = store.spec.record_nbytes(REGIONS)
    store.spec.split_record(data[:size], REGIONS)["features"][0] = 7
    shard.write_bytes(data.tobytes())
    source = open_source([path])
    source.store._hash[0] = xxhash.xxh3_64_intdigest(data[:size])
    assert names(examine(source)) == {"whole_is_no_mean"}


def test_fifth_number_of_boxes():
    stats = BoxStats()
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.random((30, 2, 2)) * 90, axis=1).reshape(30, 4)
    share = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1, keepdims=True) / 90**2
    features = np.ones((30, 2), np.float32)
    five = np.concatenate([boxes, share], 1)
    stats.add(Sample("a", "a", 90, 90, five, features, None, None, None, "float32"))
    (finding,) = stats.findings()
    assert finding.name == "box_columns"
    assert finding.text == (
        "boxes have 5 numbers, not 4; the fifth is the share of the image's area"
    )
    assert stats.statistics()["columns"] == [5]


def test_sample_is_spread(tmp_path):
    result = look(tmp_path, made(), images=5)
    assert (result.statistics["images"], result.statistics["all"]) == (5, False)
    source = open_source([store_of(tmp_path, made())])
    seen = [sample.image_id for sample in source.samples(3)]
    assert seen == ["val/000.jpg", "val/009.jpg", "val/019.jpg"]
    seen = [sample.image_id for sample in source.samples(2, {"val/007.jpg"}.__contains__)]
    assert seen == ["val/000.jpg", "val/007.jpg", "val/019.jpg"]


def test_command(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", **made())
    out = tmp_path / "out.json"
    assert main(["inspect", str(tmp_path / "a.npz"), "--images", "all", "--json", str(out)]) == 0
    text = capsys.readouterr().out
    assert "npz fits, and no other" in text
    assert f"looked at   {IMAGES} images of {IMAGES} images, all of them" in text
    assert text.rstrip().endswith("sound")
    value = json.loads(out.read_text())
    assert value["verdict"] == "sound"
    assert value["boxes"]["convention"] == "xyxy_pixels"
    options = ["--layout", "npz", "--background_class", "2", "--images", "9"]
    assert main(["inspect", str(tmp_path / "a.npz"), *options]) == 1
    assert "looks like column 0 of 9" in capsys.readouterr().out


def test_no_layout_fits(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("hello\n")
    assert fitting([str(tmp_path / "a.txt")])[0] == {}
    assert main(["inspect", str(tmp_path / "a.txt")]) == 1
    err = capsys.readouterr().err
    assert "bottom_up_tsv: not a bottom-up-attention TSV" in err
    assert "--layout NAME" in err
    assert main(["inspect", str(tmp_path / "b.txt")]) == 1
    assert "no such file" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "a.txt"), "--layout", "nope"]) == 1
    assert "unknown layout" in capsys.readouterr().err


def test_bad_record_among_sound_ones(tmp_path):
    import base64

    rng, lines = np.random.default_rng(0), []
    for i in range(4):
        values = (np.sort(rng.random((3, 2, 2)) * 90, axis=1).reshape(3, 4), rng.random((3, F)))
        cells = [base64.b64encode(v.astype("<f4").tobytes()).decode() for v in values]
        lines.append("\t".join([f"{i}", "90", "90", "3", *cells]))
    lines[2] = lines[2][:-30]
    (tmp_path / "a.tsv").write_text("\n".join(lines) + "\n")
    options = {"feature_dim": F, "num_classes": 0, "float_dtype": "float32"}
    result = examine(open_source([str(tmp_path / "a.tsv")], "bottom_up_tsv", options))
    assert result.statistics["images"] == 3
    assert "unreadable" in names(result)
    finding = next(f for f in result.findings if f.name == "unreadable")
    assert "image '2'" in finding.text


def test_raw_file_against_checkpoint(tmp_path, capsys):
    from test_doctor import checkpoint

    np.savez(tmp_path / "a.npz", **made())
    command = ["inspect", str(tmp_path / "a.npz"), "--layout", "npz", "--checkpoint"]
    assert main([*command, checkpoint(tmp_path / "fits", FeatureSpec("x", F, C, 0))]) == 0
    assert main([*command, checkpoint(tmp_path / "other", FeatureSpec("x", F, C + 1, C))]) == 1
    out = capsys.readouterr().out
    assert f"num_classes={C}, background_class=0 ({tmp_path / 'a.npz'})" in out
    assert f"num_classes={C + 1}, background_class={C} ({tmp_path / 'other'}" in out


def test_hints(tmp_path):
    rng = np.random.default_rng(0)
    arrays = made()
    arrays["feat"] = np.maximum(rng.standard_normal((len(arrays["feat"]), 2048)), 0)
    del arrays["cls_prob"]
    assert "bottom-up attention" in look(tmp_path, arrays).statistics["looks_like"][0]
    arrays["feat"] -= 1
    assert look(tmp_path, arrays).statistics["looks_like"] == []


@pytest.mark.parametrize("portraits", [0, 8])
def test_sizes_of_a_side_for_both(tmp_path, portraits):
    """Sizes with width = height, where boxes end at three quarters of one of them."""
    arrays = made()
    rng = np.random.default_rng(0)
    arrays["hw"][:] = 300, 400
    arrays["hw"][:portraits] = 400, 300
    corners = np.sort(rng.random((IMAGES * REGIONS, 2, 2)), axis=1)
    corners *= arrays["hw"].repeat(REGIONS, 0)[:, None, ::-1]
    arrays["boxes"] = corners.reshape(-1, 4).astype(np.float32)
    arrays["boxes"][::REGIONS, 2:] = arrays["hw"][:, ::-1]  # sound pictures have boxes at the edge
    assert names(look(tmp_path, arrays)) == set()
    arrays["hw"][:] = 400
    result = look(tmp_path, arrays)
    assert names(result) == {"one_aspect"}
    text = next(f.text for f in result.findings if f.name == "one_aspect")
    assert "as wide as high, but boxes end at 75%" in text


def test_sizes_of_another_scale(tmp_path):
    arrays = made()
    arrays["hw"] = arrays["hw"] * 4 // 3
    assert names(look(tmp_path, arrays)) == {"boxes_low_reach"}


def test_layouts_that_are_tried_say_nothing(tmp_path, capfd):
    """The LMDB of one layout has no list of keys under the other's name."""
    records = {b"100": pickle.dumps(lmdb_image(0), 2), b"keys": pickle.dumps([b"100"])}
    path = write_lmdb(tmp_path / "a.lmdb", records)
    assert main(["inspect", path]) in (0, 1)
    captured = capfd.readouterr()
    assert "vilbert_lmdb fits, and no other" in captured.out
    assert "did not finish" not in captured.out + captured.err
    del records[b"keys"]
    main(["inspect", write_lmdb(tmp_path / "b.lmdb", records), "--layout", "vilbert_lmdb"])
    assert "did not finish" in capfd.readouterr().err


def test_columns_of_a_detectors_objects_alone(tmp_path):
    """1,600 columns are not also said to have a background, and the import's option is named."""
    rng, arrays = np.random.default_rng(0), made()
    probs = rng.dirichlet(np.ones(1600), len(arrays["boxes"])).astype(np.float32)
    for part, names_found in (
        (probs, {"classes_without_background"}),
        (probs * 0.9, {"classes_without_background", "class_sums"}),
    ):
        result = look(tmp_path, {**arrays, "cls_prob": part})
        assert names(result) == names_found
        assert all("--class_scores without_background" in f.text for f in result.findings[:1])
        assert "none of the 1,600 columns" in text(result)
        assert "column 0" not in text(result).partition("background  ")[2].partition("\n")[0][:40]


def test_a_file_of_regions_and_grids_is_one_of_regions(tmp_path, capsys):
    """DLCT's HDF5 has both; the layout that makes boxes itself is meant where it is named."""
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for name in ("1", "2"):
            file[f"{name}_features"] = np.random.default_rng(0).random((5, F), np.float32)
            file[f"{name}_boxes"] = np.asarray([[1, 2, 50, 30]] * 5, np.float32)
            file[f"{name}_size"] = [[40, 60]]
            file[f"{name}_grids"] = np.random.default_rng(int(name)).random((49, F), np.float32)
    main(["inspect", str(tmp_path / "a.hdf5")])
    assert "hdf5 fits, and no other" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "a.hdf5"), "--grid", "7x7"]) == 0
    out = capsys.readouterr().out
    assert "grid fits, and no other" in out
    assert "always 49 per image" in out


def test_percent_never_hides_anything():
    assert [percent(*pair) for pair in ((0, 9), (9, 9), (1, 10**6), (10**6 - 1, 10**6))] == [
        *("0 %", "100 %", "<0.01 %", ">99.99 %")
    ]
    assert percent(1, 8) == "12.5 %"


def test_random_toy_store_has_no_background(tmp_path):
    """Distributions without any structure claim nothing."""
    result = examine(open_source([write_store(tmp_path / "s")]))
    assert result.statistics["classes"]["background"] is None
    assert "background" not in names(result)
    assert image(0)["boxes"].max() < 80


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data in {REAL}")
def test_real_features():
    source = open_source([str(REAL / "bottom_up" / "train2014_obj36.tsv")])
    found = sheets.Pictures(str(REAL / "bottom_up" / "images"))
    result = examine(source, None, found)
    assert (source.layout, result.verdict, result.statistics["images"]) == (
        "bottom_up_tsv",
        "sound",
        10,
    )
    assert "bottom-up attention" in result.statistics["looks_like"][0]
    files = [str(REAL / "regions" / f"coco_{name}.npz") for name in ("mini", "extra")]
    result = examine(open_source(files), 60)
    assert result.verdict == "sound"
    assert result.statistics["classes"]["background"] == 0
    assert "COCO" in result.statistics["looks_like"][0]
